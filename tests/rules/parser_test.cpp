#include "rules/parser.hpp"

#include <gtest/gtest.h>

#include <string>

namespace midwire::rules::detail {
namespace {

std::string shown(const operand_node& n, std::string_view source) {
  using enum operand_node::form;
  if (n.how == arithmetic)
    return '{' + shown(*n.arguments[0], source) + ' ' +
           std::string(1, "+-*/%&"[static_cast<int>(n.sign) - static_cast<int>(token_kind::plus)]) + ' ' +
           shown(*n.arguments[1], source) + '}';
  if (n.how == negation) return "{-" + shown(*n.arguments[0], source) + '}';
  return std::string{source.substr(n.at.begin, n.at.end - n.at.begin)};
}

/// With every group in parentheses or braces.
std::string shown(const test_node& n, std::string_view source) {
  using enum test_node::form;
  std::string out;
  switch (n.how) {
    case all_of:
    case any_of:
      for (const test_ptr& t : n.tests)
        out += (out.empty() ? "(" : n.how == all_of ? " and " : " or ") + shown(*t, source);
      return out + ')';
    case negation: return "!" + shown(*n.tests[0], source);
    case relation: return shown(*n.left, source) + " rel " + shown(*n.right, source);
    case member: return shown(*n.left, source) + " in " + std::to_string(n.items.size());
    case bare: return shown(*n.left, source);
    case chance: return "chance";
  }
  return {};
}

std::string grouped(std::string_view text) {
  let_table none;
  try {
    cursor at{text, {0, text.size()}, none};
    const test_ptr root = parse_filter(at);
    check_filter_end(at);
    return root ? shown(*root, text) : "";
  } catch (const failure_at& f) { return f.message; }
}

TEST(parser, precedence) {
  EXPECT_EQ(grouped("! tcp.port == 80 && ip"), "(!tcp.port rel 80 and ip)");
  EXPECT_EQ(grouped("ip or tcp and ipv6 or payload"), "(ip or (tcp and ipv6) or payload)");
  EXPECT_EQ(grouped("(ip or tcp) and not ipv6"), "((ip or tcp) and !ipv6)");
  EXPECT_EQ(grouped("tcp.flags & 2 == 2"), "{tcp.flags & 2} rel 2");
  EXPECT_EQ(grouped("tcp.port & 1 + 2 * 3 == 2"), "{tcp.port & {1 + {2 * 3}}} rel 2");
  EXPECT_EQ(grouped("tcp.port - 1 - 2 == 4 / 2 % 3"), "{{tcp.port - 1} - 2} rel {{4 / 2} % 3}");
  EXPECT_EQ(grouped("{tcp.port + 1} * 2 == -5"), "{{tcp.port + 1} * 2} rel -5");
  EXPECT_EQ(grouped("-tcp.port + 1 == 0"), "{{-tcp.port} + 1} rel 0");
  EXPECT_EQ(grouped("tcp.port in {1, 2..3} && tcp.port not in {4}"), "(tcp.port in 2 and !tcp.port in 1)");
  EXPECT_EQ(grouped("chance(5%) || payload[0:4, -1] ~ \"x\""), "(chance or payload[0:4, -1] rel \"x\")");
  EXPECT_EQ(grouped("len ( payload ) == 4"), "len ( payload ) rel 4");
  EXPECT_EQ(grouped(""), "");
}

TEST(parser, suggests_words) {
  EXPECT_EQ(nearest_word("replse", {"insert", "replace"}), "replace");
  EXPECT_EQ(nearest_word("wiht", {"with", "when"}), "with");
  EXPECT_EQ(nearest_word("AND", {"any", "and"}), "and");
  EXPECT_EQ(nearest_word("zzzz", {"with", "when"}), "");
  EXPECT_EQ(nearest_word("", {"with"}), "");
}

}  // namespace
}  // namespace midwire::rules::detail
