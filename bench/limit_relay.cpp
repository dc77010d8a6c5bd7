// What is the least that a relay can cost here? One thread, level-triggered epoll, back-pressure, half-close, and
// nothing else: no policy, no time-outs, no logging. bench/compare puts midwire beside it.
//
//   limit_relay copy|splice LISTEN ORIGIN          ports on 127.0.0.1
//   limit_relay replace LISTEN ORIGIN OLD NEW      client to server: every OLD becomes NEW, across reads; back: copied
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <bit>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t read_size = 256 * 1024, pipe_size = 1024 * 1024;

enum class job { copy, splice, replace };
job what;
std::string old_text, new_text;
int epoll = -1;

void need(bool ok, const char* doing) {
  if (ok) return;
  std::perror(doing);
  std::exit(1);
}

/// The first `needle` (two octets or more) from `from` on: both its ends are looked for at 16 places at once.
std::size_t find(std::string_view hay, std::string_view needle, std::size_t from) {
#if defined(__SSE2__)
  const auto first = _mm_set1_epi8(needle.front()), last = _mm_set1_epi8(needle.back());
  for (; from + needle.size() + 15 <= hay.size(); from += 16) {
    const auto at = [&](std::size_t i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(hay.data() + i)); };
    const auto both =
        _mm_and_si128(_mm_cmpeq_epi8(at(from), first), _mm_cmpeq_epi8(at(from + needle.size() - 1), last));
    for (auto bits = static_cast<unsigned>(_mm_movemask_epi8(both)); bits != 0; bits &= bits - 1) {
      const auto place = from + static_cast<std::size_t>(std::countr_zero(bits));
      if (hay.substr(place, needle.size()) == needle) return place;
    }
  }
#endif
  return hay.find(needle, from);
}

struct pair_of_ends;

/// One direction: what it reads from, writes to, and still has to write.
struct way {
  int from = -1, to = -1;
  int pipe[2] = {-1, -1};
  std::size_t in_pipe = 0;
  std::string waiting, kept;  // refused by the kernel; perhaps the start of a match
  bool ended = false, shut = false, edits = false;

  bool full() const { return in_pipe != 0 || !waiting.empty(); }

  void put(std::string_view octets) {
    while (waiting.empty() && !octets.empty()) {
      const auto sent = send(to, octets.data(), octets.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN) return;  // the far side is gone: its own events end the pair
      if (sent < 0) break;
      octets.remove_prefix(static_cast<std::size_t>(sent));
    }
    waiting += octets;
  }

  void edit(std::string_view all, bool last) {
    static std::string out;
    out.clear();
    std::size_t done = 0;
    for (std::size_t at; (at = find(all, old_text, done)) != all.npos; done = at + old_text.size())
      out.append(all, done, at - done) += new_text;
    auto tail = last ? 0 : std::min(old_text.size() - 1, all.size() - done);
    while (tail > 0 && !std::string_view{old_text}.starts_with(all.substr(all.size() - tail))) --tail;
    out.append(all, done, all.size() - done - tail);
    kept = all.substr(all.size() - tail);
    put(out);
  }

  void copy_in() {
    static std::vector<char> room(read_size + 64 * 1024);
    std::memcpy(room.data(), kept.data(), kept.size());
    const auto got = recv(from, room.data() + kept.size(), read_size, 0);
    if (got < 0 && errno == EAGAIN) return;
    ended = got <= 0;
    const std::string_view all{room.data(), kept.size() + static_cast<std::size_t>(got > 0 ? got : 0)};
    edits ? edit(all, ended) : put(all);
  }

