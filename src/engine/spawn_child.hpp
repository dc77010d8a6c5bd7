#pragma once

#include <string>
#include <vector>

#include <midwire/engine/process.hpp>

namespace midwire::detail {

/// A descriptor of ours, closed when nobody wants it any more.
class owned_fd {
 public:
  owned_fd() noexcept = default;
  explicit owned_fd(int fd) noexcept : fd_{fd} {}
  owned_fd(owned_fd&& other) noexcept : fd_{other.give()} {}
  owned_fd& operator=(owned_fd&& other) noexcept {
    if (this != &other) reset(other.give());
    return *this;
  }
  ~owned_fd() { reset(); }
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int give() noexcept {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

/// A child that runs, and our ends of its pipes, which do not block.
struct spawned_child {
  struct output {
    int number;
    owned_fd fd;
  };
  int pid = 0;
  owned_fd handle;  // a pidfd
  owned_fd input;
  std::vector<output> outputs;
};

/// Starts a program and waits until it is the program (exec has happened). Throws std::system_error that says which
/// step failed, in the child too; nothing is left behind then.
///
/// The child gets default dispositions of all signals, an empty signal mask, and no descriptors but those asked for.
/// Safe in a process with threads: the child makes system calls only.
spawned_child spawn_child(const std::vector<std::string>& arguments, const process_options& options, bool has_protocol);

/// To the process behind a pidfd. Nothing when it has ended.
void send_signal(const owned_fd& handle, int number) noexcept;

}  // namespace midwire::detail
