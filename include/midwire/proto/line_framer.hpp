#pragma once

#include <midwire/proto/framer.hpp>

namespace midwire::proto {

/// What ends a line. `any`: LF, and a CR in front of it belongs to the end.
enum class line_end : std::uint8_t { any, crlf, lf };

/// Lines. The payload is the line without its end.
///
/// Accepts   any    abc LF and abc CR LF are both abc; a CR elsewhere is an octet as others
///           crlf   only CR LF ends a line; a lone CR or LF is an octet as others
///           lf     only LF ends a line; a CR in front of it stays in the line
/// Sends     CR LF, where only LF is accepted LF; or as told
/// Limit     a line of more than `max` octets, its end not counted, is too_long as soon as that can be told
class MIDWIRE_API line_framer {
 public:
  explicit line_framer(std::size_t max = 16384, line_end accepted = line_end::any,
                       line_end sent = line_end::any) noexcept;
  step next(byte_view seen) noexcept;
  /// encode_error: a line end inside; or a CR at the end that would be taken for a part of the line end.
  void encode(chunk payload, buffer& out) const;
  /// Ends the line as `like` ends, when that is accepted.
  void encode_like(byte_view like, chunk payload, buffer& out) const;
  void reset() noexcept { scanned_ = 0; }

 private:
  void write(chunk payload, bool crlf, buffer& out) const;
  std::size_t max_, scanned_ = 0;
  line_end accepted_, sent_;
};

}  // namespace midwire::proto
