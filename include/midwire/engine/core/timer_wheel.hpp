#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include <midwire/base/callback.hpp>
#include <midwire/base/export.hpp>
#include <midwire/base/views.hpp>

namespace midwire {

class timer_wheel;

/// A place in a timer_wheel, inside whoever wants to be called: starting, moving and stopping it allocates nothing.
/// Destroying it stops it.
class MIDWIRE_API timer_hook {
 public:
  timer_hook() noexcept = default;
  timer_hook(const timer_hook&) = delete;
  timer_hook& operator=(const timer_hook&) = delete;
  virtual ~timer_hook();
  bool active() const noexcept { return wheel_ != nullptr; }
  instant due() const noexcept { return due_; }
  /// Only stores the later deadline; the wheel finds it when the old one comes. An earlier one moves the hook. Keeps
  /// its place among equal deadlines. Nothing when not active.
  void touch(instant due) noexcept;
  void stop() noexcept;

 protected:
  /// Called by timer_wheel::advance, when the hook is not active any more; it may start itself again.
  virtual void fired() = 0;

 private:
  friend class timer_wheel;
  friend class timer_ref;
  /// The wheel goes, and has stopped this hook.
  virtual void abandoned() noexcept {}
  timer_wheel* wheel_ = nullptr;
  timer_hook *next_ = nullptr, *child_ = nullptr, **link_ = nullptr;
  instant due_{};     // what was asked for
  instant placed_{};  // what the wheel sorted it by: never later than due_
  std::uint64_t order_ = 0;
  std::uint32_t slot_ = 0;
};

namespace detail {
struct delayed_call;
}

/// Names one delayed call; outliving it is harmless.
class MIDWIRE_API timer_ref {
 public:
  timer_ref() noexcept = default;
  /// False when it has fired or was cancelled already.
  bool cancel() noexcept;
  bool active() const noexcept;
  /// The deadline; that of the epoch when not active.
  instant due() const noexcept;
  /// A new deadline, counted from the wheel's now(), or from the old deadline. Nothing when not active.
  void reset(duration from_now);
  void delay(duration more);

 private:
  friend class timer_wheel;
  std::shared_ptr<detail::delayed_call> call_;
};

/// A hierarchical timing wheel: starting and stopping in O(1) (O(log n) within the present millisecond), firing by
/// deadline, then by order of starting, never early. Reads no clock. Less than 3 KiB, however many hooks there are.
class MIDWIRE_API timer_wheel {
 public:
  explicit timer_wheel(instant start = {});
  timer_wheel(const timer_wheel&) = delete;
  timer_wheel& operator=(const timer_wheel&) = delete;
  ~timer_wheel();

  /// A hook that is active already is moved, from another wheel too.
  void start(timer_hook& hook, instant due);
  timer_ref call_at(instant due, callback<void()> then);
  /// Again and again until it is cancelled, from inside too; a late call skips rounds. `then` must not throw.
  timer_ref call_every(duration period, callback<void()> then);
  /// When advance() should be called next: never later than the first deadline, maybe earlier. Empty: no timers.
  std::optional<instant> next() const noexcept;
  /// Fires what is due by `now`, those started on the way included when they are due before `now`; what they start for
  /// `now` itself fires at the next call, so one that starts itself again at once comes once a call. (One that starts
  /// itself again in the past never lets this end.) Exceptions pass through; what is left fires at the next call. A
  /// hook may destroy the wheel.
  void advance(instant now);
  instant now() const noexcept { return now_; }
  /// Moves the clock on without firing, for deadlines relative to it.
  void set_now(instant now) noexcept {
    if (now > now_) now_ = now;
  }
  std::size_t size() const noexcept { return count_; }

 private:
  friend class timer_hook;
  friend class timer_ref;
  struct impl;
  void place(timer_hook& hook) noexcept;
  void unlink(timer_hook& hook) noexcept;
  void settle() noexcept;
  std::unique_ptr<impl> impl_;
  instant now_;
  std::uint64_t orders_ = 0;
  std::size_t count_ = 0;
  bool* gone_ = nullptr;  // of the advance() that runs
};

}  // namespace midwire
