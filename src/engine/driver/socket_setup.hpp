#pragma once

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include <midwire/base/address.hpp>

#include "engine/driver/sockaddr.hpp"

// What making a socket needs, whatever its kind.
namespace midwire::detail {

inline std::error_code system_code(int error) noexcept { return {error, std::system_category()}; }

inline bool set_option(int fd, int level, int name, int value) noexcept {
  return ::setsockopt(fd, level, name, &value, sizeof value) == 0;
}

inline bool is_file(const address& a) noexcept { return a.is_unix() && a.octets().front() != 0; }

inline std::string path_of(const address& a) { return std::string{a.octets()}; }

/// A socket file that nobody listens at any more: what a process that was killed leaves behind.
inline bool is_stale(const address& where) {
  struct stat status;
  if (::lstat(path_of(where).c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (probe < 0) return false;
  const kernel_address to{where};
  const bool stale = ::connect(probe, to.get(), to.size) != 0 && errno == ECONNREFUSED;
  ::close(probe);
  return stale;
}

/// Closes what is given to it unless it is kept.
class guarded_fd {
 public:
  explicit guarded_fd(int fd) noexcept : fd_{fd} {}
  guarded_fd(const guarded_fd&) = delete;
  guarded_fd& operator=(const guarded_fd&) = delete;
  ~guarded_fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const noexcept { return fd_; }
  int keep() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

[[noreturn]] inline void refuse(int error, const std::string& what) {
  throw std::system_error{system_code(error), what};
}

}  // namespace midwire::detail
