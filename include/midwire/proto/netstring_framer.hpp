#pragma once

#include <midwire/proto/framer.hpp>

namespace midwire::proto {

/// Netstrings (D. J. Bernstein, 1997): the length in decimal digits, a colon, the octets, a comma: `5:hello,`.
///
/// bad_value   no digit where one belongs, a leading zero (`05:`; but `0:,` is the empty one), no comma at the end
/// too_long    over the limit, told at the digit that makes it so
class MIDWIRE_API netstring_framer {
 public:
  /// Octets of the longest payload that is read.
  explicit netstring_framer(std::size_t max = 99999) noexcept;
  step next(byte_view seen) noexcept;
  /// Every payload can be sent.
  void encode(chunk payload, buffer& out) const;
  void reset() noexcept {}

 private:
  std::size_t max_;
};

}  // namespace midwire::proto
