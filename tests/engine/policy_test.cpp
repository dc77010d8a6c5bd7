// Policies, on simulated wires and a simulated clock.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include <midwire/engine/policy.hpp>
#include <midwire/engine/reconnecting.hpp>
#include <midwire/testing/sim_reactor.hpp>

#include "engine/core/token_bucket.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using midwire::testing::link_shape;
using midwire::testing::sim_peer;
using midwire::testing::sim_reactor;

namespace {

/// What all connections of a factory see and shall do.
struct shared {
  std::string received;
  std::vector<reason> lost;
  std::vector<protocol*> open;
  std::function<void(protocol&)> on_made;
};

struct noting : protocol {
  explicit noting(shared* s) : s_{s} {}
  void connection_made() override {
    s_->open.push_back(this);
    if (s_->on_made) s_->on_made(*this);
  }
  void data_received(chunk data) override { s_->received += data.text(); }
  void connection_lost(const reason& why) override {
    s_->lost.push_back(why);
    std::erase(s_->open, this);
  }
  shared* s_;
};

/// A listener under a policy, and clients of it.
struct served {
  explicit served(policy p, std::function<void(protocol&)> on_made = {}, const link_shape& shape = {})
      : loop{1, shape} {
    set_log([this](int level, std::string_view line) { log.emplace_back(level, line); });
    seen.on_made = std::move(on_made);
    p.counts = counts;
    port = loop.listen_tcp(0, with_policy(factory::of<noting>(&seen), std::move(p))).host().port();
  }
  ~served() { set_log({}); }
  std::unique_ptr<sim_peer> connect(const address& from = {}) {
    auto c = std::make_unique<sim_peer>(loop.network());
    c->connect(address::loopback(port), from);
    loop.pump();
    return c;
  }
  std::shared_ptr<policy_counts> counts = std::make_shared<policy_counts>();
  std::vector<std::pair<int, std::string>> log;
  shared seen;
  sim_reactor loop;
  std::uint16_t port = 0;
};

address from(std::uint8_t last) { return address::ipv4({10, 0, 0, last}, 0); }

}  // namespace

TEST(Policy, ConnectionsOverTheLimitAreRefusedAndTold) {
  std::vector<std::string> told;
  served s{{.max_connections = 2, .over_limit = [&](const address& peer, const reason& why) {
              told.push_back(peer.host() + ": " + why.text());
              EXPECT_EQ(why.how(), ending::over_limit);
            }}};
  auto a = s.connect(from(1)), b = s.connect(from(2)), c = s.connect(from(3));
  EXPECT_TRUE(a->connected());
  EXPECT_TRUE(c->saw_end() || c->saw_reset());
  EXPECT_EQ(s.counts->open, 2u);
  EXPECT_EQ(s.counts->over_total, 1u);
  EXPECT_EQ(told, std::vector<std::string>{"10.0.0.3: 2 connections are open"});
  ASSERT_EQ(s.log.size(), 1u);
  EXPECT_EQ(s.log[0].first, 2);
  EXPECT_NE(s.log[0].second.find("refused 10.0.0.3"), std::string::npos);
  // Many more within a second make no more lines; the next one says how many.
  for (int i = 0; i < 10; ++i) s.connect(from(4));
  EXPECT_EQ(s.log.size(), 1u);
  s.loop.advance(1s);
  s.connect(from(5));
  ASSERT_EQ(s.log.size(), 2u);
  EXPECT_NE(s.log[1].second.find("10 more"), std::string::npos) << s.log[1].second;
  // One goes, one comes.
  b->close();
  s.loop.pump();
  auto d = s.connect(from(6));
  EXPECT_FALSE(d->saw_end() || d->saw_reset());
  EXPECT_EQ(s.counts->open, 2u);
  EXPECT_EQ(s.counts->accepted, 3u);
}

