#pragma once

#include <memory>
#include <optional>
#include <utility>

#include <midwire/base/callback.hpp>
#include <midwire/base/export.hpp>
#include <midwire/base/reason.hpp>

namespace midwire {

class reactor;

namespace detail {
/// Logs a failure that nobody took.
MIDWIRE_API void failure_untaken(const reason& why);
/// Runs `f` from the loop of the calling thread, never before this returns.
MIDWIRE_API void post_here(callback<void()> f);

template <class T>
struct deferred_state {
  std::optional<T> value;
  std::optional<reason> error;
  callback<void(T)> use;
  callback<void(const reason&)> otherwise;
  callback<void()> on_cancel;
  bool taken = false, posted = false;
  ~deferred_state() {
    if (error && !taken) failure_untaken(*error);
  }
};
}  // namespace detail

template <class T>
class promise_of;

/// A value that comes later, or a failure. Dropping it cancels nothing; a failure that nobody takes is logged.
template <class T>
class deferred {
 public:
  deferred() noexcept = default;
  deferred(deferred&&) noexcept = default;
  deferred& operator=(deferred&&) noexcept = default;
  ~deferred() = default;
  /// Either is called from the loop, never from here.
  template <class Use>
  void then(Use use, callback<void(const reason&)> otherwise = {}) && {
    auto s = std::move(state_);
    if (!s) return;
    s->use = std::move(use), s->otherwise = std::move(otherwise), s->taken = static_cast<bool>(s->otherwise);
    if (s->value || s->error) promise_of<T>::settle(s);
  }
  void cancel() noexcept {
    if (auto s = state_; s && s->on_cancel) std::exchange(s->on_cancel, {})();
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
  void on_cancel(callback<void()> f) { state_->on_cancel = std::move(f); }
  /// Once; what comes later is left out.
  void succeed(T value) {
    if (done()) return;
    state_->on_cancel.reset();
    state_->value = std::move(value);
    if (state_->use || state_->otherwise) settle(state_);
  }
  void fail(reason why) {
    if (done()) return;
    state_->on_cancel.reset();
    state_->error = std::move(why);
    if (state_->use || state_->otherwise) settle(state_);
  }
  bool done() const noexcept { return state_->value || state_->error; }

 private:
  friend class deferred<T>;
  static void settle(const std::shared_ptr<detail::deferred_state<T>>& s) {
    if (std::exchange(s->posted, true)) return;
    detail::post_here([s] {
      if (s->value && s->use) s->use(std::move(*s->value));
      if (s->error && s->otherwise) s->otherwise(*s->error);
      s->use.reset(), s->otherwise.reset();
    });
  }
  std::shared_ptr<detail::deferred_state<T>> state_;
};

}  // namespace midwire
