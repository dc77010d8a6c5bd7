#pragma once

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <midwire/engine/core/flow.hpp>

namespace midwire::tests {

/// A flow between two imagined sockets: what the flow says is done at once, and can be looked at. Each side's kernel
/// takes octets as far as `capacity` allows; drain() makes it take more.
class flow_rig {
 public:
  struct socket {
    std::string got;                        // octets the kernel took
    std::deque<chunk> queued;               // sent by the flow, not taken
    std::size_t queued_octets = 0;
    std::size_t capacity = ~std::size_t{0};  // how many more octets the kernel takes
    bool fin = false, reset = false, closed = false, reading = false;
    std::uint64_t room = 0, splice_left = 0;
    int sends = 0, starts = 0;
    bool fin_waits = false;
  };

  explicit flow_rig(std::vector<std::unique_ptr<stage>> stages = {}, flow_limits limits = {})
      : f{std::move(stages), limits} {
    f.set_identity(7, *address::parse_ip("10.0.0.1", 1000), *address::parse_ip("10.0.0.2", 80));
  }

  template <class... S>
  static std::vector<std::unique_ptr<stage>> list(std::unique_ptr<S>... s) {
    std::vector<std::unique_ptr<stage>> all;
    (all.push_back(std::move(s)), ...);
    return all;
  }

  void open() {
    f.open(now);
    obey();
  }
  void data(side from, std::string_view octets) {
    auto& s = at(from);
    s.room -= std::min<std::uint64_t>(s.room, octets.size());
    f.handle(from, event::data_received(chunk{octets}), now);
    obey();
  }
  void end(side from) { tell(from, event::end_received()); }
  void reset(side from) { tell(from, event::reset_received(std::make_error_code(std::errc::connection_reset))); }
  void tell(side from, event e) {
    f.handle(from, std::move(e), now);
    obey();
  }
  void after(duration d) {
    const instant until = now + d;
    while (true) {
      const auto due = f.next_deadline();
      if (!due || *due > until) break;
      now = std::max(now, *due);
      f.advance(now);
      obey();
      if (f.next_deadline() == due && now >= *due && ++stalls > 1000) break;
    }
    now = until;
    f.advance(now);
    obey();
  }
  /// Lets work that was asked for from outside happen.
  void settle() { after({}); }
  /// The kernel of this side takes so many octets more.
  void drain(side s, std::size_t octets) {
    at(s).capacity += octets;
    take(s);
    obey();
  }
  socket& at(side s) { return sockets[index_of(s)]; }
  socket& client() { return at(side::client); }
  socket& server() { return at(side::server); }
  bool over() { return f.closed() && done(side::client) && done(side::server); }
  bool done(side s) { return at(s).closed || at(s).reset; }

  flow f;
  instant now{std::chrono::hours{1}};
  std::array<socket, 2> sockets;
  std::vector<std::string> log;
  int stalls = 0;

 private:
  void obey() {
    side to{};
    command what = command::close();
    for (bool again = true; again;) {
      again = false;
      while (f.next_command(to, what)) {
        again = true;
        auto& s = at(to);
        switch (what.what()) {
          case command::kind::send:
            ++s.sends;
            for (auto& c : what.octets()) s.queued_octets += c.size(), s.queued.push_back(std::move(c));
            break;
          case command::kind::start_reading: s.reading = true, s.room = what.count(), ++s.starts; break;
          case command::kind::stop_reading: s.reading = false; break;
          case command::kind::splice: s.splice_left = what.count(); break;
          case command::kind::send_end: s.fin_waits = true; break;
          case command::kind::close:
            if (s.fin_waits && s.queued.empty()) s.fin = true;
            s.closed = true;
            break;
          case command::kind::reset: s.reset = true, s.queued.clear(), s.queued_octets = 0; break;
          case command::kind::reset_after_drain:
            while (!s.queued.empty() && s.capacity > 0) move_one(s);
            s.reset = true;
            break;
          default: break;
        }
        log.push_back(std::string{name_of(to)} + ' ' + std::to_string(static_cast<int>(what.what())));
      }
      for (const side s : {side::client, side::server}) again |= take(s);
    }
  }
  std::size_t move_one(socket& s) {
    const std::size_t n = std::min(s.capacity, s.queued.front().size());
    chunk part = s.queued.front().take_front(n);
    s.got += part.text();
    if (s.queued.front().empty()) s.queued.pop_front();
    if (s.capacity != ~std::size_t{0}) s.capacity -= n;
    s.queued_octets -= n;
    return n;
  }
  bool take(side which) {
    auto& s = at(which);
    if (s.closed || s.reset) return false;
    std::size_t taken = 0;
    while (!s.queued.empty() && s.capacity > 0) taken += move_one(s);
    if (s.queued.empty() && s.fin_waits) s.fin = true, s.fin_waits = false;
    if (taken == 0) return false;
    f.handle(which, event::octets_sent(taken), now);
    return true;
  }
};

}  // namespace midwire::tests