TEST(Policy, OnePeerDoesNotTakeTheOthersPlace) {
  served s{{.max_per_peer = 2}};
  auto a = s.connect(from(1)), b = s.connect(from(1)), c = s.connect(from(1)), d = s.connect(from(2));
  EXPECT_TRUE(c->saw_end() || c->saw_reset());
  EXPECT_FALSE(d->saw_end() || d->saw_reset());
  EXPECT_EQ(s.counts->open, 3u);
  EXPECT_EQ(s.counts->over_per_peer, 1u);
  a->reset();
  s.loop.pump();
  auto e = s.connect(from(1));
  EXPECT_FALSE(e->saw_end() || e->saw_reset());
  auto f = s.connect(from(1));
  EXPECT_TRUE(f->saw_end() || f->saw_reset());
}

TEST(Policy, AConnectOverTheLimitSaysSo) {
  sim_reactor r;
  set_log([](int, std::string_view) {});
  shared seen;
  sim_peer server{r.network()}, other{r.network()};
  server.listen(address::loopback(7000)), other.listen(address::loopback(7000));
  auto f = with_policy(factory::of<noting>(&seen), {.max_connections = 1});
  std::vector<ending> answers;
  for (int i = 0; i < 2; ++i) {
    auto answer = r.connect_tcp("127.0.0.1", 7000, f);
    std::move(answer).then([&](protocol*) { answers.push_back(ending::done); },
                           [&](const reason& why) { answers.push_back(why.how()); });
    r.pump();
  }
  EXPECT_EQ(answers, (std::vector<ending>{ending::done, ending::over_limit}));
  set_log({});
}

TEST(Policy, TimesOfTheLimitsHold) {
  served s{{.limits = {.idle = 10s, .message = 3s}}};
  auto silent = s.connect();
  auto talker = s.connect();
  talker->send("x");
  s.loop.advance(3s);
  EXPECT_TRUE(silent->saw_reset() || silent->saw_end()) << "no first octet in time";
  EXPECT_FALSE(talker->saw_reset() || talker->saw_end());
  ASSERT_EQ(s.seen.lost.size(), 1u);
  EXPECT_EQ(s.seen.lost[0].how(), ending::timed_out);
  s.loop.advance(10s);
  EXPECT_EQ(s.seen.lost.size(), 2u) << "idle";
}

TEST(Policy, ReadingIsAsFastAsTheRateAndSmooth) {
  // 100,000 octets a second: after the first tenth of a second's worth, no 50 ms may bring more than their share.
  served s{{.read_rate = 100000}};
  auto c = s.connect();
  c->send(std::string(1000000, 'x'));
  s.loop.pump();
  EXPECT_LE(s.seen.received.size(), 10000u);
  EXPECT_GE(s.seen.received.size(), 9000u);
  for (int i = 0; i < 100; ++i) {
    const std::size_t before = s.seen.received.size();
    s.loop.advance(50ms);
    const std::size_t got = s.seen.received.size() - before;
    EXPECT_GE(got, 3900u) << i;
    EXPECT_LE(got, 6100u) << i;
  }
  EXPECT_NEAR(static_cast<double>(s.seen.received.size()), 510000, 2000);
  s.loop.advance(5s);
  EXPECT_EQ(s.seen.received.size(), 1000000u);
  // Nothing of it is lost, and the connection lives.
  c->send("end");
  s.loop.advance(1s);
  EXPECT_TRUE(s.seen.received.ends_with("xend"));
}

TEST(Policy, WhatIsNotReadFillsThePeersWindow) {
  served s{{.read_rate = 1000}};
  auto c = s.connect();
  c->send(std::string(1000000, 'x'));
  s.loop.advance(10s);
  EXPECT_GT(c->unsent(), 1000000u - 65536u - 11000u) << "a window and its share, no more";
}

