#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <utility>
#include <vector>

namespace midwire::detail {

/// The two ends of a pipe that splice() moves octets through. Owns them.
class splice_pipe {
 public:
  splice_pipe() noexcept = default;
  splice_pipe(splice_pipe&& other) noexcept
      : read_{std::exchange(other.read_, -1)},
        write_{std::exchange(other.write_, -1)},
        capacity_{std::exchange(other.capacity_, 0)},
        held_{std::exchange(other.held_, 0)} {}
  splice_pipe& operator=(splice_pipe&& other) noexcept {
    std::swap(read_, other.read_), std::swap(write_, other.write_);
    std::swap(capacity_, other.capacity_), std::swap(held_, other.held_);
    return *this;
  }
  ~splice_pipe() {
    if (read_ >= 0) ::close(read_), ::close(write_);
  }
  explicit operator bool() const noexcept { return read_ >= 0; }
  int read_end() const noexcept { return read_; }
  int write_end() const noexcept { return write_; }
  std::size_t capacity() const noexcept { return capacity_; }
  /// Octets in it.
  std::size_t held() const noexcept { return held_; }
  void came(std::size_t octets) noexcept { held_ += octets; }
  void left(std::size_t octets) noexcept { held_ -= octets; }

 private:
  friend class pipe_pool;
  int read_ = -1, write_ = -1;
  std::size_t capacity_ = 0, held_ = 0;
};

/// Empty pipes, kept for reuse.
class pipe_pool {
 public:
  static constexpr std::size_t most_idle = 64;
  static constexpr int wanted_capacity = 1 << 20;

  /// An empty pipe; one that is false when there are no descriptors for it.
  splice_pipe take() {
    if (!idle_.empty()) {
      splice_pipe p = std::move(idle_.back());
      idle_.pop_back();
      return p;
    }
    splice_pipe p;
    int ends[2];
    if (::pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return p;
    p.read_ = ends[0], p.write_ = ends[1];
    // Users without privileges have a share of pipe memory: past it, less is granted.
    for (int size = wanted_capacity; size > 65536 && ::fcntl(p.write_, F_SETPIPE_SZ, size) < 0; size /= 4) {}
    const int granted = ::fcntl(p.write_, F_GETPIPE_SZ);
    p.capacity_ = granted > 0 ? static_cast<std::size_t>(granted) : 65536;
    return p;
  }
  /// One that still holds octets is closed: its octets must never meet another flow.
  void give_back(splice_pipe&& p) {
    splice_pipe gone = std::move(p);
    if (gone && gone.held() == 0 && idle_.size() < most_idle) idle_.push_back(std::move(gone));
  }

 private:
  std::vector<splice_pipe> idle_;
};

}  // namespace midwire::detail
