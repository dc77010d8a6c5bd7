#include <midwire/streams/sink/output.hpp>

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <utility>

namespace midwire::streams {
namespace {

// A pipe that polls as writable takes PIPE_BUF octets without blocking, and the flag for the rest (O_NONBLOCK) would
// belong to everybody who shares the descriptor: a terminal's shell, for one.
std::size_t step_of(int fd) {
  struct stat about {};
  return fstat(fd, &about) == 0 && S_ISREG(about.st_mode) ? std::size_t{256} << 10 : std::size_t{PIPE_BUF};
}

}  // namespace

output::output(int fd, gap_text gap, std::size_t limit)
    : fd_{fd}, limit_{limit}, step_{step_of(fd)}, gap_{std::move(gap)}, thread_{[this] { work(); }} {}

output::~output() { finish(std::chrono::seconds{2}); }

bool output::write(std::string text) {
  if (text.empty()) return true;
  std::unique_lock lock{mutex_};
  if (closed_) return true;  // nobody reads: nothing is missed
  if (finishing_ || waiting_.size() + taken_ + text.size() > limit_ || unsaid_ != 0) {
    // Behind a gap nothing goes until the gap itself can be told: half the room must be free again.
    if (finishing_ || waiting_.size() + taken_ + text.size() > limit_ / 2) {
      ++lost_, ++unsaid_;
      return false;
    }
    const auto lost = std::exchange(unsaid_, 0);
    if (gap_) waiting_ += gap_(lost);
  }
  if (waiting_.empty())
    waiting_ = std::move(text);
  else
    waiting_ += text;
  if (!writing_) arrived_.notify_one();
  return true;
}

void output::finish(duration patience) {
  {
    std::unique_lock lock{mutex_};
    if (!finishing_) {
      if (unsaid_ != 0 && gap_) waiting_ += gap_(std::exchange(unsaid_, 0));
      finishing_ = true;
    }
    arrived_.notify_one();
    auto seen = progress_;
    while (!waiting_.empty() || writing_) {
      if (idle_.wait_for(lock, patience) == std::cv_status::timeout && seen == progress_) break;
      seen = progress_;
    }
    if (!waiting_.empty() || writing_) give_up_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

std::uint64_t output::lost() const {
  std::lock_guard lock{mutex_};
  return lost_;
}

bool output::closed() const {
  std::lock_guard lock{mutex_};
  return closed_;
}

void output::work() {
  std::string batch;
  std::unique_lock lock{mutex_};
  while (true) {
    arrived_.wait(lock, [this] { return !waiting_.empty() || finishing_; });
    if (waiting_.empty()) return;
    batch.clear();
    batch.swap(waiting_);
    taken_ = batch.size();
    writing_ = true;
    lock.unlock();
    const bool ok = put(batch);
    lock.lock();
    writing_ = false;
    taken_ = 0;
    if (!ok) closed_ = true, waiting_.clear();
    idle_.notify_all();
  }
}

bool output::put(std::string_view text) {
  while (!text.empty()) {
    pollfd ready{fd_, POLLOUT, 0};
    // The pause bounds how long a reader that never reads can delay the end of the process.
    if (const int n = poll(&ready, 1, 50); n == 0 || (n < 0 && errno == EINTR)) {
      std::lock_guard lock{mutex_};
      if (give_up_) return false;
      continue;
    }
    const auto n = ::write(fd_, text.data(), std::min(text.size(), step_));
    if (n < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      return false;
    }
    text.remove_prefix(static_cast<std::size_t>(n));
    std::lock_guard lock{mutex_};
    progress_ += static_cast<std::uint64_t>(n);
    taken_ = text.size();
    idle_.notify_all();
  }
  return true;
}

}  // namespace midwire::streams