TEST(Policy, WritingIsAsFastAsTheRateAndInOrder) {
  served s{{.write_rate = 100000}, [](protocol& p) {
             std::string all(1000000, '\0');
             for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<char>(i % 251);
             p.transport().write(std::move(all));
             p.transport().lose_connection();
           }};
  auto c = s.connect();
  EXPECT_LE(c->received().size(), 10000u);
  for (int i = 0; i < 100; ++i) {
    const std::size_t before = c->received().size();
    s.loop.advance(50ms);
    const std::size_t got = c->received().size() - before;
    EXPECT_GE(got, 3900u) << i;
    EXPECT_LE(got, 6100u) << i;
  }
  EXPECT_FALSE(c->saw_end()) << "the end waits behind what the rate holds back, longer than linger";
  s.loop.advance(6s);
  ASSERT_EQ(c->received().size(), 1000000u);
  EXPECT_TRUE(c->saw_end());
  bool right = true;
  for (std::size_t i = 0; i < 1000000; ++i) right = right && c->received()[i] == static_cast<char>(i % 251);
  EXPECT_TRUE(right);
}

TEST(Policy, ASlowRateIsNotAStuckPeer) {
  served s{{.limits = {.high = 1000, .low = 500, .stuck = 1s, .linger = 300ms}, .write_rate = 1}, [](protocol& p) {
             p.transport().write(std::string(20, 'x'));
             p.transport().lose_connection();
           }};
  auto c = s.connect();
  s.loop.advance(10s);
  EXPECT_NEAR(static_cast<double>(c->received().size()), 10.5, 0.6);
  EXPECT_TRUE(s.seen.lost.empty());
  s.loop.advance(10s + 1ms);
  EXPECT_EQ(c->received().size(), 20u);
  EXPECT_TRUE(c->saw_end());
}

TEST(Policy, ARateForAllIsShared) {
  served s{{.total_read_rate = 100000, .total_write_rate = 50000},
           [](protocol& p) { p.transport().write(std::string(400000, 'y')); }};
  std::vector<std::unique_ptr<sim_peer>> all;
  for (int i = 0; i < 10; ++i) {
    all.push_back(s.connect());
    all.back()->send(std::string(200000, 'x'));
  }
  s.loop.advance(10s);
  std::size_t out = 0, least = ~std::size_t{0};
  for (auto& c : all) out += c->received().size(), least = std::min(least, c->received().size());
  EXPECT_NEAR(static_cast<double>(s.seen.received.size()), 1010000, 15000);
  EXPECT_NEAR(static_cast<double>(out), 505000, 8000);
  EXPECT_GT(least, 20000u) << "nobody is forgotten";
}

TEST(Policy, LogsALineForEachChunkAndMovesNoCursor) {
  std::vector<std::string> lines;
  served s{{.log = true, .log_to = [&](std::string_view line) { lines.emplace_back(line); }},
           [](protocol& p) { p.transport().write("hello\r\n"); }};
  auto c = s.connect(from(9));
  c->send("\"\x1b[2J\" is said to clear it, and this goes on and on");
  s.loop.pump();
  c->send(std::string{"\x16\x03\x01\x00\xff", 5});
  s.loop.pump();
  c->reset();
  s.loop.pump();
  const std::string who = lines.at(0).substr(0, lines.at(0).find(' '));
  EXPECT_TRUE(who.starts_with("10.0.0.9:"));
  const std::vector<std::string> want{who + " begins", who + " writes 7 octets: \"hello\\r\\n\"",
                                      who + " reads 51 octets: \"\\\"\\x1b[2J\\\" is said to clear it, and \"...",
                                      who + " reads 5 octets: 16 03 01 00 ff",
                                      who + " ends: reset, Connection reset by peer"};
  EXPECT_EQ(lines, want);
}

TEST(Policy, WithoutACallbackTheLogIsTheEngines) {
  served s{{.log = true}};
  auto c = s.connect();
  c->send("x");
  s.loop.pump();
  ASSERT_EQ(s.log.size(), 2u);
  EXPECT_EQ(s.log[1].first, 1);
  EXPECT_TRUE(s.log[1].second.ends_with("reads 1 octets: \"x\""));
}

