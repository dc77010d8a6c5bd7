// How much does a relay cost, and does it keep every octet? Plays client and server of a relay on 127.0.0.1, compares
// every octet that arrives, and prints one JSON line. bench/compare runs it.
//
//   load stream   [--old OLD --new NEW]   clients send without end, the server compares (with --old: the edited octets)
//   load pingpong                         64 octets there and back, one request in flight a connection
//   load connect                          connect, one octet there and back, close
// Each takes  --to PORT --origin PORT --conns N --secs S  [--session SID: whose CPU time is counted]
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using steady = std::chrono::steady_clock;
using seconds = std::chrono::duration<double>;

constexpr std::size_t write_size = 64 * 1024, request_size = 64;
constexpr auto patience = std::chrono::seconds{10};

std::map<std::string, std::string, std::less<>> options;
std::string option(std::string_view name, const char* otherwise) {
  const auto found = options.find(name);
  return found == options.end() ? otherwise : found->second;
}

[[noreturn]] void fail(const std::string& why) {
  std::printf("{\"error\": \"%s\"}\n", why.c_str());
  std::fflush(stdout);
  std::_Exit(1);
}

/// CPU seconds of all processes of a session, those that have ended and were waited for included.
double session_cpu(long session) {
  double total = 0;
  if (session == 0) return 0;
  const std::unique_ptr<DIR, int (*)(DIR*)> proc{opendir("/proc"), closedir};
  while (const auto* entry = readdir(proc.get())) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    const auto folder = std::string{"/proc/"} + entry->d_name;
    std::string text;
    std::getline(std::ifstream{folder + "/stat"}, text, '\0');
    const auto name_end = text.rfind(')');
    if (name_end == text.npos) continue;
    // Behind the name: state ppid pgrp session ... utime stime cutime cstime at 12 to 15 (proc(5) counts from 1, state
    // is 3).
    long sid = 0, own[2] = {}, children[2] = {};
    if (std::sscanf(text.c_str() + name_end + 1, " %*c %*d %*d %ld %*d %*d %*u %*u %*u %*u %*u %ld %ld %ld %ld", &sid,
                    &own[0], &own[1], &children[0], &children[1]) != 5 ||
        sid != session)
      continue;
    const auto tick = 1.0 / static_cast<double>(sysconf(_SC_CLK_TCK));
    // The scheduler counts each thread in nanoseconds; the ticks of stat are 10 ms apart.
    double precise = 0;
    if (const std::unique_ptr<DIR, int (*)(DIR*)> tasks{opendir((folder + "/task").c_str()), closedir}; tasks) {
      while (const auto* task = readdir(tasks.get())) {
        double ns = 0;
        if (task->d_name[0] != '.' && std::ifstream{folder + "/task/" + task->d_name + "/schedstat"} >> ns)
          precise += ns * 1e-9;
      }
    }
    total += (precise > 0 ? precise : static_cast<double>(own[0] + own[1]) * tick) +
             static_cast<double>(children[0] + children[1]) * tick;
  }
  return total;
}

sockaddr_in loopback(const std::string& port) {
  sockaddr_in a{};
  a.sin_family = AF_INET, a.sin_port = htons(static_cast<std::uint16_t>(std::stoi(port)));
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

int listen_at(const sockaddr_in& here) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0 || listen(fd, 4096) != 0)
    fail("cannot listen at the origin's port");
  return fd;
}

int connect_to(const sockaddr_in& there) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&there), sizeof there) != 0)
    fail(std::string{"connect: "} + std::strerror(errno));
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

class poller {
 public:
  void add(int fd, std::uint32_t events) {
    epoll_event e{events, {.fd = fd}};
    epoll_ctl(fd_, EPOLL_CTL_ADD, fd, &e);
  }
  void change(int fd, std::uint32_t events) {
    epoll_event e{events, {.fd = fd}};
    epoll_ctl(fd_, EPOLL_CTL_MOD, fd, &e);
  }
  /// Descriptors that something happened to, within 100 ms.
  const std::vector<int>& wait() {
    epoll_event e[128];
    const int n = epoll_wait(fd_, e, 128, 100);
    ready_.clear();
    for (int i = 0; i < n; ++i) ready_.push_back(e[i].data.fd);
    return ready_;
  }

 private:
  int fd_ = epoll_create1(EPOLL_CLOEXEC);
  std::vector<int> ready_;
};

/// A warm-up, then a window in which `count` and the session's CPU time are measured.
class window {
 public:
  explicit window(const std::atomic<std::uint64_t>& count) : count_{count} {}
  bool over() {
    const seconds length{std::stod(option("secs", "1"))}, warm = std::min(length / 4, seconds{0.4});
    const auto now = steady::now();
    if (!open_ && now - made_ >= warm) {
      open_ = true, began_ = now, cpu_ = -session_cpu(session_), done_ = count_;
    } else if (open_ && !over_ && now - began_ >= length) {
      over_ = true, cpu_ += session_cpu(session_), done_ = count_ - done_;
      took_ = seconds{now - began_}.count();
    }
    return over_;
  }
  bool open() const { return open_ && !over_; }
  double done() const { return static_cast<double>(done_); }
  double rate() const { return done() / took_; }
  double cpu() const { return cpu_; }

