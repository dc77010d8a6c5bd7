#include <midwire/proto/delimiter_framer.hpp>

#include <cstring>
#include <utility>

namespace midwire::proto {

delimiter_framer::delimiter_framer(std::string delimiter, std::size_t max)
    : delimiter_{std::move(delimiter)}, max_{std::min(max, std::numeric_limits<std::size_t>::max() / 2)} {
  if (delimiter_.empty()) throw std::invalid_argument{"a delimiter needs an octet"};
  // Knuth, Morris, Pratt: no octet is looked at twice, so that no delimiter makes a long message slow.
  shorter_.resize(delimiter_.size() + 1);
  for (std::size_t i = 1, m = 0; i < delimiter_.size(); ++i) {
    while (m > 0 && delimiter_[i] != delimiter_[m]) m = shorter_[m];
    if (delimiter_[i] == delimiter_[m]) ++m;
    shorter_[i + 1] = m;
  }
}

std::size_t delimiter_framer::scan(byte_view seen, std::size_t at, std::size_t& matched) const noexcept {
  const auto octet = [this](std::size_t i) { return static_cast<std::uint8_t>(delimiter_[i]); };
  while (at < seen.size()) {
    if (matched == 0) {
      const void* found = std::memchr(seen.data() + at, octet(0), seen.size() - at);
      if (!found) return 0;
      at = static_cast<std::size_t>(static_cast<const std::uint8_t*>(found) - seen.data());
    } else {
      while (matched > 0 && seen[at] != octet(matched)) matched = shorter_[matched];
    }
    if (seen[at] == octet(matched)) ++matched;
    ++at;
    if (matched == delimiter_.size()) return at;
  }
  return 0;
}

step delimiter_framer::next(byte_view seen) noexcept {
  const byte_view within = seen.first(std::min(seen.size(), max_ + delimiter_.size()));
  const std::size_t end = scan(within, std::min(scanned_, within.size()), matched_);
  if (end != 0) {
    reset();
    return step::frame(end, 0, end - delimiter_.size());
  }
  scanned_ = within.size();
  // The delimiter can begin no earlier than at what it matches of the last octets.
  if (scanned_ - matched_ > max_) {
    reset();
    return step::error(
        {parse_errc::too_long, layer_id::delimiter, saturated(max_), saturated(max_ + 1), saturated(max_)});
  }
  return step::need_more(delimiter_.size() - matched_);
}

void delimiter_framer::encode(chunk payload, buffer& out) const {
  std::size_t matched = 0;
  if (scan(payload.bytes(), 0, matched) != 0) throw encode_error{"a message with its delimiter inside"};
  if (scan(as_bytes(delimiter_), 0, matched) != delimiter_.size())
    throw encode_error{"a message whose end would be taken for a part of its delimiter"};
  out.append(std::move(payload));
  out.append(chunk{delimiter_});
}

}  // namespace midwire::proto
