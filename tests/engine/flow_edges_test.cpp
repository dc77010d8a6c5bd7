// The edges of the flow: closes that wait, limits that meet holds, stages that go.
#include <gtest/gtest.h>

#include <functional>

#include "engine/flow_rig.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using tests::flow_rig;

namespace {

constexpr auto client = side::client, server = side::server;
constexpr auto to_server = direction::to_server, to_client = direction::to_client;

struct scripted : stage {
  void on_open(stage_context& c) override {
    context = &c;
    if (opened) opened(c);
  }
  verdict on_data(stage_context& c, direction d, chunk x) override {
    return data ? data(c, d, std::move(x)) : verdict::pass(std::move(x));
  }
  verdict on_end(stage_context& c, direction d, chunk x) override {
    return ended ? ended(c, d, std::move(x)) : verdict::pass(std::move(x));
  }
  void on_close(stage_context&, const reason&) noexcept override {
    if (closes) ++*closes;
  }
  ~scripted() override {
    if (gone) gone(*context);
  }
  std::function<void(stage_context&)> opened, gone;
  std::function<verdict(stage_context&, direction, chunk)> data, ended;
  int* closes = nullptr;
  stage_context* context = nullptr;
  hold_token token;
};

std::unique_ptr<scripted> holding(duration at_most = {}) {
  auto s = std::make_unique<scripted>();
  s->data = [s = s.get(), at_most](stage_context&, direction, chunk x) {
    return verdict::hold(std::move(x), s->token, at_most, on_expiry::pass);
  };
  return s;
}

/// A deadline that is over and stays so would keep the loop awake for ever.
void expect_rest(flow_rig& r) {
  const auto due = r.f.next_deadline();
  EXPECT_TRUE(!due || *due > r.now);
  EXPECT_EQ(r.stalls, 0);
}

}  // namespace

TEST(FlowEdges, AnIdleFlowThatHoldsWaitsAtRest) {  // E8
  flow_limits limits;
  limits.idle = 3s;
  auto s = holding();
  auto* const h = s.get();
  flow_rig r{flow_rig::list(std::move(s)), limits};
  r.open();
  r.data(client, "held");
  r.after(3s);
  expect_rest(r);
  r.after(limits.linger + 1s);
  expect_rest(r);
  EXPECT_FALSE(r.f.closed());
  h->token.release();
  r.settle();
  EXPECT_EQ(r.server().got, "held");
  EXPECT_TRUE(r.server().fin && r.client().fin);
  r.end(client), r.end(server);
  EXPECT_TRUE(r.over());
  EXPECT_EQ(r.f.why().how(), ending::timed_out);
}

TEST(FlowEdges, AHalfClosedFlowThatHoldsWaitsAtRest) {  // E8, lesson 3
  auto s = holding(1h);
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  r.data(client, "held");
  r.end(server);
  r.after(5min);
  expect_rest(r);
  r.after(54min);
  expect_rest(r);
  EXPECT_FALSE(r.f.closed());
  r.after(1min);
  EXPECT_EQ(r.server().got, "held");
  EXPECT_TRUE(r.server().fin);
}

TEST(FlowEdges, ACloseWithAReasonWaitsBehindAHoldAtRest) {  // E8
  auto s = holding(1min);
  auto* const h = s.get();
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  r.data(client, "held");
  h->context->close(reason{ending::timed_out, {}, "enough"});
  r.settle();
  r.after(30s);
  expect_rest(r);
  EXPECT_FALSE(r.f.closed());
  r.after(30s);
  EXPECT_EQ(r.server().got, "held");
  EXPECT_TRUE(r.server().fin);
}

TEST(FlowEdges, ATimerThatStartsItselfAtOnceLetsTheOthersCome) {  // E23
  int rounds = 0;
  bool other = false;
  std::function<void()> again;
  auto s = std::make_unique<scripted>();
  s->opened = [&](stage_context& c) {
    again = [&] {
      if (++rounds < 100000) c.call_later(rounds % 2 ? 0s : -1s, [&] { again(); });
    };
    c.call_later(0s, [&] { again(); });
    c.call_later(0s, [&] { other = true; });
  };
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  r.f.advance(r.now);
  EXPECT_EQ(rounds, 1);
  EXPECT_TRUE(other);
  for (int i = 0; i < 5; ++i) r.f.advance(r.now);
  EXPECT_EQ(rounds, 6);
  EXPECT_LE(*r.f.next_deadline(), r.now);
}

