#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <midwire/base/address.hpp>
#include <midwire/base/chance.hpp>
#include <midwire/base/export.hpp>
#include <midwire/base/views.hpp>
#include <midwire/fields/registry.hpp>

namespace midwire::fields {

/// What holds for a whole connection: its two ends, as if midwire were not between them.
struct connection_facts {
  address client, server;
  std::uint64_t id = 0;        ///< counts from 1, per listener
  std::uint64_t listener = 0;  ///< hash_text() of the mode as written
  std::uint64_t seed = 0;
};

/// One unit of a stream, as rules see it. Borrows everything: valid during the call.
struct stream_unit {
  const connection_facts* conn = nullptr;
  direction dir = direction::to_server;
  byte_view payload;
  std::uint64_t index = 1;   ///< in its direction, from 1
  std::uint64_t before = 0;  ///< octets of this direction before this unit (conn.octets)
  duration age{};            ///< of the connection (conn.age)
  std::uint64_t rule = 0;    ///< hash of the rule's name or text: for chance()
};

/// One value of a field. What counts follows from the field's type: `number` for integers and (in nanoseconds) for
/// `dur`, `octets` for bytes and for addresses in network order; neither for `none`.
struct field_value {
  std::uint64_t number = 0;
  byte_view octets;
};
/// No field has more values than this in one unit of a stream.
inline constexpr std::size_t max_values = 2;

/// Reads a field of a stream's unit: the number of values put into `out`, 0 when it is absent. The octets borrow from
/// the unit. A field that exists at packet level only is absent. An empty payload is absent.
MIDWIRE_API std::size_t read(field_id f, const stream_unit& u, std::array<field_value, max_values>& out) noexcept;

/// Appends the field as `log` shows it: numbers in decimal, addresses as text, durations as seconds with nine digits,
/// bytes as they are, `none` as 1; several values with a comma between; nothing when absent.
MIDWIRE_API void append_text(std::string& out, field_id f, const stream_unit& u);
/// One value of a field of type `t` in the same form. Allocates only where `out` must grow.
MIDWIRE_API void append_text(std::string& out, field_type t, const field_value& v);

}  // namespace midwire::fields
