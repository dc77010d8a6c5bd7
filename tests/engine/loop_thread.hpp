#pragma once

#include <functional>
#include <future>
#include <memory>
#include <thread>

#include <midwire/engine.hpp>

namespace midwire::tests {

/// A reactor that runs on a thread of its own, with the test on the outside.
class loop_thread {
 public:
  /// `set_up` runs before the loop, on its thread: listeners and relays are made there.
  explicit loop_thread(std::function<void(reactor&)> set_up, reactor_options options = {}) {
    std::promise<void> ready;
    thread_ = std::thread{[&, options] {
      reactor r{options};
      reactor_ = &r;
      try {
        set_up(r);
        ready.set_value();
      } catch (...) {
        ready.set_exception(std::current_exception());
        return;
      }
      r.run();
      keep_.clear();
    }};
    auto done = ready.get_future();
    try {
      done.get();
    } catch (...) {
      thread_.join();
      throw;
    }
  }
  ~loop_thread() { stop(); }
  void stop() {
    if (!thread_.joinable()) return;
    reactor_->call_from_thread([this] { reactor_->stop(); });
    thread_.join();
  }
  /// Runs `f` on the loop and waits for what it gives.
  template <class F>
  auto ask(F f) {
    std::promise<std::invoke_result_t<F, reactor&>> p;
    auto result = p.get_future();
    reactor_->call_from_thread([&] {
      if constexpr (std::is_void_v<std::invoke_result_t<F, reactor&>>) {
        f(*reactor_);
        p.set_value();
      } else {
        p.set_value(f(*reactor_));
      }
    });
    return result.get();
  }
  /// What lives as long as the loop, and is destroyed on its thread.
  template <class T>
  T& keep(std::unique_ptr<T> what) {
    T& t = *what;
    keep_.push_back(std::shared_ptr<void>{std::move(what)});
    return t;
  }

 private:
  std::thread thread_;
  reactor* reactor_ = nullptr;
  std::vector<std::shared_ptr<void>> keep_;
};

}  // namespace midwire::tests
