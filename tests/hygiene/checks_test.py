#!/usr/bin/env python3
"""The checks can fail: each is shown a bad snippet and the nearest good one."""

import unittest

import checks
from checks import source

# What the snippets may include.
TREE = {
    "include/midwire/base/chunk.hpp": "",
    "include/midwire/engine/reactor.hpp": "",
    "include/midwire/rules/rule.hpp": "",
    "src/rules/lexer.hpp": "",
    "src/rules/lexer.cpp": '#include "rules/word.hpp"\n',
    "src/rules/word.hpp": "",
    "src/rules/alone.hpp": "",
    "src/rules/alone.cpp": '#include "rules/alone.hpp"\n',
    "src/streams/pipeline/tap.hpp": "",
    "tests/rules/lexer_test.cpp": "",
    "tests/rules/rule_test.cpp": '#include "rules/parser.hpp"\n',
}

# Check, path, bad text, good text.
CASES = [
    ("wrong_includes", "src/base/x.cpp", "#include <midwire/engine/reactor.hpp>\n", "#include <midwire/base/chunk.hpp>\n"),
    ("wrong_includes", "src/engine/x.cpp", '#include "rules/lexer.hpp"\n', "#include <midwire/engine/core/flow.hpp>\n"),
    ("wrong_includes", "src/engine/core/x.cpp", "#include <midwire/engine/reactor.hpp>\n", "#include <midwire/proto/x.hpp>\n"),
    ("wrong_includes", "src/rules/x.cpp", "#include <midwire/midwire.hpp>\n", "#include <midwire/base/chunk.hpp>\n"),
    ("wrong_includes", "src/rules/x.cpp", '#include "nowhere.hpp"\n', '#include "lexer.hpp"\n'),
    ("wrong_includes", "src/attic/x.cpp", "int x;\n", None),
    ("third_party", "src/engine/x.cpp", "#include <pcre2.h>\n", "#include <vector>\n"),
    ("third_party", "src/engine/relay.cpp", "#include <ares.h>\n", None),
    ("third_party", "include/midwire/rules/x.hpp", "#include <pcre2.h>\n", None),
    ("third_party", "src/rules/x.cpp", "#include <nlohmann/json.hpp>\n", "#include <pcre2.h>\n"),
    ("io_in_cores", "src/rules/x.cpp", "#include <sys/socket.h>\n", "#include <vector>\n"),
    ("io_in_cores", "src/base/address.cpp", "#include <fstream>\n", "#include <arpa/inet.h>\n"),
    ("io_in_cores", "src/engine/core/x.cpp", "auto t = std::chrono::steady_clock::now();\n", "// steady_clock::now()\n"),
    ("io_in_cores", "src/engine/core/x.cpp", "int f() { return ::open(p, 0); }\n", "void flow::open(instant now) { open(now); }\n"),
    ("io_in_cores", "src/fields/x.cpp", "std::random_device seed;\n", 'auto t = "std::random_device";\n'),
    ("io_in_cores", "src/fields/x.cpp", 'if (getenv("HOME")) return;\n', "int budget(int getenv_like);\n"),
    ("io_in_cores", "src/streams/pipeline/x.cpp", "#include <thread>\n", "#include <span>\n"),
    ("foreign_types", "include/midwire/engine/x.hpp", "#include <sys/epoll.h>\n", "#include <cstdint>\n"),
    ("foreign_types", "include/midwire/engine/x.hpp", "void f(const sockaddr_in& a);\n", "/// As sockaddr_in has it.\nvoid f();\n"),
    ("missing_export", "include/midwire/base/x.hpp", "class x {\n  void f();\n};\n", "class MIDWIRE_API x {\n  void f();\n};\n"),
    ("missing_export", "include/midwire/base/x.hpp", "namespace a::b {\nvoid f(int = g());\n}\n", "inline void f(int = g()) {}\n"),
    ("missing_export", "include/midwire/base/x.hpp", "struct x { virtual ~x() = default; };\n", "struct x { ~x() = default; };\n"),
    ("missing_export", "include/midwire/base/x.hpp", "class [[nodiscard]] x final : public y<z()> {\n x();\n};\n",
     "class x {\n callback<void()> f_; void (*p_)(int); alignas(x) char c_[3]; int i_ = f(1); x() = delete;\n};\n"),
    ("missing_export", "include/midwire/base/x.hpp", "struct o { struct i { int a = 0; }; bool operator==(o) const; };\n",
     "template <class T>\nclass x {\n void f();\n};\nclass x;\nusing f = void(int);\n"),
    ("missing_export", "include/midwire/base/x.hpp", "[[nodiscard]] extern int n;\n", "struct x {\n bool f() const { return g(); }\n};\n"),
    ("loud_library", "src/engine/x.cpp", "std::cout << 1;\n", "std::cerr << 1;\n"),
    ("loud_library", "src/engine/x.cpp", 'printf("x");\n', 'std::snprintf(b, 4, "x");\n'),
    ("loud_library", "src/engine/x.cpp", "std::fputs(text, stdout);\n", "std::fputs(text, stderr);\n"),
    ("loud_library", "src/engine/x.cpp", "std::exit(1);\n", "void loop::exit(int); on_exit(1); loop.exit(1);\n"),
    ("using_namespace", "include/midwire/base/x.hpp", "using namespace std;\n", "using std::span;\n"),
    ("using_namespace", "src/base/x.cpp", "using namespace std;\n", "using namespace std::chrono_literals;\n"),
    ("using_namespace", "tests/support/x.hpp", "using namespace std::chrono_literals;\n", None),
    ("pragma_once", "src/rules/x.hpp", "#include <span>\n", "#pragma once\n"),
    ("own_header_first", "src/rules/lexer.cpp", "#include <span>\n", '#include "rules/lexer.hpp"\n'),
    ("own_header_first", "src/rules/rule.cpp", '#include "rules/lexer.hpp"\n', "#include <midwire/rules/rule.hpp>\n"),
    ("co_await_captures", "src/x.cpp", "co_await run([&](int) { return a; });\n", "co_await run([](int) { return 1; });\n"),
    ("co_await_captures", "src/x.cpp", "auto v = co_await within([this] { f(); });\n", "auto v = co_await list[index](1);\n"),
    ("co_await_captures", "tests/x.cpp", "co_await f(callback<void()>{[s] {}});\n", "if (co_await f()) { g([s] {}); }\n"),
    ("co_await_captures", "tests/x.cpp", "co_await [s]() -> task<> { co_return; }();\n", "co_await []() -> task<> { int a[2]; co_return; }();\n"),
    ("co_await_captures", "tests/x.cpp", "co_await f([] { g(); }, [a] { h(); });\n", "co_await f([] { g(); h(); }, a[i]);\n"),
    ("co_await_bindings", "src/x.cpp", "auto [a, b] = co_await f();\n", "auto all = co_await f(); auto& [a, b] = all;\n"),
    ("co_await_bindings", "tests/x.cpp", "const auto&& [a,\n b]{co_await f()};\n", "auto v = list[co_await f()];\n"),
    ("too_long", "src/base/x.cpp", "\n" * 801, "\n" * 800),
    ("unkind_todo", "src/base/x.cpp", "// TODO: later\n", "// TODO(perf): one copy less\n"),
    ("unkind_todo", "docs/x.md", "TODO(somebody): later\n", "nothing to do\n"),
    ("unkind_todo", "src/base/x.cpp", "// FIXME\n", "// prefix me\n"),
    ("white_space", "docs/x.md", "a \n", "a\n"),
    ("white_space", "docs/x.md", "a", "a\n"),
    ("white_space", "docs/x.md", "a\n\n", "a\n\nb\n"),
    ("white_space", "src/base/x.cpp", "\tint x;\n", '  auto x = "\\t";\n'),
    ("untested", "src/rules/filter.cpp", "", None),
    ("untested", "src/rules/alone.cpp", "", None),
    ("globbed", "src/CMakeLists.txt", "file(GLOB all *.cpp)\n", "add_library(x a.cpp)\n"),
]  # fmt: skip


