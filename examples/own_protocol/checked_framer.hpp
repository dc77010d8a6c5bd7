#pragma once

#include <midwire/engine.hpp>

/// A framing of one's own: an octet that says how long the payload is, the payload, and an octet that makes the
/// exclusive or of them all zero.
///
///   | size | size octets | check |
class checked_framer {
 public:
  midwire::proto::step next(midwire::byte_view seen) {
    using midwire::proto::step;
    if (seen.empty()) return step::need_more(2);
    const std::size_t size = seen[0] + std::size_t{2};
    if (seen.size() < size) return step::need_more(size - seen.size());
    if (check(seen.first(size)) != 0)
      return step::error({midwire::parse_errc::bad_value, midwire::layer_id::framer, seen[0] + 1u, 0, 0});
    return step::frame(size, 1, size - 2);
  }

  void encode(midwire::chunk payload, midwire::buffer& out) {
    if (payload.size() > 255) throw midwire::proto::encode_error{"a payload of more than 255 octets"};
    const auto size = static_cast<std::uint8_t>(payload.size());
    const auto last = static_cast<std::uint8_t>(size ^ check(payload.bytes()));
    out.append(midwire::chunk{midwire::byte_view{&size, 1}});
    out.append(std::move(payload));  // not copied: a buffer is a chain
    out.append(midwire::chunk{midwire::byte_view{&last, 1}});
  }

  void reset() {}  // keeps nothing between two calls

 private:
  static std::uint8_t check(midwire::byte_view octets) {
    std::uint8_t sum = 0;
    for (const auto octet : octets) sum = static_cast<std::uint8_t>(sum ^ octet);
    return sum;
  }
};
static_assert(midwire::proto::framer<checked_framer>);
