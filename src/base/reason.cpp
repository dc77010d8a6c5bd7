#include <midwire/base/reason.hpp>

namespace midwire {

std::string_view name_of(ending how) noexcept {
  switch (how) {
    case ending::done: return "done";
    case ending::reset: return "reset";
    case ending::lost: return "lost";
    case ending::timed_out: return "timed_out";
    case ending::refused: return "refused";
    case ending::tls_truncated: return "tls_truncated";
    case ending::over_limit: return "over_limit";
    case ending::failed: return "failed";
    case ending::aborted: return "aborted";
  }
  return "unknown";
}

}  // namespace midwire