 private:
  const std::atomic<std::uint64_t>& count_;
  const long session_ = std::stol(option("session", "0"));
  steady::time_point made_ = steady::now(), began_;
  bool open_ = false, over_ = false;
  double cpu_ = 0, took_ = 0;
  std::uint64_t done_ = 0;
};

/// A block of octets that is sent again and again, with OLD strewn over it. Its length is odd, so that the borders of
/// writes fall elsewhere in each pass. No other octet can begin or continue OLD across the block's own border.
std::string block(std::string_view token) {
  std::string out;
  std::uint32_t chance = 12345;
  while (out.size() < 1'000'000) {
    chance = chance * 1664525 + 1013904223;
    for (auto n = 900 + (chance >> 20) % 256; n > 0; --n)
      out += static_cast<char>('0' + ((chance = chance * 1664525 + 1013904223) >> 16) % 10);
    out += token;
  }
  return out + (out.size() % 2 == 0 ? "#" : "##");
}

std::string replaced(std::string_view text, std::string_view from, std::string_view with) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t at; !from.empty() && (at = text.find(from, done)) != text.npos; done = at + from.size())
    out.append(text, done, at - done) += with;
  return out.append(text, done);
}

/// Compares an endless repetition of a block with what arrives.
class expected {
 public:
  explicit expected(std::string_view block) : block_{block} {}
  void take(std::string_view octets) {
    while (!octets.empty()) {
      const auto part = octets.substr(0, block_.size() - at_);
      if (block_.substr(at_, part.size()) != part) fail("wrong octets behind octet " + std::to_string(total_));
      total_ += part.size(), at_ = (at_ + part.size()) % block_.size();
      octets.remove_prefix(part.size());
    }
  }
  std::uint64_t total() const { return total_; }

 private:
  std::string_view block_;
  std::size_t at_ = 0;
  std::uint64_t total_ = 0;
};

void stream() {
  const auto from = option("old", ""), with = option("new", "");
  if (from.find_first_of("0123456789#") != from.npos) fail("OLD must hold no digit and no #");
  const auto sent = block(from), wanted = replaced(sent, from, with);
  const auto around = sent + sent.substr(0, write_size);
  const auto conns = std::stoi(option("conns", "1"));
  std::atomic<std::uint64_t> received{0};
  std::atomic<int> ended{0};
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> blocks{0};
  const int listener = listen_at(loopback(option("origin", "")));

  std::thread server{[&] {
    poller poll;
    poll.add(listener, EPOLLIN);
    std::map<int, expected> streams;
    std::vector<char> room(256 * 1024);
    std::uint64_t total = 0;
    while (ended < conns) {
      for (const int fd : poll.wait()) {
        if (fd == listener) {
          const int accepted = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
          if (accepted < 0) continue;
          streams.emplace(accepted, expected{wanted});
          poll.add(accepted, EPOLLIN);
          continue;
        }
        const auto got = recv(fd, room.data(), room.size(), 0);
        if (got > 0) {
          streams.at(fd).take({room.data(), static_cast<std::size_t>(got)});
          received += static_cast<std::uint64_t>(got);
        } else if (got == 0) {
          total += streams.at(fd).total();
          streams.erase(fd), close(fd), ++ended;
        } else if (errno != EAGAIN) {
          fail(std::string{"the server's end: "} + std::strerror(errno));
        }
      }
    }
    if (total != blocks * wanted.size()) fail("octets are missing at the end");
  }};
  std::thread client{[&] {
    poller poll;
    std::map<int, std::size_t> at;
    const auto there = loopback(option("to", ""));
    for (int i = 0; i < conns; ++i) {
      const int fd = connect_to(there);
      at[fd] = 0, poll.add(fd, EPOLLOUT);
    }
    while (!at.empty()) {
      for (const int fd : poll.wait()) {
        auto& place = at[fd];
        // At the end the block that was begun is sent to its own end: what must arrive is then a whole number of
        // blocks.
        const auto size = stop ? std::min(write_size, sent.size() - place) : write_size;
        const auto n = send(fd, around.data() + place, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) fail(std::string{"the client's end: "} + std::strerror(errno));
        if (n <= 0) continue;
        place += static_cast<std::size_t>(n);
        if (place >= sent.size()) {
          place -= sent.size(), ++blocks;
          if (stop && place == 0) close(fd), at.erase(fd);
        }
      }
    }
  }};
  const auto began = steady::now();
  while (received == 0) {
    if (steady::now() - began > patience) fail("nothing arrives");
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }
  window measured{received};
  while (!measured.over()) std::this_thread::sleep_for(std::chrono::milliseconds{5});
  stop = true;
  for (auto last = received.load(), since = std::uint64_t{0}; ended < conns; last = received, ++since) {
    if (received != last) since = 0;
    if (since > 2000) fail("the end does not arrive");
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }
  client.join(), server.join();
  std::printf("{\"gb_per_s\": %.4f, \"cpu_s_per_gb\": %.4f, \"verified_gb\": %.3f}\n", measured.rate() / 1e9,
              measured.cpu() / (measured.done() / 1e9), static_cast<double>(received) / 1e9);
}

