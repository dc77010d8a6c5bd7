#include <midwire/proto/line_framer.hpp>

#include <cstring>

namespace midwire::proto {

line_framer::line_framer(std::size_t max, line_end accepted, line_end sent) noexcept
    : max_{std::min(max, std::numeric_limits<std::size_t>::max() / 2)}, accepted_{accepted}, sent_{sent} {
  if (sent_ == line_end::any) sent_ = accepted_ == line_end::lf ? line_end::lf : line_end::crlf;
}

step line_framer::next(byte_view seen) noexcept {
  const auto too_long = [this] {
    scanned_ = 0;
    return step::error({parse_errc::too_long, layer_id::line, saturated(max_), saturated(max_ + 1), saturated(max_)});
  };
  const std::size_t end = std::min(seen.size(), max_ + 2);
  std::size_t at = std::min(scanned_, end);
  while (at < end) {
    const void* found = std::memchr(seen.data() + at, '\n', end - at);
    if (!found) break;
    const auto i = static_cast<std::size_t>(static_cast<const std::uint8_t*>(found) - seen.data());
    const bool cr = i > 0 && seen[i - 1] == '\r';
    if (accepted_ == line_end::crlf && !cr) {
      at = i + 1;
      continue;
    }
    const std::size_t size = cr && accepted_ != line_end::lf ? i - 1 : i;
    if (size > max_) return too_long();
    scanned_ = 0;
    return step::frame(i + 1, 0, size);
  }
  scanned_ = end;
  // One octet over the limit is fine when it can be the CR of the line's end.
  if (end > max_ + 1 || (end == max_ + 1 && (accepted_ == line_end::lf || seen[max_] != '\r'))) return too_long();
  return step::need_more();
}

void line_framer::encode(chunk payload, buffer& out) const { write(std::move(payload), sent_ == line_end::crlf, out); }

void line_framer::encode_like(byte_view like, chunk payload, buffer& out) const {
  bool crlf = sent_ == line_end::crlf;
  if (accepted_ == line_end::any && !like.empty() && like.back() == '\n')
    crlf = like.size() > 1 && like[like.size() - 2] == '\r';
  // Behind a CR that belongs to the line an LF alone would swallow it.
  if (accepted_ == line_end::any && !payload.empty() && payload.bytes().back() == '\r') crlf = true;
  write(std::move(payload), crlf, out);
}

void line_framer::write(chunk payload, bool crlf, buffer& out) const {
  const auto text = payload.text();
  if (text.find(accepted_ == line_end::crlf ? std::string_view{"\r\n"} : std::string_view{"\n"}) != text.npos)
    throw encode_error{"a line with a line end inside"};
  if (!crlf && accepted_ == line_end::any && text.ends_with('\r'))
    throw encode_error{"a line that ends in CR cannot be ended by LF alone"};
  out.append(std::move(payload));
  out.append(chunk::literal(crlf ? "\r\n" : "\n"));
}

}  // namespace midwire::proto
