#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <midwire/base/export.hpp>

namespace midwire::fields {

/// Wireshark's types under their short names. `none` is present or not and has no value.
enum class field_type : std::uint8_t {
  none,
  boolean,
  u8,
  u16,
  u24,
  u32,
  u64,
  i8,
  i32,
  fnum,
  f64,
  str,
  bytes,
  mac,
  ip4,
  ip6,
  time,
  dur
};
MIDWIRE_API std::string_view name_of(field_type t) noexcept;

/// Dense: the index into all().
enum class field_id : std::uint16_t {};

/// Where a field can be asked for.
enum class level : std::uint8_t { stream = 1, packet = 2, both = 3 };
/// Whether a field of `levels` can be asked for at `wanted` (one level).
constexpr bool exists_at(level levels, level wanted) noexcept {
  return (static_cast<unsigned>(levels) & static_cast<unsigned>(wanted)) != 0;
}

struct field_info {
  std::string_view name;  ///< Wireshark's, or midwire's own
  field_type type;
  level levels;
  bool writable;
  bool many;                     ///< may have several values in one unit (`ip.addr`, `tcp.port`)
  bool per_unit;                 ///< differs between units of one connection and direction
  std::string_view description;  ///< one line; of a field that only packets have: its protocol
};

/// The one table, sorted as it is printed: what a proxied connection has first, then the rest by name.
MIDWIRE_API std::span<const field_info> all() noexcept;
/// The part of all() that exists at stream level; it is the table's beginning.
MIDWIRE_API std::span<const field_info> at_stream_level() noexcept;
/// Nothing: unknown.
MIDWIRE_API const field_info* find(std::string_view name) noexcept;
MIDWIRE_API field_id id_of(const field_info& f) noexcept;
MIDWIRE_API const field_info& info(field_id id) noexcept;
/// The known name nearest to a misspelt one; empty when none is near.
MIDWIRE_API std::string_view nearest(std::string_view name);

}  // namespace midwire::fields
