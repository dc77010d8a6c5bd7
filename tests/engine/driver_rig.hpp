#pragma once

#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <midwire/engine/driver.hpp>

#include "engine/driver/sockaddr.hpp"

#ifndef MIDWIRE_TEST_SCALE
#define MIDWIRE_TEST_SCALE 1.0
#endif

// What the tests of the epoll driver share. The far ends are bare descriptors.
namespace midwire::testing_driver {

using std::chrono::operator""ms;
using std::chrono::operator""s;
using std::chrono::operator""us;

/// What happened to one socket.
struct story {
  std::string data;
  std::uint64_t sent = 0, spliced = 0;
  int connected = 0, ends = 0, resets = 0, hangs = 0, breaks = 0, failures = 0;
  std::error_code error;
  bool over() const { return ends + resets > 0; }
};

/// A driver, and what came out of it.
struct rig {
  explicit rig(driver_limits limits = {}) : d{make_epoll_driver(limits)} {}
  std::unique_ptr<driver> d;
  std::vector<std::pair<socket_id, event>> batch;
  std::map<socket_id, story> of;
  std::vector<socket_id> accepted;
  std::vector<int> signals;
  std::vector<std::pair<socket_id, std::pair<bool, bool>>> ready;
  int turns = 0;
  std::size_t most_accepted = 0;

  void turn(duration at_most) {
    d->wait(std::chrono::steady_clock::now() + at_most, batch);
    ++turns;
    std::size_t accepts = 0;
    for (auto& [id, e] : batch) {
      story& s = of[id];
      switch (e.what()) {
        case event::kind::accepted: accepted.push_back(id), ++accepts; break;
        case event::kind::connected: ++s.connected; break;
        case event::kind::connect_failed: ++s.failures, s.error = e.error(); break;
        case event::kind::data_received:
          EXPECT_FALSE(s.over());
          s.data += e.data().text();
          break;
        case event::kind::end_received: ++s.ends; break;
        case event::kind::reset_received: ++s.resets, s.error = e.error(); break;
        case event::kind::hung_up: ++(e.broken() ? s.breaks : s.hangs); break;
        case event::kind::octets_sent: s.sent += e.octets(); break;
        case event::kind::octets_spliced: s.spliced += e.octets(); break;
        case event::kind::signalled: signals.push_back(e.signal()); break;
        case event::kind::became_ready: ready.push_back({id, {e.readable(), e.writable()}}); break;
        case event::kind::datagram_received:
        case event::kind::datagram_failed:
        case event::kind::file_failed: ADD_FAILURE(); break;
      }
      EXPECT_LE(s.ends + s.resets, 1 + (s.ends == 1 ? s.resets : 0));
    }
    most_accepted = std::max(most_accepted, accepts);
    batch.clear();
  }
  template <class P>
  bool until(P done, duration limit = 10s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!done()) {
      if (std::chrono::steady_clock::now() > end) return false;
      turn(20ms);
    }
    return true;
  }
  /// Turns for so long, and counts the turns it took.
  int idle_turns(duration how_long) {
    const int before = turns;
    const auto end = std::chrono::steady_clock::now() + how_long;
    for (auto now = end - how_long; now < end; now = std::chrono::steady_clock::now()) turn(end - now);
    return turns - before;
  }
};

struct temp_dir {
  temp_dir() {
    std::string name = (std::filesystem::temp_directory_path() / "midwire-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~temp_dir() { std::filesystem::remove_all(path); }
  std::string path;
};

inline int dial(const address& to, int receive_buffer = 0) {
  const detail::kernel_address name{to};
  const int fd = ::socket(name.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (receive_buffer > 0) ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  EXPECT_EQ(::connect(fd, name.get(), name.size), 0) << strerror(errno);
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

inline void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (n <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

/// Until the end; `error` is what ended it.
inline std::string read_all(int fd, int* error = nullptr, std::size_t at_most = ~std::size_t{0},
                            duration between = {}) {
  std::string all;
  char part[16384];
  while (all.size() < at_most) {
    const auto n = ::recv(fd, part, std::min(sizeof part, at_most - all.size()), 0);
    if (error) *error = n < 0 ? errno : 0;
    if (n <= 0) break;
    all.append(part, static_cast<std::size_t>(n));
    if (between > duration{}) std::this_thread::sleep_for(between);
  }
  return all;
}

inline void reset(int fd) {
  const linger at_once{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  ::close(fd);
}

/// Waits until the far end's kernel has taken all that was sent.
inline void wait_acknowledged(int fd) {
  int waiting = 1;
  for (int i = 0; i < 5000 && waiting > 0; ++i) {
    ::ioctl(fd, SIOCOUTQ, &waiting);
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(waiting, 0);
}

inline std::string pattern(std::size_t size, std::uint32_t seed) {
  std::mt19937 random{seed};
  std::string text(size, 0);
  for (auto& c : text) c = static_cast<char>(random());
  return text;
}

inline std::size_t scaled(double n) { return static_cast<std::size_t>(std::max(1.0, n * MIDWIRE_TEST_SCALE)); }

inline std::uint32_t seed() {
  const std::uint32_t s = std::random_device{}();
  std::cout << "seed " << s << std::endl;
  return s;
}

/// Each test once over TCP and once over a unix socket.
class driver_test : public ::testing::TestWithParam<bool> {
 protected:
  bool unix_socket() const { return GetParam(); }
  address where() const {
    return unix_socket() ? address::unix_path(dir.path + "/s" + std::to_string(++names)) : address::loopback(0);
  }
  /// A connection: the driver's end and the bare one.
  std::pair<socket_id, int> link(rig& r, int receive_buffer = 0) {
    const socket_id l = r.d->listen(where(), {});
    const int fd = dial(r.d->local(l), receive_buffer);
    const std::size_t before = r.accepted.size();
    EXPECT_TRUE(r.until([&] { return r.accepted.size() > before; }));
    r.d->close_listener(l);
    return {r.accepted.back(), fd};
  }
  temp_dir dir;
  mutable int names = 0;
};

}  // namespace midwire::testing_driver
