#include <midwire/testing/sim_driver.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <midwire/base/chance.hpp>
#include <midwire/testing/playbook.hpp>

#ifndef MIDWIRE_TEST_SCALE
#define MIDWIRE_TEST_SCALE 1
#endif

namespace midwire::testing {
namespace {

using namespace std::chrono_literals;
using happenings = std::vector<std::pair<socket_id, event>>;

std::string pattern(std::size_t octets) {
  std::string text(octets, '\0');
  for (std::size_t i = 0; i < octets; ++i) text[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return text;
}

/// A driver whose events are kept by socket, as text and as octets.
struct bench {
  explicit bench(const link_shape& shape = {}, std::uint64_t seed = 1)
      : net{std::make_shared<sim_network>(seed, shape)}, driver{net} {}
  explicit bench(std::shared_ptr<sim_network> n) : net{std::move(n)}, driver{net} {}

  /// Waits until nothing happens any more for `d`.
  void run(duration d = 0s) {
    const instant until = driver.now() + d;
    for (int turns = 0; turns < 100'000; ++turns) {
      happenings got;
      driver.wait(until, got);
      for (auto& [id, e] : got) {
        log[id].push_back(describe(e));
        order.push_back(std::to_string(static_cast<std::uint32_t>(id)) + ' ' + describe(e));
        if (e.what() == event::kind::data_received) text[id] += e.data().text(), pieces[id].push_back(e.data().size());
        if (e.what() == event::kind::octets_sent) sent[id] += e.octets();
        if (e.what() == event::kind::octets_spliced) spliced[id] += e.octets(), splices[id].push_back(e.octets());
        if (e.what() == event::kind::accepted) accepted.push_back(id);
      }
      if (got.empty() && driver.now() >= until) return;
    }
    FAIL() << "it does not come to rest";
  }
  /// A connection to a peer that listens, up.
  socket_id dial(sim_peer& peer) {
    peer.listen();
    const socket_id s = driver.connect(peer.host(), {});
    run(10s);
    EXPECT_EQ(last(s), "connected");
    log.clear(), order.clear();
    return s;
  }
  std::string last(socket_id s) { return log[s].empty() ? "" : log[s].back(); }
  bool saw(socket_id s, const std::string& what) { return std::count(log[s].begin(), log[s].end(), what) == 1; }
  void send(socket_id s, const std::string& octets) { driver.perform(s, command::send(octets)); }

  std::shared_ptr<sim_network> net;
  sim_driver driver;
  std::map<socket_id, std::vector<std::string>> log;
  std::map<socket_id, std::string> text;
  std::map<socket_id, std::vector<std::size_t>> pieces;
  std::map<socket_id, std::uint64_t> sent, spliced;
  std::map<socket_id, std::vector<std::uint64_t>> splices;
  std::vector<std::string> order;
  std::vector<socket_id> accepted;
};

using lines = std::vector<std::string>;

TEST(SimDriver, ConnectsAndAcceptsWithinOneDriver) {
  bench b;
  const auto listener = b.driver.listen(address::loopback(0), {});
  const address where = b.driver.local(listener);
  EXPECT_NE(where.port(), 0);
  const auto client = b.driver.connect(where, {});
  EXPECT_TRUE(b.order.empty());
  b.run();
  ASSERT_EQ(b.accepted.size(), 1u);
  const auto server = b.accepted[0];
  EXPECT_EQ(b.last(client), "connected");
  EXPECT_EQ(b.driver.local(server), where);
  EXPECT_EQ(b.driver.peer(client), where);
  EXPECT_EQ(b.driver.peer(server), b.driver.local(client));
  b.send(client, "ping");
  b.run();
  EXPECT_EQ(b.text[server], "");  // nothing is read until start_reading
  EXPECT_EQ(b.last(client), "octets_sent 4");
  b.driver.perform(server, command::start_reading());
  b.send(server, "pong");
  b.run();
  EXPECT_EQ(b.text[server], "ping");
  EXPECT_EQ(b.text[client], "");
  b.driver.perform(client, command::start_reading());
  b.run();
  EXPECT_EQ(b.text[client], "pong");
  EXPECT_THROW(b.driver.listen(where, {}), std::system_error);
}

TEST(SimDriver, SeveralDriversShareANetwork) {
  const auto net = std::make_shared<sim_network>();
  bench a{net}, b{net};
  const auto listener = a.driver.listen(address::unix_path("/run/x"), {});
  const auto client = b.driver.connect(address::unix_path("/run/x"), {});
  for (int i = 0; i < 3; ++i) a.run(), b.run();
  ASSERT_EQ(a.accepted.size(), 1u);
  EXPECT_TRUE(b.saw(client, "connected"));
  b.send(client, "over");
  b.driver.perform(client, command::send_end());
  a.driver.perform(a.accepted[0], command::start_reading());
  b.run(), a.run();
  EXPECT_EQ(a.text[a.accepted[0]], "over");
  EXPECT_EQ(a.last(a.accepted[0]), "end_received");
  EXPECT_EQ(a.log[listener], lines{});
}

TEST(SimDriver, ReadsAtMostTheRoom) {
  bench b;
  sim_peer peer{*b.net};
  const auto s = b.dial(peer);
  peer.send("0123456789").send_end();
  b.driver.perform(s, command::start_reading(4));
  b.run();
  EXPECT_EQ(b.text[s], "0123");
  EXPECT_FALSE(b.driver.reading(s));
  EXPECT_EQ(b.log[s], (lines{"data_received \"0123\"", "hung_up"}));
  b.driver.perform(s, command::start_reading(1));
  b.driver.perform(s, command::start_reading(2));  // replaces what is left of the old one
  b.run();
  EXPECT_EQ(b.text[s], "012345");
  b.driver.perform(s, command::start_reading(100));
  b.driver.perform(s, command::stop_reading());
  b.run();
  EXPECT_EQ(b.text[s], "012345");
  b.driver.perform(s, command::start_reading(100));
  b.run();
  EXPECT_EQ(b.text[s], "0123456789");
  EXPECT_EQ(b.last(s), "end_received");
  EXPECT_TRUE(b.saw(s, "end_received"));
  EXPECT_TRUE(b.saw(s, "hung_up"));
}

class SimDriverCuts : public ::testing::TestWithParam<cut> {};

TEST_P(SimDriverCuts, GiveOneStream) {
  for (const duration latency : {0ms, 3ms})
    for (const std::size_t rate : {std::size_t{0}, std::size_t{1'000'000}})
      for (const std::size_t window : {std::size_t{100}, std::size_t{65536}}) {
        bench b{{GetParam(), latency, rate, window, 0, 0}};
        sim_peer peer{*b.net};
        const auto s = b.dial(peer);
        const std::string there = pattern(5000), back = pattern(7000);
        for (std::size_t i = 0; i < back.size(); i += 700) peer.send(back.substr(i, 700));
        peer.send_end();
        b.driver.perform(s, command::start_reading());
        b.send(s, there);
        b.driver.perform(s, command::send_end());
        b.run(10s);
        EXPECT_EQ(peer.received(), there);
        EXPECT_TRUE(peer.saw_end());
        EXPECT_EQ(b.text[s], back);
        EXPECT_EQ(b.sent[s], there.size());
        EXPECT_TRUE(b.saw(s, "end_received"));
        EXPECT_FALSE(b.net->in_flight());
      }
}

INSTANTIATE_TEST_SUITE_P(All, SimDriverCuts,
                         ::testing::Values(cut::as_sent, cut::one_octet, cut::primes, cut::every_position,
                                           cut::random));

TEST(SimDriver, CutsAreWhatTheySay) {
  const auto pieces = [](link_shape shape, std::size_t octets) {
    bench b{shape};
    sim_peer peer{*b.net};
    const auto s = b.dial(peer);
    peer.send(pattern(octets));
    b.driver.perform(s, command::start_reading());
    b.run();
    return b.pieces[s];
  };
  using sizes = std::vector<std::size_t>;
  EXPECT_EQ(pieces({.segments = cut::as_sent}, 20), (sizes{20}));
  EXPECT_EQ(pieces({.segments = cut::one_octet}, 4), (sizes{1, 1, 1, 1}));
  EXPECT_EQ(pieces({.segments = cut::primes}, 20), (sizes{2, 3, 5, 7, 3}));
  EXPECT_EQ(pieces({.segments = cut::every_position, .position = 7}, 20), (sizes{7, 13}));
  EXPECT_EQ(pieces({.segments = cut::every_position, .position = 20}, 20), (sizes{20}));
  // Left to count, the next connection is cut one further.
  bench b{{.segments = cut::every_position}};
  for (std::size_t n = 1; n <= 5; ++n) {
    sim_peer peer{*b.net};
    const auto s = b.dial(peer);
    peer.send("abcdef");
    b.driver.perform(s, command::start_reading());
    b.run();
    EXPECT_EQ(b.pieces[s], (sizes{n, 6 - n}));
  }
}

TEST(SimDriver, TheWindowHoldsTheSender) {
  bench b{{.window = 1000}};
  sim_peer peer{*b.net};
  const auto s = b.dial(peer);
  peer.stop_reading();
  b.send(s, pattern(5000));
  b.driver.perform(s, command::send_end());
  b.run(1h);
  EXPECT_EQ(b.sent[s], 1000u);
  EXPECT_EQ(b.driver.unsent(s), 4000u);
  EXPECT_FALSE(peer.saw_end());
  peer.start_reading();
  b.run();
  EXPECT_EQ(b.sent[s], 5000u);
  EXPECT_EQ(peer.received(), pattern(5000));
  EXPECT_TRUE(peer.saw_end());
  // And the other way: what is not read holds the peer.
  peer.send(pattern(3000));
  b.run();
  EXPECT_EQ(peer.unsent(), 2000u);
  b.driver.perform(s, command::start_reading(500));
  b.run();
  EXPECT_EQ(peer.unsent(), 1500u);
  b.driver.perform(s, command::start_reading());
  b.run();
  EXPECT_EQ(b.text[s], pattern(3000));
}

TEST(SimDriver, LatencyAndRateRunOnTheVirtualClock) {
  bench b{{.latency = 20ms, .rate = 1000}};
  sim_peer peer{*b.net};
  peer.listen();
  const instant start = b.driver.now();
  const auto s = b.driver.connect(peer.host(), {});
  happenings got;
  b.driver.wait(start + 1h, got);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(b.driver.now(), start + 40ms);  // there and back
  b.send(s, pattern(100));                  // a tenth of a second on the wire
  got.clear();
  b.driver.wait(b.driver.now(), got);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(describe(got[0].second), "octets_sent 100");
  b.run(119ms);
  EXPECT_EQ(peer.received(), "");
  b.run(1ms);
  EXPECT_EQ(peer.received(), pattern(100));
  // Nothing to wait for: it comes back just at `until`, with nothing.
  got.clear();
  const instant now = b.driver.now();
  b.driver.wait(now + 5s, got);
  EXPECT_TRUE(got.empty());
  EXPECT_EQ(b.driver.now(), now + 5s);
  b.driver.advance(2s);
  EXPECT_EQ(b.driver.now(), now + 7s);
}

TEST(SimDriver, AResetComesBehindTheDataThatWasDelivered) {
  bench b{{.latency = 10ms}};
  sim_peer peer{*b.net};
  const auto s = b.dial(peer);
  peer.send("last words").reset();
  b.driver.perform(s, command::start_reading(4));
  b.run(1s);
  EXPECT_EQ(b.log[s], (lines{"data_received \"last\"", "hung_up broken"}));
  b.driver.perform(s, command::start_reading());
  b.send(s, "to nobody");
  b.run(1s);
  EXPECT_EQ(b.text[s], "last words");
  EXPECT_EQ(b.last(s), "reset_received");
  EXPECT_TRUE(b.saw(s, "reset_received"));
  EXPECT_EQ(b.sent[s], 0u);
}

TEST(SimDriver, OrderlyEndAndThenAReset) {
  bench b;
  sim_peer peer{*b.net};
  const auto s = b.dial(peer);
  peer.send("bye").close();
  b.driver.perform(s, command::start_reading());
  b.run();
  EXPECT_EQ(b.log[s], (lines{"data_received \"bye\"", "end_received"}));
  b.send(s, "too late");  // the closed end answers with a reset
  b.run();
  EXPECT_EQ(b.last(s), "reset_received");
}

TEST(SimDriver, CloseSendsWhatTheWindowTookAndThenTheEnd) {
  bench b{{.latency = 5ms}};
  sim_peer peer{*b.net};
  const auto s = b.dial(peer);
  b.send(s, "all of it");
  b.driver.perform(s, command::close());
  b.run(1s);
  EXPECT_EQ(peer.received(), "all of it");
  EXPECT_TRUE(peer.saw_end());
  EXPECT_FALSE(peer.saw_reset());
  EXPECT_TRUE(b.log[s].empty());
  EXPECT_EQ(b.driver.open_sockets(), 0u);
}

TEST(SimDriver, CloseWithOctetsUnreadResets) {
  bench b;
  sim_peer peer{*b.net};
  const auto s = b.dial(peer);
  peer.send("unread");
  b.run();
  b.driver.perform(s, command::close());
  b.run();
  EXPECT_TRUE(peer.saw_reset());
  EXPECT_FALSE(peer.saw_end());
  // On a unix socket, too; but a reset that leaves nothing unread is a close there.
  sim_peer at_path{*b.net};
  at_path.listen(address::unix_path("/tmp/s"));
  const auto u = b.driver.connect(at_path.host(), {});
  b.run();
  b.driver.perform(u, command::reset());
  b.run();
  EXPECT_TRUE(at_path.saw_end());
  EXPECT_FALSE(at_path.saw_reset());
}

TEST(SimDriver, NoEventAfterTheName) {
  for (const int how : {0, 1, 2}) {
    bench b{{.latency = 1ms}};
    sim_peer peer{*b.net};
    const auto s = b.dial(peer);
    b.driver.perform(s, command::start_reading());
    b.send(s, "x");
    peer.send("on its way");
    if (how == 0) b.driver.perform(s, command::close());
    if (how == 1) b.driver.perform(s, command::reset());
    if (how == 2) b.driver.perform(s, command::reset_after_drain(1s));
    peer.send("more");
    b.run(10s);
    EXPECT_TRUE(b.log[s].empty()) << how;
    EXPECT_TRUE(peer.saw_reset()) << how;
    b.driver.perform(s, command::send("nobody"));  // nor any effect
    b.run();
  }
}

TEST(SimDriver, NamesComeAgainUnderAnotherGeneration) {
  bench b;
  std::vector<socket_id> seen;
  std::size_t highest = 0;
  for (int i = 0; i < 2000; ++i) {
    sim_peer peer{*b.net};
    peer.listen();
    if (i % 2) b.net->script(peer.host(), {.refused = true});
    const auto s = b.driver.connect(peer.host(), {});
    EXPECT_TRUE(std::find(seen.begin(), seen.end(), s) == seen.end());
    seen.push_back(s);
    highest = std::max(highest, index_of(s));
    b.run();
    EXPECT_EQ(b.log[s].size(), 1u);
    b.driver.perform(s, command::close());
    // Not before the next turn: events of the old one may be on their way.
    sim_peer next{*b.net};
    next.listen();
    const auto at_once = b.driver.connect(next.host(), {});
    EXPECT_NE(index_of(at_once), index_of(s));
    seen.push_back(at_once);
    b.run();
    b.driver.perform(at_once, command::close());
    b.run();
  }
  EXPECT_LT(highest, 10u);
  EXPECT_EQ(b.driver.open_sockets(), 0u);
}

TEST(SimDriver, ResetAfterDrainWaitsForThePeersKernel) {
  bench b{{.latency = 10ms, .window = 100}};
  sim_peer peer{*b.net};
  const auto s = b.dial(peer);
  b.send(s, pattern(1000));
  b.driver.perform(s, command::reset_after_drain(1s));
  b.run(900ms);
  EXPECT_EQ(peer.received(), pattern(1000));
  EXPECT_TRUE(peer.saw_reset());

  sim_peer deaf{*b.net};
  const auto t = b.dial(deaf);
  deaf.stop_reading();
  b.send(t, pattern(1000));
  b.driver.perform(t, command::reset_after_drain(1s));
  b.run(990ms);
  EXPECT_FALSE(deaf.saw_reset());
  b.run(21ms);
  EXPECT_TRUE(deaf.saw_reset());
  deaf.start_reading();
  b.run(1s);
  EXPECT_EQ(deaf.received(), pattern(100));
}

TEST(SimDriver, ConnectingFailsAsTold) {
  bench b{{.latency = 10ms}};
  const auto nobody = b.driver.connect(address::loopback(1), {});
  b.run(19ms);
  EXPECT_TRUE(b.log[nobody].empty());
  b.run(1ms);
  EXPECT_EQ(b.last(nobody), "connect_failed Connection refused");

  sim_peer peer{*b.net};
  peer.listen();
  b.net->script(peer.host(), {.refused = true});
  b.net->script(peer.host(), {.silent = true}, 2);
  const auto refused = b.driver.connect(peer.host(), {});
  const auto silent = b.driver.connect(peer.host(), {});
  const auto given_up = b.driver.connect(peer.host(), {});
  b.driver.perform(given_up, command::close());
  const auto fine = b.driver.connect(peer.host(), {});
  b.run(1h);
  EXPECT_EQ(b.log[refused], lines{"connect_failed Connection refused"});
  EXPECT_TRUE(b.log[silent].empty());
  EXPECT_TRUE(b.log[given_up].empty());
  EXPECT_EQ(b.log[fine], lines{"connected"});
  b.driver.perform(silent, command::close());
  b.run(1h);
  EXPECT_EQ(b.driver.open_sockets(), 1u);
}

TEST(SimDriver, GivingUpWhileTheAnswerIsOnItsWay) {
  bench b{{.latency = 10ms}};
  sim_peer peer{*b.net};
  peer.listen();
  const auto s = b.driver.connect(peer.host(), {});
  b.run(15ms);
  EXPECT_TRUE(peer.connected());
  b.driver.perform(s, command::close());
  b.run(1s);
  EXPECT_TRUE(b.log[s].empty());
  EXPECT_TRUE(peer.saw_reset());
}

TEST(SimDriver, ShortWritesKeepTheOrder) {
  bench b;
  sim_peer peer{*b.net};
  peer.listen();
  link_script script;
  script.faults[index_of(direction::to_server)].short_write = 3;
  b.net->script(peer.host(), script);
  const auto s = b.driver.connect(peer.host(), {});
  b.run();
  b.log.clear();
  b.send(s, "0123456");
  b.send(s, "789");
  b.driver.perform(s, command::send_end());
  EXPECT_EQ(b.driver.unsent(s), 7u);
  b.run();
  EXPECT_EQ(peer.received(), "0123456789");
  EXPECT_TRUE(peer.saw_end());
  EXPECT_GE(b.log[s].size(), 2u);
  EXPECT_EQ(b.sent[s], 10u);
}

TEST(SimDriver, BlocksResetsAndEndsAtTheOctetTold) {
  const auto up = index_of(direction::to_server), down = index_of(direction::to_client);
  bench b{{.latency = 1ms}};
  const auto dial = [&](sim_peer& peer, const link_script& script) {
    peer.listen();
    b.net->script(peer.host(), script);
    const auto s = b.driver.connect(peer.host(), {});
    b.run(1s);
    b.log.clear();
    b.driver.perform(s, command::start_reading());
    return s;
  };
  {
    link_script script;
    script.faults[up].blocked_at = 4, script.faults[up].blocked_for = 2s;
    sim_peer peer{*b.net};
    const auto s = dial(peer, script);
    b.send(s, "0123456789");
    b.run(1900ms);
    EXPECT_EQ(peer.received(), "0123");
    b.run(1s);
    EXPECT_EQ(peer.received(), "0123456789");
    EXPECT_EQ(b.sent[s], 10u);
  }
  {
    link_script script;
    script.faults[down].reset_at = 4;
    sim_peer peer{*b.net};
    const auto s = dial(peer, script);
    peer.send("0123456789");
    b.run(1s);
    EXPECT_EQ(b.log[s], (lines{"data_received \"0123\"", "reset_received"}));
    EXPECT_TRUE(peer.saw_reset());
  }
  {
    link_script script;
    script.faults[up].reset_at = 4;
    sim_peer peer{*b.net};
    const auto s = dial(peer, script);
    b.send(s, "01");
    b.run(1s);
    EXPECT_FALSE(peer.saw_reset());
    b.send(s, "23456789");
    b.run(1s);
    EXPECT_EQ(peer.received(), "0123");
    EXPECT_TRUE(peer.saw_reset());
    EXPECT_EQ(b.last(s), "reset_received");
  }
  for (const std::uint64_t n : {0u, 4u}) {
    link_script script;
    script.faults[down].end_at = n;
    sim_peer peer{*b.net};
    const auto s = dial(peer, script);
    peer.send("0123456789").send_end();
    b.run(1s);
    EXPECT_EQ(b.text[s], std::string{"0123456789"}.substr(0, n));
    EXPECT_TRUE(b.saw(s, "end_received"));
    b.send(s, "still heard");
    b.run(1s);
    EXPECT_EQ(peer.received(), "still heard");
  }
  {
    link_script script;
    script.faults[up].reset_at = 0;
    sim_peer peer{*b.net};
    const auto s = dial(peer, script);
    b.run(1s);
    EXPECT_TRUE(b.saw(s, "reset_received"));
    EXPECT_TRUE(peer.saw_reset());
  }
}

TEST(SimDriver, AcceptsInBatchesAndMeetsEmfile) {
  bench b;
  const auto listener = b.driver.listen(address::any_ipv6(0), {});
  const address where = address::loopback(b.driver.local(listener).port());
  b.driver.accept(listener, 2);
  std::vector<sim_peer> peers;
  for (int i = 0; i < 7; ++i) peers.emplace_back(*b.net).connect(where);
  happenings got;
  b.driver.wait(b.driver.now(), got);
  EXPECT_EQ(got.size(), 2u);
  b.driver.accept(listener, 0);
  b.run();
  EXPECT_EQ(b.accepted.size(), 0u);
  EXPECT_TRUE(std::all_of(peers.begin(), peers.end(), [](auto& p) { return p.connected(); }));  // the kernel has them
  b.driver.fail_accepts(1);
  b.driver.accept(listener, 1);
  b.run();
  EXPECT_EQ(b.log[listener], lines{"connect_failed Too many open files"});
  EXPECT_EQ(b.accepted.size(), 4u);
  EXPECT_TRUE(peers[2].saw_end());
  // What is queued when the listener goes is taken; afterwards nobody is there.
  b.driver.accept(listener, 0);
  sim_peer queued{*b.net}, late{*b.net};
  queued.connect(where);
  b.run();
  b.driver.close_listener(listener);
  late.connect(where);
  b.run();
  EXPECT_EQ(b.accepted.size(), 5u);
  EXPECT_TRUE(late.failed());
}

TEST(SimDriver, SplicesTheExactBudget) {
  for (const cut how : {cut::as_sent, cut::primes, cut::one_octet}) {
    bench b{{.segments = how, .window = 2000}};
    sim_peer source{*b.net}, sink{*b.net};
    const auto from = b.dial(source), to = b.dial(sink);
    ASSERT_TRUE(b.driver.can_splice(from, to));
    source.send(pattern(1000));
    b.driver.splice(from, to, 600);
    b.run();
    EXPECT_EQ(b.spliced[from], 600u);
    EXPECT_EQ(sink.received(), pattern(1000).substr(0, 600));
    EXPECT_EQ(b.sent[to], 600u);
    EXPECT_FALSE(b.driver.reading(from));
    b.driver.perform(from, command::start_reading(1));
    b.run();
    EXPECT_EQ(b.text[from], pattern(1000).substr(600, 1));  // the next one is seen
    b.driver.splice(from, to, ~std::uint64_t{0});
    b.run();
    EXPECT_EQ(b.spliced[from], 999u);
    source.send("unseen");
    b.driver.splice(from, to, 0);
    b.run();
    EXPECT_EQ(b.spliced[from], 999u);
    source.send_end();
    b.driver.splice(from, to, 6);
    b.run();
    EXPECT_EQ(b.spliced[from], 1005u);
    EXPECT_EQ(b.last(from), how == cut::as_sent ? "hung_up" : b.last(from));
    b.driver.splice(from, to, 1);
    b.run();
    EXPECT_TRUE(b.saw(from, "end_received"));
  }
}

TEST(SimDriver, SpliceFeelsTheSinksWindowAndSurvivesItsEnd) {
  bench b{{.latency = 1ms, .window = 500}};
  sim_peer source{*b.net}, sink{*b.net};
  const auto from = b.dial(source), to = b.dial(sink);
  sink.stop_reading();
  source.send(pattern(5000));
  b.driver.splice(from, to, ~std::uint64_t{0});
  b.run(1s);
  EXPECT_EQ(b.spliced[from], 500u);
  EXPECT_EQ(source.unsent(), 4000u);
  sink.start_reading();
  b.run(10s);
  EXPECT_EQ(b.spliced[from], 5000u);
  EXPECT_EQ(sink.received(), pattern(5000));
  // Order with what is sent: behind what is queued.
  sink.stop_reading();
  b.send(to, pattern(700));
  source.send("behind");
  b.run(1s);
  sink.start_reading();
  sink.clear();
  b.run(1s);
  EXPECT_EQ(sink.received(), pattern(700) + "behind");
  b.driver.perform(to, command::close());
  source.send("nowhere");
  b.run(1s);
  EXPECT_FALSE(b.driver.reading(from));
  EXPECT_EQ(b.spliced[from], 5006u);
}

TEST(SimDriver, SpliceThroughShortWrites) {
  bench b;
  sim_peer source{*b.net}, sink{*b.net};
  const auto from = b.dial(source);
  sink.listen();
  link_script script;
  script.faults[0].short_write = 7, script.faults[0].blocked_at = 100, script.faults[0].blocked_for = 1s;
  b.net->script(sink.host(), script);
  const auto to = b.driver.connect(sink.host(), {});
  b.run();
  source.send(pattern(300));
  b.driver.splice(from, to, 1000);
  b.run();
  EXPECT_EQ(b.spliced[from], 100u);
  b.run(1s);
  EXPECT_EQ(b.spliced[from], 300u);
  EXPECT_EQ(b.sent[to], 300u);
  EXPECT_EQ(sink.received(), pattern(300));
}

TEST(SimDriver, WatchesSignalsAndWakes) {
  bench b;
  const auto w = b.driver.watch(17, true, false);
  b.run();
  EXPECT_TRUE(b.log[w].empty());
  b.driver.set_ready(17, true, true);
  happenings got;
  for (int i = 0; i < 2; ++i) b.driver.wait(b.driver.now() + 1h, got);
  ASSERT_EQ(got.size(), 2u);  // level: it comes each turn
  EXPECT_EQ(describe(got[0].second), "became_ready to read");
  b.driver.change_watch(w, false, true);
  got.clear();
  b.driver.wait(b.driver.now() + 1h, got);
  EXPECT_EQ(describe(got.at(0).second), "became_ready to write");
  b.driver.unwatch(w);
  const auto s = b.driver.watch_signal(SIGTERM);
  b.driver.raise_signal(SIGINT);
  b.driver.raise_signal(SIGTERM);
  b.run();
  EXPECT_EQ(b.log[s], lines{"signalled 15"});
  got.clear();
  const instant before = b.driver.now();
  b.driver.wake();
  b.driver.wait(before + 1h, got);
  EXPECT_EQ(b.driver.now(), before);
  EXPECT_TRUE(got.empty());
  std::thread other{[&] { b.driver.wake(); }};
  b.driver.wait(instant::max(), got);  // nothing but wake() ends it
  other.join();
  EXPECT_EQ(b.driver.now(), before);
}

TEST(SimDriver, FairnessLimitsATurn) {
  bench b{{.segments = cut::one_octet, .window = 100'000}};
  sim_peer peer{*b.net};
  const auto s = b.dial(peer);
  peer.send(pattern(5000));
  b.driver.perform(s, command::start_reading());
  happenings got;
  b.driver.wait(b.driver.now(), got);
  EXPECT_EQ(got.size(), 1024u);
  b.run();
  EXPECT_EQ(b.text[s].size(), 5000u - 1024u);
}

/// A random conversation of many connections; everything that happens, as text.
lines conversation(std::uint64_t seed, cut how, std::string* problem) {
  random_source random{seed};
  bench b{{how, duration{static_cast<std::int64_t>(random.below(20)) * 1'000'000}, random.below(3) * 100'000,
           1 + random.below(3000), 0, 0},
          seed};
  const auto listener = b.driver.listen(address::loopback(0), {});
  const address where = b.driver.local(listener);
  std::vector<socket_id> clients;
  std::map<socket_id, std::string> sent;
  for (int i = 0; i < 4; ++i) clients.push_back(b.driver.connect(where, {}));
  b.run(1s);
  if (b.accepted.size() != 4) *problem = "not all were accepted";
  // Accepted in the order of connecting, so the two ends are known.
  std::map<socket_id, socket_id> other;
  for (std::size_t i = 0; i < 4; ++i) other[clients[i]] = b.accepted.at(i), other[b.accepted[i]] = clients[i];
  for (int step = 0; step < 100; ++step) {
    const auto client = clients[random.below(4)];
    const auto s = random.one_in(2) ? client : other[client];
    switch (random.below(4)) {
      case 0: {
        const std::string octets = pattern(1 + random.below(2000));
        b.send(s, octets);
        sent[s] += octets;
        break;
      }
      case 1: b.driver.perform(s, command::start_reading(random.below(3000))); break;
      case 2: b.driver.perform(s, command::stop_reading()); break;
      default: b.run(duration{static_cast<std::int64_t>(random.below(50'000'000))});
    }
  }
  for (const auto& [s, _] : other)
    b.driver.perform(s, command::send_end()), b.driver.perform(s, command::start_reading());
  b.run(1h);
  for (const auto& [s, end] : other) {
    if (b.text[end] != sent[s]) *problem = "octets differ";
    if (b.sent[s] != sent[s].size()) *problem = "octets_sent differ";
    if (!b.saw(s, "end_received")) *problem = "no end";
  }
  return b.order;
}

TEST(SimDriver, TheSameSeedGivesTheSameEvents) {
  const std::uint64_t seed = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  std::cout << "seed " << seed << '\n';
  const int cases = std::max(2, static_cast<int>(60 * double{MIDWIRE_TEST_SCALE}));
  int different = 0;
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t s = seed + static_cast<std::uint64_t>(i);
    const auto how = static_cast<cut>(i % 5);
    std::string problem;
    const auto once = conversation(s, how, &problem);
    ASSERT_EQ(problem, "") << "seed " << s;
    ASSERT_EQ(once, conversation(s, how, &problem)) << "seed " << s;
    different += once != conversation(s + 1, how, &problem);
  }
  EXPECT_GT(different, 0);
}

}  // namespace
}  // namespace midwire::testing
