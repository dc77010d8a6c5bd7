#pragma once

#include <string>
#include <string_view>

#include "rules/program.hpp"

namespace midwire::rules::detail {

/// What a literal is to become, and how its counterpart is called in messages.
struct expected {
  kind type = kind::nothing;
  fields::field_type field = fields::field_type::u64;  ///< bounds a number; says how octets are spelt
  std::string name;                                    ///< "'tcp.port'"
  bool signed_number = false;                          ///< any 64-bit number, whatever `field` says
};

/// \throws failure_at  the literal does not fit
constant convert(const literal& l, const expected& want);

/// Octets as written: `aa:bb`, `aa-bb`, `aa.bb`, `aabb`, `7a`, `7`, `0x7a`; false: not octets.
bool parse_octets(std::string_view word, std::string& out);
/// How many octets one of these units is: nothing, `KB`, `MiB`…; 0: none of them.
std::uint64_t size_of_unit(std::string_view unit) noexcept;

/// A time span, `10s`, `3.5`, `100ms`; units ns us ms s m h, none means seconds. False: not one, or over 292 years.
bool parse_span(std::string_view word, wide& nanoseconds);

}  // namespace midwire::rules::detail
