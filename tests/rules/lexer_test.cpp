#include "rules/lexer.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace midwire::rules::detail {
namespace {

/// The tokens' texts, with a bar between.
std::string cut(std::string_view text) {
  lexer l{text, {0, text.size()}};
  std::string out;
  for (token t = l.next(); t.kind != token_kind::end; t = l.next()) (out += l.text(t)) += '|';
  return out;
}

TEST(lexer, cuts_words_operators_and_addresses) {
  struct row {
    const char* text;
    const char* tokens;
  };
  constexpr row rows[] = {{"tcp.port==80&&ip", "tcp.port|==|80|&&|ip|"},
                          {"ip.src#2 == 10.0.0.0/8", "ip.src|#|2|==|10.0.0.0/8|"},
                          {"tcp.port/2", "tcp.port|/|2|"},
                          {"::1/128 fe80::1", "::1/128|fe80::1|"},
                          {"{8000..8080}", "{|8000|..|8080|}|"},
                          {"10.0.0.1..10.0.0.9", "10.0.0.1|..|10.0.0.9|"},
                          {"tcp.srcport-1 -1", "tcp.srcport-1|-|1|"},
                          {"a!==b!=c===d<=e>=f~=g~h!i", "a|!==|b|!=|c|===|d|<=|e|>=|f|~=|g|~|h|!|i|"},
                          {"\"a#\\\"b\"r\"\\\"\"'x''\\''", "\"a#\\\"b\"|r\"\\\"\"|'x'|'\\''|"},
                          {"a # comment\n b", "a|b|"},
                          {"#c\na", "a|"},
                          {"a#1", "a|#|1|"},
                          {"5%,x", "5|%|,|x|"},
                          {"02-00-00-00-00-01", "02-00-00-00-00-01|"}};
  for (const row& r : rows) EXPECT_EQ(cut(r.text), r.tokens) << r.text;
}

TEST(lexer, reads_regexes_paths_and_brackets_when_asked) {
  const std::string_view text = "/a \\/ #b/im @\"x y\" @p/q.txt,z [1,-3 - 5]!";
  lexer l{text, {0, text.size()}};
  EXPECT_EQ(l.text(l.regex(l.next())), "/a \\/ #b/im");
  EXPECT_EQ(l.text(l.path(l.next())), "@\"x y\"");
  EXPECT_EQ(l.text(l.path(l.next())), "@p/q.txt");
  EXPECT_EQ(l.next().kind, token_kind::comma);
  EXPECT_EQ(l.text(l.next()), "z");
  EXPECT_EQ(l.text(l.brackets(l.next())), "[1,-3 - 5]");
  EXPECT_EQ(l.next().kind, token_kind::not_);
}

TEST(lexer, decodes_text) {
  struct row {
    const char* text;
    std::string octets;
  };
  const row rows[] = {{R"("a\"\\\'\a\b\f\n\r\t\v")", "a\"\\'\a\b\f\n\r\t\v"},
                      {R"("\0\12\1011\377")", std::string("\0\n", 2) + "A1\xff"},
                      {R"("\x0a\xfz\x7")", "\n\x0fz\x07"},
                      {R"("\u00e9\U0001f600")", "é😀"},
                      {R"(r"\d\"x")", "\\d\\\"x"},
                      {R"('\n')", "\n"}};
  for (const row& r : rows) EXPECT_EQ(decode(r.text, {0, std::string_view{r.text}.size()}), r.octets) << r.text;
  std::size_t found = 0;
  const std::string_view text = R"("\x41b\u00e9c")";
  for (const auto& [index, place] :
       std::vector<std::pair<std::size_t, std::size_t>>{{0, 1}, {1, 5}, {2, 6}, {3, 6}, {4, 12}, {5, 13}, {99, 13}}) {
    decode(text, {0, text.size()}, index, &found);
    EXPECT_EQ(found, place) << index;
  }
}

}  // namespace
}  // namespace midwire::rules::detail