/// Sends back what comes, from a thread of its own, for ever.
void echo(int listener) {
  std::thread{[listener] {
    poller poll;
    poll.add(listener, EPOLLIN);
    char room[4096];
    for (;;) {
      for (const int fd : poll.wait()) {
        if (fd == listener) {
          for (int accepted; (accepted = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
            const int one = 1;
            setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            poll.add(accepted, EPOLLIN);
          }
          continue;
        }
        const auto got = recv(fd, room, sizeof room, 0);
        if (got > 0) {
          if (send(fd, room, static_cast<std::size_t>(got), MSG_NOSIGNAL) != got) fail("the echo is short");
        } else if (got == 0 || errno != EAGAIN) {
          close(fd);
        }
      }
    }
  }}.detach();
}

/// One request in flight on each of --conns connections; `fresh`: a new connection for each.
void requests(bool fresh) {
  const auto there = loopback(option("to", ""));
  const auto size = fresh ? std::size_t{1} : request_size;
  echo(listen_at(loopback(option("origin", ""))));
  struct request {
    std::string octets, answer;
    steady::time_point began;
  };
  std::map<int, request> open;
  std::vector<double> took;
  std::atomic<std::uint64_t> done{0};
  std::uint64_t number = 0;
  poller poll;
  const auto ask = [&](int fd) {
    auto& r = open[fd];
    r.octets.clear(), r.answer.clear();
    for (++number; r.octets.size() < size;)
      r.octets += static_cast<char>(number >> (r.octets.size() % 8 * 8) ^ r.octets.size());
    if (!fresh) r.began = steady::now();
    if (send(fd, r.octets.data(), size, MSG_NOSIGNAL) != static_cast<ssize_t>(size)) fail("the request is short");
  };
  const auto dial = [&] {
    const auto began = steady::now();
    const int fd = connect_to(there);
    open[fd].began = began;
    poll.add(fd, EPOLLIN);
    ask(fd);
  };
  for (int i = std::stoi(option("conns", "1")); i > 0; --i) dial();
  window measured{done};
  auto last = steady::now();
  while (!measured.over()) {
    const auto ready = poll.wait();
    if (!ready.empty()) last = steady::now();
    if (steady::now() - last > patience) fail("no answer");
    for (const int fd : ready) {
      auto& r = open[fd];
      char room[request_size];
      const auto got = recv(fd, room, sizeof room, 0);
      if (got < 0 && errno == EAGAIN) continue;
      if (got <= 0) fail("a connection ended before its answer");
      r.answer.append(room, static_cast<std::size_t>(got));
      if (r.answer.size() < size) continue;
      if (r.answer != r.octets) fail("wrong octets in answer " + std::to_string(done));
      ++done;
      if (measured.open()) took.push_back(std::chrono::duration<double, std::micro>{steady::now() - r.began}.count());
      if (fresh) {
        close(fd), open.erase(fd);
        dial();
      } else {
        ask(fd);
      }
    }
  }
  if (took.empty()) fail("no request was answered within the window");
  std::sort(took.begin(), took.end());
  const auto at = [&](double share) {
    return took[std::min(took.size() - 1, static_cast<std::size_t>(share * static_cast<double>(took.size())))];
  };
  std::printf("{\"per_s\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"cpu_us_each\": %.2f}\n", measured.rate(),
              at(0.5), at(0.99), measured.cpu() * 1e6 / measured.done());
  std::fflush(stdout);
  std::_Exit(0);  // the echo's thread has no end
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  const std::string_view mode = argc > 1 ? argv[1] : "";
  for (int i = 2; i + 1 < argc; i += 2)
    options[std::string_view{argv[i]}.starts_with("--") ? argv[i] + 2 : argv[i]] = argv[i + 1];
  if (mode == "stream") return stream(), 0;
  if (mode == "pingpong" || mode == "connect") requests(mode == "connect");
  std::fputs(
      "usage: load stream|pingpong|connect --to PORT --origin PORT --conns N --secs S [--session SID] [--old OLD --new "
      "NEW]\n",
      stderr);
  return 2;
}
