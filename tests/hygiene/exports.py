"""exports.py [--fix] HEADER...: what a public header declares and the library defines, and yet does not export.

The library is built with hidden symbols: a class or function that other programs shall link to says MIDWIRE_API. A reader
of declarations, not of C++: it knows the forms that our headers have.
"""

import re
import sys

MACRO = "MIDWIRE_API"
HEAD = re.compile(r"\b(?:class|struct)\b(?:\s*\[\[[^\]]*\]\])*\s+(?P<macro>MIDWIRE_API\s+)?(?P<name>\w+)(?=\s*(?:final\b|:|$))")
# What needs no definition elsewhere.
INLINE = re.compile(r"^(?:template|using|typedef|static_assert|friend|inline|constexpr|static|enum|extern template|namespace)\b")


def plain(statement):
    """Without template arguments, attributes and alignas: parentheses that are left belong to functions."""
    statement = re.sub(r"\[\[.*?\]\]", " ", statement, flags=re.S)
    statement = re.sub(r"\balignas\s*\([^()]*\)", " ", statement)
    statement = re.sub(r"\boperator\s*(?:\(\s*\)|[<>=!\[\]+*/&|^-]+)", "operator_", statement)
    while (shorter := re.sub(r"<[^<>;{}]*>", " ", statement)) != statement:
        statement = shorter
    return " ".join(statement.split())


def is_function(statement):
    """A declaration that some .cpp must define."""
    statement = plain(statement)
    before, bracket, after = statement.partition("(")
    return bool(
        bracket
        and re.search(r"[\w~]\s*$", before)
        and "=" not in before
        and not before.endswith(("noexcept", "requires", "decltype"))
        and not after.startswith("*")
        and not re.search(r"=\s*(?:default|delete|0)$", statement)
    )


def statements(code, begin, end):
    """(offset, text, body) of each statement of one scope; body is (begin, end) of its braces, or None."""
    start, at = begin, begin
    while at < end:
        if code[at] == "{":
            close, depth = at + 1, 1
            while close < end and depth:
                depth += {"{": 1, "}": -1}.get(code[close], 0)
                close += 1
            text = code[start:at]
            # The braces of an initialiser or a default argument are a part of what they are in.
            if text.count("(") > text.count(")") or re.search(r"[\w>\])]\s*$", text) and not body_of(text):
                code = code[:at] + " " * (close - at) + code[close:]
                at = close
                continue
            yield start, text, (at + 1, close - 1)
            start = at = close
        elif code[at] == ";":
            yield start, code[start:at], None
            start = at = at + 1
        elif code[at] == ":" and re.fullmatch(r"\s*(?:public|private|protected)\s*", code[start:at]):
            start = at = at + 1
        else:
            at += 1


def body_of(text):
    """Whether a brace behind this opens a scope or a function's body."""
    words = plain(text)
    return bool(re.search(r"\b(?:class|struct|union|enum|namespace|extern)\b", words)) or "(" in words


def members_elsewhere(code, begin, end):
    for _, text, body in statements(code, begin, end):
        words = plain(text)
        if re.search(r"\bvirtual\b|\boverride\b", words):
            return True
        if body is None and not re.match(r"^(?:template|using|typedef|static_assert|friend|enum)\b", words) and is_function(text):
            return True
    return False


def declared(code, begin=0, end=None, scope=""):
    """(offset of the place for the macro, qualified name, whether it is there) of each class and function that wants it;
    `code` without comments, strings and preprocessor lines."""
    for start, text, body in statements(code, begin, len(code) if end is None else end):
        words = plain(text)
        if body and (space := re.match(r"^(?:inline )?namespace ([\w:]+)$", words)):
            yield from declared(code, *body, scope + space[1] + "::")
        elif re.match(r"^(?:template|enum|using|friend|typedef)\b", words):
            continue
        elif body and (head := HEAD.search(text)):
            if head["macro"] or members_elsewhere(code, *body):
                yield start + head.start("name"), scope + head["name"], bool(head["macro"])
        elif body is None and not INLINE.match(words) and (is_function(text) or words.startswith("extern ")):
            name = words.partition("(")[0].split(" ")[-1]
            if "::" not in name:
                front = re.match(r"\s*(?:\[\[[^\]]*\]\]\s*)*", text)
                yield start + front.end(), scope + name, MACRO in words


def missing(code):
    return [(offset, name) for offset, name, there in declared(code) if not there]


def readable(code):
    """Preprocessor lines become empty."""
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda line: re.sub(r"[^\n]", " ", line[0]), code, flags=re.M)


def main(arguments):
    import checks

    fix = "--fix" in arguments
    for path in (a for a in arguments if a != "--fix"):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        found = list(missing(readable(checks.blank(text))))
        for offset, name in found:
            print(f"{path}:{text.count(chr(10), 0, offset) + 1}: {name}")
        if fix and found:
            for offset, _ in reversed(found):
                text = text[:offset] + MACRO + " " + text[offset:]
            if "midwire/base/export.hpp" not in text:
                line = "#include <midwire/base/export.hpp>\n"
                includes = [m for m in re.finditer(r"^#include <midwire/[^\n]*\n", text, re.M)]
                below = next((m.start() for m in includes if m[0] > line), includes[-1].end() if includes else None)
                if below is not None:
                    text = text[:below] + line + text[below:]
                else:
                    last = [m for m in re.finditer(r"^#(?:include [^\n]*|pragma once)\n", text, re.M)][-1]
                    text = text[: last.end()] + "\n" + line + text[last.end() :]
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
