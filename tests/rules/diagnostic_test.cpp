#include <midwire/rules/rule.hpp>

#include <gtest/gtest.h>

#include <string>

namespace midwire::rules {
namespace {

std::string shown(std::string line, std::size_t column, std::size_t length = 1) {
  diagnostic d;
  d.place = {"a.rules", 3, column};
  d.length = length, d.message = "m", d.line = std::move(line);
  return format(d);
}

TEST(diagnostic, has_place_message_caret_and_hint) {
  diagnostic d;
  d.place = {"web.rules", 3, 6};
  d.length = 7, d.message = "unknown field 'tcp.prt'", d.hint = "did you mean 'tcp.port'?";
  d.line = "when tcp.prt == 80 do drop";
  EXPECT_EQ(format(d),
            "web.rules:3:6: error: unknown field 'tcp.prt'\n"
            "    when tcp.prt == 80 do drop\n"
            "         ^~~~~~~\n"
            "hint: did you mean 'tcp.port'?\n");
  d.how = diagnostic::severity::note, d.hint.clear();
  d.place = {"-e:1", 1, 9}, d.length = 1;
  EXPECT_EQ(format(d),
            "-e:1:9: note: unknown field 'tcp.prt'\n"
            "    when tcp.prt == 80 do drop\n"
            "            ^\n");
  EXPECT_NE(format(d, true).find("\x1b[1;36mnote: \x1b[0m"), std::string::npos);
  EXPECT_EQ(format(d).find('\x1b'), std::string::npos);
}

TEST(diagnostic, keeps_the_caret_below_its_place) {
  EXPECT_EQ(shown("\tdo\tx", 5), "a.rules:3:5: error: m\n    \tdo\tx\n    \t  \t^\n");
  EXPECT_EQ(shown("\"é\" x", 6), "a.rules:3:6: error: m\n    \"é\" x\n        ^\n");
  EXPECT_EQ(shown("\"漢字\" x", 10), "a.rules:3:10: error: m\n    \"漢字\" x\n           ^\n");
  EXPECT_EQ(shown("a漢b", 2, 3), "a.rules:3:2: error: m\n    a漢b\n     ^~\n");
  EXPECT_EQ(shown("a\x1b[2Jb", 6), "a.rules:3:6: error: m\n    a\\x1b[2Jb\n            ^\n");
  EXPECT_EQ(shown("a\xff x", 4), "a.rules:3:4: error: m\n    a\\xff x\n          ^\n");
  EXPECT_EQ(shown("a\u202eb", 5), "a.rules:3:5: error: m\n    a\\xe2\\x80\\xaeb\n                 ^\n");
  EXPECT_EQ(shown("ab", 3), "a.rules:3:3: error: m\n    ab\n      ^\n") << "behind the end";
  EXPECT_EQ(shown("", 1), "a.rules:3:1: error: m\n");
}

TEST(diagnostic, shows_a_window_of_a_long_line) {
  std::string line(5000, 'a');
  line.replace(3000, 3, "XYZ");
  const std::string out = shown(line, 3001, 3);
  const auto first = out.find('\n'), second = out.find('\n', first + 1);
  const std::string source = out.substr(first + 1, second - first - 1), marks = out.substr(second + 1);
  EXPECT_LT(source.size(), 130u);
  EXPECT_TRUE(source.starts_with("    …a"));
  EXPECT_TRUE(source.ends_with("a…"));
  // The mark of what was left out is one column and three octets.
  EXPECT_EQ(marks.find('^') + 2, source.find("XYZ"));
  EXPECT_EQ(marks.substr(marks.find('^')), "^~~\n");
  EXPECT_LT(shown(line, 1).size(), 300u);
  EXPECT_LT(shown(line, 5001).size(), 300u);
  EXPECT_NE(shown(line, 5001).find('^'), std::string::npos);
}

TEST(diagnostic, escapes_what_a_message_quotes) {
  diagnostic d;
  d.place = {"a\x1b", 1, 1}, d.message = "unknown '\x1b[2J'", d.hint = "\x9b";
  EXPECT_EQ(format(d), "a\\x1b:1:1: error: unknown '\\x1b[2J'\nhint: \\x9b\n");
}

}  // namespace
}  // namespace midwire::rules
