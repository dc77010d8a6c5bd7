#include <midwire/proto/varint_framer.hpp>

#include <array>
#include <utility>

namespace midwire::proto {

varint_framer::varint_framer(std::size_t max, padding padded) noexcept
    : max_{std::min(max, std::numeric_limits<std::size_t>::max() / 2)}, padded_{padded} {}

step varint_framer::next(byte_view seen) noexcept {
  const auto bad = [](std::size_t offset) {
    return step::error({parse_errc::bad_value, layer_id::varint, saturated(offset), 0, 0});
  };
  std::uint64_t length = 0;
  std::size_t at = 0;
  while (true) {
    if (at == seen.size()) return step::need_more();
    const std::uint8_t octet = seen[at];
    if (at == max_header - 1 && octet > 1) return bad(at);  // a 65th bit, or an 11th octet
    length |= static_cast<std::uint64_t>(octet & 0x7f) << (7 * at);
    if (length > max_)
      return step::error({parse_errc::too_long, layer_id::varint, 0, saturated(length), saturated(max_)});
    if (octet < 0x80) {
      if (octet == 0 && at > 0 && padded_ == padding::refused) return bad(at);
      break;
    }
    ++at;
  }
  const std::size_t front = at + 1, size = front + static_cast<std::size_t>(length);
  if (seen.size() < size) return step::need_more(size - seen.size());
  return step::frame(size, front, size - front);
}

void varint_framer::encode(chunk payload, buffer& out) const {
  std::array<std::uint8_t, max_header> head{};
  std::size_t used = 0;
  for (std::uint64_t left = payload.size();; left >>= 7) {
    head[used++] = static_cast<std::uint8_t>((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    if (left <= 0x7f) break;
  }
  out.append(chunk{byte_view{head.data(), used}});
  out.append(std::move(payload));
}

}  // namespace midwire::proto
