#include <midwire/proto/netstring_framer.hpp>

#include <array>
#include <charconv>
#include <utility>

namespace midwire::proto {

netstring_framer::netstring_framer(std::size_t max) noexcept
    : max_{std::min(max, std::numeric_limits<std::size_t>::max() / 32)} {}

step netstring_framer::next(byte_view seen) noexcept {
  const auto bad = [](std::size_t offset) {
    return step::error({parse_errc::bad_value, layer_id::netstring, saturated(offset), 0, 0});
  };
  // The limit bounds the digits, so to read them anew each time costs no more than a few octets.
  std::size_t length = 0, at = 0;
  while (true) {
    if (at == seen.size()) return step::need_more();
    const std::uint8_t octet = seen[at];
    if (octet == ':' && at > 0) break;
    if (octet < '0' || octet > '9') return bad(at);
    if (at > 0 && seen[0] == '0') return bad(0);
    length = length * 10 + (octet - '0');
    if (length > max_)
      return step::error({parse_errc::too_long, layer_id::netstring, 0, saturated(length), saturated(max_)});
    ++at;
  }
  const std::size_t front = at + 1, size = front + length + 1;
  if (seen.size() < size) return step::need_more(size - seen.size());
  if (seen[size - 1] != ',') return bad(size - 1);
  return step::frame(size, front, length);
}

void netstring_framer::encode(chunk payload, buffer& out) const {
  std::array<char, 24> head{};
  char* const end = std::to_chars(head.begin(), head.end() - 1, payload.size()).ptr;
  *end = ':';
  out.append(chunk{std::string_view{head.data(), static_cast<std::size_t>(end + 1 - head.data())}});
  out.append(std::move(payload));
  out.append(chunk::literal(","));
}

}  // namespace midwire::proto
