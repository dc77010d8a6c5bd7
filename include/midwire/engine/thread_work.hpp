#pragma once

#include <exception>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include <midwire/base/callback.hpp>
#include <midwire/base/chunk.hpp>
#include <midwire/base/export.hpp>
#include <midwire/engine/deferred.hpp>

namespace midwire::detail {

class reactor_impl;

/// Work for a thread: made on a loop, run elsewhere, and told of on the loop again.
class MIDWIRE_API thread_job {
 public:
  thread_job() noexcept = default;
  thread_job(const thread_job&) = delete;
  thread_job& operator=(const thread_job&) = delete;
  virtual ~thread_job() = default;
  /// On one of the threads.
  virtual void run() noexcept = 0;
  /// On the loop; `promise` is the one that was given to begin_work().
  virtual void deliver(void* promise) = 0;
};

/// Gives the job to one of the process's four threads. `promise` stays on the loop, and is let go there when the job
/// was told of or cancelled, or the reactor goes. \return what gives it up: it is not begun, or nobody is told.
MIDWIRE_API callback<void()> begin_work(reactor_impl& r, std::unique_ptr<thread_job> job,
                                        std::shared_ptr<void> promise);

template <class T, class F, class... A>
class thread_job_of final : public thread_job {
 public:
  template <class G, class... B>
  explicit thread_job_of(G&& work, B&&... arguments)
      : work_{std::in_place, std::forward<G>(work), std::tuple<A...>{std::forward<B>(arguments)...}} {}
  void run() noexcept override {
    try {
      if constexpr (std::is_void_v<T>) {
        std::apply(work_->first, std::move(work_->second));
        value_.emplace();
      } else {
        value_.emplace(std::apply(work_->first, std::move(work_->second)));
      }
    } catch (...) { error_ = std::current_exception(); }
    // What it was given ends with it, on its thread.
    work_.reset();
  }
  void deliver(void* promise) override {
    auto& p = *static_cast<promise_of<T>*>(promise);
    if (error_)
      p.fail(std::exchange(error_, nullptr));
    else
      p.succeed(std::move(*value_));
  }

 private:
  std::optional<std::pair<F, std::tuple<A...>>> work_;
  std::optional<std::conditional_t<std::is_void_v<T>, std::monostate, T>> value_;
  std::exception_ptr error_;
};

template <class T, class F, class... A>
deferred<T> work_on_thread(reactor_impl& r, F&& work, A&&... arguments) {
  static_assert(!std::is_reference_v<T>, "give a value: what a reference names may be gone");
  static_assert(!std::is_same_v<T, chunk> && !std::is_same_v<T, buffer>,
                "a chunk stays on the thread that made it: give chunk::detach()");
  auto promise = std::make_shared<promise_of<T>>();
  auto job = std::make_unique<thread_job_of<T, std::decay_t<F>, std::decay_t<A>...>>(std::forward<F>(work),
                                                                                     std::forward<A>(arguments)...);
  deferred<T> later = promise->get();
  promise->on_cancel(begin_work(r, std::move(job), promise));
  return later;
}

}  // namespace midwire::detail