TEST(FlowEdges, WhatIsHeldOrKeptWithACloseLeavesBeforeTheEnd) {  // E2
  for (const bool keeps : {false, true}) {
    SCOPED_TRACE(keeps ? "keep" : "hold");
    auto s = std::make_unique<scripted>();
    auto* const h = s.get();
    s->data = [&](stage_context&, direction, chunk x) {
      return keeps ? verdict::keep("first ", std::move(x)).then_close()
                   : verdict::hold(std::move(x), h->token, 1s, on_expiry::pass).then_close();
    };
    flow_rig r{flow_rig::list(std::make_unique<stage>(), std::move(s), std::make_unique<stage>())};
    r.open();
    r.data(client, "last words");
    r.data(client, "never");
    if (!keeps) {
      EXPECT_FALSE(r.server().fin);
      r.after(1s);
    }
    EXPECT_EQ(r.server().got, keeps ? "first last words" : "last words");
    EXPECT_TRUE(r.server().fin && r.client().fin);
    EXPECT_EQ(r.f.count(to_server).dropped, 5u);
    r.end(client), r.end(server);
    EXPECT_TRUE(r.over());
  }
}

TEST(FlowEdges, HeldWithAResetIsDroppedAndCounted) {  // E8
  auto s = std::make_unique<scripted>();
  auto* const h = s.get();
  s->data = [&](stage_context&, direction, chunk x) {
    return verdict::hold(std::move(x), h->token, 1s, on_expiry::pass).then_reset();
  };
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  r.data(client, "gone");
  EXPECT_TRUE(r.over());
  EXPECT_FALSE(h->token);
  EXPECT_EQ(r.f.count(to_server).dropped, 4u);
}

TEST(FlowEdges, ACloseEndsADirectionWhoseEndWasLeftOut) {
  auto s = std::make_unique<scripted>();
  auto* const h = s.get();
  s->ended = [](stage_context&, direction d, chunk x) {
    verdict v = verdict::pass(std::move(x));
    return d == to_server ? std::move(v).without_end() : std::move(v);
  };
  flow_rig r{flow_rig::list(std::move(s), std::make_unique<stage>())};
  r.open();
  r.end(client);
  EXPECT_TRUE(h->context->inject(to_server, "more"));
  h->context->close();
  r.settle();
  EXPECT_EQ(r.server().got, "more");
  EXPECT_TRUE(r.server().fin && r.client().fin);
  r.end(server);
  EXPECT_TRUE(r.over());
}

TEST(FlowEdges, ALoweredBudgetStopsASplice) {  // E12
  auto s = std::make_unique<scripted>();
  auto* const h = s.get();
  std::size_t shown = 0;
  s->opened = [](stage_context& c) { c.bypass(to_client); };
  s->data = [&](stage_context&, direction, chunk x) {
    shown += x.size();
    return verdict::pass(std::move(x));
  };
  flow_rig r{flow_rig::list(std::move(s))};
  r.f.allow_splice(true);
  r.open();
  for (int i = 0; i < 4; ++i) r.data(server, std::string(65536, 'x'));
  ASSERT_GT(r.server().splice_left, 0u);
  h->context->bypass(to_client, 100);
  r.settle();
  EXPECT_EQ(r.server().splice_left, 0u) << "the driver would move more than the stage gave away";
  ASSERT_TRUE(r.server().reading);
  r.data(server, std::string(101, 'y'));
  EXPECT_EQ(shown, 1u);
}

TEST(FlowEdges, TimeLimitsHoldWhenBothEndsHaveEnded) {  // E13
  for (const bool idle : {false, true}) {
    flow_limits limits;
    limits.high = 1000, limits.low = 400;
    (idle ? limits.idle : limits.stuck) = 10s;
    flow_rig r{{}, limits};
    r.client().capacity = 0;
    r.open();
    r.data(server, std::string(1000, 'x'));
    r.end(server), r.end(client);
    r.after(9s);
    EXPECT_FALSE(r.f.closed());
    r.after(1s);
    EXPECT_TRUE(r.over()) << "a reader that takes nothing is not waited for longer than was asked";
    EXPECT_EQ(r.f.why().how(), ending::timed_out);
  }
}

