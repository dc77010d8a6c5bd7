#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include <midwire/base/export.hpp>
#include <midwire/base/views.hpp>

namespace midwire::streams {

/// Text for a descriptor, written by a thread of its own: whoever writes never waits for whoever reads.
///
/// Limit      at most `limit` octets wait; what comes on top is dropped whole, counted, and said in its place, once
///            there is room again, by the text that `gap` makes of the number.
/// Endings    a descriptor whose reader is gone (EPIPE), or that fails, takes nothing more; nothing else happens.
///            The process must ignore SIGPIPE.
/// Lifetime   the descriptor is the caller's and outlives this.
class MIDWIRE_API output {
 public:
  static constexpr std::size_t default_limit = std::size_t{16} << 20;
  using gap_text = std::function<std::string(std::uint64_t lost)>;

  explicit output(int fd, gap_text gap = {}, std::size_t limit = default_limit);
  output(const output&) = delete;
  output& operator=(const output&) = delete;
  /// finish(), with two seconds.
  ~output();

  /// From any thread. \return false: dropped
  bool write(std::string text);
  /// Waits until all is written, or nothing could be written for `patience`; then takes nothing more.
  void finish(duration patience);
  /// Writes dropped so far.
  std::uint64_t lost() const;
  /// The reader is gone.
  bool closed() const;

 private:
  void work();
  bool put(std::string_view text);

  const int fd_;
  const std::size_t limit_;
  const std::size_t step_;
  const gap_text gap_;
  mutable std::mutex mutex_;
  std::condition_variable arrived_, idle_;
  std::string waiting_;
  std::uint64_t lost_ = 0, unsaid_ = 0, progress_ = 0;
  std::size_t taken_ = 0;
  bool writing_ = false, closed_ = false, finishing_ = false, give_up_ = false;
  std::thread thread_;
};

}  // namespace midwire::streams