TEST(Policy, PoliciesAroundEachOtherAllHold) {
  shared seen;
  sim_reactor r;
  set_log([](int, std::string_view) {});
  auto outer_counts = std::make_shared<policy_counts>();
  int lines = 0;
  auto inner = with_policy(
      factory::of<noting>(&seen),
      {.limits = {.idle = 5s}, .read_rate = 100000, .log = true, .log_to = [&](std::string_view) { ++lines; }});
  auto middle = with_policy(inner, {.limits = {.idle = 60s, .stuck = 7s}, .read_rate = 10000});
  auto outer = with_policy(middle, {.max_connections = 1, .counts = outer_counts});
  const auto port = r.listen_tcp(0, outer).host().port();
  sim_peer a{r.network()}, b{r.network()};
  a.connect(address::loopback(port));
  r.pump();
  b.connect(address::loopback(port));
  r.pump();
  EXPECT_TRUE(b.saw_end() || b.saw_reset());
  a.send(std::string(60000, 'x'));
  r.advance(1s);
  EXPECT_NEAR(static_cast<double>(seen.received.size()), 11000, 200) << "the strictest rate";
  EXPECT_GT(lines, 2);
  r.advance(5s + 5100ms);
  EXPECT_EQ(seen.received.size(), 60000u);
  EXPECT_EQ(seen.lost.size(), 1u) << "idle for 5 s: the innermost says so";
  EXPECT_EQ(outer_counts->open, 0u);
  set_log({});
}

TEST(Policy, AroundAndWithinReconnecting) {
  for (const bool around : {true, false}) {
    sim_reactor r;
    set_log([](int, std::string_view) {});
    shared seen;
    auto counts = std::make_shared<policy_counts>();
    const policy rules{.limits = {.idle = 2s}, .counts = counts};
    const backoff times{.first = 1s, .factor = 1, .jitter = 0};
    auto plain = factory::of<noting>(&seen);
    factory_ptr f = around ? with_policy(reconnecting(plain, times), rules)
                           : factory_ptr{reconnecting(with_policy(plain, rules), times)};
    std::vector<std::unique_ptr<sim_peer>> servers;
    for (int i = 0; i < 3; ++i) {
      servers.push_back(std::make_unique<sim_peer>(r.network()));
      servers.back()->listen(address::loopback(7000));
    }
    auto answer = r.connect_tcp("127.0.0.1", 7000, f);
    r.advance(7s);  // two idle ends and two waits
    EXPECT_EQ(seen.lost.size(), 2u) << around;
    EXPECT_EQ(counts->accepted, 3u) << around;
    EXPECT_EQ(counts->open, 1u) << around;
    std::move(answer).then([](protocol*) {});
    r.pump();
    set_log({});
  }
}

TEST(Policy, ABucketIsExactOverTime) {
  const instant start{1000h};
  for (const std::uint64_t rate : {1u, 7u, 1000u, 123456789u}) {
    detail::token_bucket bucket{rate, start};
    instant now = start;
    std::uint64_t taken = 0;
    while (now < start + 100s) {
      const std::uint64_t got = bucket.available(~std::uint64_t{0}, now);
      bucket.take(got);
      taken += got;
      if (got == 0) {
        const instant next = bucket.when(~std::uint64_t{0}, now);
        ASSERT_GT(next, now);
        EXPECT_LE(next - now, std::max<duration>(11ms, duration{1s} / static_cast<long>(rate) + 1ms));
        now = next;
      }
    }
    const double share = static_cast<double>(rate) * 100;
    EXPECT_NEAR(static_cast<double>(taken), share, share * 0.003 + 2) << rate;
  }
  detail::token_bucket none;
  EXPECT_EQ(none.available(12345, start), 12345u);
}