TEST(FlowEdges, AReaderThatDrainsIsNotStuckThoughItsSourceHasEnded) {  // E13
  flow_limits limits;
  limits.high = 1000, limits.low = 400, limits.stuck = 2s;
  flow_rig r{{}, limits};
  r.server().capacity = 0;
  r.open();
  r.data(client, std::string(1000, 'x'));
  r.end(client);
  r.after(1s);
  r.drain(server, 700);
  r.after(5s);
  EXPECT_FALSE(r.f.closed());
  r.drain(server, 300);
  EXPECT_TRUE(r.server().fin);
}

TEST(FlowEdges, OnlyOpenedStagesAreClosed) {  // E17, E22
  std::array<int, 3> closes{};
  std::array<std::unique_ptr<scripted>, 3> s;
  for (std::size_t i = 0; i < 3; ++i) s[i] = std::make_unique<scripted>(), s[i]->closes = &closes[i];
  s[1]->opened = [](stage_context&) { throw std::runtime_error{"no"}; };
  flow_rig r{flow_rig::list(std::move(s[0]), std::move(s[1]), std::move(s[2]))};
  r.open();
  EXPECT_TRUE(r.over());
  EXPECT_EQ(closes, (std::array{1, 1, 0}));
}

TEST(FlowEdges, AContextLivesAsLongAsItsStage) {
  for (const bool over : {false, true}) {
    auto s = std::make_unique<scripted>();
    int goings = 0;
    s->gone = [&](stage_context& c) {
      ++goings;
      c.count("a counter that was not there before");
      EXPECT_FALSE(c.inject(to_client, "late"));
      EXPECT_FALSE(c.call_later(1s, [] {}).active());
      c.bypass(to_client), c.close(), c.reset();
      const pause_token token = c.pause(to_server);
      EXPECT_EQ(c.flow_id(), 7u);
    };
    {
      flow_rig r{flow_rig::list(std::move(s))};
      r.open();
      r.data(client, "x");
      if (over) r.reset(client);
    }
    EXPECT_EQ(goings, 1);
  }
}

TEST(FlowEdges, TokensOutliveTheFlow) {  // E9, E14
  hold_token kept;
  pause_token paused;
  {
    auto s = std::make_unique<scripted>();
    s->data = [&](stage_context& c, direction d, chunk x) {
      paused = c.pause(d);
      return verdict::hold(std::move(x), kept, 0s, on_expiry::pass);
    };
    flow_rig r{flow_rig::list(std::move(s))};
    r.open();
    r.data(client, "x");
    EXPECT_TRUE(kept);
  }
  EXPECT_FALSE(kept);
  EXPECT_TRUE(kept.bytes().empty());
  kept.replace("y"), kept.release(), kept.drop();
  paused = pause_token{};
}

TEST(FlowEdges, AnOctetAtATimeDoesNotPinASegmentEach) {  // E20, lesson 5
  auto s = holding();
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  const std::size_t before = segment_pool::in_use();
  for (int i = 0; i < 50000; ++i) {
    chunk one = segment_pool::receive(0);
    one.truncate(1);
    r.f.handle(client, event::data_received(std::move(one)), r.now);
  }
  EXPECT_EQ(r.f.waiting(to_server), 50000u);
  EXPECT_LT(segment_pool::in_use() - before, 200000u);
}

TEST(FlowEdges, LimitsWithoutEndAreNever) {
  flow_limits limits;
  limits.idle = limits.stuck = limits.message = limits.half_closed = limits.linger = duration::max();
  auto s = std::make_unique<scripted>();
  s->data = [](stage_context& c, direction, chunk x) {
    c.call_later(duration::max(), [] { ADD_FAILURE(); });
    return verdict::keep({}, std::move(x), 100, duration::max());
  };
  flow_rig r{flow_rig::list(std::move(s)), limits};
  r.open();
  r.data(client, "x");
  r.end(server);
  r.after(24h * 365);
  EXPECT_FALSE(r.f.closed());
  r.end(client);
  EXPECT_EQ(r.server().got, "x");
  EXPECT_TRUE(r.over());
}
