// Connecting again, on simulated wires and a simulated clock.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include <midwire/base/chance.hpp>
#include <midwire/engine/reconnecting.hpp>
#include <midwire/testing/sim_reactor.hpp>

using namespace midwire;
using namespace std::chrono_literals;
using midwire::testing::link_script;
using midwire::testing::sim_peer;
using midwire::testing::sim_reactor;

namespace {

struct quiet : protocol {
  void data_received(chunk) override {}
};

/// Notes when its connections begin, fail and end.
struct noting_factory : factory {
  explicit noting_factory(sim_reactor& loop) : r{loop}, start{loop.now()} {}
  std::unique_ptr<protocol> build_protocol(const address&) override {
    made.push_back(r.now() - start);
    if (refuse) return nullptr;
    if (made.size() == throw_at) throw std::runtime_error{"not this one"};
    auto p = std::make_unique<quiet>();
    last = p.get();
    return p;
  }
  void connection_failed(const reason& why) override {
    failed.push_back(r.now() - start);
    how.push_back(why.how());
    if (on_failure) on_failure();
  }
  void connection_lost(const reason& why) override {
    lost.push_back(r.now() - start);
    how.push_back(why.how());
    if (on_loss) on_loss();
  }
  sim_reactor& r;
  instant start;
  std::vector<duration> made, failed, lost;
  std::vector<ending> how;
  quiet* last = nullptr;
  bool refuse = false;
  std::size_t throw_at = 0;
  std::function<void()> on_failure, on_loss;
};

/// As the manual describes the waits; the draws are those of a reactor with this seed.
class expected_waits {
 public:
  expected_waits(const backoff& times, std::uint64_t seed)
      : times_{times}, random_{random_source{seed}.next()}, wait_{static_cast<double>(times.first.count())} {}
  duration next() {
    const auto longest = static_cast<double>(times_.longest.count());
    const double w = std::min(wait_, longest) * (1 + times_.jitter * (2 * random_.unit() - 1));
    wait_ = std::min(wait_ * times_.factor, longest);
    return duration{static_cast<duration::rep>(std::clamp(w, 0.0, longest))};
  }
  void reset() { wait_ = static_cast<double>(times_.first.count()); }

 private:
  backoff times_;
  random_source random_;
  double wait_;
};

std::vector<duration> failures_of(std::uint64_t seed, const backoff& times, std::size_t count, duration step = 1s) {
  sim_reactor r{seed};
  auto f = std::make_shared<noting_factory>(r);
  auto again = reconnecting(f, times);
  auto answer = r.connect_tcp("127.0.0.1", 9, again);
  for (int i = 0; i < 100000 && f->failed.size() < count; ++i) r.advance(step);
  again->stop();
  std::move(answer).then([](protocol*) { ADD_FAILURE(); },
                         [](const reason& why) { EXPECT_EQ(why.how(), ending::aborted); });
  r.pump();
  return f->failed;
}

}  // namespace

TEST(Reconnecting, WaitsAreExactForASeed) {
  const backoff times{.first = 500ms, .longest = 60s};
  for (const std::uint64_t seed : {1u, 7u, 12345u}) {
    const auto got = failures_of(seed, times, 12);
    ASSERT_EQ(got.size(), 12u);
    expected_waits waits{times, seed};
    for (std::size_t i = 1; i < got.size(); ++i) EXPECT_EQ((got[i] - got[i - 1]).count(), waits.next().count()) << i;
    EXPECT_EQ(got, failures_of(seed, times, 12));
  }
  EXPECT_NE(failures_of(1, times, 3), failures_of(2, times, 3));
}

TEST(Reconnecting, WithoutJitterTheWaitsArePowersUpToTheLongest) {
  const auto got = failures_of(1, {.first = 1s, .longest = 20s, .factor = 2, .jitter = 0}, 8);
  const std::vector<duration> waits{1s, 2s, 4s, 8s, 16s, 20s, 20s};
  ASSERT_EQ(got.size(), 8u);
  for (std::size_t i = 1; i < got.size(); ++i) EXPECT_EQ((got[i] - got[i - 1]).count(), waits[i - 1].count());
}

TEST(Reconnecting, JitterStaysWithinItsShareAndUsesIt) {
  std::vector<double> shares;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    const auto got = failures_of(seed, {.first = 10s, .longest = 1h, .factor = 1, .jitter = 0.25}, 3);
    for (std::size_t i = 1; i < got.size(); ++i)
      shares.push_back(std::chrono::duration<double>(got[i] - got[i - 1]).count() / 10);
  }
  const auto [low, high] = std::minmax_element(shares.begin(), shares.end());
  EXPECT_GE(*low, 0.75);
  EXPECT_LE(*high, 1.25);
  EXPECT_LT(*low, 0.80);
  EXPECT_GT(*high, 1.20);
}

