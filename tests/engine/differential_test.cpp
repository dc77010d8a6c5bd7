// One random script, played through a relay on the simulated kernel and, over loopback, on the real one: the same octets
// and the same ends, whatever the stages between and however links cut.
#include <gtest/gtest.h>

#include <map>

#include <midwire/base/chance.hpp>
#include <midwire/testing/sim_reactor.hpp>

#include "engine/loop_thread.hpp"
#include "engine/sockets.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using midwire::testing::cut;
using midwire::testing::link_shape;
using midwire::testing::sim_peer;
using midwire::testing::sim_reactor;
using tests::loop_thread;
using tests::peer_socket;

namespace {

struct step {
  enum class act : std::uint8_t { send, end, reset, close } what;
  side who;
  std::size_t octets;
};

struct script {
  std::vector<step> steps;
  int stages = 0;
};

/// What an end saw: all octets, and how it ended.
struct seen {
  std::string octets;
  enum class end : std::uint8_t { open, end, reset } how = end::open;
  friend bool operator==(const seen&, const seen&) = default;
};
std::ostream& operator<<(std::ostream& o, const seen& s) {
  static constexpr const char* names[] = {"open", "end", "reset"};
  return o << s.octets.size() << " octets (" << std::hash<std::string>{}(s.octets) % 10000 << ") then "
           << names[static_cast<int>(s.how)];
}
using outcome = std::array<std::optional<seen>, 2>;  // by side; nothing for one that has gone itself

std::string text_at(side who, std::size_t at, std::size_t octets) {
  std::string s(octets, '\0');
  for (std::size_t i = 0; i < octets; ++i) s[i] = static_cast<char>('a' + mix((at + i) * 2 + index_of(who)) % 5);
  return s;
}

script make(std::uint64_t seed) {
  random_source random{seed};
  script s;
  s.stages = static_cast<int>(random.below(4));
  std::array<bool, 2> gone{}, ended{};
  for (std::size_t n = 2 + random.below(8); n > 0; --n) {
    const side who = random.one_in(2) ? side::client : side::server;
    if (gone[index_of(who)]) continue;
    const auto kind = random.below(10);
    if (kind < 6) {
      if (!ended[index_of(who)])
        s.steps.push_back({step::act::send, who, 1 + (random.one_in(4) ? random.below(100000) : random.below(100))});
    } else if (kind < 8) {
      if (!std::exchange(ended[index_of(who)], true)) s.steps.push_back({step::act::end, who, 0});
    } else {
      gone[index_of(who)] = true;
      s.steps.push_back({kind == 8 ? step::act::reset : step::act::close, who, 0});
    }
  }
  return s;
}

/// Upper case for b, octet by octet.
struct edit_stage : stage {
  verdict on_data(stage_context&, direction, chunk data) override {
    for (auto& octet : data.writable())
      if (octet == 'b') octet = 'B';
    return verdict::pass(std::move(data));
  }
};
/// Doubles each pair "ac", wherever it is cut: keeps an a at the end for as long as it takes.
struct pair_stage : stage {
  verdict on_data(stage_context&, direction, chunk data) override {
    chunk held;
    if (data.text().ends_with('a')) {
      chunk front = data.take_front(data.size() - 1);
      std::swap(front, data);
      held = std::move(front);
    }
    std::string out;
    for (std::size_t i = 0; i < data.size(); ++i) {
      out += data.text()[i];
      if (i > 0 && data.text()[i - 1] == 'a' && data.text()[i] == 'c') out += "ac";
    }
    return verdict::keep(buffer{std::move(out)}, std::move(held), 1, 5ms);
  }
};

void add_stages(relay& r, int stages) {
  if (stages >= 1) r.add_stage<edit_stage>();
  if (stages >= 2) r.add_stage<stage>();
  if (stages >= 3) r.add_stage<edit_stage>();
}

outcome on_simulated(const script& s, const link_shape& shape, std::uint64_t seed) {
  sim_reactor r{seed, shape};
  relay front{r, "tcp://127.0.0.1:9000", "tcp://127.0.0.1:9001"};
  add_stages(front, s.stages);
  std::array<sim_peer, 2> peers{sim_peer{r.network()}, sim_peer{r.network()}};
  auto& [client, server] = peers;
  server.listen(address::loopback(9001));
  front.start();
  client.connect(address::loopback(9000));
  r.pump();
  std::array<std::size_t, 2> sent{};
  std::array<bool, 2> gone{};
  for (const auto& [what, who, octets] : s.steps) {
    auto& p = peers[index_of(who)];
    switch (what) {
      case step::act::send:
        p.send(text_at(who, sent[index_of(who)], octets));
        sent[index_of(who)] += octets;
        break;
      case step::act::end: p.send_end(); break;
      case step::act::reset: p.reset(), gone[index_of(who)] = true; break;
      case step::act::close: p.close(), gone[index_of(who)] = true; break;
    }
    r.advance(30ms);
  }
  outcome result;
  for (std::size_t i = 0; i < 2; ++i) {
    if (gone[i]) continue;
    // A reset behind an end is not for a reading kernel socket to see, so neither is it here.
    result[i] = seen{peers[i].received(), peers[i].saw_end()     ? seen::end::end
                                          : peers[i].saw_reset() ? seen::end::reset
                                                                 : seen::end::open};
  }
  return result;
}

/// All scripts side by side, a step at a time.
std::vector<outcome> on_kernel(const std::vector<script>& scripts) {
  struct running {
    std::array<peer_socket, 2> ends;
    std::array<std::size_t, 2> sent{};
    outcome result;
  };
  peer_socket origin = peer_socket::listen_tcp();
  std::map<int, std::unique_ptr<relay>> fronts;
  loop_thread loop{[&](reactor& r) {
    for (int stages = 0; stages < 4; ++stages) {
      auto& front = fronts[stages];
      front = std::make_unique<relay>(r, "tcp://127.0.0.1:0", "tcp://127.0.0.1:" + std::to_string(origin.port()));
      add_stages(*front, stages);
      front->start();
    }
  }};
  std::vector<running> all(scripts.size());
  std::size_t longest = 0;
  for (std::size_t i = 0; i < scripts.size(); ++i) {
    all[i].ends[0] = peer_socket::connect_tcp(fronts[scripts[i].stages]->host().port());
    all[i].ends[1] = origin.accept();
    longest = std::max(longest, scripts[i].steps.size());
    all[i].result = {seen{}, seen{}};
  }
  const auto read_all = [&] {
    for (auto& one : all)
      for (std::size_t e = 0; e < 2; ++e) {
        if (!one.ends[e].valid() || one.result[e]->how != seen::end::open) continue;
        auto [text, how] = one.ends[e].receive(0);
        one.result[e]->octets += text;
        if (how == peer_socket::outcome::end) one.result[e]->how = seen::end::end;
        if (how == peer_socket::outcome::reset) one.result[e]->how = seen::end::reset;
      }
  };
  for (std::size_t n = 0; n < longest; ++n) {
    for (std::size_t i = 0; i < scripts.size(); ++i) {
      if (n >= scripts[i].steps.size()) continue;
      const auto& [what, who, octets] = scripts[i].steps[n];
      auto& socket = all[i].ends[index_of(who)];
      auto& sent = all[i].sent[index_of(who)];
      switch (what) {
        case step::act::send: {
          const std::string text = text_at(who, sent, octets);
          socket.send_now(text);
          sent += octets;
          break;
        }
        case step::act::end: socket.end(); break;
        case step::act::reset: socket.reset(), all[i].result[index_of(who)].reset(); break;
        case step::act::close: socket.close(), all[i].result[index_of(who)].reset(); break;
      }
    }
    const auto until = std::chrono::steady_clock::now() + 150ms;
    while (std::chrono::steady_clock::now() < until) {
      read_all();
      std::this_thread::sleep_for(10ms);
    }
  }
  std::vector<outcome> results;
  for (auto& one : all) results.push_back(one.result);
  loop.ask([&](reactor&) { fronts.clear(); });
  return results;
}

}  // namespace

