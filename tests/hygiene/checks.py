"""The checks. Each takes a source (its path in the repository, its text) and yields (line, complaint)."""

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import exports
import rows

CPP = (".cpp", ".hpp")
MAX_LINES = 800


@dataclass
class source:
    path: str
    text: str
    # All files of the repository: what quoted includes and tests are looked up in.
    tree: dict = field(default_factory=dict, repr=False)

    @cached_property
    def code(self):
        return blank(self.text)

    @property
    def is_cpp(self):
        return self.path.endswith(CPP)

    @property
    def in_library(self):
        return self.is_cpp and self.path.startswith(("src/", "include/"))

    @property
    def folder(self):
        """The path below src/ or include/midwire/."""
        return re.sub(r"^(src|include/midwire)/", "", self.path)

    @property
    def row(self):
        return row_of(self.folder) if self.in_library else None

    @property
    def is_core(self):
        return self.in_library and (self.row in rows.CORES or "/pipeline/" in self.path)

    def includes(self):
        """(line, name, quoted) of each #include; the names are read from the text because blank() empties strings."""
        for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', self.text, re.M):
            yield line_of(self.text, match.start()), match[2], match[1] == '"'


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def blank(text):
    """C++ with the inside of comments, strings and characters turned into spaces; lines stay where they are."""
    pattern = re.compile(
        r"//[^\n]*|/\*.*?\*/"
        r'|(?<![\w])(?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)"'
        r'|"(?:\\.|[^"\\\n])*"'
        r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'",
        re.S,
    )

    def empty(match):
        inside = re.sub(r"[^\n]", " ", match[0])
        return inside if match[0].startswith("/") else '"' + inside[1:-1] + '"'

    return pattern.sub(empty, text)


def row_of(folder):
    """The row a path below src/ or include/midwire/ belongs to: the longest that fits; None: not in the house."""
    fitting = [row for row in rows.MAY_INCLUDE if folder.startswith(row + "/")]
    return max(fitting, key=len) if fitting else rows.UMBRELLAS.get(folder)


@lru_cache(None)
def reach(row):
    """All rows that a row may include, itself first."""
    if "+" in row:
        return frozenset().union(*(reach(part) for part in row.split("+")))
    return frozenset([row]).union(*(reach(below) for below in rows.MAY_INCLUDE[row]))


def wrong_includes(s):
    """A row includes only what it names and what those rows include."""
    if not s.in_library:
        return
    if s.row is None:
        yield 1, "lies in no row of the house (tests/hygiene/rows.py)"
        return
    for line, name, quoted in s.includes():
        if name.startswith("midwire/"):
            target = name[len("midwire/") :]
        elif quoted and "src/" + name in s.tree:
            target = name
        elif quoted and s.tree and s.path.rsplit("/", 1)[0] + "/" + name in s.tree:
            target = s.folder.rsplit("/", 1)[0] + "/" + name
        elif quoted:
            yield line, f'"{name}" is no file of ours'
            continue
        else:
            continue
        row = row_of(target)
        if row is None:
            yield line, f"{name} lies in no row"
        elif not reach(row) <= reach(s.row):
            yield line, f"{s.row} may not include {row} ({name})"


def third_party(s):
    """Each library from outside has its place."""
    if not s.is_cpp or not s.path.startswith(("src/", "include/", "apps/")):
        return
    for line, name, _ in s.includes():
        for start, allowed in rows.THIRD_PARTY.items():
            if not name.startswith(start):
                continue
            if s.path.startswith("include/"):
                yield line, f"<{name}> in a public header"
            elif not any((s.path if at == "apps" else s.folder).startswith(at + "/") for at in allowed):
                yield line, f"<{name}> belongs to {', '.join(allowed)}"


CALL = r"(?:^|[=(!&|,;{?]|\breturn)[ \t]*"
STD = r"(?:::|std::)?"
IO_CALLS = [
    (re.compile(r"_clock\s*::\s*now\b"), "reads a clock"),
    (re.compile(r"\bstd::(?:random_device|[io]?fstream)"), "is I/O"),
    (re.compile(r"\bstd::(?:j?thread\b|this_thread|mutex|async|condition_variable)"), "is a thread's"),
    (re.compile(CALL + STD + r"(?:clock_gettime|gettimeofday|getrandom|arc4random\w*|s?rand)\s*\(", re.M), "is chance"),
    (re.compile(CALL + STD + r"(?:fopen|openat|socket|accept4|recv|recvmsg|getenv|popen|mmap|pipe2)\s*\(", re.M), "is I/O"),
    # Names that methods bear, too: only the global function is meant.
    (re.compile(CALL + r"::(?:open|read|write|close|send|accept|connect|bind|listen|pipe|time)\s*\(", re.M), "is I/O"),
]  # fmt: skip


