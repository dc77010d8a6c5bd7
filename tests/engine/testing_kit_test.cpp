#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <midwire/testing/playbook.hpp>
#include <midwire/testing/sim_reactor.hpp>
#include <midwire/testing/string_transport.hpp>

namespace midwire::testing {
namespace {

using namespace std::chrono_literals;

std::string thrown(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::runtime_error& e) { return e.what(); }
  return "";
}

flow plain_flow(flow_limits limits = {}) { return flow{{}, limits}; }

TEST(Playbook, HoldsWhatIsTrue) {
  flow f = plain_flow();
  playbook{f}
      .when(side::client, event::data_received("GET"))
      .then(side::server, command::send("GET"))
      .when(side::client, event::end_received())
      .then(side::server, command::send_end())
      .quiet();
}

TEST(Playbook, SaysWhatIsNot) {
  {
    flow f = plain_flow();
    playbook p{f};
    p.when(side::client, event::data_received("GET \x01"));
    EXPECT_EQ(thrown([&] { p.then(side::server, command::send("PUT")); }),
              "playbook step 2: expected server: send \"PUT\", got server: send \"GET \\x01\"");
  }
  {
    flow f = plain_flow();
    playbook p{f};
    p.when(side::client, event::data_received("x"));
    EXPECT_NE(thrown([&] { p.quiet(); }).find("expected no more commands, got server: send \"x\""), std::string::npos);
    EXPECT_NE(thrown([&] { p.when(side::client, event::end_received()); }), "");
    EXPECT_NE(thrown([&] { p.then(side::client, command::send("x")); }), "");  // the other side
  }
  {
    flow f = plain_flow();
    playbook p{f};
    EXPECT_NE(thrown([&] { p.then(side::server, command::send_end()); }).find("got nothing"), std::string::npos);
  }
}

TEST(Playbook, FlowControlIsNoiseUntilAskedFor) {
  flow f = plain_flow();
  playbook p{f};
  p.then(side::client, command::start_reading(flow_limits{}.high))
      .then(side::server, command::start_reading(flow_limits{}.high));
  p.quiet();
  flow g = plain_flow();
  playbook q{g};
  EXPECT_NE(thrown([&] { q.then(side::client, command::start_reading(1)); }), "");
}

TEST(Playbook, TimeStopsAtDeadlines) {
  flow f = plain_flow({.idle = 10s});
  playbook p{f};
  p.after(9s).quiet();
  p.when(side::client, event::data_received("x")).then(side::server, command::send("x")).taken(side::server);
  p.after(9s).quiet();
  EXPECT_FALSE(f.closed());
  p.after(20s);
  EXPECT_EQ(p.now(), instant{1000h} + 38s);
  EXPECT_EQ(f.why().how(), ending::timed_out);
}

TEST(SimReactor, FiresInOrderThoseMadeOnTheWayIncluded) {
  sim_reactor r;
  std::vector<std::string> order;
  const instant start = r.now();
  const auto note = [&](const char* what) { order.push_back(what + std::to_string((r.now() - start) / 1ms)); };
  r.call_later(30ms, [&] { note("c"); });
  r.call_later(10ms, [&] {
    note("a");
    r.call_later(5ms, [&] { note("b"); });
    r.call_later(100s, [&] { note("late"); });
  });
  r.advance(30ms);
  EXPECT_EQ(order, (std::vector<std::string>{"a10", "b15", "c30"}));
  EXPECT_EQ(r.now(), start + 30ms);
  r.pump();
  EXPECT_EQ(r.now(), start + 30ms);  // no timer is waited for
}

struct echo final : protocol {
  void data_received(chunk data) override { transport().write(std::move(data)); }
};

TEST(SimReactor, PumpMovesOctetsUntilAllIsQuiet) {
  for (const cut how : {cut::as_sent, cut::one_octet, cut::primes, cut::random}) {
    sim_reactor r{3, {.segments = how, .latency = 5ms, .rate = 100'000}};
    auto& port = r.listen_tcp(0, factory::of<echo>());
    sim_peer peer{r.network()};
    peer.connect(address::loopback(port.host().port())).send(std::string(10'000, 'x'));
    bool fired = false;
    r.call_later(1h, [&] { fired = true; });
    r.pump();
    EXPECT_EQ(peer.received().size(), 10'000u);
    EXPECT_FALSE(fired);
    peer.send_end();
    r.pump();
    EXPECT_TRUE(peer.saw_end());
  }
}

TEST(SimReactor, PumpGivesUpWhenItNeverEnds) {
  sim_reactor r;
  auto& port = r.listen_tcp(0, factory::of<echo>());
  sim_peer peer{r.network()};
  peer.on_received([&](std::string_view text) { peer.send(text); });
  peer.connect(address::loopback(port.host().port())).send("round and round");
  EXPECT_THROW(r.pump(), std::runtime_error);
  peer.on_received({});
  r.pump();
}

TEST(SimReactor, NamesComeFromTheScript) {
  sim_reactor r;
  const auto v4 = address::loopback(0), v6 = *address::parse_ip("::1", 0);
  r.names().add("a.test", {v4}).add("a.test", {v6}, 1s).never("mute.test");
  std::vector<std::string> got;
  const auto ask = [&](const std::string& host) {
    return r.names().ask(host, [&got, host](resolver::answer a) {
      got.push_back(host + ' ' + std::to_string(a.addresses.size()) + (a.last ? " last" : ""));
    });
  };
  ask("a.test"), ask("b.test");
  const auto mute = ask("mute.test");
  EXPECT_TRUE(got.empty());
  r.advance(999ms);
  EXPECT_EQ(got, (std::vector<std::string>{"a.test 1", "b.test 0 last"}));
  r.advance(1ms);
  EXPECT_EQ(got.back(), "a.test 1 last");
  r.advance(24h);
  EXPECT_EQ(got.size(), 3u);
  EXPECT_EQ(r.names().waiting(), 1u);
  r.names().forget(mute);
  const auto forgotten = ask("b.test");
  r.names().forget(forgotten);
  r.advance(1s);
  EXPECT_EQ(got.size(), 3u);
  EXPECT_EQ(r.names().waiting(), 0u);
}

struct scribe final : protocol {
  void connection_made() override { log.push_back("made"); }
  void data_received(chunk data) override {
    log.push_back("data " + data.detach());
    if (log.back() == "data bye")
      transport().lose_connection();
    else if (log.back() == "data pause")
      transport().pause_reading();
    else
      transport().write("got it;");
  }
  void connection_lost(const reason& why) override { log.push_back("lost " + std::string{name_of(why.how())}); }
  std::vector<std::string> log;
};

TEST(StringTransport, ShowsAProtocolsWholeLife) {
  scribe p;
  string_transport t{p};
  EXPECT_EQ(p.log, std::vector<std::string>{"made"});
  EXPECT_TRUE(t.reading());
  t.deliver("one");
  EXPECT_EQ(t.written(), "got it;");
  t.clear();
  EXPECT_EQ(t.written(), "");
  t.deliver("pause");
  EXPECT_FALSE(t.reading());
  t.deliver("two");
  EXPECT_EQ(p.log.back(), "data pause");
  p.transport().resume_reading();
  EXPECT_TRUE(t.reading());
  EXPECT_EQ(p.log.back(), "data two");
  t.deliver("bye");
  EXPECT_TRUE(t.disconnecting());
  EXPECT_FALSE(t.closed());
  t.deliver_end();
  EXPECT_TRUE(t.closed());
  EXPECT_EQ(t.why().how(), ending::done);
  EXPECT_EQ(p.log.back(), "lost done");
}

TEST(StringTransport, ResetsAndPeers) {
  scribe p;
  const address from = address::ipv4({192, 0, 2, 7}, 1234);
  string_transport t{p, from};
  EXPECT_EQ(p.transport().peer(), from);
  t.deliver_reset();
  EXPECT_TRUE(t.closed());
  EXPECT_EQ(t.why().how(), ending::reset);
  EXPECT_EQ(p.log.back(), "lost reset");
}

TEST(StringTransport, EndsTheConnectionItLeavesBehind) {
  scribe p;
  { string_transport t{p}; }
  EXPECT_EQ(p.log, (std::vector<std::string>{"made", "lost reset"}));
}

}  // namespace
}  // namespace midwire::testing