TEST(Differential, ARandomScriptLooksTheSameOnBothKernels) {
  const std::size_t count = 120;
  std::vector<script> scripts;
  for (std::uint64_t seed = 1; seed <= count; ++seed) scripts.push_back(make(seed));
  const auto kernel = on_kernel(scripts);
  for (std::size_t i = 0; i < count; ++i) {
    const auto simulated = on_simulated(scripts[i], {}, i + 1);
    for (std::size_t e = 0; e < 2; ++e) {
      ASSERT_EQ(kernel[i][e].has_value(), simulated[e].has_value());
      if (kernel[i][e]) {
        EXPECT_EQ(*kernel[i][e], *simulated[e]) << "seed " << i + 1 << (e == 0 ? " client" : " server");
      }
    }
  }
}

TEST(Differential, CutsMeanNothing) {  // E4
  const auto cases = static_cast<std::uint64_t>(std::max<double>(10, 100 * MIDWIRE_TEST_SCALE));
  for (std::uint64_t seed = 1000; seed < 1000 + cases; ++seed) {
    script s = make(seed);
    for (auto& one : s.steps) one.octets = std::min<std::size_t>(one.octets, 400);
    const auto whole = on_simulated(s, {}, seed);
    for (const cut how : {cut::one_octet, cut::primes, cut::every_position, cut::random}) {
      link_shape shape;
      shape.segments = how;
      shape.position = seed % 100;
      const auto cut_up = on_simulated(s, shape, seed);
      for (std::size_t e = 0; e < 2; ++e)
        if (whole[e]) {
          EXPECT_EQ(*whole[e], *cut_up[e]) << "seed " << seed << " cut " << static_cast<int>(how);
        }
    }
  }
}

