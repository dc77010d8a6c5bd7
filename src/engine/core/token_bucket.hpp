#pragma once

#include <algorithm>
#include <cstdint>

#include <midwire/base/views.hpp>

namespace midwire::detail {

/// So many octets a second, smoothly: it fills all the time, holds a tenth of a second's worth at most, and gives out
/// at least a hundredth at once, so that a high rate costs no call for each octet. Reads no clock.
class token_bucket {
 public:
  token_bucket() noexcept = default;
  /// A rate of 0 is without limit.
  token_bucket(std::uint64_t octets_a_second, instant now) noexcept
      : rate_{octets_a_second}, level_{static_cast<double>(burst())}, last_{now} {}

  bool limited() const noexcept { return rate_ != 0; }
  /// The least that is given at once to whoever wants more.
  std::uint64_t portion() const noexcept { return std::max<std::uint64_t>(rate_ / 100, 1); }
  /// How many of `wanted` may go now.
  std::uint64_t available(std::uint64_t wanted, instant now) noexcept {
    if (!limited()) return wanted;
    fill(now);
    if (level_ < static_cast<double>(least(wanted))) return 0;
    return std::min(wanted, static_cast<std::uint64_t>(level_));
  }
  /// More than was there is a debt, which is paid first.
  void take(std::uint64_t octets) noexcept {
    if (limited()) level_ -= static_cast<double>(octets);
  }
  /// When available(wanted) will be more than nothing.
  instant when(std::uint64_t wanted, instant now) noexcept {
    if (!limited()) return now;
    fill(now);
    const double missing = static_cast<double>(least(wanted)) - level_;
    if (missing <= 0) return now;
    const double seconds = missing / static_cast<double>(rate_);
    // Rounded up, or the call would come in vain; and within what an instant can say.
    return add_time(now, duration{static_cast<duration::rep>(std::min(seconds, 1e9) * 1e9) + 1});
  }

 private:
  std::uint64_t burst() const noexcept { return std::max<std::uint64_t>(rate_ / 10, 1); }
  std::uint64_t least(std::uint64_t wanted) const noexcept {
    return std::min(std::max<std::uint64_t>(wanted, 1), portion());
  }
  void fill(instant now) noexcept {
    if (now <= last_) return;
    const double seconds = std::chrono::duration<double>(now - last_).count();
    level_ = std::min(level_ + seconds * static_cast<double>(rate_), static_cast<double>(burst()));
    last_ = now;
  }

  std::uint64_t rate_ = 0;
  double level_ = 0;
  instant last_{};
};

}  // namespace midwire::detail
