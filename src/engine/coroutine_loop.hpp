#pragma once

#include <deque>
#include <exception>
#include <memory>
#include <vector>

#include <midwire/engine/task.hpp>

#include "engine/reactor_impl.hpp"

namespace midwire::detail {

/// The coroutines of one reactor: those that wait, those that are ready, and the outermost ones, which it owns.
class coroutine_loop {
 public:
  /// What left a coroutine.
  using failed_fn = callback<void(const std::exception_ptr&)>;

  explicit coroutine_loop(reactor_impl& r) noexcept : reactor_{r} {}
  coroutine_loop(const coroutine_loop&) = delete;
  coroutine_loop& operator=(const coroutine_loop&) = delete;
  ~coroutine_loop();
  /// Of the loop this thread is in. None is a bug.
  static coroutine_loop& here();
  static coroutine_loop& of(reactor_impl& r);

  void suspended(runnable& r) noexcept;
  void ready(runnable& r);
  void next(runnable& r);
  /// `ended` is called from the loop when it has ended by itself; with null when without an exception.
  void spawn(task<> body, failed_fn ended);
  /// Destroys all that are left; spawn() destroys from now on.
  void end() noexcept;
  reactor_impl& reactor() const noexcept { return reactor_; }
  /// Runs what on_shutdown() asked for, and turns until it is done; at most so long, or until stop() is called again.
  void shut_down(duration at_most);

  std::vector<callback<task<>()>> at_shutdown;

 private:
  struct root;
  void schedule();
  void run();
  void resume(runnable& r);
  void bury_ended();

  reactor_impl& reactor_;
  std::deque<callback<task<>()>> shutting_down_;
  link suspended_, ready_, next_;
  link roots_, ended_;
  bool scheduled_ = false, over_ = false;
};

}  // namespace midwire::detail