def io_in_cores(s):
    """No sockets, files, clocks, threads or entropy below the line and in pipeline/ folders."""
    if not s.is_core:
        return
    for line, name, quoted in s.includes():
        bad = name in rows.IO_HEADERS or any(h.endswith("/") and name.startswith(h) for h in rows.IO_HEADERS)
        if bad and not quoted and (s.path, name) not in rows.IO_HEADER_EXCEPTIONS:
            yield line, f"<{name}> in a core"
    for pattern, what in IO_CALLS:
        for match in pattern.finditer(s.code):
            yield line_of(s.code, match.end() - 1), f"{what} in a core: {match[0].strip()}"


OUTSIDE_HEADERS = ("sys/", "netinet/", "arpa/", "net/", "linux/", "unistd.h", "fcntl.h", "poll.h", "netdb.h", "signal.h")
OUTSIDE_TYPES = re.compile(
    r"\b(?:sockaddr\w*|in6?_addr|epoll_event|msghdr|mmsghdr|iovec|pollfd|signalfd_siginfo"
    r"|SSL|SSL_CTX|BIO|X509|EVP_\w+|ares_channel\w*|pcap_\w+|pcre2_\w+)\b"
)


def foreign_types(s):
    """Linux, OpenSSL, c-ares, PCRE2 and pcap types stay out of include/."""
    if not s.path.startswith("include/") or not s.is_cpp:
        return
    for line, name, _ in s.includes():
        if name.startswith(OUTSIDE_HEADERS):
            yield line, f"<{name}> in a public header"
    for match in OUTSIDE_TYPES.finditer(s.code):
        yield line_of(s.code, match.start()), f"{match[0]} in a public header"


def missing_export(s):
    """What a public header declares and a .cpp defines says MIDWIRE_API, or programs cannot link to a shared library."""
    if s.path.startswith("include/") and s.path.endswith(".hpp"):
        for offset, name in exports.missing(exports.readable(s.code)):
            yield line_of(s.code, offset), f"{name} without MIDWIRE_API (<midwire/base/export.hpp>; tests/hygiene/exports.py --fix)"


LOUD = [
    (re.compile(r"\bstd::(?:cout|cin|print|println)\b"), "std::cout"),
    (re.compile(r"(?<![\w])(?:printf|puts|putchar|vprintf)\s*\("), "printf to stdout"),
    (re.compile(r"\bf(?:printf|puts|write|putc)\s*\([^;]*\bstdout\b"), "writes to stdout"),
    (re.compile(CALL + STD + r"(?:_exit|_Exit|exit|quick_exit)\s*\(", re.M), "ends the process"),
]


def loud_library(s):
    """The library neither prints to stdout nor ends the process."""
    if not s.in_library:
        return
    for pattern, what in LOUD:
        for match in pattern.finditer(s.code):
            if (s.path, what) not in rows.LOUD_EXCEPTIONS:
                yield line_of(s.code, match.start()), what


def using_namespace(s):
    """Never in a header; in a .cpp of the library and the program for literals and our own only."""
    if not s.is_cpp:
        return
    for match in re.finditer(r"\busing\s+namespace\s+([\w:]+)", s.code):
        foreign = match[1].startswith("std") and not match[1].endswith("literals")
        if s.path.endswith(".hpp") or s.path.startswith(("src/", "apps/")) and foreign:
            yield line_of(s.code, match.start()), f"using namespace {match[1]}"


def pragma_once(s):
    if s.path.endswith(".hpp") and not s.text.startswith("#pragma once\n"):
        yield 1, "does not begin with #pragma once"


def own_header_first(s):
    """A .cpp includes its own header first, so that the header is seen to stand alone."""
    if not (s.path.startswith("src/") and s.path.endswith(".cpp")):
        return
    stem = s.folder[: -len(".cpp")]
    own = [name for name in ("include/midwire/" + stem + ".hpp", "src/" + stem + ".hpp") if name in s.tree]
    first = next(s.includes(), None)
    if own and (first is None or not own[0].endswith("/" + first[1].removeprefix("midwire/"))):
        yield 1, f"does not include {own[0]} first"


