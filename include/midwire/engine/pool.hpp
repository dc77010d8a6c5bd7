#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <midwire/base/export.hpp>
#include <midwire/engine/reactor.hpp>

namespace midwire {

/// A reactor for each core, each on its own thread. Loop 0 runs on the thread that calls run().
class MIDWIRE_API reactor_pool {
 public:
  /// How connections are spread: by the kernel over one listener a loop, or accepted on loop 0 and handed to the loop
  /// with the fewest flows, numbered in the order in which the kernel queued them.
  enum class balance : std::uint8_t { kernel, least_loaded };
  /// 0: one for each core this process may use.
  explicit reactor_pool(unsigned loops = 0, reactor_options options = {});
  reactor_pool(const reactor_pool&) = delete;
  reactor_pool& operator=(const reactor_pool&) = delete;
  ~reactor_pool();

  std::size_t size() const noexcept { return loops_.size(); }
  reactor& loop(std::size_t i) noexcept { return *loops_[i]; }
  /// Until stop() or the stop of loop 0; then joins the others.
  void run();
  /// From any thread. Loops end after `drain`.
  void stop(duration drain = {});
  /// `f` on each loop's thread, with its reactor; from any thread.
  void post_to_all(const std::function<void(reactor&)>& f);
  /// A listener for each loop, or one that hands out. `build` makes the factory of a loop; before run().
  /// \return the bound address
  address listen(std::string_view endpoint, callback<factory_ptr(reactor&)> build, balance how = balance::kernel);
  /// The loop that has the fewest connections now.
  std::size_t least_loaded() const noexcept;

 private:
  std::vector<std::unique_ptr<reactor>> loops_;
  std::vector<std::thread> threads_;
};

}  // namespace midwire
