#include <midwire/engine/thread_work.hpp>

#include <pthread.h>
#include <signal.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#include "engine/reactor_impl.hpp"
#include "engine/thread_work_desk.hpp"

namespace midwire::detail {

namespace {

struct order {
  std::unique_ptr<thread_job> job;
  std::shared_ptr<work_desk> desk;
  std::uint64_t number = 0;
};

/// Four threads for the process. They are never joined: work that never ends would keep the process from ending.
class workers {
 public:
  static workers& all() {
    static workers& forever = *new workers;
    return forever;
  }
  void give(order o) {
    {
      const std::lock_guard lock{lock_};
      waiting_.push_back(std::move(o));
    }
    changed_.notify_one();
  }

 private:
  workers() {
    // Signals are for the loops: a thread that has none blocked would take them by their own action.
    sigset_t every, before;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    int made = 0;
    try {
      for (; made < 4; ++made) std::thread{[this] { work(); }}.detach();
    } catch (const std::system_error&) {
      // Fewer do as well.
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (made == 0) throw std::system_error{std::make_error_code(std::errc::resource_unavailable_try_again), "a thread"};
  }
  [[noreturn]] void work() {
    for (;;) {
      std::unique_lock lock{lock_};
      changed_.wait(lock, [this] { return !waiting_.empty(); });
      order next = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      if (next.desk->wanted(next.number)) next.job->run();
      next.desk->done(next.number, std::move(next.job));
    }
  }
  std::mutex lock_;
  std::condition_variable changed_;
  std::deque<order> waiting_;
};

}  // namespace

std::uint64_t work_desk::expect(std::shared_ptr<void> promise) {
  const std::lock_guard lock{lock_};
  promises_.emplace(++last_, std::move(promise));
  return last_;
}

bool work_desk::wanted(std::uint64_t number) {
  const std::lock_guard lock{lock_};
  return promises_.contains(number);
}

void work_desk::done(std::uint64_t number, std::unique_ptr<thread_job> job) {
  // The reactor cannot go while this is held; when it has gone, the result goes here.
  const std::lock_guard lock{lock_};
  if (!reactor_) return;
  reactor_->post_from_thread(
      [desk = shared_from_this(), number, job = std::move(job)] { desk->deliver(number, *job); });
}

void work_desk::deliver(std::uint64_t number, thread_job& job) {
  std::shared_ptr<void> promise;
  {
    const std::lock_guard lock{lock_};
    const auto it = promises_.find(number);
    if (it == promises_.end()) return;
    promise = std::move(it->second);
    promises_.erase(it);
  }
  job.deliver(promise.get());
}

void work_desk::cancel(std::uint64_t number) noexcept {
  std::shared_ptr<void> promise;
  const std::lock_guard lock{lock_};
  const auto it = promises_.find(number);
  if (it == promises_.end()) return;
  promise = std::move(it->second);
  promises_.erase(it);
}

void work_desk::close() noexcept {
  std::unordered_map<std::uint64_t, std::shared_ptr<void>> gone;
  const std::lock_guard lock{lock_};
  reactor_ = nullptr;
  gone.swap(promises_);
}

callback<void()> begin_work(reactor_impl& r, std::unique_ptr<thread_job> job, std::shared_ptr<void> promise) {
  workers& threads = workers::all();
  if (!r.desk) r.desk = std::make_shared<work_desk>(r);
  const std::uint64_t number = r.desk->expect(std::move(promise));
  threads.give({std::move(job), r.desk, number});
  return [desk = std::weak_ptr<work_desk>{r.desk}, number] {
    if (const auto d = desk.lock()) d->cancel(number);
  };
}

}  // namespace midwire::detail