TEST(Reconnecting, GivesUpAfterItsRetriesWithTheLastReason) {
  sim_reactor r;
  auto f = std::make_shared<noting_factory>(r);
  std::optional<reason> why;
  auto answer = r.connect_tcp("127.0.0.1", 9, reconnecting(f, {.first = 1s, .jitter = 0, .max_retries = 3}));
  std::move(answer).then([](protocol*) { ADD_FAILURE(); }, [&](const reason& w) { why = w; });
  r.advance(1h);
  EXPECT_EQ(f->failed.size(), 4u) << "the first attempt and three more";
  ASSERT_TRUE(why);
  EXPECT_EQ(why->how(), ending::refused);
}

TEST(Reconnecting, AnswersOnceAndComesBackAfterEachLoss) {
  sim_reactor r;
  auto f = std::make_shared<noting_factory>(r);
  int answers = 0;
  sim_peer one{r.network()}, two{r.network()};
  one.listen(address::loopback(7000));
  two.listen(address::loopback(7000));
  auto answer = r.connect_tcp("127.0.0.1", 7000, reconnecting(f, {.first = 2s, .factor = 3, .jitter = 0}));
  std::move(answer).then([&](protocol* p) {
    ++answers;
    EXPECT_EQ(p, f->last);
  });
  r.pump();
  EXPECT_EQ(answers, 1);
  ASSERT_TRUE(one.connected());
  // A short connection: the waits go on where they were.
  one.reset();
  r.pump();
  ASSERT_EQ(f->lost.size(), 1u);
  EXPECT_EQ(f->how.back(), ending::reset);
  r.advance(1999ms);
  EXPECT_FALSE(two.connected());
  r.advance(1ms);
  ASSERT_TRUE(two.connected());
  EXPECT_EQ(f->made.size(), 2u);
  two.close();
  r.pump();
  r.advance(5999ms);
  EXPECT_EQ(f->failed.size(), 0u);
  r.advance(1ms);
  EXPECT_EQ(f->failed.size(), 1u) << "nobody listens any more";
  EXPECT_EQ(answers, 1);
}

TEST(Reconnecting, ALongConnectionStartsTheWaitsAnew) {
  for (const bool longer : {true, false}) {
    sim_reactor r;
    auto f = std::make_shared<noting_factory>(r);
    auto again = reconnecting(f, {.first = 1s, .longest = 1h, .factor = 10, .jitter = 0});
    auto answer = r.connect_tcp("127.0.0.1", 7000, again);
    r.advance(2s);  // failed at 0 s and at 1 s; next at 11 s
    EXPECT_EQ(f->failed.size(), 2u);
    sim_peer server{r.network()};
    server.listen(address::loopback(7000));
    r.advance(9s);
    ASSERT_TRUE(server.connected());
    r.advance(longer ? 10s + 1ns : 10s);
    server.reset();
    r.pump();
    ASSERT_EQ(f->lost.size(), 1u);
    const duration expected = longer ? 1s : 100s;
    r.advance(expected - 1ns);
    EXPECT_EQ(f->failed.size(), 2u);
    r.advance(1ns);
    EXPECT_EQ(f->failed.size(), 3u);
    again->stop();
    std::move(answer).then([](protocol*) {});
    r.pump();
  }
}

TEST(Reconnecting, StopEndsAWaitAnAttemptAndNothingElse) {
  sim_reactor r;
  auto f = std::make_shared<noting_factory>(r);
  auto again = reconnecting(f, {.first = 1s, .jitter = 0});
  // One is up, one waits, one is being dialled.
  sim_peer up{r.network()};
  up.listen(address::loopback(7000));
  link_script never;
  never.silent = true;
  r.network().script(address::loopback(7002), never);
  std::vector<ending> answers;
  int good = 0;
  const auto connect = [&](std::uint16_t port) {
    auto answer = r.connect_tcp("127.0.0.1", port, again);
    std::move(answer).then([&](protocol*) { ++good; }, [&](const reason& why) { answers.push_back(why.how()); });
  };
  connect(7000), connect(7001), connect(7002);
  r.pump();
  EXPECT_EQ(good, 1);
  EXPECT_EQ(f->failed.size(), 1u);
  again->stop();
  EXPECT_TRUE(answers.empty()) << "from the loop, never from stop()";
  r.advance(1h);
  EXPECT_EQ(answers, (std::vector<ending>{ending::aborted, ending::aborted}));
  EXPECT_TRUE(up.connected());
  EXPECT_EQ(f->failed.size(), 1u);
  up.reset();
  r.advance(1h);
  EXPECT_EQ(f->lost.size(), 1u);
  EXPECT_EQ(f->made.size(), 1u);
  // And a new connect begins anew.
  connect(7001);
  r.advance(1500ms);
  EXPECT_EQ(f->failed.size(), 3u);
}