TEST(Simulated, AStageThatKeepsSeesThroughCuts) {
  // Longer than a kept octet's time: every link delivers within it, so the answer is that of the whole text.
  std::string text;
  for (int i = 0; i < 400; ++i) text += static_cast<char>('a' + mix(static_cast<std::uint64_t>(i)) % 4);
  std::string want;
  for (std::size_t i = 0; i < text.size(); ++i) {
    want += text[i];
    if (i > 0 && text[i - 1] == 'a' && text[i] == 'c') want += "ac";
  }
  for (const cut how : {cut::as_sent, cut::one_octet, cut::primes, cut::random}) {
    link_shape shape;
    shape.segments = how;
    sim_reactor r{1, shape};
    relay front{r, "tcp://127.0.0.1:9000", "tcp://127.0.0.1:9001"};
    front.add_stage<pair_stage>();
    sim_peer client{r.network()}, server{r.network()};
    server.listen(address::loopback(9001));
    front.start();
    client.connect(address::loopback(9000)).send(text).send_end();
    r.pump();
    EXPECT_EQ(server.received(), want) << static_cast<int>(how);
    EXPECT_TRUE(server.saw_end());
  }
}

TEST(Lesson13, AResolverThatNeverAnswersFailsTheConnectAtItsDeadline) {
  sim_reactor r;
  r.names().never("db.example");
  relay front{r, "tcp://127.0.0.1:9000", "tcp://db.example:5432"};
  relay_options options;
  options.connect.timeout = 3s;
  front.set_options(options).start();
  relay other{r, "tcp://127.0.0.1:9002", "tcp://127.0.0.1:9001"};
  other.start();
  sim_peer waits{r.network()}, client{r.network()}, server{r.network()};
  server.listen(address::loopback(9001));
  waits.connect(address::loopback(9000));
  client.connect(address::loopback(9002));
  r.pump();
  for (int i = 0; i < 29; ++i) {
    r.advance(100ms);
    client.send("x");
    r.pump();
    EXPECT_EQ(server.received().size(), static_cast<std::size_t>(i + 1)) << "other flows run on";
    EXPECT_FALSE(waits.saw_end());
  }
  r.advance(200ms);
  EXPECT_TRUE(waits.saw_end());
}

TEST(Lesson11, ConnectingHasADeadlineOfItsOwn) {
  sim_reactor r;
  midwire::testing::link_script silent;
  silent.silent = true;
  r.network().script(address::loopback(9001), silent);
  relay front{r, "tcp://127.0.0.1:9000", "tcp://127.0.0.1:9001"};
  relay_options options;
  options.connect.timeout = 2s;
  front.set_options(options).start();
  sim_peer client{r.network()};
  client.connect(address::loopback(9000));
  r.pump();
  for (int i = 0; i < 19; ++i) {
    client.send("drip");  // what the client sends meanwhile changes nothing
    r.advance(100ms);
    EXPECT_FALSE(client.saw_end());
  }
  r.advance(200ms);
  EXPECT_TRUE(client.saw_end());
}

TEST(Lesson11, ManyDripFeedsOutliveTheIdleTimeAndEndWhenTheyFallSilent) {
  sim_reactor r;
  relay front{r, "tcp://127.0.0.1:9000", "tcp://127.0.0.1:9001"};
  relay_options options;
  options.limits.idle = 10s;
  options.max_flows = 100000;
  front.set_options(options).start();
  std::vector<sim_peer> clients, servers;
  const int count = static_cast<int>(std::max<double>(100, 1000 * MIDWIRE_TEST_SCALE));
  for (int i = 0; i < count; ++i) {
    servers.emplace_back(r.network()).listen(address::loopback(9001));
    clients.emplace_back(r.network()).connect(address::loopback(9000));
  }
  r.pump();
  ASSERT_EQ(front.flows(), static_cast<std::size_t>(count));
  for (int second = 0; second < 12; ++second) {
    for (auto& c : clients) c.send("x");
    r.advance(1s);
  }
  EXPECT_EQ(front.flows(), static_cast<std::size_t>(count));
  for (auto& s : servers) EXPECT_EQ(s.received().size(), 12u);
  r.advance(11s);
  for (auto& c : clients) EXPECT_TRUE(c.saw_end());
}
