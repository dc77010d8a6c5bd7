// channel: bounded, first come first served, and nothing lost when either end gives up.
#include <midwire/engine/channel.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include <midwire/engine.hpp>
#include <midwire/testing/sim_reactor.hpp>

namespace midwire {
namespace {

using namespace std::chrono_literals;
using testing::sim_reactor;
using lines = std::vector<std::string>;

task<> send_all(channel<int>& c, int from, int to, lines* log = nullptr) {
  for (int i = from; i <= to; ++i) {
    co_await c.send(i);
    if (log) log->push_back("sent " + std::to_string(i));
  }
}
task<> receive_all(channel<int>& c, lines& log, std::string name = "") {
  while (const auto got = co_await c.receive()) log.push_back(name + std::to_string(*got));
  log.push_back(name + "end");
}
task<std::optional<int>> receive_one(channel<int>& c) { co_return co_await c.receive(); }
task<> send_one(channel<int>& c, int n) { co_await c.send(n); }

}  // namespace

TEST(Channel, IsBounded) {
  sim_reactor r;
  channel<int> c{2};
  lines log;
  r.spawn(send_all(c, 1, 4, &log));
  r.pump();
  EXPECT_EQ(log, (lines{"sent 1", "sent 2"})) << "the third waits for room";
  EXPECT_EQ(c.size(), 2u);
  lines got;
  r.spawn(receive_all(c, got));
  r.pump();
  EXPECT_EQ(got, (lines{"1", "2", "3", "4"}));
  c.close();
  r.pump();
  EXPECT_EQ(got.back(), "end");
}

TEST(Channel, WhatWasSentBeforeCloseIsReceived) {
  sim_reactor r;
  channel<int> c{8};
  lines got;
  r.spawn(send_all(c, 1, 3));
  r.pump();
  c.close();
  r.spawn(receive_all(c, got));
  r.pump();
  EXPECT_EQ(got, (lines{"1", "2", "3", "end"}));
}

TEST(Channel, SendersOfAClosedOneAreThrown) {
  sim_reactor r;
  channel<int> c{1};
  lines log;
  const auto body = [](channel<int>& ch, int n, lines& out) -> task<> {
    try {
      co_await ch.send(n);
      out.push_back("sent");
    } catch (const reason_error& e) { out.push_back(e.what()); }
  };
  r.spawn(body(c, 1, log));
  r.spawn(body(c, 2, log));
  r.pump();
  c.close();
  r.pump();
  r.spawn(body(c, 3, log));
  r.pump();
  EXPECT_EQ(log, (lines{"sent", "aborted: the channel is closed", "aborted: the channel is closed"}));
  EXPECT_EQ(c.size(), 1u);
}

TEST(Channel, FirstComeFirstServed) {
  sim_reactor r;
  channel<int> c{1};
  lines got;
  for (const char* name : {"a", "b", "c"})
    r.spawn([](channel<int>& ch, lines& out, std::string n) -> task<> {
      const auto v = co_await ch.receive();
      out.push_back(n + std::to_string(v.value_or(-1)));
    }(c, got, name));
  r.pump();
  for (int i = 1; i <= 3; ++i) r.spawn(send_one(c, i));
  r.pump();
  EXPECT_EQ(got, (lines{"a1", "b2", "c3"}));
}

TEST(Channel, NothingIsReceivedFromInsideSend) {  // E16
  sim_reactor r;
  channel<int> c{1};
  lines log;
  r.spawn(receive_all(c, log, "got "));
  r.spawn([](channel<int>& ch, lines& out) -> task<> {
    out.push_back("before");
    co_await ch.send(1);
    out.push_back("after");
  }(c, log));
  r.pump();
  EXPECT_EQ(log, (lines{"before", "after", "got 1"}));
}

TEST(Channel, Lesson19ACancelledReceiveTakesNothing) {
  sim_reactor r;
  channel<int> c{1};
  lines log;
  // Each millisecond a value, and a receiver that gives up after each half of one.
  r.spawn([](reactor& l, channel<int>& ch) -> task<> {
    for (int i = 0; i < 200; ++i) {
      co_await l.sleep(1ms);
      co_await ch.send(i);
    }
    ch.close();
  }(r, c));
  r.spawn([](channel<int>& ch, lines& out) -> task<> {
    for (;;) {
      const auto got = co_await within(500us, receive_one(ch));
      if (!got) continue;
      if (!*got) break;
      out.push_back(std::to_string(**got));
    }
  }(c, log));
  r.advance(1s);
  lines want;
  for (int i = 0; i < 200; ++i) want.push_back(std::to_string(i));
  EXPECT_EQ(log, want);
}

TEST(Channel, Lesson19ACancelledSendSendsNothingOrAll) {
  sim_reactor r;
  channel<int> c{1};
  lines log;
  int sent = 0;
  r.spawn([](channel<int>& ch, int& n) -> task<> {
    for (int i = 0; i < 200;) {
      if (co_await within(300us, send_one(ch, i))) ++i, ++n;
    }
    ch.close();
  }(c, sent));
  r.spawn([](reactor& l, channel<int>& ch, lines& out) -> task<> {
    while (const auto got = co_await ch.receive()) {
      out.push_back(std::to_string(*got));
      co_await l.sleep(1ms);
    }
  }(r, c, log));
  r.advance(1s);
  lines want;
  for (int i = 0; i < 200; ++i) want.push_back(std::to_string(i));
  EXPECT_EQ(sent, 200);
  EXPECT_EQ(log, want);
}

TEST(Channel, AWokenReceiverThatGoesLeavesTheValueToTheNext) {
  sim_reactor r;
  channel<int> c{1};
  lines log;
  auto first = std::make_unique<task<std::optional<int>>>(receive_one(c));
  r.spawn([](task<std::optional<int>>& t) -> task<> { co_await when_any(t); }(*first));
  r.pump();
  r.spawn(receive_all(c, log));
  r.pump();
  // The value comes, and before the loop turns again the one that was to have it has gone.
  r.spawn([](channel<int>& ch, auto& victim) -> task<> {
    co_await ch.send(5);
    victim.reset();
  }(c, first));
  r.pump();
  EXPECT_EQ(log, lines{"5"});
}

TEST(Channel, MayGoWhileOthersWaitInIt) {
  sim_reactor r;
  auto c = std::make_unique<channel<int>>(1);
  lines log;
  r.spawn(receive_all(*c, log));
  r.pump();
  // The one that waits holds what it waits in; it must not come back to the channel itself.
  c->close();
  r.pump();
  c.reset();
  EXPECT_EQ(log, lines{"end"});
}

TEST(Channel, LargeAndMoveOnlyValues) {
  sim_reactor r;
  struct large {
    explicit large(int n) : owned{std::make_unique<int>(n)} {}
    std::unique_ptr<int> owned;
    char rest[200]{};
  };
  channel<large> c{1};
  channel<std::unique_ptr<int>> d{1};
  int sum = 0;
  r.spawn([](channel<large>& ch, channel<std::unique_ptr<int>>& dh) -> task<> {
    for (int i = 1; i <= 3; ++i) {
      co_await ch.send(large{i});
      co_await dh.send(std::make_unique<int>(i));
    }
    ch.close();
  }(c, d));
  r.spawn([](channel<large>& ch, channel<std::unique_ptr<int>>& dh, int& s) -> task<> {
    while (auto got = co_await ch.receive()) s += *got->owned + 10 * **co_await dh.receive();
  }(c, d, sum));
  r.pump();
  EXPECT_EQ(sum, 66);
}

}  // namespace midwire
