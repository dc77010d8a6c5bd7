#include <midwire/proto/length_framer.hpp>

#include <string>
#include <utility>

namespace midwire::proto {

namespace {
constexpr std::uint64_t most = std::numeric_limits<std::size_t>::max() / 4;
constexpr std::uint64_t size_of(std::int64_t negative) noexcept { return ~static_cast<std::uint64_t>(negative) + 1; }
}  // namespace

length_framer::length_framer(length_format format) : format_{format} {
  if (format.width < 1 || format.width > 8) throw std::invalid_argument{"a length field has 1 to 8 octets"};
  if (format.offset > most) throw std::invalid_argument{"a length field that far behind"};
  format_.max = std::min<std::size_t>(format.max, most);
}

step length_framer::next(byte_view seen) noexcept {
  const auto failed = [this](parse_errc code, std::uint64_t need, std::uint64_t have) {
    return step::error({code, layer_id::length, saturated(format_.offset), saturated(need), saturated(have)});
  };
  if (seen.size() < header()) return step::need_more(header() - seen.size());
  const std::uint64_t value = load_number(seen.data() + format_.offset, format_.width, format_.order);
  std::uint64_t body = value;
  if (format_.adjust < 0) {
    if (value < size_of(format_.adjust)) return failed(parse_errc::bad_length, size_of(format_.adjust), value);
    body = value - size_of(format_.adjust);
  } else if (__builtin_add_overflow(value, static_cast<std::uint64_t>(format_.adjust), &body)) {
    body = std::numeric_limits<std::uint64_t>::max();
  }
  const std::uint64_t around = format_.with_header ? header() : 0;
  if (body > format_.max || body + around > format_.max)
    return failed(parse_errc::too_long, body > most ? body : body + around, format_.max);
  const std::size_t size = header() + static_cast<std::size_t>(body);
  if (seen.size() < size) return step::need_more(size - seen.size());
  return format_.with_header ? step::frame(size, 0, size) : step::frame(size, header(), size - header());
}

void length_framer::encode(chunk payload, buffer& out) const {
  if (!format_.with_header) return write({}, std::move(payload), out);
  if (payload.size() < header())
    throw encode_error{"a message of " + std::to_string(payload.size()) + " octets, shorter than its header"};
  // Only the header is copied: the rest may be shared with others.
  const chunk front = payload.take_front(header());
  write(front.bytes(), std::move(payload), out);
}

void length_framer::encode_like(byte_view like, chunk payload, buffer& out) const {
  if (format_.with_header || like.size() < header()) return encode(std::move(payload), out);
  write(like.first(header()), std::move(payload), out);
}

void length_framer::write(byte_view front, chunk body, buffer& out) const {
  const auto refuse = [&] {
    throw encode_error{"a message of " + std::to_string(body.size()) + " octets does not fit a length field of " +
                       std::to_string(format_.width)};
  };
  std::uint64_t value = body.size();
  if (format_.adjust < 0) {
    value += size_of(format_.adjust);
    if (value < body.size()) refuse();
  } else if (value < static_cast<std::uint64_t>(format_.adjust)) {
    refuse();
  } else {
    value -= static_cast<std::uint64_t>(format_.adjust);
  }
  if (format_.width < 8 && value >> (8 * format_.width) != 0) refuse();
  chunk head = chunk::uninitialized(header());
  const auto octets = head.writable();
  if (front.empty())
    std::fill(octets.begin(), octets.end(), std::uint8_t{0});
  else
    std::copy(front.begin(), front.end(), octets.begin());
  store_number(octets.data() + format_.offset, value, format_.width, format_.order);
  out.append(std::move(head));
  out.append(std::move(body));
}

}  // namespace midwire::proto
