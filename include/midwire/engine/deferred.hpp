#pragma once

#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include <midwire/base/callback.hpp>
#include <midwire/base/export.hpp>
#include <midwire/base/reason.hpp>
#include <midwire/engine/awaiter.hpp>

namespace midwire {

class reactor;

namespace detail {
/// Logs a failure that nobody took.
MIDWIRE_API void failure_untaken(const reason& why);
/// Runs `f` from the loop of the calling thread, never before this returns.
MIDWIRE_API void post_here(callback<void()> f);
/// ending::failed with the words of the exception.
MIDWIRE_API reason reason_of(const std::exception_ptr& thrown);

template <class T>
struct used_by {
  using type = callback<void(T)>;
};
template <>
struct used_by<void> {
  using type = callback<void()>;
};

struct deferred_base {
  std::optional<reason> error;
  std::exception_ptr thrown;  // what error is about, where it was an exception
  callback<void(const reason&)> otherwise;
  callback<void()> on_cancel;
  runnable* waiting = nullptr;
  bool taken = false, posted = false, cancelled = false;
  deferred_base() noexcept = default;
  deferred_base(const deferred_base&) = delete;
  deferred_base& operator=(const deferred_base&) = delete;
  ~deferred_base() {
    if (error && !taken) failure_untaken(*error);
  }
  /// Nothing is called after this, but what gives up the work.
  void cancel() noexcept {
    if (std::exchange(cancelled, true)) return;
    taken = true;
    if (on_cancel) std::exchange(on_cancel, {})();
  }
};

template <class T>
struct deferred_state : deferred_base {
  std::optional<std::conditional_t<std::is_void_v<T>, std::monostate, T>> value;
  typename used_by<T>::type use;
  bool done() const noexcept { return value || error; }
};

/// A coroutine that waits for a deferred; as it goes, it cancels what has not come.
template <class T>
class deferred_operation {
 public:
  explicit deferred_operation(std::shared_ptr<deferred_state<T>> s) noexcept : state_{std::move(s)} {
    MIDWIRE_ASSERT(state_ != nullptr);
  }
  deferred_operation(deferred_operation&&) noexcept = default;
  ~deferred_operation() {
    if (!state_) return;
    state_->waiting = nullptr;
    if (!state_->done()) state_->cancel();
  }
  bool ready() const noexcept { return state_->done() || state_->cancelled; }
  void arm(runnable& who) noexcept { state_->waiting = &who; }
  T take() {
    state_->taken = true;
    if (state_->thrown) std::rethrow_exception(state_->thrown);
    if (state_->error) throw reason_error{*state_->error};
    if (!state_->value) throw reason_error{reason{ending::aborted, {}, "cancelled"}};
    if constexpr (!std::is_void_v<T>) return std::move(*state_->value);
  }

 private:
  std::shared_ptr<deferred_state<T>> state_;
};
}  // namespace detail

template <class T>
class promise_of;

/// Cancels what stands behind a deferred whose callbacks are set. Outliving it is harmless; dropping it cancels
/// nothing.
class cancel_ref {
 public:
  cancel_ref() noexcept = default;
  explicit cancel_ref(std::weak_ptr<detail::deferred_base> state) noexcept : state_{std::move(state)} {}
  /// Neither callback will be called after this. Nothing when one of them was.
  void cancel() const noexcept {
    if (const auto s = state_.lock()) s->cancel();
  }

 private:
  std::weak_ptr<detail::deferred_base> state_;
};

/// A value that comes later, or a failure. Dropping it cancels nothing; a failure that nobody takes is logged.
///
/// Take it once: by then(), with callbacks, or in a coroutine by `co_await`, which gives the value or throws a
/// reason_error (for work on a thread: what the work threw). A coroutine that goes while it waits cancels.
template <class T>
class deferred {
 public:
  deferred() noexcept = default;
  deferred(deferred&&) noexcept = default;
  deferred& operator=(deferred&&) noexcept = default;
  ~deferred() = default;
  /// Either is called from the loop, never from here. `use` takes a T (nothing for deferred<void>).
  /// \return what cancels it; may be dropped.
  template <class Use>
  cancel_ref then(Use use, callback<void(const reason&)> otherwise = {}) && {
    auto s = std::move(state_);
    if (!s) return {};
    s->use = std::move(use), s->otherwise = std::move(otherwise), s->taken = static_cast<bool>(s->otherwise);
    if (s->done()) promise_of<T>::settle(s);
    return cancel_ref{s};
  }
  awaiter<T> operator co_await() && {
    return awaiter<T>{std::in_place_type<detail::deferred_operation<T>>, std::move(state_)};
  }
  void cancel() noexcept {
    if (const auto s = state_) s->cancel();
  }

 private:
  friend class promise_of<T>;
  explicit deferred(std::shared_ptr<detail::deferred_state<T>> s) noexcept : state_{std::move(s)} {}
  std::shared_ptr<detail::deferred_state<T>> state_;
};

/// The other end of a deferred: whoever does the work.
template <class T>
class promise_of {
 public:
  promise_of() : state_{std::make_shared<detail::deferred_state<T>>()} {}
  deferred<T> get() const { return deferred<T>{state_}; }
  /// Gives up the work. Called from inside deferred::cancel(): it belongs to whoever does the work, and calls nobody
  /// else's callbacks.
  void on_cancel(callback<void()> f) { state_->on_cancel = std::move(f); }
  using stored = std::conditional_t<std::is_void_v<T>, std::monostate, T>;
  /// Once; what comes later is left out.
  void succeed(stored value) {
    if (done()) return;
    state_->on_cancel.reset();
    state_->value.emplace(std::move(value));
    tell();
  }
  void succeed() requires std::is_void_v<T> { succeed(stored{}); }
  void fail(reason why) {
    if (done()) return;
    state_->on_cancel.reset();
    state_->error = std::move(why);
    tell();
  }
  /// A coroutine is thrown this, a callback gets ending::failed with its words.
  void fail(std::exception_ptr thrown) {
    if (done()) return;
    state_->thrown = thrown;
    fail(detail::reason_of(thrown));
  }
  bool done() const noexcept { return state_->done(); }

 private:
  friend class deferred<T>;
  void tell() {
    if (state_->waiting) state_->waiting->wake();
    if (state_->use || state_->otherwise) settle(state_);
  }
  static void settle(const std::shared_ptr<detail::deferred_state<T>>& s) {
    if (std::exchange(s->posted, true)) return;
    detail::post_here([s] {
      // They may be the last to know of each other: what they own goes when they have returned.
      auto use = std::move(s->use);
      auto otherwise = std::move(s->otherwise);
      if (std::exchange(s->cancelled, true)) return;
      if (s->error) {
        if (otherwise) otherwise(*s->error);
      } else if (use) {
        if constexpr (std::is_void_v<T>)
          use();
        else
          use(std::move(*s->value));
      }
    });
  }
  std::shared_ptr<detail::deferred_state<T>> state_;
};

}  // namespace midwire