TEST(Reconnecting, StopFromWithinItsOwnCallbacks) {
  for (const bool on_failure : {true, false}) {
    sim_reactor r;
    auto f = std::make_shared<noting_factory>(r);
    auto again = reconnecting(f, {.first = 1s});
    (on_failure ? f->on_failure : f->on_loss) = [&] { again->stop(); };
    sim_peer server{r.network()};
    if (!on_failure) server.listen(address::loopback(7000));
    auto answer = r.connect_tcp("127.0.0.1", 7000, again);
    std::move(answer).then([](protocol*) {}, [](const reason&) {});
    r.pump();
    if (!on_failure) server.reset();
    r.advance(1h);
    EXPECT_EQ(f->failed.size() + f->lost.size(), 1u);
  }
}

TEST(Reconnecting, CancelStopsConnecting) {
  sim_reactor r;
  auto f = std::make_shared<noting_factory>(r);
  auto answer = r.connect_tcp("127.0.0.1", 9, reconnecting(f, {.first = 1s, .jitter = 0}));
  r.advance(1500ms);
  EXPECT_EQ(f->failed.size(), 2u);
  answer.cancel();
  std::move(answer).then([](protocol*) { ADD_FAILURE(); }, [](const reason&) {});
  r.advance(1h);
  EXPECT_EQ(f->failed.size(), 2u);
}

TEST(Reconnecting, AFactoryThatRefusesOrThrowsIsTriedAgain) {
  sim_reactor r;
  auto f = std::make_shared<noting_factory>(r);
  set_log([](int, std::string_view) {});
  f->refuse = true, f->throw_at = 3;
  std::vector<sim_peer> servers;
  for (int i = 0; i < 4; ++i) servers.emplace_back(r.network()).listen(address::loopback(7000));
  bool up = false;
  auto answer = r.connect_tcp("127.0.0.1", 7000, reconnecting(f, {.first = 1s, .factor = 1, .jitter = 0}));
  std::move(answer).then([&](protocol*) { up = true; });
  r.advance(1500ms);
  EXPECT_EQ(f->made.size(), 2u);
  EXPECT_FALSE(up);
  f->refuse = false;
  r.advance(1s);
  EXPECT_FALSE(up);
  EXPECT_EQ(r.failures(), 1u);
  r.advance(1s);
  EXPECT_TRUE(up);
  set_log({});
}

TEST(Reconnecting, NamesAreAskedAgainEachTime) {
  sim_reactor r;
  r.names().add("server.example", {address::loopback(0)});
  auto f = std::make_shared<noting_factory>(r);
  auto again = reconnecting(f, {.first = 1s, .factor = 1, .jitter = 0});
  auto answer = r.connect_tcp("server.example", 7000, again);
  r.advance(3500ms);
  EXPECT_EQ(f->failed.size(), 4u);
  EXPECT_EQ(r.names().asked().size(), 4u);
  again->stop();
  std::move(answer).then([](protocol*) {}, [](const reason&) {});
  r.pump();
}

TEST(Reconnecting, EndsWithItsReactor) {
  std::shared_ptr<reconnecting_factory> again;
  deferred<protocol*> answer;
  {
    sim_reactor r;
    again = reconnecting(factory::of<quiet>(), {.first = 1s});
    answer = r.connect_tcp("127.0.0.1", 9, again);
    r.advance(10s);
  }
  again->stop();
  answer.cancel();
}

TEST(Reconnecting, WithoutASeedNoTwoReactorsDrawTheSame) {
  sim_reactor a{std::make_shared<midwire::testing::sim_network>(), {.seed = 0}};
  sim_reactor b{std::make_shared<midwire::testing::sim_network>(), {.seed = 0}};
  std::vector<duration> first_wait;
  for (sim_reactor* r : {&a, &b}) {
    auto f = std::make_shared<noting_factory>(*r);
    auto again = reconnecting(f, {.first = 1s});
    auto answer = r->connect_tcp("127.0.0.1", 9, again);
    for (int i = 0; i < 100 && f->failed.size() < 2; ++i) r->advance(100ms);
    ASSERT_EQ(f->failed.size(), 2u);
    first_wait.push_back(f->failed[1] - f->failed[0]);
    answer.cancel();
  }
  EXPECT_NE(first_wait[0].count(), first_wait[1].count());
}
