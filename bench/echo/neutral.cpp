// The other end of every contender, the same for all, on bare epoll; it checks every octet.
//   echo_neutral server PORT [CERTIFICATE KEY]            echoes
//   echo_neutral client PORT CONNS SIZE SECS PID [tls]    one request in flight a connection; PID: whose CPU is counted
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "report.hpp"

namespace {

using steady = std::chrono::steady_clock;
using seconds = std::chrono::duration<double>;
constexpr auto patience = std::chrono::seconds{20};

[[noreturn]] void fail(const std::string& why) {
  std::printf("{\"error\": \"%s\"}\n", why.c_str());
  std::fflush(stdout);
  std::_Exit(1);
}

/// CPU seconds of a process, in the scheduler's own nanoseconds: the ticks of stat are 10 ms apart.
double cpu_of(const std::string& pid) {
  double total = 0;
  const std::string folder = "/proc/" + pid + "/task";
  const std::unique_ptr<DIR, int (*)(DIR*)> tasks{opendir(folder.c_str()), closedir};
  if (!tasks) fail("the contender has ended");
  while (const auto* task = readdir(tasks.get())) {
    double ns = 0;
    if (task->d_name[0] != '.' && std::ifstream{folder + "/" + task->d_name + "/schedstat"} >> ns) total += ns * 1e-9;
  }
  return total;
}

class connection {
 public:
  connection(int fd, SSL_CTX* tls, bool client) : fd_{fd} {
    const int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (tls) {
      tls_ = SSL_new(tls);
      SSL_set_fd(tls_, fd);
      client ? SSL_set_connect_state(tls_) : SSL_set_accept_state(tls_);
      if (client && SSL_connect(tls_) != 1) fail("the TLS handshake failed");
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
  }
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;
  ~connection() {
    SSL_free(tls_);
    close(fd_);
  }
  int fd() const { return fd_; }
  /// Octets; 0: nothing now; -1: the end.
  long read(char* to, std::size_t room) {
    if (!tls_) {
      const auto n = recv(fd_, to, room, 0);
      return n > 0 ? n : n < 0 && errno == EAGAIN ? 0 : -1;
    }
    const int n = SSL_read(tls_, to, static_cast<int>(room));
    return n > 0 ? n : SSL_get_error(tls_, n) == SSL_ERROR_WANT_READ ? 0 : -1;
  }
  /// All of it: waits when the kernel is full.
  bool write(const char* from, std::size_t size) {
    while (size > 0) {
      long n;
      if (tls_) {
        n = SSL_write(tls_, from, static_cast<int>(size));
        if (n <= 0 && SSL_get_error(tls_, static_cast<int>(n)) != SSL_ERROR_WANT_WRITE) return false;
      } else {
        n = send(fd_, from, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return false;
      }
      if (n > 0) {
        from += n, size -= static_cast<std::size_t>(n);
      } else {
        pollfd writable{fd_, POLLOUT, 0};
        poll(&writable, 1, 1000);
      }
    }
    return true;
  }
  /// Octets that TLS has taken from the kernel and not shown: epoll does not tell of them.
  bool more() const { return tls_ && SSL_pending(tls_) > 0; }

  // A request of the client's role.
  std::size_t arrived = 0;
  steady::time_point asked{};

 private:
  const int fd_;
  SSL* tls_ = nullptr;
};

sockaddr_in loopback(const char* port) {
  sockaddr_in a{};
  a.sin_family = AF_INET, a.sin_port = htons(static_cast<std::uint16_t>(std::atoi(port)));
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

void add(int epoll, int fd, void* what) {
  epoll_event e{};
  e.events = EPOLLIN, e.data.ptr = what;
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
}

[[noreturn]] void serve(const char* port, const char* certificate, const char* key) {
  SSL_CTX* tls = nullptr;
  if (certificate) {
    tls = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
      fail("cannot use the certificate");
  }
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  auto here = loopback(port);
  socklen_t size = sizeof here;
  if (bind(listener, reinterpret_cast<sockaddr*>(&here), size) != 0 || listen(listener, 4096) != 0)
    fail("cannot listen");
  getsockname(listener, reinterpret_cast<sockaddr*>(&here), &size);
  std::printf("listening on 127.0.0.1:%d\n", ntohs(here.sin_port));
  std::fflush(stdout);

  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  add(epoll, listener, nullptr);
  static char room[65536];
  for (;;) {
    epoll_event events[256];
    const int n = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < n; ++i) {
      auto* c = static_cast<connection*>(events[i].data.ptr);
      if (!c) {
        const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd >= 0) add(epoll, fd, new connection{fd, tls, false});
        continue;
      }
      do {
        const long got = c->read(room, sizeof room);
        if (got > 0 && c->write(room, static_cast<std::size_t>(got))) continue;
        if (got != 0) {
          delete c;
          break;
        }
      } while (c->more());
    }
  }
}

[[noreturn]] void ask(const char* port, int count, std::size_t size, double length, const std::string& pid,
                      bool with_tls) {
  SSL_CTX* tls = with_tls ? SSL_CTX_new(TLS_client_method()) : nullptr;
  const auto there = loopback(port);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  // Each request starts elsewhere in it, so that an answer to another one is noticed.
  std::string octets;
  for (std::uint32_t x = 1; octets.size() < size + 256; x = x * 1664525 + 1013904223)
    octets += static_cast<char>(x >> 24);
  std::vector<std::unique_ptr<connection>> connections;
  const auto send_request = [&](connection& c) {
    c.arrived = 0, c.asked = steady::now();
    if (!c.write(octets.data() + c.fd() % 256, size)) fail("a request could not be sent");
  };
  for (int i = 0; i < count; ++i) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&there), sizeof there) != 0)
      fail(std::string{"connect: "} + std::strerror(errno));
    connections.push_back(std::make_unique<connection>(fd, tls, true));
    add(epoll, fd, connections.back().get());
  }
  for (auto& c : connections) send_request(*c);

  std::uint64_t done = 0, before = 0;
  std::vector<float> took;
  double used = 0;
  bool open = false;
  auto began = steady::now(), last = began;
  const seconds warm{report::warm_up(length)};
  static char room[65536];
  for (;;) {
    const auto now = steady::now();
    if (!open && now - began >= warm) {
      open = true, began = now, before = done;
      used = cpu_of(pid);
    } else if (open && now - began >= seconds{length}) {
      used = cpu_of(pid) - used;
      break;
    }
    epoll_event events[256];
    const int n = epoll_wait(epoll, events, 256, 20);
    if (n > 0) last = now;
    if (now - last > patience) fail("no answer");
    for (int i = 0; i < n; ++i) {
      auto& c = *static_cast<connection*>(events[i].data.ptr);
      do {
        const long got = c.read(room, sizeof room);
        if (got < 0) fail("a connection ended before its answer");
        if (got == 0) continue;
        const auto octets_got = static_cast<std::size_t>(got);
        if (c.arrived + octets_got > size ||
            std::memcmp(room, octets.data() + c.fd() % 256 + c.arrived, octets_got) != 0)
          fail("wrong octets in an answer");
        c.arrived += octets_got;
        if (c.arrived < size) continue;
        ++done;
        if (open) took.push_back(std::chrono::duration<float, std::micro>{steady::now() - c.asked}.count());
        send_request(c);
      } while (c.more());
    }
  }
  const double window = seconds{steady::now() - began}.count();
  if (took.empty()) fail("no request was answered within the window");
  std::sort(took.begin(), took.end());
  const auto at = [&](double share) {
    return static_cast<double>(
        took[std::min(took.size() - 1, static_cast<std::size_t>(share * static_cast<double>(took.size())))]);
  };
  const auto count_done = static_cast<double>(done - before);
  std::printf("{\"per_s\": %.0f, \"cpu_us_each\": %.3f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", count_done / window,
              used * 1e6 / count_done, at(0.5), at(0.99));
  std::fflush(stdout);
  std::_Exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  const std::string_view role = argc > 1 ? argv[1] : "";
  if (role == "server" && (argc == 3 || argc == 5))
    serve(argv[2], argc == 5 ? argv[3] : nullptr, argc == 5 ? argv[4] : nullptr);
  if (role == "client" && (argc == 7 || argc == 8))
    ask(argv[2], std::atoi(argv[3]), static_cast<std::size_t>(std::atoi(argv[4])), std::atof(argv[5]), argv[6],
        argc == 8);
  std::fputs("usage: echo_neutral server PORT [CERTIFICATE KEY] | client PORT CONNS SIZE SECS PID [tls]\n", stderr);
  return 2;
}
