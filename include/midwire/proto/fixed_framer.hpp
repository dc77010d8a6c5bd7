#pragma once

#include <midwire/proto/framer.hpp>

namespace midwire::proto {

/// Messages of one size, without any framing.
class MIDWIRE_API fixed_framer {
 public:
  /// Octets of each message. Throws std::invalid_argument for 0.
  explicit fixed_framer(std::size_t size);
  step next(byte_view seen) noexcept;
  /// encode_error: another size.
  void encode(chunk payload, buffer& out) const;
  void reset() noexcept {}

 private:
  std::size_t size_;
};

}  // namespace midwire::proto
