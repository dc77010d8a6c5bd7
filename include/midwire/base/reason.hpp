#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <midwire/base/export.hpp>

namespace midwire {

/// How a connection or a flow came to its end.
enum class ending : std::uint8_t {
  done,           ///< both directions ended in order
  reset,          ///< the peer reset it (ECONNRESET, EPIPE)
  lost,           ///< the network gave up (ETIMEDOUT, EHOSTUNREACH, ...)
  timed_out,      ///< a time limit of ours was over
  refused,        ///< nobody answered at the far end, or dialling failed
  tls_truncated,  ///< the peer ended without close_notify
  over_limit,     ///< a stage kept more than the low water mark
  failed,         ///< an exception left a protocol, stage or callback
  aborted,        ///< this side reset it
};
MIDWIRE_API std::string_view name_of(ending how) noexcept;

/// Why something ended: the kind, the system's error where there is one, and words for people.
class reason {
 public:
  reason(ending how = ending::done, std::error_code code = {}, std::string text = {})
      : text_{std::move(text)}, code_{code}, how_{how} {}
  ending how() const noexcept { return how_; }
  std::error_code code() const noexcept { return code_; }
  /// Words for people; may be empty.
  const std::string& text() const noexcept { return text_; }

 private:
  std::string text_;
  std::error_code code_;
  ending how_;
};

}  // namespace midwire
