#pragma once

#include <midwire/proto/framer.hpp>

namespace midwire::proto {

/// Messages with their length in front as a base-128 varint, as Protocol Buffers write them in a row: seven bits an
/// octet, the lowest first, the high bit set in all octets but the last. At most 10 octets.
///
/// bad_value    a length of more than 10 octets or 64 bits; a longer form than needed, unless that is allowed
/// too_long     over the limit, told at the octet that makes it so
class MIDWIRE_API varint_framer {
 public:
  /// A length may be written with octets that add nothing to it (80 00 for 0): refused, or allowed.
  enum class padding : std::uint8_t { refused, allowed };
  static constexpr std::size_t max_header = 10;

  /// `max`: octets of the longest payload that is read.
  explicit varint_framer(std::size_t max = 99999, padding padded = padding::refused) noexcept;
  step next(byte_view seen) noexcept;
  /// Every payload can be sent; its length has the shortest form.
  void encode(chunk payload, buffer& out) const;
  void reset() noexcept {}

 private:
  std::size_t max_;
  padding padded_;
};

}  // namespace midwire::proto
