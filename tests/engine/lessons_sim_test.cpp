// Lessons about transports that need no kernel: simulated wires, a simulated clock, every combination.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <vector>

#include <midwire/base/chance.hpp>
#include <midwire/testing/sim_reactor.hpp>

using namespace midwire;
using namespace std::chrono_literals;
using midwire::testing::cut;
using midwire::testing::link_script;
using midwire::testing::sim_peer;
using midwire::testing::sim_reactor;

namespace {

/// Writes what it gets to another transport.
struct forwarding : protocol {
  forwarding(midwire::transport** i, midwire::transport** t, std::size_t* n) : in{i}, to{t}, passed{n} {}
  void connection_made() override { *in = &transport(); }
  void data_received(chunk data) override {
    *passed += data.size();
    if (*to) (*to)->write(std::move(data));
  }
  void connection_lost(const reason&) override { *in = nullptr; }
  midwire::transport **in, **to;
  std::size_t* passed;
};

/// A protocol that tells all it is told to one function.
struct told : protocol {
  using listener_fn = std::function<void(protocol&, const char* what)>;
  explicit told(listener_fn f) : tell{std::move(f)} {}
  void connection_made() override { tell(*this, "made"); }
  void data_received(chunk) override { tell(*this, "data"); }
  void read_connection_lost() override { tell(*this, "read lost"); }
  void write_connection_lost() override { tell(*this, "write lost"); }
  void connection_lost(const reason& why) override {
    last = why;
    tell(*this, "lost");
  }
  listener_fn tell;
  reason last;
};

}  // namespace

TEST(Lesson8, EveryLoseConnectionEndsOnceAndInTime) {
  enum class source { none, push, pull };
  enum class peer_does { nothing, closes, resets };
  struct writing : producer {
    void pause_producing() override { paused = true; }
    void resume_producing() override {
      paused = false;
      if (t && how == producing::pull) t->write(std::string(1000, 'p'));
      if (t && how == producing::push) push();
    }
    void stop_producing() override { ++stops; }
    void push() {
      for (int i = 0; i < 200; ++i) t->write(std::string(10000, 'p'));
    }
    transport* t = nullptr;
    producing how = producing::push;
    bool paused = false;
    int stops = 0;
  };
  for (const source from : {source::none, source::push, source::pull})
    for (const bool paused : {false, true})
      for (const bool peer_reads : {false, true})
        for (const peer_does then : {peer_does::nothing, peer_does::closes, peer_does::resets}) {
          SCOPED_TRACE(::testing::Message()
                       << "producer " << static_cast<int>(from) << (paused ? ", paused" : "")
                       << (peer_reads ? ", peer reads" : "") << ", peer " << static_cast<int>(then));
          sim_reactor r{1, {.latency = 1ms, .rate = 10000000}};  // or those who write for ever would stop the clock
          writing w;
          int lost = 0, calls_after = 0;
          instant lost_at{}, lose_at{};
          bool write_taken = false;
          const auto f = factory::of<told>(told::listener_fn{[&](protocol& p, const char* what) {
            const std::string_view name = what;
            if (lost > 0) ++calls_after;
            if (name == "made") {
              p.transport().set_limits({.linger = 2s});
              if (paused) p.transport().pause_reading();
              w.t = &p.transport();
              if (from != source::none) {
                w.how = from == source::push ? producing::push : producing::pull;
                p.transport().register_producer(w, w.how);
                if (from == source::push) w.push();
              }
              r.call_later(100ms, [&] {
                if (lost > 0) return;
                lose_at = r.now();
                w.t->lose_connection();
                const std::size_t before = w.t->buffered();
                w.t->write("too late");
                write_taken = w.t->buffered() != before;
              });
            } else if (name == "lost") {
              ++lost, lost_at = r.now();
            }
          }});
          sim_peer c{r.network()};
          c.connect(address::loopback(r.listen_tcp(0, f).host().port()));
          if (!peer_reads) c.stop_reading();
          c.send("unread");
          r.advance(150ms);
          if (then == peer_does::closes) c.close();
          if (then == peer_does::resets) c.reset();
          r.advance(30s);
          EXPECT_EQ(lost, 1);
          EXPECT_EQ(calls_after, 0);
          EXPECT_FALSE(write_taken);
          EXPECT_EQ(w.stops, from == source::none ? 0 : 1);
          EXPECT_LE(lost_at - lose_at, 2s + 300ms) << "from when nothing moves any more";
        }
}

