#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <midwire/base/export.hpp>

namespace midwire {

/// What a parser of outside octets may complain of.
enum class parse_errc : std::uint8_t {
  truncated,   ///< the octets ended inside a unit
  bad_length,  ///< a length that contradicts the format
  bad_value,   ///< an octet that the format does not allow there
  too_long,    ///< over the limit that the reader set
};
/// Which format complained. `framer`: one of the program's own.
enum class layer_id : std::uint8_t { none, framer, line, delimiter, fixed, length, netstring, varint };

/// Where octets from outside stopped making sense. Trivially copyable: it travels on the data path.
struct parse_error {
  parse_errc code;
  layer_id layer;
  std::uint32_t offset;      ///< octets from the start of the outermost unit
  std::uint32_t need, have;  ///< octets the format wants, octets present; of too_long: octets announced, octets allowed

  friend bool operator==(const parse_error&, const parse_error&) = default;
};

MIDWIRE_API std::string_view name_of(parse_errc code) noexcept;
MIDWIRE_API std::string_view name_of(layer_id layer) noexcept;
/// For people: `netstring at octet 3: bad value`, `length at octet 0: too long: 70000 octets, at most 65536`.
MIDWIRE_API std::string text_of(const parse_error& e);

}  // namespace midwire
