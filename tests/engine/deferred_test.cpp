// deferred, its callbacks and its cancelling; and timers: nothing of the user's runs inside a call (E16).
#include <midwire/engine/deferred.hpp>

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <midwire/engine.hpp>
#include <midwire/testing/sim_reactor.hpp>

namespace midwire {
namespace {

using namespace std::chrono_literals;
using testing::sim_reactor;
using lines = std::vector<std::string>;

}  // namespace

TEST(Deferred, CallsBackFromTheLoopOnly) {  // E16
  sim_reactor r;
  lines log;
  promise_of<int> early, late, failing;
  early.succeed(1);
  early.get().then([&](int n) { log.push_back("early " + std::to_string(n)); });
  EXPECT_EQ(log, lines{});
  late.get().then([&](int n) { log.push_back("late " + std::to_string(n)); });
  late.succeed(2);
  late.succeed(3);
  late.fail(reason{ending::failed});
  failing.get().then([&](int) { log.push_back("?"); }, [&](const reason& why) { log.push_back(why.text()); });
  failing.fail(reason{ending::refused, {}, "no"});
  EXPECT_EQ(log, lines{});
  r.pump();
  EXPECT_EQ(log, (lines{"early 1", "late 2", "no"}));
}

TEST(Deferred, OfNothing) {
  sim_reactor r;
  lines log;
  promise_of<void> a, b;
  a.get().then([&] { log.push_back("a"); });
  r.spawn([](deferred<void> d, lines& out) -> task<> {
    co_await std::move(d);
    out.push_back("b");
  }(b.get(), log));
  a.succeed();
  r.pump();
  b.succeed();
  r.pump();
  EXPECT_EQ(log, (lines{"a", "b"}));
}

TEST(Deferred, AFailureThatNobodyTakesIsLogged) {
  sim_reactor r;
  lines log;
  set_log([&](int, std::string_view line) { log.emplace_back(line); });
  {
    promise_of<int> p;
    p.fail(reason{ending::refused, {}, "untaken"});
  }
  {
    promise_of<int> taken;
    taken.get().then([](int) {}, [](const reason&) {});
    taken.fail(reason{ending::refused, {}, "taken"});
  }
  {
    promise_of<int> cancelled;
    auto d = cancelled.get();
    d.cancel();
    cancelled.fail(reason{ending::refused, {}, "cancelled"});
  }
  r.pump();
  set_log({});
  EXPECT_EQ(log, lines{"a failure that nobody took: refused: untaken"});
}

TEST(Deferred, CanBeCancelledBehindThen) {
  sim_reactor r;
  lines log;
  promise_of<int> p;
  p.on_cancel([&] { log.push_back("given up"); });
  const cancel_ref c =
      p.get().then([&](int) { log.push_back("value"); }, [&](const reason&) { log.push_back("failed"); });
  c.cancel();
  c.cancel();
  p.succeed(1);
  r.pump();
  EXPECT_EQ(log, lines{"given up"}) << "once, and neither callback";

  promise_of<int> q;
  const cancel_ref d = q.get().then([&](int) { log.push_back("value"); });
  q.succeed(1);
  d.cancel();  // the value is on its way
  r.pump();
  EXPECT_EQ(log, lines{"given up"});

  promise_of<int> t;
  const cancel_ref late = t.get().then([&](int) { log.push_back("value"); });
  t.succeed(1);
  r.pump();
  late.cancel();
  EXPECT_EQ(log, (lines{"given up", "value"}));
  cancel_ref{}.cancel();
}

TEST(Deferred, ACallbackMayCancelItself) {
  sim_reactor r;
  lines log;
  promise_of<int> p;
  cancel_ref c;
  c = p.get().then([&](int) {
    c.cancel();
    log.push_back("still here");
  });
  p.succeed(1);
  r.pump();
  EXPECT_EQ(log, lines{"still here"});
}

TEST(Deferred, CancellingAConnectionThatIsBeingMade) {
  sim_reactor r;
  struct quiet : protocol {
    void data_received(chunk) override {}
  };
  lines log;
  r.names().never("somewhere.test");
  const cancel_ref c = r.connect_tcp("somewhere.test", 80, factory::of<quiet>())
                           .then([&](protocol*) { log.push_back("?"); }, [&](const reason&) { log.push_back("?"); });
  r.pump();
  EXPECT_EQ(r.names().waiting(), 1u);
  c.cancel();
  EXPECT_EQ(r.names().waiting(), 0u);
  r.advance(1h);
  EXPECT_EQ(log, lines{});
}

TEST(Deferred, AwaitedItGivesOrThrows) {
  sim_reactor r;
  lines log;
  r.names().add("a.test", {*address::parse_ip("10.0.0.1", 0)}, 1s);
  r.names().fail("b.test", reason{ending::refused, {}, "no such name"});
  r.spawn([](reactor& l, lines& out) -> task<> {
    const auto found = co_await l.resolve("a.test");
    out.push_back(found.at(0).host());
    const auto literal = co_await l.resolve("10.0.0.2");
    out.push_back(literal.at(0).host());
    try {
      co_await l.resolve("b.test");
    } catch (const reason_error& e) {
      out.push_back(e.what());
      EXPECT_EQ(e.how(), ending::refused);
      EXPECT_EQ(e.text(), "no such name");
    }
  }(r, log));
  r.advance(1min);
  EXPECT_EQ(log, (lines{"10.0.0.1", "10.0.0.2", "refused: no such name"}));
}

TEST(Deferred, DroppingTheTaskThatAwaitsItCancelsIt) {
  sim_reactor r;
  lines log;
  r.names().never("n.test");
  r.spawn([](reactor& l, lines& out) -> task<> {
    const auto ask = [](reactor& loop) -> task<std::vector<address>> { co_return co_await loop.resolve("n.test", 1h); };
    const auto got = co_await within(1s, ask(l));
    out.push_back(got ? "?" : "gave up");
  }(r, log));
  r.pump();
  EXPECT_EQ(r.names().waiting(), 1u);
  r.advance(2s);
  EXPECT_EQ(log, lines{"gave up"});
  EXPECT_EQ(r.names().waiting(), 0u);
}

TEST(Deferred, AwaitedAfterItWasCancelledItThrows) {
  sim_reactor r;
  lines log;
  r.spawn([](lines& out) -> task<> {
    promise_of<int> p;
    auto d = p.get();
    d.cancel();
    try {
      co_await std::move(d);
    } catch (const reason_error& e) { out.push_back(e.what()); }
  }(log));
  r.pump();
  EXPECT_EQ(log, lines{"aborted: cancelled"});
}

TEST(Timer, CallsBackFromTheLoopOnly) {  // E16
  sim_reactor r;
  int fired = 0;
  timer t{r, [&] { ++fired; }};
  t.start(0s);
  t.start(-1s);
  t.touch();
  EXPECT_EQ(fired, 0);
  r.pump();
  EXPECT_EQ(fired, 1);
  t.start(1s);
  t.stop();
  r.advance(2s);
  EXPECT_EQ(fired, 1);
  timer_ref ref = r.call_later(0s, [&] { ++fired; });
  ref.reset(0s);
  EXPECT_EQ(fired, 1);
  r.pump();
  EXPECT_EQ(fired, 2);
}

TEST(Timer, MayRestartItselfFromItsCallback) {
  sim_reactor r;
  int fired = 0;
  std::unique_ptr<timer> t;
  t = std::make_unique<timer>(r, [&] {
    if (++fired < 3) t->start(0s);
  });
  t->start(0s);
  r.advance(1s);
  EXPECT_EQ(fired, 3);
}

}  // namespace midwire
