#pragma once

#include <string>
#include <vector>

#include <midwire/proto/framer.hpp>

namespace midwire::proto {

/// Messages that end in a delimiter: one octet or more, any octets. The payload is what lies in front of it.
///
/// The first delimiter ends the message, wherever it was cut; time is linear whatever the delimiter.
/// Limit   more than `max` octets in front of the delimiter are too_long as soon as that can be told.
class MIDWIRE_API delimiter_framer {
 public:
  /// Throws std::invalid_argument for an empty delimiter.
  explicit delimiter_framer(std::string delimiter, std::size_t max = 16384);
  step next(byte_view seen) noexcept;
  /// encode_error: the delimiter inside, or begun at the end so that it would be found too early.
  void encode(chunk payload, buffer& out) const;
  void reset() noexcept { scanned_ = matched_ = 0; }

 private:
  /// Takes octets from `at` on until the delimiter is whole or there are no more. `matched`: octets of the delimiter
  /// that the last ones seen are. \return one past the delimiter, or 0
  std::size_t scan(byte_view seen, std::size_t at, std::size_t& matched) const noexcept;

  std::string delimiter_;
  std::vector<std::size_t> shorter_;  // by octets matched: the longest shorter match that those end in, too
  std::size_t max_, scanned_ = 0, matched_ = 0;
};

}  // namespace midwire::proto