TEST(Lesson20, EachMethodFromEachCallbackComesBackFirst) {
  const int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  struct writing : producer {
    explicit writing(std::function<void(const char*)> f) : tell{std::move(f)} {}
    void pause_producing() override { tell("pause"); }
    void resume_producing() override { tell("resume"); }
    void stop_producing() override { tell("stop"); }
    std::function<void(const char*)> tell;
  };
  using method = std::function<void(transport&, writing&)>;
  const std::vector<std::pair<const char*, method>> methods{
      {"write", [](transport& t, writing&) { t.write(std::string(100000, 'x')); }},
      {"lose_connection", [](transport& t, writing&) { t.lose_connection(); }},
      {"lose_write_connection", [](transport& t, writing&) { t.lose_write_connection(); }},
      {"abort_connection", [](transport& t, writing&) { t.abort_connection(); }},
      {"pause_reading", [](transport& t, writing&) { t.pause_reading(); }},
      {"resume_reading", [](transport& t, writing&) { t.resume_reading(); }},
      {"register push", [](transport& t, writing& w) { t.register_producer(w, producing::push); }},
      {"register pull", [](transport& t, writing& w) { t.register_producer(w, producing::pull); }},
      {"unregister", [](transport& t, writing&) { t.unregister_producer(); }},
      {"set_limits", [](transport& t, writing&) { t.set_limits({.high = 5, .low = 1, .idle = 1s, .linger = 1s}); }},
      {"send_file", [&](transport& t, writing&) { t.send_file(file, 0, 10000); }},
      {"set_no_delay", [](transport& t, writing&) { t.set_no_delay(true), t.set_keep_alive(true); }}};
  const std::vector<const char*> callbacks{"made", "data",  "read lost", "write lost",
                                           "lost", "pause", "resume",    "stop"};
  std::map<std::string, int> reached;
  const auto play = [&](const char* callback, const method& m) {
    sim_reactor r{1, {.latency = 1ms, .rate = 10000000}};
    std::vector<std::string> calls;
    int depth = 0, deepest = 0;
    transport* t = nullptr;
    writing* producer_of_all = nullptr;
    const auto enter = [&](const char* what) {
      deepest = std::max(deepest, ++depth);
      calls.emplace_back(what);
      // At most a few times: a pull producer is asked as long as it writes.
      if (std::string_view{what} == callback && t && std::count(calls.begin(), calls.end(), what) < 4) {
        ++reached[callback];
        m(*t, *producer_of_all);
      }
      --depth;
    };
    writing w{enter};
    producer_of_all = &w;
    {
      sim_peer c{r.network()};
      const auto f = factory::of<told>(told::listener_fn{[&](protocol& p, const char* what) {
        t = &p.transport();
        const std::string_view name = what;
        if (name == "made") {
          t->set_limits({.high = 1000, .low = 500, .linger = 3s});
          t->register_producer(w, producing::push);
          t->write(std::string(2000, 'f'));
        }
        if (name == "read lost") t->lose_write_connection();
        enter(what);
        if (name == "lost") t = nullptr;
      }});
      c.connect(address::loopback(r.listen_tcp(0, f).host().port()));
      r.pump();
      c.send("one"), r.pump();
      c.send("two"), r.pump();
      c.send_end(), r.pump();
      r.advance(5s);
      c.reset();
      r.advance(10s);
    }
    EXPECT_EQ(depth, 0);
    EXPECT_EQ(deepest, 1);
    EXPECT_EQ(calls.front(), "made");
    EXPECT_EQ(std::count(calls.begin(), calls.end(), "lost"), 1);
    EXPECT_EQ(calls.back(), "lost");
    EXPECT_EQ(r.failures(), 0u);
    return calls;
  };
  for (const char* callback : callbacks)
    for (const auto& [name, m] : methods) {
      SCOPED_TRACE(std::string{name} + " from " + callback);
      const auto calls = play(callback, m);
      EXPECT_EQ(calls, play(callback, m)) << "the order is fixed";
    }
  for (const char* callback : callbacks) EXPECT_GT(reached[callback], 0) << callback << " never came";
  ::close(file);
}

TEST(Lesson21, AThousandWritersOverShortWritesKeepTheirOrder) {
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    random_source random{seed};
    sim_reactor r{seed, {.segments = cut::random}};
    std::vector<std::size_t> sizes;
    std::size_t total = 0;
    for (int i = 0; i < 1000; ++i) {
      sizes.push_back(1 + (random.one_in(100) ? random.below(1 << 20) : random.below(3000)));
      total += sizes.back();
    }
    // Some at once, others when they are told to, by timers in between.
    std::size_t next = 0;
    const auto write = [&](transport& t, std::size_t count) {
      for (; count > 0 && next < sizes.size(); --count, ++next)
        t.write(std::string(sizes[next], static_cast<char>('a' + next % 26)));
      if (next == sizes.size()) t.lose_connection();
    };
    const auto f = factory::of<told>(told::listener_fn{[&](protocol& p, const char* what) {
      if (std::string_view{what} != "made") return;
      write(p.transport(), 300);
      for (int i = 1; i <= 700; ++i) r.call_later(i * 1ms, [&, &t = p.transport()] { write(t, 1); });
    }});
    const auto port = r.listen_tcp(0, f).host().port();
    link_script script;
    script.faults[1].short_write = 1 + static_cast<std::size_t>(random.below(5000));
    script.faults[1].blocked_at = random.below(total);
    script.faults[1].blocked_for = 50ms;
    r.network().script(address::loopback(port), script);
    sim_peer c{r.network()};
    c.connect(address::loopback(port));
    r.advance(5s);
    ASSERT_EQ(c.received().size(), total) << "seed " << seed;
    EXPECT_TRUE(c.saw_end());
    std::size_t at = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      ASSERT_EQ(c.received().find_first_not_of(static_cast<char>('a' + i % 26), at),
                i + 1 < sizes.size() ? at + sizes[i] : std::string::npos)
          << "write " << i << ", seed " << seed;
      at += sizes[i];
    }
  }
}