CAPTURES = re.compile(r"(?<![\w)\]\[])\[\s*[^\[\]\s][^\[\]]*\]\s*(?:[({<]|mutable\b|->)")


def expression(code, start):
    """The code from there to the end of the expression it is in: a semicolon, or a bracket that closes what is around."""
    depth = 0
    for at in range(start, len(code)):
        if code[at] in "([{":
            depth += 1
        elif code[at] in ")]}":
            depth -= 1
        if depth < 0 or depth == 0 and code[at] == ";":
            return code[start:at]
    return code[start:]


def co_await_captures(s):
    """g++ 12 destroys what a lambda inside a co_await expression captured twice."""
    if not s.is_cpp or s.path.startswith("tests/nocompile/"):
        return
    for wait in re.finditer(r"\bco_await\b", s.code):
        if CAPTURES.search(expression(s.code, wait.end())):
            yield line_of(s.code, wait.start()), "a capture list inside a co_await expression"


def co_await_bindings(s):
    """A structured binding of what was awaited leaks with later compilers (g++ 15)."""
    if not s.is_cpp:
        return
    for bind in re.finditer(r"\bauto\s*&{0,2}\s*\[[^\]]*\]\s*[=({]\s*(?:\(\s*)*co_await\b", s.code):
        yield line_of(s.code, bind.start()), "a structured binding of a co_await: name the value first"


def too_long(s):
    count = s.text.count("\n")
    if count > MAX_LINES:
        yield MAX_LINES, f"{count} lines, {MAX_LINES} are the most"


KINDS = ("perf", "security", "portability", "protocol", "docs", "test")


def unkind_todo(s):
    """A note to do something has a kind: TODO(perf), TODO(security)."""
    if s.path.startswith("tests/hygiene/"):
        return
    for match in re.finditer(r"\b(?:TODO\b(?:\((\w*)\))?|FIXME\b|XXX\b|HACK\b)", s.text):
        if match[1] not in KINDS:
            yield line_of(s.text, match.start()), f"{match[0]} without a kind ({', '.join(KINDS)})"


def white_space(s):
    for number, line in enumerate(s.text.split("\n"), 1):
        if line != line.rstrip():
            yield number, "white space at the end of the line"
        elif s.is_cpp and "\t" in line:
            yield number, "a tab"
    if s.text and (not s.text.endswith("\n") or s.text.endswith("\n\n")):
        yield s.text.count("\n") + 1, "does not end in exactly one newline"


def named_by_a_test(stem, tree):
    """A test is named after it, or includes a header of its name."""
    header = re.compile(rf'#include ["<](?:[\w/]*/)?{re.escape(stem)}\.hpp[">]')
    for path, text in tree.items():
        if path.startswith("tests/") and path.endswith(CPP):
            if path.rsplit("/", 1)[1].startswith(stem + "_") or header.search(text):
                return True
    return False


def is_tested(path, tree, seen):
    """By a test, or, with a private header, as a part of a tested source that includes it."""
    if path in seen:
        return False
    seen.add(path)
    if any(path.startswith(part) and test in tree for part, test in rows.TESTED_IN.items()):
        return True
    base = path.rsplit(".", 1)[0]
    if named_by_a_test(base.rsplit("/", 1)[1], tree):
        return True
    if base + ".hpp" not in tree:
        return False
    private = f'#include "{base.removeprefix("src/")}.hpp"'
    users = [user for user, text in tree.items() if user.startswith("src/") and user.endswith(CPP) and private in text]
    return any(is_tested(user, tree, seen) for user in users if not user.startswith(base + "."))


def untested(s):
    """A source of the library is named by a test, itself or as a private part of one that is."""
    if s.path.startswith("src/") and s.path.endswith(".cpp") and not is_tested(s.path, s.tree, set()):
        yield 1, "no test is named after it or includes its header (or name the test in tests/hygiene/rows.py)"


def globbed(s):
    """Sources are listed, never globbed; public headers that must all compile alone are the exception."""
    if s.path.endswith("CMakeLists.txt") and s.path != "tests/hygiene/CMakeLists.txt":
        for match in re.finditer(r"file\s*\(\s*GLOB", s.text):
            yield line_of(s.text, match.start()), "file(GLOB)"


ALL = [
    wrong_includes, third_party, io_in_cores, foreign_types, missing_export, loud_library, using_namespace,
    pragma_once, own_header_first, co_await_captures, co_await_bindings, too_long, unkind_todo, white_space, untested, globbed,
]  # fmt: skip
