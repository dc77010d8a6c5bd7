#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace midwire::tests {

/// A blocking socket of the test's own, on loopback or a unix path: the world outside of midwire.
class peer_socket {
 public:
  peer_socket() = default;
  explicit peer_socket(int fd) : fd_{fd} {}
  peer_socket(peer_socket&& other) noexcept : fd_{std::exchange(other.fd_, -1)}, reset_seen_{other.reset_seen_} {}
  peer_socket& operator=(peer_socket&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = std::exchange(other.fd_, -1);
      reset_seen_ = other.reset_seen_;
    }
    return *this;
  }
  ~peer_socket() { close(); }

  static peer_socket listen_tcp(std::uint16_t port = 0, int receive_buffer = 0) {
    peer_socket s{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const int one = 1;
    setsockopt(s.fd_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (receive_buffer > 0) setsockopt(s.fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in at = loopback(port);
    if (bind(s.fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0 || listen(s.fd_, 4096) != 0) s.close();
    return s;
  }
  static peer_socket listen_unix(const std::string& path) {
    peer_socket s{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un at = named(path);
    if (bind(s.fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0 || listen(s.fd_, 4096) != 0) s.close();
    return s;
  }
  static peer_socket connect_tcp(std::uint16_t port, int receive_buffer = 0) {
    peer_socket s{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (receive_buffer > 0) setsockopt(s.fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in at = loopback(port);
    if (::connect(s.fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) s.close();
    else s.no_delay();
    return s;
  }
  static peer_socket connect_unix(const std::string& path) {
    peer_socket s{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un at = named(path);
    if (::connect(s.fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) s.close();
    return s;
  }
  peer_socket accept(int at_most_ms = 5000) {
    pollfd p{fd_, POLLIN, 0};
    if (poll(&p, 1, at_most_ms) != 1) return {};
    peer_socket s{::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC)};
    s.no_delay();
    return s;
  }
  std::uint16_t port() const {
    sockaddr_in at{};
    socklen_t size = sizeof at;
    getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size);
    return ntohs(at.sin_port);
  }

  /// All of it, or as much as could be sent within 10 s.
  std::size_t send(std::string_view octets) {
    std::size_t done = 0;
    timeval tv{10, 0};
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
    while (done < octets.size()) {
      const auto n = note(::send(fd_, octets.data() + done, octets.size() - done, MSG_NOSIGNAL));
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
    return done;
  }
  std::size_t send_now(std::string_view octets) {
    const auto n = note(::send(fd_, octets.data(), octets.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }
  void end() { shutdown(fd_, SHUT_WR); }
  void reset() {
    const linger hard{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close();
  }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

  enum class outcome { open, end, reset };
  /// What comes until the end, a reset, or `at_most_ms` of silence; stops once `enough` octets have come.
  std::pair<std::string, outcome> receive(int at_most_ms = 5000, std::size_t enough = ~std::size_t{0}) {
    std::string all;
    std::string piece(1 << 16, '\0');
    while (all.size() < enough) {
      pollfd p{fd_, POLLIN, 0};
      if (poll(&p, 1, at_most_ms) != 1) return {std::move(all), outcome::open};
      const auto n = recv(fd_, piece.data(), std::min(piece.size(), enough - all.size()), MSG_DONTWAIT);
      if (n > 0) all.append(piece.data(), static_cast<std::size_t>(n));
      else if (n == 0) return {std::move(all), reset_seen_ ? outcome::reset : outcome::end};
      else if (errno != EAGAIN && errno != EINTR) return {std::move(all), outcome::reset};
    }
    return {std::move(all), outcome::open};
  }

  bool valid() const { return fd_ >= 0; }
  int fd() const { return fd_; }

 private:
  /// The kernel tells of a reset once: a send that hears of it leaves a plain end for the next receive.
  ssize_t note(ssize_t sent) {
    if (sent < 0 && errno == ECONNRESET) reset_seen_ = true;
    return sent;
  }
  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in at{};
    at.sin_family = AF_INET, at.sin_port = htons(port), at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return at;
  }
  static sockaddr_un named(const std::string& path) {
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    std::memcpy(at.sun_path, path.data(), std::min(path.size(), sizeof at.sun_path - 1));
    return at;
  }
  void no_delay() {
    const int one = 1;
    if (fd_ >= 0) setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  int fd_ = -1;
  bool reset_seen_ = false;
};

/// A folder that goes with the test.
class temp_folder {
 public:
  temp_folder() {
    char name[] = "/tmp/midwire-test-XXXXXX";
    path_ = mkdtemp(name) ? name : "";
  }
  ~temp_folder() {
    if (!path_.empty()) [[maybe_unused]] const int rc = std::system(("rm -rf '" + path_ + "'").c_str());
  }
  temp_folder(const temp_folder&) = delete;
  temp_folder& operator=(const temp_folder&) = delete;
  std::string operator/(std::string_view name) const { return path_ + '/' + std::string{name}; }

 private:
  std::string path_;
};

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace midwire::tests
