#pragma once

#include <midwire/base/byte_order.hpp>
#include <midwire/proto/framer.hpp>

namespace midwire::proto {

/// Where a message says how long it is.
///
///   | offset octets | length field | value + adjust octets |
///   |<------- header ------------->|<------- body -------->|
struct length_format {
  /// Octets of the length field: 1 to 8.
  std::size_t width = 4;
  byte_order order = byte_order::big;
  /// Octets in front of the length field.
  std::size_t offset = 0;
  /// What to add to the field's value to get the octets behind the field: -4 when it counts a header of four octets
  /// as well, 2 when two octets that it does not count come in front of what it counts.
  std::int64_t adjust = 0;
  /// Whether the header belongs to the payload that is handed over.
  bool with_header = false;
  /// Octets of the longest payload that is read, as it is handed over.
  std::size_t max = 99999;
};

/// Messages with their length in front.
///
/// A length over the limit is an error when the header is there: nothing is stored for it.
/// too_long     over the limit
/// bad_length   value + adjust is below 0
class MIDWIRE_API length_framer {
 public:
  /// Throws std::invalid_argument when the width is not 1 to 8.
  explicit length_framer(length_format format = {});
  step next(byte_view seen) noexcept;
  /// The octets in front of the length field are zeros; with_header they are the payload's own, and its length field
  /// is overwritten by what is right. encode_error: too long for the field, or shorter than the header it should have.
  void encode(chunk payload, buffer& out) const;
  /// The octets in front of the length field are those of `like`.
  void encode_like(byte_view like, chunk payload, buffer& out) const;
  void reset() noexcept {}

 private:
  std::size_t header() const noexcept { return format_.offset + format_.width; }
  void write(byte_view front, chunk body, buffer& out) const;
  length_format format_;
};

}  // namespace midwire::proto
