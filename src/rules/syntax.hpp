#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <midwire/fields/registry.hpp>

#include "rules/lexer.hpp"

namespace midwire::rules::detail {

/// A value written out. What it means depends on what it is compared with: 10 is a number, or the octet 0x10.
struct literal {
  enum class form : std::uint8_t { word, text, character };
  form how = form::word;
  bool negative = false;
  bool from_let = false;  ///< `at` is where the let's name stands, so there is no place inside it
  std::string value;      ///< the word as written, or the octets of a text
  extent at;
};

/// One item of a set: a value, or a range with both ends in it.
struct set_item {
  literal low;
  std::optional<literal> high;
};

/// What a let name stands for.
struct let_value {
  bool set = false;
  std::vector<set_item> items;  ///< of a value that is no set: one
  std::string text;             ///< as written, for the normalised text of rules that use it
};
struct let_table {
  /// Octets that uses of lets may add to the sources in all: a few lines must not grow into gigabytes.
  static constexpr std::size_t max_growth = 8 * 1024 * 1024;

  std::map<std::string, let_value, std::less<>> values;
  std::size_t growth = 0;
};

/// One part of a slice `[…]` or of a layer choice `#[…]`.
struct range {
  enum class form : std::uint8_t { count, through, rest };  ///< [i:n] or [i] or [:n]; [i-j]; [i:]
  form how = form::count;
  std::int64_t first = 0;
  std::int64_t second = 1;  ///< the count, or the last index
};

struct operand_node;
using operand_ptr = std::unique_ptr<operand_node>;

/// A value of a test: field, slice, function, arithmetic or literal.
struct operand_node {
  enum class form : std::uint8_t { field, literal, slice, function, arithmetic, negation };
  form how = form::literal;
  extent at;
  const fields::field_info* field = nullptr;
  bool outer_layer = true;  ///< of a field: `#N` lets the first layer through
  literal value;
  std::string name;  ///< of the function
  token_kind sign = token_kind::end;
  std::vector<range> ranges;
  std::vector<operand_ptr> arguments;
};

enum class relation : std::uint8_t {
  equal,
  not_equal,
  all_equal,
  any_not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  contains,
  matches
};
enum class quantifier : std::uint8_t { usual, any, all };

struct test_node;
using test_ptr = std::unique_ptr<test_node>;

struct test_node {
  enum class form : std::uint8_t { all_of, any_of, negation, relation, member, bare, chance };
  form how = form::bare;
  extent at;
  std::vector<test_ptr> tests;
  quantifier over = quantifier::usual;
  relation rel = relation::equal;
  extent rel_at;
  operand_ptr left, right;
  std::vector<set_item> items;
  double probability = 1;
};

}  // namespace midwire::rules::detail
