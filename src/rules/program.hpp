#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <midwire/fields/registry.hpp>
#include <midwire/rules/filter.hpp>

#include "rules/syntax.hpp"

/// PCRE2's compiled pattern, without its header.
struct pcre2_real_code_8;

namespace midwire::rules::detail {

/// Wide enough for every 64-bit number, signed or not, and for what one operation makes of two.
__extension__ using wide = __int128;

/// What a value is made of when a filter runs.
enum class kind : std::uint8_t { nothing, number, time, octets, text, ip4, ip6 };
constexpr bool is_address(kind k) noexcept { return k == kind::ip4 || k == kind::ip6; }
constexpr bool is_octets(kind k) noexcept { return k != kind::nothing && k != kind::number && k != kind::time; }

/// A literal as the filter's program holds it.
struct constant {
  kind type = kind::nothing;
  std::uint8_t bits = 0;  ///< of an address: how many count
  wide number = 0;        ///< integers; nanoseconds of time
  std::string octets;     ///< text, octets, addresses in network order
};
/// Both ends are in it.
struct interval {
  constant low, high;
};

/// Three ways: numbers by size, all else as std::memcmp and then by length.
int compare(const constant& a, const constant& b) noexcept;

struct free_code {
  void operator()(pcre2_real_code_8* code) const noexcept;
};
using regex_code = std::unique_ptr<pcre2_real_code_8, free_code>;

enum class value_op : std::uint8_t {
  field,
  constant,
  slice,
  len,
  upper,
  lower,
  count,
  string,
  max,
  min,
  abs,
  negate,
  add,
  subtract,
  multiply,
  divide,
  modulo,
  mask
};

/// A value's instruction; indices are into the program's lists.
struct value_code {
  value_op op = value_op::constant;
  kind type = kind::nothing;
  bool present = true;  ///< of a field: false when `#N` lets nothing through
  fields::field_id field{};
  std::uint32_t constant = 0;
  std::uint32_t scratch = 0;  ///< which of the thread's buffers it may write
  std::vector<std::uint32_t> arguments;
  std::vector<range> ranges;
};

enum class test_op : std::uint8_t {
  all_of,
  any_of,
  negation,
  present,
  exists,
  not_zero,
  relation,
  field_number,
  contains,
  matches,
  member,
  chance
};

struct test_code {
  test_op op = test_op::present;
  bool all = false;  ///< every pair, not any
  bool needs_connection = false, needs_unit = false;
  relation rel = relation::equal;
  std::uint32_t left = 0, right = 0;  ///< values; of field_number and contains `right` may be a constant
  std::uint32_t index = 0;            ///< of the regex or the set
  double probability = 1;
  std::uint64_t salt = 0;  ///< sets a filter's draws apart from an action's and from each other
  std::vector<std::uint32_t> tests;
};

struct filter_program {
  std::vector<test_code> tests;
  std::vector<value_code> values;
  std::vector<constant> constants;
  std::vector<std::vector<interval>> sets;  ///< each sorted, without overlaps
  std::vector<regex_code> regexes;
  std::uint32_t root = 0;
  std::uint32_t scratches = 0;
  bool reads_units = false, varies = false, uses_chance = false, names_direction = false;
};

/// Most values that a test may have on one side.
inline constexpr std::size_t most_values = 16;

struct regex_flags {
  bool ignore_case = false, multi_line = false, dot_all = false, extended = false;
};
/// A regex on octets, with JIT where it can be had; empty on error, and `offset` and `why` say where and what.
regex_code compile_regex(std::string_view pattern, regex_flags flags, std::size_t& offset, std::string& why);
/// What a regex has for `$N` and `${name}`: the highest number; the number of a name, 0 when it has none such.
unsigned group_count(const pcre2_real_code_8& code) noexcept;
unsigned group_named(const pcre2_real_code_8& code, const std::string& name) noexcept;

}  // namespace midwire::rules::detail
