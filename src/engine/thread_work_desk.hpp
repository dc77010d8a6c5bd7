#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include <midwire/engine/thread_work.hpp>

namespace midwire::detail {

/// Where threads leave the work of one reactor. Outlives it, for those that are still at work then.
class work_desk : public std::enable_shared_from_this<work_desk> {
 public:
  explicit work_desk(reactor_impl& r) noexcept : reactor_{&r} {}

  // On the loop.
  std::uint64_t expect(std::shared_ptr<void> promise);
  void cancel(std::uint64_t number) noexcept;
  void close() noexcept;

  // On a thread.
  bool wanted(std::uint64_t number);
  void done(std::uint64_t number, std::unique_ptr<thread_job> job);

 private:
  void deliver(std::uint64_t number, thread_job& job);
  std::mutex lock_;
  reactor_impl* reactor_;
  std::unordered_map<std::uint64_t, std::shared_ptr<void>> promises_;  // let go by the loop alone
  std::uint64_t last_ = 0;
};

}  // namespace midwire::detail
