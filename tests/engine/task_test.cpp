// Tasks: their life, their order, how deep they may go, and what becomes of them when nobody wants them any more.
#include <midwire/engine/task.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <midwire/engine.hpp>
#include <midwire/testing/sim_reactor.hpp>

namespace midwire {
namespace {

using namespace std::chrono_literals;
using testing::sim_reactor;

/// Says when a coroutine's frame goes.
class mark {
 public:
  explicit mark(std::vector<std::string>& log, std::string name) : log_{&log}, name_{std::move(name)} {}
  mark(mark&& other) noexcept : log_{std::exchange(other.log_, nullptr)}, name_{std::move(other.name_)} {}
  mark& operator=(mark&&) = delete;
  ~mark() {
    if (log_) log_->push_back("~" + name_);
  }

 private:
  std::vector<std::string>* log_;
  std::string name_;
};
using lines = std::vector<std::string>;

/// The stack's depth where it is called, in octets from `base`. Frames, not locals: the address sanitizer keeps those
/// elsewhere.
__attribute__((noinline)) std::size_t depth_from(const char* base) {
  const auto a = reinterpret_cast<std::uintptr_t>(base);
  const auto b = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  return a > b ? a - b : b - a;
}

task<int> number(int n) { co_return n; }
task<> nothing() { co_return; }
task<int> thrower(std::string why) {
  throw std::runtime_error{why};
  co_return 0;
}
task<> sleeper(reactor& r, duration d, lines& log, std::string name) {
  const mark m{log, name};
  co_await r.sleep(d);
  log.push_back(name);
}
task<int> later(reactor& r, duration d, int n) {
  co_await r.sleep(d);
  co_return n;
}

}  // namespace

TEST(Task, BeginsFromTheLoopAndNotBefore) {  // E16
  sim_reactor r;
  lines log;
  const auto body = [](lines& l) -> task<> {
    l.push_back("began");
    co_return;
  };
  r.spawn(body(log));
  EXPECT_EQ(log, lines{});
  r.pump();
  EXPECT_EQ(log, lines{"began"});
  task<> never = body(log);
  r.pump();
  EXPECT_EQ(log, lines{"began"}) << "lazy: nobody awaits it";
}

TEST(Task, GivesValuesAndExceptions) {
  sim_reactor r;
  lines log;
  const auto body = [](lines& l) -> task<> {
    l.push_back(std::to_string(co_await number(1) + co_await number(2)));
    co_await nothing();
    try {
      co_await thrower("no");
    } catch (const std::runtime_error& e) { l.push_back(e.what()); }
    task<std::string> text = [](std::string s) -> task<std::string> {
      co_return s + "!";
    }("hello, this is no small string");
    l.push_back(co_await std::move(text));
    auto moved = [](std::unique_ptr<int> p) -> task<std::unique_ptr<int>> { co_return p; };
    auto p = co_await moved(std::make_unique<int>(7));
    l.push_back(std::to_string(*p));
  };
  r.spawn(body(log));
  r.pump();
  EXPECT_EQ(log, (lines{"3", "no", "hello, this is no small string!", "7"}));
  EXPECT_EQ(r.failures(), 0u);
}

TEST(Task, AnExceptionThatLeavesASpawnedOneIsCountedAndTheOthersGoOn) {  // E22
  sim_reactor r;
  lines log, out;
  set_log([&](int level, std::string_view line) { log.push_back(std::to_string(level) + " " + std::string{line}); });
  r.spawn([]() -> task<> { co_await thrower("lost my way"); }());
  r.spawn(sleeper(r, 1s, out, "other"));
  r.advance(2s);
  set_log({});
  EXPECT_EQ(r.failures(), 1u);
  EXPECT_EQ(log, lines{"3 an exception left a callback: lost my way"});
  EXPECT_EQ(out, (lines{"other", "~other"}));
}

TEST(Task, SleepersWakeByTheirTime) {
  sim_reactor r;
  lines log;
  r.spawn(sleeper(r, 3s, log, "three"));
  r.spawn(sleeper(r, 1s, log, "one"));
  r.spawn(sleeper(r, 0s, log, "zero"));
  r.spawn(sleeper(r, -5s, log, "past"));
  r.pump();
  EXPECT_EQ(log, (lines{"zero", "~zero", "past", "~past"}));
  r.advance(1s - 1ns);
  EXPECT_EQ(log.size(), 4u);
  r.advance(1ns);
  EXPECT_EQ(log.back(), "~one");
  r.advance(5s);
  EXPECT_EQ(log.back(), "~three");
}

TEST(Task, AMillionReadyAwaitsDoNotGrowTheStack) {
  sim_reactor r;
  std::size_t deepest = 0;
  int sum = 0;
  const char* const base = static_cast<const char*>(__builtin_frame_address(0));
  const auto step = [](const char* b, std::size_t& d) -> task<int> {
    d = std::max(d, depth_from(b));
    co_return 1;
  };
  const auto body = [&](std::size_t& first) -> task<> {
    first = depth_from(base);
    for (int i = 0; i < 1'000'000; ++i) sum += co_await step(base, deepest);
  };
  std::size_t first = 0;
  r.spawn(body(first));
  r.pump();
  EXPECT_EQ(sum, 1'000'000);
  EXPECT_LT(deepest, first + 16384);
}

namespace {
task<int> count_down(int n, const char* base, std::size_t& deepest) {
  if (n == 0) {
    deepest = depth_from(base);
    co_return 0;
  }
  const int below = co_await count_down(n - 1, base, deepest);
  deepest = std::max(deepest, depth_from(base));
  co_return below + 1;
}
task<> sink_down(reactor& r, int n, int& gone) {
  struct counter {
    explicit counter(int& c) : c_{c} {}
    ~counter() { ++c_; }
    int& c_;
  };
  const counter c{gone};
  if (n == 0)
    co_await r.sleep(1h);
  else
    co_await sink_down(r, n - 1, gone);
}
}  // namespace

TEST(Task, ADeepChainLivesOnTheHeap) {
  sim_reactor r;
  const char* const base = static_cast<const char*>(__builtin_frame_address(0));
  std::size_t deepest = 0;
  int result = 0;
  const auto body = [&]() -> task<> { result = co_await count_down(50'000, base, deepest); };
  r.spawn(body());
  r.pump();
  EXPECT_EQ(result, 50'000);
  EXPECT_LT(deepest, 65536u);
}

TEST(Task, ADeepChainIsDestroyedWithoutDepth) {
  int gone = 0;
  {
    sim_reactor r;
    r.spawn(sink_down(r, 50'000, gone));
    r.pump();
    EXPECT_EQ(gone, 0);
  }
  EXPECT_EQ(gone, 50'001);
}

TEST(Task, DroppingItDestroysWhatItAwaitsInnermostFirst) {
  sim_reactor r;
  lines log;
  const auto middle = [](reactor& loop, lines& l) -> task<> {
    const mark m{l, "middle"};
    co_await sleeper(loop, 1h, l, "inner");
  };
  {
    const auto outer = [](reactor& loop, lines& l, auto& mid) -> task<> {
      const mark m{l, "outer"};
      co_await mid(loop, l);
    };
    task<> t = outer(r, log, middle);
    const auto starter = [](task<>& it) -> task<> { co_await when_any(it); };
    r.spawn(starter(t));
    r.pump();
    EXPECT_EQ(log, lines{});
    t = nothing();
  }
  EXPECT_EQ(log, (lines{"~inner", "~middle", "~outer"}));
  r.advance(2h);
  EXPECT_EQ(log.size(), 3u) << "the sleeper's timer has gone with it";
}

TEST(Task, TheReactorTakesItsCoroutinesAlong) {
  lines log;
  {
    sim_reactor r;
    r.spawn(sleeper(r, 1h, log, "one"));
    r.spawn(sleeper(r, 2h, log, "never begun"));
    r.spawn([](reactor& loop, lines& l) -> task<> {
      const mark m{l, "parent"};
      co_await when_all(sleeper(loop, 1h, l, "a"), sleeper(loop, 1h, l, "b"));
    }(r, log));
    r.turn(0ns);
    log.clear();
  }
  std::sort(log.begin(), log.end());
  EXPECT_EQ(log, (lines{"~a", "~b", "~never begun", "~one", "~parent"}));
}

TEST(Task, MayOutliveTheReactorItSleptOn) {
  lines log;
  {
    std::unique_ptr<task<>> outlives;
    {
      sim_reactor r;
      outlives = std::make_unique<task<>>(sleeper(r, 1h, log, "orphan"));
      r.spawn([](task<>& t) -> task<> { co_await when_any(t); }(*outlives));
      r.pump();
    }
    EXPECT_EQ(log, lines{});
  }
  EXPECT_EQ(log, lines{"~orphan"});
}

TEST(Task, ADestructorMaySpawnInADyingReactor) {
  int ran = 0;
  {
    sim_reactor r;
    struct spawner {
      explicit spawner(reactor& l, int& n) : loop{l}, ran_{n} {}
      ~spawner() {
        loop.spawn([](int& n) -> task<> {
          ++n;
          co_return;
        }(ran_));
      }
      reactor& loop;
      int& ran_;
    };
    r.spawn([](reactor& l, int& n) -> task<> {
      const spawner s{l, n};
      co_await l.sleep(1h);
    }(r, ran));
    r.pump();
  }
  EXPECT_EQ(ran, 0);
}

TEST(Task, CoroutinesThatWakeEachOtherForEverLeaveTimeForTheLoop) {  // E23
  sim_reactor r;
  channel<int> there, back;
  int rounds = 0;
  bool timer = false;
  r.spawn([](channel<int>& out, channel<int>& in, int& n) -> task<> {
    for (;;) {
      co_await out.send(1);
      co_await in.receive();
      ++n;
    }
  }(there, back, rounds));
  r.spawn([](channel<int>& in, channel<int>& out) -> task<> {
    for (;;) {
      co_await in.receive();
      co_await out.send(1);
    }
  }(there, back));
  r.call_later(0s, [&] { timer = true; });
  for (int i = 0; i < 20; ++i) r.turn(0ns);
  EXPECT_TRUE(timer);
  EXPECT_GT(rounds, 10);
  EXPECT_LT(rounds, 20 * 600);
}

// ---- within, when_all, when_any

TEST(Within, GivesTheValueOrTakesTheTaskAway) {
  sim_reactor r;
  lines log;
  const auto body = [](reactor& l, lines& out) -> task<> {
    out.push_back("in time " + std::to_string((co_await within(2s, later(l, 1s, 5))).value_or(-1)));
    out.push_back("too late " + std::to_string((co_await within(2s, later(l, 3s, 5))).value_or(-1)));
    out.push_back("void " + std::to_string(co_await within(2s, sleeper(l, 1s, out, "s"))));
    out.push_back("void " + std::to_string(co_await within(2s, sleeper(l, 5s, out, "late"))));
    out.push_back("ready " + std::to_string((co_await within(0s, number(4))).value_or(-1)));
    try {
      co_await within(1s, thrower("inside"));
    } catch (const std::runtime_error& e) { out.push_back(e.what()); }
  };
  r.spawn(body(r, log));
  r.advance(1min);
  EXPECT_EQ(log, (lines{"in time 5", "too late -1", "s", "~s", "void 1", "~late", "void 0", "ready 4", "inside"}));
}

TEST(Within, TheTaskIsGoneWhenTimeRanOut) {
  sim_reactor r;
  lines log;
  r.spawn([](reactor& l, lines& out) -> task<> {
    auto limited = within(1s, sleeper(l, 5s, out, "it"));
    const bool ended = co_await std::move(limited);
    out.push_back(ended ? "ended" : "gave up");
  }(r, log));
  r.advance(10s);
  EXPECT_EQ(log, (lines{"~it", "gave up"}));
}

TEST(Within, Nested) {
  sim_reactor r;
  lines log;
  r.spawn([](reactor& l, lines& out) -> task<> {
    auto got = co_await within(5s, within(1s, later(l, 3s, 1)));
    out.push_back(got ? *got ? "value" : "inner ran out" : "outer ran out");
    got = co_await within(1s, within(5s, later(l, 3s, 1)));
    out.push_back(got ? *got ? "value" : "inner ran out" : "outer ran out");
  }(r, log));
  r.advance(1min);
  EXPECT_EQ(log, (lines{"inner ran out", "outer ran out"}));
}

TEST(WhenAll, RunsThemAtTheSameTime) {
  sim_reactor r;
  lines log;
  const instant start = r.now();
  r.spawn([](reactor& l, lines& out, instant began) -> task<> {
    const auto all = co_await when_all(later(l, 3s, 1), number(2), sleeper(l, 2s, out, "s"), later(l, 1s, 4));
    out.push_back(std::to_string(std::get<0>(all)) + std::to_string(std::get<1>(all)) +
                  std::to_string(std::get<3>(all)));
    out.push_back(std::to_string((l.now() - began) / 1s));
    const auto none = co_await when_all();
    static_assert(std::is_same_v<decltype(none), const std::tuple<>>);
    out.push_back("none");
  }(r, log, start));
  r.advance(1min);
  EXPECT_EQ(log, (lines{"s", "~s", "124", "3", "none"}));
}

TEST(WhenAll, TheFirstExceptionCancelsTheOthers) {
  sim_reactor r;
  lines log;
  const auto fail_later = [](reactor& l, duration d) -> task<> {
    co_await l.sleep(d);
    throw std::runtime_error{"after " + std::to_string(d / 1s)};
  };
  r.spawn([](reactor& l, lines& out, auto& fail) -> task<> {
    try {
      co_await when_all(sleeper(l, 9s, out, "long"), fail(l, 3s), fail(l, 2s));
    } catch (const std::runtime_error& e) { out.push_back(e.what()); }
  }(r, log, fail_later));
  r.advance(1min);
  EXPECT_EQ(log, (lines{"~long", "after 2"}));
}

TEST(WhenAny, TellsTheFirstAndLeavesTheOthersRunning) {
  sim_reactor r;
  lines log;
  r.spawn([](reactor& l, lines& out) -> task<> {
    task<int> slow = later(l, 3s, 30), fast = later(l, 1s, 10), middle = later(l, 2s, 20);
    out.push_back(std::to_string(co_await when_any(slow, fast, middle)));
    EXPECT_TRUE(fast.done());
    EXPECT_FALSE(middle.done());
    out.push_back(std::to_string(co_await std::move(fast)));
    out.push_back(std::to_string(co_await when_any(slow, middle)));
    out.push_back(std::to_string(co_await std::move(slow)));
    out.push_back(std::to_string(co_await std::move(middle)));
  }(r, log));
  r.advance(1min);
  EXPECT_EQ(log, (lines{"1", "10", "1", "30", "20"}));
}

TEST(WhenAny, AnEndByExceptionIsAnEnd) {
  sim_reactor r;
  lines log;
  r.spawn([](reactor& l, lines& out) -> task<> {
    task<int> slow = later(l, 3s, 30), bad = thrower("bad");
    out.push_back(std::to_string(co_await when_any(slow, bad)));
    try {
      co_await std::move(bad);
    } catch (const std::runtime_error& e) { out.push_back(e.what()); }
  }(r, log));
  r.advance(1min);
  EXPECT_EQ(log, (lines{"1", "bad"}));
}

TEST(WhenAny, DroppedWhileItWaitsItLeavesTheTasksTheirOwn) {
  sim_reactor r;
  lines log;
  r.spawn([](reactor& l, lines& out) -> task<> {
    task<int> a = later(l, 3s, 1), b = later(l, 4s, 2);
    const auto which = co_await within(1s, when_any(a, b));
    out.push_back(which ? "?" : "nobody yet");
    out.push_back(std::to_string(co_await std::move(b)));
    out.push_back(a.done() ? "a has ended too" : "?");
  }(r, log));
  r.advance(1min);
  EXPECT_EQ(log, (lines{"nobody yet", "2", "a has ended too"}));
}

TEST(WhenAny, ATaskThatIsDroppedMeanwhileNeverEnds) {
  sim_reactor r;
  lines log;
  auto a = std::make_unique<task<int>>(later(r, 3s, 1)), b = std::make_unique<task<int>>(later(r, 4s, 2));
  r.spawn([](task<int>& x, task<int>& y, lines& out) -> task<> {
    out.push_back(std::to_string(co_await when_any(x, y)));
  }(*a, *b, log));
  r.advance(1s);
  a.reset();
  r.advance(1min);
  EXPECT_EQ(log, lines{"1"});
  auto c = std::make_unique<task<int>>(later(r, 3s, 1));
  r.spawn([](task<int>& x, lines& out) -> task<> { out.push_back(std::to_string(co_await when_any(x))); }(*c, log));
  r.advance(1s);
  c.reset();
  r.advance(1min);
  EXPECT_EQ(log, (lines{"1", "1"})) << "the number of tasks: none is left";
}

// ---- shutdown

TEST(Shutdown, IsAwaitedAtStop) {
  sim_reactor r;
  lines log;
  const std::string captured = "a captured text that is long enough to live on the heap";
  r.on_shutdown([&r, &log, captured]() -> task<> {
    co_await r.sleep(2s);
    log.push_back(captured.substr(0, 10));
  });
  r.on_shutdown([&r, &log]() -> task<> { return sleeper(r, 1s, log, "other"); });
  r.call_later(1s, [&] {
    r.stop();
    EXPECT_EQ(log, lines{});
  });
  const instant start = r.now();
  r.run();
  EXPECT_EQ(log, (lines{"other", "~other", "a captured"}));
  EXPECT_EQ((r.now() - start) / 1s, 3);
  r.call_later(1s, [&] { r.stop(); });
  r.run();
  EXPECT_EQ(log.size(), 3u) << "each once";
}

TEST(Shutdown, HasADeadlineAndASecondStopEndsItAtOnce) {
  lines log;
  set_log([&](int, std::string_view line) { log.emplace_back(line); });
  {
    sim_reactor r{std::make_shared<testing::sim_network>(), {.shutdown = 5s}};
    r.on_shutdown([&r]() -> task<> { co_await r.sleep(1h); });
    r.call_later(1s, [&] { r.stop(); });
    const instant start = r.now();
    r.run();
    EXPECT_EQ((r.now() - start) / 1s, 6);
  }
  EXPECT_EQ(log, lines{"shutdown: 1 not done in time"});
  {
    sim_reactor r;
    r.on_shutdown([&r]() -> task<> { co_await r.sleep(1h); });
    r.call_later(1s, [&] { r.stop(); });
    r.call_later(3s, [&] { r.stop(); });
    const instant start = r.now();
    r.run();
    EXPECT_EQ((r.now() - start) / 1s, 3);
  }
  set_log({});
}

TEST(Shutdown, AnExceptionIsCountedAndDoesNotKeepTheLoop) {
  sim_reactor r;
  set_log([](int, std::string_view) {});
  r.on_shutdown([]() -> task<> {
    throw std::runtime_error{"at the end"};
    co_return;
  });
  r.on_shutdown([]() -> task<> { throw std::runtime_error{"before it began"}; });
  r.call_later(1s, [&] { r.stop(); });
  r.run();
  set_log({});
  EXPECT_EQ(r.failures(), 2u);
}

}  // namespace midwire
