#include <midwire/rules/rule.hpp>

#include <gtest/gtest.h>

#include <iostream>
#include <string>
#include <vector>

#include <midwire/base/chance.hpp>

namespace midwire::rules {
namespace {

compiled file(const std::string& text) { return compile({{"web.rules", text, "", true}}, {}); }

std::string all_of(const compiled& c) {
  std::string out;
  for (const diagnostic& d : c.diagnostics) out += format(d);
  return out;
}

TEST(compile, reads_the_rules_of_a_file) {
  const compiled c = file(
      "\xef\xbb\xbf# hide a token that leaves, whatever its length\r\n"
      "mask:   when from.client && tcp.dstport == 80 do replace \"s3cr3t\" with \"******\"\r\n"
      "\r\n"
      "# if the third message is a PUBLISH, break the connection the hard way\r\n"
      "crash:  when unit.index == 3 && payload[0] == 0x30 do reset\r\n"
      "   # an indented comment\r\n"
      "when payload matches \"^SET\"   # a comment\r\n"
      "  \tdo replace /SET (\\w+) (\\d+)/ with \"SET  $1 ${2}0\"\r\n"
      "# in between\r\n"
      "\r\n"
      "  , log \"# no comment\", dump # the last\r\n"
      "lossy: do drop chance 2% per unit");
  ASSERT_TRUE(c.ok()) << all_of(c);
  const auto& rules = c.rules->rules;
  ASSERT_EQ(rules.size(), 4u);
  EXPECT_EQ(rules[0].name, "mask");
  EXPECT_TRUE(rules[0].named);
  EXPECT_EQ(rules[0].text, "when from.client && tcp.dstport == 80 do replace \"s3cr3t\" with \"******\"");
  EXPECT_EQ(rules[0].place.line, 2u);
  EXPECT_EQ(rules[2].name, "web.rules:7");
  EXPECT_FALSE(rules[2].named);
  EXPECT_EQ(rules[2].actions.size(), 3u);
  EXPECT_EQ(rules[2].text,
            "when payload matches \"^SET\" do replace /SET (\\w+) (\\d+)/ with \"SET  $1 ${2}0\" , log \"# no "
            "comment\", dump");
  EXPECT_EQ(rules[3].name, "lossy");
  EXPECT_TRUE(file("").ok());
  EXPECT_TRUE(file("\n  \n# only\n").ok());
}

TEST(compile, white_space_and_comments_do_not_change_a_rule_s_text) {
  const auto text = [](const std::string& s) {
    const compiled c = file(s);
    return c.ok() ? c.rules->rules.at(0).text : all_of(c);
  };
  const std::string plain = text("do replace \"a\" with \"b\"");
  EXPECT_EQ(text("x: do   replace\t\"a\"\n with # why\n \"b\"  \n"), plain);
  EXPECT_NE(text("do replace \"a \" with \"b\""), plain);
  EXPECT_EQ(text("let T = \"a\"\ndo replace T with \"b\""), plain) << "a let's value belongs to the rule's text";
}

TEST(compile, lets_stand_for_their_values) {
  const compiled c =
      compile({{"a.rules",
                "let WEB = {80, 443, 8000..8080}\nlet token=\"s3cr3t\"\nlet NET = 10.0.0.0/8\nlet MORE = WEB\nlet AGE "
                "= 10s\nlet RE = \"^get\"\nlet NEG = -5\nlet HEAD = 47:45\n"
                "when tcp.dstport in WEB && ip.addr == NET && conn.age < AGE && payload matches RE && payload[0:2] == "
                "HEAD && tcp.srcport in MORE && tcp.srcport + 1 > NEG && tcp.port in {1, WEB} && ip.src in {NET}\n"
                " do replace token with HEAD, delete token\n",
                "", true},
               {"-e:1", "when from.client do delete token", "", false}},
              {});
  ASSERT_TRUE(c.ok()) << all_of(c);
  EXPECT_EQ(c.rules->rules[0].actions[0].pattern.octets, "s3cr3t");
  EXPECT_EQ(c.rules->rules[0].actions[0].value.text(), "GE");
  EXPECT_EQ(c.rules->rules[1].text, "when from.client do delete \"s3cr3t\"");
  EXPECT_NE(c.rules->rules[0].text.find("tcp.dstport in {80, 443, 8000..8080} &&"), std::string::npos)
      << c.rules->rules[0].text;
}

struct row {
  const char* text;
  std::size_t line, column;
  const char* message;
};

TEST(compile, refuses_lets) {
  const row rows[] = {{"let tcp.port = 80", 1, 5, "is a field"},
                      {"let drop = 80", 1, 5, "word of the language"},
                      {"let contains = 80", 1, 5, "word of the language"},
                      {"let when = 80", 1, 5, "word of the language"},
                      {"let X 80", 1, 7, "expected '='"},
                      {"let X = ", 1, 8, "expected a value"},
                      {"let X = {80", 1, 9, "'{' without"},
                      {"let = 80", 1, 5, "expected a name"},
                      {"let X = 80 81", 1, 12, "unexpected '81'"},
                      {"let X = 1\nlet X = 2", 2, 5, "a value already"},
                      {"let X = tcp.port", 1, 9, "not a value"},
                      {"when tcp.port == Y do drop\nlet Y = 80", 1, 18, "not a number"},
                      {"let X = {80}\nwhen tcp.port == X do drop", 2, 18, "is a set"},
                      {"let X = 80\nwhen tcp.port in X do drop", 2, 18, "expected a set"},
                      {"let X = 99999\nwhen tcp.port == X do drop", 2, 18, "too large"},
                      {"let X = {80}\ndo delete X", 2, 11, "is a set"},
                      {"let X = \"a(b\"\nwhen payload matches X do drop", 2, 22, "bad regex"},
                      {"let X = \"a\\x41$7\"\ndo replace /a/ with X", 2, 21, "no group '7'"},
                      {"let 5 = 80", 1, 5, "expected a name"}};
  for (const row& r : rows) {
    const compiled c = file(r.text);
    ASSERT_EQ(c.diagnostics.size(), 1u) << r.text << '\n' << all_of(c);
    EXPECT_FALSE(c.ok());
    EXPECT_EQ(c.diagnostics[0].place.line, r.line) << all_of(c);
    EXPECT_EQ(c.diagnostics[0].place.column, r.column) << all_of(c);
    EXPECT_NE(c.diagnostics[0].message.find(r.message), std::string::npos) << all_of(c);
  }
}

TEST(compile, tells_every_error_with_its_place) {
  const compiled c =
      compile({{"a.rules",
                "do drip\nwhen from.client\n  && tcp.prt == 80\n  do drop\r\n  x: do drop\n\ndo drop\nonce: do dump\n",
                "", true},
               {"-e:1", " once: do dump", "", false},
               {"-e:2", "do dumpp", "", false}},
              {});
  EXPECT_FALSE(c.ok());
  std::string got;
  for (const diagnostic& d : c.diagnostics)
    if (d.how == diagnostic::severity::error)
      got += d.place.file + ' ' + std::to_string(d.place.line) + ':' + std::to_string(d.place.column) + ' ' +
             d.message + " | " + d.hint + '\n';
  EXPECT_EQ(got,
            "a.rules 1:4 unknown action 'drip' | did you mean 'drop'?\n"
            "a.rules 3:6 unknown field 'tcp.prt' | did you mean 'tcp.port'?\n"
            "-e:1 1:2 a rule is named 'once' already | the first is at a.rules:8\n"
            "-e:2 1:4 unknown action 'dumpp' | did you mean 'dump'?\n");
  const compiled indented = file("\n  do drop\n  do drop\n");
  ASSERT_EQ(indented.diagnostics.size(), 1u) << all_of(indented);
  EXPECT_EQ(indented.diagnostics[0].place.line, 2u);
  EXPECT_EQ(indented.diagnostics[0].place.column, 3u);
  EXPECT_TRUE(compile({{"-e:1", "  do drop", "", false}}, {}).ok()) << "an -e may begin with spaces";
}

TEST(compile, default_names) {
  const compiled c = compile(
      {{"-e:1", "do dump", "", false}, {"-e:2", "do dump\ndo dump", "", false}, {"x.rules", "\ndo dump", "", true}},
      {});
  ASSERT_TRUE(c.ok()) << all_of(c);
  std::string names;
  for (const rule& r : c.rules->rules) names += r.name + ' ';
  EXPECT_EQ(names, "-e:1 -e:2 -e:2:2 x.rules:2 ");
}

TEST(compile, remarks) {
  struct remark {
    const char* rule;
    const char* message;  // empty: none
    std::size_t column = 0;
  };
  const remark rows[] = {{"do replace \"a\" with \"b\"", "acts on both directions", 4},
                         {"when tcp.dstport == 80 do dump, drop", "acts on both directions", 33},
                         {"when from.client do replace \"a\" with \"b\"", ""},
                         {"when not from.client do drop", ""},
                         {"when from.client || ip.src == 10.0.0.1 do drop", ""},
                         {"do log \"x\"", "acts on both directions", 4},
                         {"do dump, close", "acts on both directions", 4},
                         {"when from.server do dump, close", ""},
                         {"when from.client && payload contains \"a\" do drop", "depends on how TCP cut", 6},
                         {"when from.client && unit.index == 3 do drop", "depends on how TCP cut", 6},
                         {"when from.client do drop chance 5% per unit", "depends on how TCP cut", 21},
                         {"when from.client do delete \"a\" chance 5% per unit", ""},
                         {"when from.client && conn.age > 3s do drop", ""},
                         {"when from.client && from.server do drop", "never holds", 6},
                         {"when from.client do stop, dump", "never run", 27}};
  for (const remark& r : rows) {
    const compiled c = compile({{"-e:1", r.rule, "", false}}, {});
    EXPECT_TRUE(c.ok()) << all_of(c);
    if (*r.message == '\0') {
      EXPECT_EQ(all_of(c), "") << r.rule;
      continue;
    }
    ASSERT_EQ(c.diagnostics.size(), 1u) << r.rule << '\n' << all_of(c);
    EXPECT_NE(c.diagnostics[0].how, diagnostic::severity::error);
    EXPECT_EQ(c.diagnostics[0].place.column, r.column) << all_of(c);
    EXPECT_NE(c.diagnostics[0].message.find(r.message), std::string::npos) << all_of(c);
  }
  const compiled empty = compile({{"-e:1", "when do dump", "", false}}, {});
  EXPECT_NE(all_of(empty).find("holds always"), std::string::npos) << all_of(empty);
}

TEST(compile, size_and_number_of_errors_are_bounded) {
  std::string huge(source::max_size + 1, 'x');
  EXPECT_EQ(file(huge).diagnostics.size(), 1u);
  std::string wrong;
  while (wrong.size() < source::max_size - 20) wrong += "when tcp.prt do x\n";
  const compiled c = file(wrong);
  EXPECT_FALSE(c.ok());
  ASSERT_EQ(c.diagnostics.size(), 51u);
  EXPECT_EQ(c.diagnostics.back().message, "errors from here on are not shown");
  huge.pop_back();
  EXPECT_EQ(file(huge).diagnostics.size(), 1u);
  EXPECT_LT(all_of(file(huge)).size(), 2000u);
}

TEST(compile, lets_do_not_grow_without_bound) {
  std::string text = "let A = \"" + std::string(400'000, 'a') + "\"\nlet B = {A";
  for (int i = 0; i < 100'000; ++i) text += ",A";
  compiled c = file(text + "}\n");
  ASSERT_EQ(c.diagnostics.size(), 1u);
  EXPECT_NE(c.diagnostics[0].message.find("8 MiB"), std::string::npos);
  text.resize(text.find('\n') + 1);
  for (int i = 0; i < 1000; ++i) text += "when from.client do delete A\n";
  c = file(text);
  EXPECT_FALSE(c.ok());
  EXPECT_EQ(c.diagnostics.size(), 51u);
  std::string fields = "do log \"";
  while (fields.size() < source::max_size - 20) fields += "{ip.src}";
  EXPECT_TRUE(file(fields + '"').ok());
}

TEST(compile, garbage_does_not_crash) {
  const std::uint64_t seed = 20261122;
  std::cout << "seed " << seed << '\n';
  random_source random{seed};
  static const char* const pieces[] = {
      "when ", "do ",   "replace ", "\"",       "\\",         "/",    "with ", "{",    "}",    "(",
      ")",     "[",     "]",        "tcp.port", "payload",    " == ", "80",    "..",   ",",    "#",
      " #",    "\n",    "\n ",      "let ",     "X",          "= ",   "in ",   "not ", "&&",   "-",
      "$1",    "@f",    "'",        "log ",     "chance",     "(5%)", ":",     "\r",   "\t",   "insert ",
      "at ",   "start", "before ",  "ip.src",   "10.0.0.0/8", "::1",  "\xff",  "é",    "\x01", "matches "};
  const int cases = static_cast<int>(30'000 * MIDWIRE_TEST_SCALE) + 100;
  for (int i = 0; i < cases; ++i) {
    std::string text;
    for (std::uint64_t n = random.below(24); n > 0; --n) text += pieces[random.below(std::size(pieces))];
    if (random.one_in(3)) text = "do " + text;
    const compiled c = compile({{"g", text, "", random.one_in(2)}}, {});
    std::size_t errors = 0;
    for (const diagnostic& d : c.diagnostics) {
      errors += d.how == diagnostic::severity::error;
      ASSERT_GE(d.place.line, 1u) << text;
      ASSERT_GE(d.place.column, 1u) << text;
      ASSERT_LE(d.place.column, d.line.size() + 1) << text << '\n' << d.message;
      ASSERT_FALSE(format(d).empty());
    }
    ASSERT_EQ(c.ok(), errors == 0) << text;
  }
}

}  // namespace
}  // namespace midwire::rules