  void splice_out() {
    while (in_pipe != 0) {
      const auto moved = ::splice(pipe[0], nullptr, to, nullptr, in_pipe, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
      if (moved <= 0 && errno == EAGAIN) return;
      in_pipe -= moved > 0 ? static_cast<std::size_t>(moved) : in_pipe;
    }
  }

  void splice_in() {
    const auto got = ::splice(from, nullptr, pipe[1], nullptr, pipe_size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (got < 0 && errno == EAGAIN) return;
    ended = got <= 0;
    in_pipe = got > 0 ? static_cast<std::size_t>(got) : 0;
    splice_out();
  }

  void readable() {
    if (full() || ended) return;
    what == job::splice ? splice_in() : copy_in();
  }
  void writable() {
    if (what == job::splice) return splice_out();
    put(std::exchange(waiting, {}));
  }
  void finish() {
    if (ended && !full() && !std::exchange(shut, true)) shutdown(to, SHUT_WR);
  }
};

struct end_of_pair {
  pair_of_ends* pair = nullptr;
  int side = 0;
  std::uint32_t interest = EPOLLIN;
};

struct pair_of_ends {
  int fd[2];
  way ways[2];  // by the side they read from
  end_of_pair ends[2];

  pair_of_ends(int client, int server) : fd{client, server} {
    for (int side = 0; side < 2; ++side) {
      auto& w = ways[side];
      w.from = fd[side], w.to = fd[1 - side], w.edits = what == job::replace && side == 0;
      if (what == job::splice) {
        need(pipe2(w.pipe, O_NONBLOCK | O_CLOEXEC) == 0, "pipe");
        fcntl(w.pipe[1], F_SETPIPE_SZ, static_cast<int>(pipe_size));
      }
      const int one = 1;
      setsockopt(fd[side], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      ends[side].pair = this, ends[side].side = side;
      epoll_event e{EPOLLIN, {.ptr = &ends[side]}};
      need(epoll_ctl(epoll, EPOLL_CTL_ADD, fd[side], &e) == 0, "epoll_ctl");
    }
  }
  ~pair_of_ends() {
    for (int side = 0; side < 2; ++side) {
      close(fd[side]);
      for (const int p : ways[side].pipe)
        if (p >= 0) close(p);
    }
  }

  /// False: both directions are over.
  bool turn(int side, std::uint32_t events) {
    if (events & EPOLLOUT) ways[1 - side].writable();
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) ways[side].readable();
    for (auto& w : ways) w.finish();
    if ((ways[0].shut && ways[1].shut) || (events & EPOLLERR)) return false;
    for (int s = 0; s < 2; ++s) {
      const auto in = ways[s].full() || ways[s].ended ? 0u : unsigned{EPOLLIN};
      const auto wanted = in | (ways[1 - s].full() ? unsigned{EPOLLOUT} : 0u);
      if (wanted == ends[s].interest) continue;
      epoll_event e{ends[s].interest = wanted, {.ptr = &ends[s]}};
      epoll_ctl(epoll, EPOLL_CTL_MOD, fd[s], &e);
    }
    return true;
  }
};

sockaddr_in loopback(const char* port) {
  sockaddr_in a{};
  a.sin_family = AF_INET, a.sin_port = htons(static_cast<std::uint16_t>(std::atoi(port)));
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

void accept_all(int listener, const sockaddr_in& origin) {
  for (int client; (client = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
    const int server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connect(server, reinterpret_cast<const sockaddr*>(&origin), sizeof origin) != 0 && errno != EINPROGRESS) {
      close(client), close(server);
      continue;
    }
    new pair_of_ends{client, server};  // deletes itself in run(), when both directions are over
  }
}

[[noreturn]] void run(int listener, const sockaddr_in& origin) {
  std::vector<std::unique_ptr<pair_of_ends>> over;
  epoll_event happened[256];
  for (;;) {
    const int n = epoll_wait(epoll, happened, 256, -1);
    for (int i = 0; i < n; ++i) {
      auto* end = static_cast<end_of_pair*>(happened[i].data.ptr);
      if (!end) {
        accept_all(listener, origin);
      } else if (auto* pair = end->pair; pair && !pair->turn(end->side, happened[i].events)) {
        for (auto& e : pair->ends) e.pair = nullptr;
        over.emplace_back(pair);
      }
    }
    over.clear();  // only now: the batch may have named them twice
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  what = name == "splice" ? job::splice : name == "replace" ? job::replace : job::copy;
  if (argc != (what == job::replace ? 6 : 4) || (what == job::copy && name != "copy")) {
    std::fputs("usage: limit_relay copy|splice LISTEN ORIGIN | replace LISTEN ORIGIN OLD NEW\n", stderr);
    return 2;
  }
  if (what == job::replace) old_text = argv[4], new_text = argv[5];
  if (what == job::replace && old_text.size() < 2) return 2;
  std::signal(SIGPIPE, SIG_IGN);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const auto here = loopback(argv[2]);
  need(bind(listener, reinterpret_cast<const sockaddr*>(&here), sizeof here) == 0, "bind");
  need(listen(listener, 4096) == 0, "listen");
  epoll_event e{EPOLLIN, {.ptr = nullptr}};
  need(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e) == 0, "epoll_ctl");
  run(listener, loopback(argv[3]));
}
