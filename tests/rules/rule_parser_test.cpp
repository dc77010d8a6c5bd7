#include "rules/rule_parser.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <midwire/rules/rule.hpp>

namespace midwire::rules {
namespace {

std::optional<std::string> files(const std::string& path, std::string& error) {
  if (path == "rules/body.bin") return std::string{"$1\0x", 4};
  if (path == "/abs/two words") return "abs";
  error = "No such file or directory";
  return std::nullopt;
}

compiled one(const std::string& text) { return compile({{"-e:1", text, "rules", false}}, files); }

std::string all_of(const compiled& c) {
  std::string out;
  for (const diagnostic& d : c.diagnostics) out += format(d);
  return out;
}

action only(const std::string& text) {
  const compiled c = one(text);
  if (!c.ok() || c.rules->rules.size() != 1 || c.rules->rules[0].actions.size() != 1) {
    ADD_FAILURE() << text << '\n' << all_of(c);
    return {};
  }
  return c.rules->rules[0].actions[0];
}

/// "text", {0} for a group.
std::string shown(const value& v) {
  std::string out;
  for (const value::part& p : v.parts) out += p.group < 0 ? '"' + p.text + '"' : '{' + std::to_string(p.group) + '}';
  return out;
}

TEST(rule_parser, patterns) {
  action a = only(R"(do replace "a\x00\"b" with "c")");
  EXPECT_EQ(a.kind, action_kind::replace);
  EXPECT_EQ(a.pattern.how, pattern::kind::literal);
  EXPECT_EQ(a.pattern.octets, std::string("a\0\"b", 4));
  EXPECT_EQ(only(R"(do delete r"\d\"")").pattern.octets, R"(\d\")");
  EXPECT_EQ(only("do delete 61:62:0a").pattern.octets, "ab\n");
  EXPECT_EQ(only("do delete 6162").pattern.octets, "ab");
  a = only(R"(do delete /a\/b\\\d#"x"/imsx)");
  EXPECT_EQ(a.pattern.how, pattern::kind::regex);
  EXPECT_EQ(a.pattern.octets, R"(a/b\\\d#"x")");
  EXPECT_TRUE(a.pattern.ignore_case && a.pattern.multi_line && a.pattern.dot_all && a.pattern.extended);
  EXPECT_FALSE(only("do delete /a/").pattern.ignore_case);
  EXPECT_EQ(only("do delete /a #,b/").pattern.octets, "a #,b") << "a comment cannot begin inside a regex";
  EXPECT_EQ(only("do delete /(?=x)a*/").pattern.octets, "(?=x)a*");
}

TEST(rule_parser, values) {
  EXPECT_EQ(shown(only(R"(do replace "x" with "$1 ${a} $$")").value), R"("$1 ${a} $$")")
      << "no groups behind a literal";
  EXPECT_EQ(shown(only(R"(do replace /SET (\w+) (\d+)/ with "SET $1 ${2}0")").value), R"("SET "{1}" "{2}"0")");
  EXPECT_EQ(shown(only(R"(do replace /(?<who>a)(b)/ with "${who}$2$0$$")").value), R"({1}{2}{0}"$")");
  EXPECT_EQ(shown(only("do replace /a/ with 24:30").value), "\"$0\"") << "octets are octets";
  EXPECT_EQ(shown(only("do replace /(a)/ with @body.bin").value), "\"" + std::string("$1\0x", 4) + "\"")
      << "so is a file";
  EXPECT_EQ(shown(only("do replace \"a\" with @\"/abs/two words\"").value), "\"abs\"");
  EXPECT_EQ(shown(only("do replace \"a\" with \"\"").value), "");
  EXPECT_TRUE(only("do replace \"a\" with \"\"").value.constant());
  EXPECT_EQ(shown(only("do delete \"a\"").value), "");
  EXPECT_EQ(shown(only("do insert \"+\" after \"a\"").value), "{0}\"+\"");
  EXPECT_EQ(shown(only("do insert \"<$1>\" before /(a)/").value), "\"<\"{1}\">\"{0}");
  EXPECT_EQ(only("do insert \"+\" after \"a\"").kind, action_kind::replace);
  EXPECT_EQ(only("do insert \"+\" after \"a\"").word, "insert");
}

TEST(rule_parser, places_sizes_and_clauses) {
  action a = only("do insert \"x\" at start");
  EXPECT_EQ(a.kind, action_kind::insert);
  EXPECT_EQ(a.at, action::where::start);
  EXPECT_EQ(a.value.text(), "x");
  EXPECT_EQ(only("do insert 00 at end").at, action::where::end);
  EXPECT_EQ(only("do insert 00 at end").value.text(), std::string_view("\0", 1));
  a = only("do insert \"x\" at 10KiB");
  EXPECT_EQ(a.at, action::where::offset);
  EXPECT_EQ(a.octets, 10240u);
  EXPECT_EQ(only("do truncate 0").octets, 0u);
  EXPECT_EQ(only("do truncate 3KB").octets, 3000u);
  EXPECT_EQ(only("do truncate 2MB").octets, 2'000'000u);
  EXPECT_EQ(only("do truncate 2GiB").octets, 2ull << 30);
  a = only("do replace \"a\" with \"b\" in payload times 3 chance 12.5% per unit");
  EXPECT_EQ(a.times, 3u);
  EXPECT_EQ(a.chance, 0.125);
  EXPECT_TRUE(a.chance_per_unit);
  EXPECT_EQ(only("do drop chance 20%").chance, 0.2);
  EXPECT_FALSE(only("do drop chance 20%").chance_per_unit);
  EXPECT_FALSE(only("do drop chance 20% per connection").chance_per_unit);
  EXPECT_TRUE(one("do drop chance 20%").rules->uses_chance());
  EXPECT_TRUE(one("when chance(3%) do drop").rules->uses_chance());
  EXPECT_FALSE(one("do drop chance 100%").rules->uses_chance());
  const compiled c = one("do replace \"a,b\" with \"c\" times 1, close, reset, dump, log \"x\", stop");
  ASSERT_TRUE(c.ok());
  std::string kinds;
  for (const action& x : c.rules->rules[0].actions) (kinds += name_of(x.kind)) += ' ';
  EXPECT_EQ(kinds, "replace close reset dump log stop ");
}

TEST(rule_parser, log_text) {
  const action a = only("do log \"got {ip.src} {{x}} {conn.id}\"");
  ASSERT_EQ(a.text.parts.size(), 4u);
  EXPECT_EQ(a.text.parts[0].text, "got ");
  EXPECT_TRUE(a.text.parts[1].is_field);
  EXPECT_EQ(fields::info(a.text.parts[1].field).name, "ip.src");
  EXPECT_EQ(a.text.parts[2].text, " {x} ");
  EXPECT_EQ(fields::info(a.text.parts[3].field).name, "conn.id");
}

struct row {
  const char* rule;
  std::size_t column;
  const char* message;
  const char* hint = "";
};

TEST(rule_parser, refusals) {
  const row rows[] = {
      {"do replse \"a\" with \"b\"", 4, "unknown action 'replse'", "'replace'"},
      {"do frobnicate", 4, "unknown action 'frobnicate'", "there are: replace"},
      {"do delay 100ms", 4, "'delay' is not available at stream level yet"},
      {"do dellay 100ms", 4, "unknown action 'dellay'", "'delay'"},
      {"do set ip.ttl = 5", 4, "'set' is not available at stream level yet"},
      {"do push vlan 42", 4, "'push' exists only at packet level"},
      {"do framing line", 4, "'framing' is not available yet"},
      {"do drop framing line", 9, "unexpected 'framing'", "not available yet"},
      {"do drop during 10s..30s", 9, "'during' is not available yet", "conn.age"},
      {"do", 3, "expected an action, not the end"},
      {"do drop,", 9, "expected an action"},
      {"do drop close", 9, "unexpected 'close' behind 'drop'", "commas"},
      {"drop", 1, "expected 'when' or 'do'", "write 'do drop"},
      {"from.client do drop", 1, "expected 'when' or 'do'", "begins with 'when'"},
      {"whn ip do drop", 1, "expected 'when' or 'do'", "'when'"},
      {"when ip", 8, "expected 'do' and an action"},
      {"when ip drop", 9, "expected 'do' before 'drop'"},
      {"when ip doo drop", 9, "not 'doo'", "'do'"},
      {"when tcp.prt == 80 do drop", 6, "unknown field 'tcp.prt'", "'tcp.port'"},
      {"when (ip do drop", 6, "'(' without its ')'"},
      {"do replace with \"b\"", 12, "expected a pattern, not 'with'"},
      {"do replace \"\" with \"b\"", 12, "an empty pattern"},
      {"do replace // with \"b\"", 12, "an empty regex"},
      {"do replace \"a\"", 15, "expected 'with', not the end"},
      {"do replace \"a\" wiht \"b\"", 16, "expected 'with', not 'wiht'", "'with'"},
      {"do replace \"a\" with", 20, "expected a value, not the end"},
      {"do replace foo with \"b\"", 12, "'foo' is not a pattern", "\"foo\""},
      {"do replace \"a\" with foo", 21, "'foo' is not a value", "\"foo\""},
      {"do replace \"a\" with /b/", 21, "expected a value, not '/'"},
      {"do replace \"a with b", 12, "text without its closing"},
      {"do replace /a with b", 12, "regex without its closing"},
      {"do replace /a(b/ with \"\"", 16, "bad regex"},
      {"do replace /a\\/b[/ with \"\"", 18, "bad regex"},
      {"do replace /a/g with \"\"", 15, "unknown regex flag 'g'", "times N"},
      {"do replace /a/q with \"\"", 15, "unknown regex flag 'q'", "i m s x"},
      {"do replace /a/ii with \"\"", 16, "twice"},
      {"do replace /^/ with \"x\"", 12, "no octets"},
      {"do replace /(?=abc)/ with \"x\"", 12, "no octets"},
      {"do replace /(?i)\\b|$/ with \"x\"", 12, "no octets"},
      {"do replace /(a)/ with \"x$2\"", 25, "no group '2'", "1 group"},
      {"do replace /(a)/ with \"\\x41$10\"", 28, "no group '10'", "${1}0"},
      {"do replace /(a)/ with \"${b}\"", 24, "no group 'b'", "(?<b>"},
      {"do replace /(a)/ with \"${b\"", 24, "'$' without a group", "$$"},
      {"do replace /(a)/ with \"a$\"", 25, "'$' without a group"},
      {"do replace /a/ with \"$1\"", 22, "no group '1'", "no groups"},
      {"do insert \"$1\" before /a/", 12, "no group '1'"},
      {"do replace \"a\" with @none", 21, "cannot read 'rules/none': No such file", "relative"},
      {"do replace \"a\" with @", 21, "path of a file"},
      {"do replace \"a\" with \"b\" times 0", 31, "at least 1"},
      {"do replace \"a\" with \"b\" times x", 31, "at least 1"},
      {"do replace \"a\" with \"b\" times 2 times 3", 33, "twice"},
      {"do replace \"a\" with \"b\" tmes 2", 25, "unexpected 'tmes'", "'times'"},
      {"do replace \"a\" with \"b\" in ip.src", 28, "works only at packet level", "in payload"},
      {"do replace \"a\" with \"b\" in http.host", 28, "exists only at packet level"},
      {"do replace \"a\" with \"b\" in paylod", 28, "unknown field 'paylod'", "'payload'"},
      {"do drop times 2", 9, "'times' does not go with 'drop'"},
      {"do insert \"a\" at start times 2", 24, "'times' does not go with 'insert'"},
      {"do drop in payload", 9, "'in' does not go with 'drop'"},
      {"do drop chance 20", 18, "expected '%'"},
      {"do drop chance 120%", 16, "0 to 100"},
      {"do drop chance", 15, "0 to 100"},
      {"do drop chance 20% per day", 24, "'unit' or 'connection'"},
      {"do insert \"a\"", 14, "expected 'at'", "insert VALUE"},
      {"do insert \"\" at start", 11, "nothing to insert"},
      {"do insert \"a\" at middle", 18, "expected 'start', 'end'"},
      {"do insert \"a\" before", 21, "expected a pattern"},
      {"do truncate", 12, "to keep, not the end of the rule"},
      {"do truncate 10kb", 13, "unknown size '10kb'", "KiB"},
      {"do truncate 99999999999GB", 13, "too large"},
      {"do truncate \"10\"", 13, "the number of octets"},
      {"do log ip.src", 8, "expected text behind 'log'", "log \"got"},
      {"do log", 7, "expected text behind 'log', not the end of the rule"},
      {"do log \"x {ip.sourc}\"", 12, "unknown field 'ip.sourc'", "'ip.src'"},
      {"do log \"\\x41{ip.ttl}\"", 14, "only at packet level"},
      {"do log \"{ip.src\"", 9, "'{' without"},
      {"do log \"ip.src}\"", 15, "'}' without"},
      {"do log \"{}\"", 10, "unknown field ''"},
      {"s/a%0a%%/b%2f/1o", 1, "netsed", "when from.client do replace \"a\\x0a%\" with \"b\\x2f\" times 1"},
      {"s/a//i", 1, "netsed", "when from.server do delete \"a\""},
      {"do: drop", 1, "'do' is a word of the language"},
      {"my name: do drop", 1, "expected 'when' or 'do', not 'my'"},
  };
  for (const row& r : rows) {
    const compiled c = one(r.rule);
    EXPECT_FALSE(c.ok()) << r.rule;
    ASSERT_EQ(c.diagnostics.size(), 1u) << r.rule << '\n' << all_of(c);
    const diagnostic& d = c.diagnostics[0];
    EXPECT_EQ(d.how, diagnostic::severity::error);
    EXPECT_EQ(d.place.line, 1u);
    EXPECT_EQ(d.place.column, r.column) << all_of(c);
    EXPECT_NE(d.message.find(r.message), std::string::npos) << all_of(c) << "wanted: " << r.message;
    EXPECT_NE(d.hint.find(r.hint), std::string::npos) << all_of(c) << "wanted: " << r.hint;
  }
}

}  // namespace
}  // namespace midwire::rules