TEST(Rules, E16NeitherTimersNorDeferredsCallFromInsideACall) {
  sim_reactor r;
  int depth = 0, deepest = 0, calls = 0;
  const auto enter = [&](auto&& f) {
    deepest = std::max(deepest, ++depth);
    ++calls;
    f();
    --depth;
  };
  timer t{r, [&] {
            enter([&] {
              if (calls < 50) t.start(-1s), t.touch();
            });
          }};
  t.start(-1s);
  t.start(0s);
  EXPECT_EQ(calls, 0);
  r.advance(1ms);
  EXPECT_GT(calls, 0);
  t.stop();
  calls = 0;
  timer_ref later = r.call_later(1s, [&] { enter([] {}); });
  later.reset(-5s), later.delay(-5s);
  timer_ref round = r.every(1ms, [&] { enter([&] { round.cancel(), round.reset(0s); }); });
  round.reset(-1s);
  EXPECT_EQ(calls, 0);
  r.advance(10ms);
  EXPECT_EQ(calls, 2);
  // A deferred that has its answer, one that gets it, one that fails, and their cancel().
  calls = 0;
  for (const bool before : {true, false})
    for (const bool good : {true, false}) {
      promise_of<int> promise;
      auto answer = promise.get();
      // By value: the callbacks come when this round is long over.
      auto settle = [promise, good]() mutable { good ? promise.succeed(1) : promise.fail(reason{ending::failed}); };
      if (before) settle();
      std::move(answer).then([&enter, settle](int) mutable { enter(settle); },
                             [&enter, settle](const reason&) mutable { enter(settle); });
      if (!before) settle();
    }
  EXPECT_EQ(calls, 0);
  r.pump();
  EXPECT_EQ(calls, 4);
  EXPECT_EQ(deepest, 1);
  bool told_here = false;
  deferred<protocol*> dialled = r.connect_tcp("127.0.0.1", 9, factory::of<told>(told::listener_fn{}));
  dialled.cancel();
  std::move(dialled).then([&](protocol*) { told_here = true; }, [&](const reason&) { told_here = true; });
  EXPECT_FALSE(told_here);
  r.pump();
}

TEST(ReadingProducer, OneTransportsReadingIsPacedByAnothersWriting) {
  // A pipe through two transports: the source is endless, the sink does not read.
  sim_reactor r;
  transport *in = nullptr, *out = nullptr;
  std::optional<reading_producer> pace;
  std::size_t passed = 0, back = 0;
  const auto out_port = r.listen_tcp(0, factory::of<forwarding>(&out, &in, &back)).host().port();
  sim_peer sink{r.network()}, feed{r.network()};
  sink.stop_reading();
  sink.connect(address::loopback(out_port));
  r.pump();
  ASSERT_NE(out, nullptr);
  feed.connect(address::loopback(r.listen_tcp(0, factory::of<forwarding>(&in, &out, &passed)).host().port()));
  r.pump();
  ASSERT_NE(in, nullptr);
  out->register_producer(pace.emplace(*in), producing::push);
  feed.send(std::string(5000000, 'x'));
  r.advance(1s);
  EXPECT_LE(passed, 2 * flow_limits{}.high + 65536);
  EXPECT_LE(out->buffered(), 2 * flow_limits{}.high);
  sink.start_reading();
  r.advance(1s);
  EXPECT_EQ(sink.received().size(), 5000000u);
  // Either end may go first.
  sink.reset();
  r.advance(1s);
  EXPECT_EQ(out, nullptr);
  feed.send("y");
  r.advance(1s);
  EXPECT_EQ(passed, 5000001u) << "it reads on when its taker has gone";
  feed.reset();
  r.advance(1s);
  pace->pause_producing(), pace->resume_producing();
}

TEST(Looping, EveryKeepsItsGridAndSkipsWhatIsLate) {
  sim_reactor r;
  std::vector<duration> at;
  const instant start = r.now();
  timer_ref round = r.every(100ms, [&] {
    at.push_back(r.now() - start);
    if (at.size() == 3) throw std::runtime_error{"does not end it"};
    if (at.size() == 5) round.cancel();
  });
  set_log([](int, std::string_view) {});
  r.advance(250ms);
  // A loop that was busy: the network's clock runs on by itself.
  r.network().advance(430ms);
  r.advance(10s);
  set_log({});
  const std::vector<duration> want{100ms, 200ms, 680ms, 700ms, 800ms};
  EXPECT_EQ(at, want);
  EXPECT_EQ(r.failures(), 1u);
}