class checks_can_fail(unittest.TestCase):
    def test_bad_and_good(self):
        for name, path, bad, good in CASES:
            with self.subTest(check=name, path=path, text=bad[:60]):
                check = getattr(checks, name)
                self.assertTrue(list(check(source(path, bad, TREE))), "the bad snippet passes")
                if good is not None:
                    self.assertEqual(list(check(source(path, good, TREE))), [], "the good snippet does not pass")

    def test_every_check_has_a_case(self):
        self.assertEqual({check.__name__ for check in checks.ALL}, {name for name, *_ in CASES})

    def test_tested_sources(self):
        self.assertEqual(list(checks.untested(source("src/rules/lexer.cpp", "", TREE))), [], "by the test's own name")
        self.assertEqual(list(checks.untested(source("src/rules/parser.cpp", "", TREE))), [], "by including its header")
        self.assertEqual(list(checks.untested(source("src/rules/word.cpp", "", TREE))), [], "as a part of the lexer")

    def test_line_numbers(self):
        text = "int a;\n/* two\nlines */\nstd::cout << 1;\n"
        self.assertEqual(list(checks.loud_library(source("src/base/x.cpp", text, TREE))), [(4, "std::cout")])

    def test_blank(self):
        for text, want in [
            ('f("a//b"); // c', 'f("    ");     '),
            ("int n = 1'000'000; g('\"');", "int n = 1'000'000; g(\" \");"),
            ('R"x(" // )x" end', '"          " end'),
            ("/* 'a */ b", "         b"),
        ]:
            with self.subTest(text=text):
                self.assertEqual(checks.blank(text), want)

    def test_rows_have_no_circle(self):
        for row in checks.rows.MAY_INCLUDE:
            for below in checks.reach(row) - {row}:
                self.assertNotIn(row, checks.reach(below))

    def test_cores_reach_cores_only(self):
        for core in checks.rows.CORES:
            self.assertLessEqual(checks.reach(core), set(checks.rows.CORES))


if __name__ == "__main__":
    unittest.main()
