// The rules of the pipeline and the lessons that need no sockets, over a flow whose two ends are imagined.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "engine/flow_rig.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using tests::flow_rig;

namespace {

/// A stage made of closures.
struct scripted : stage {
  std::function<void(stage_context&)> opened;
  std::function<verdict(stage_context&, direction, chunk)> data, expired, ended;
  std::function<void(const reason&)> closed;
  void on_open(stage_context& c) override {
    if (opened) opened(c);
  }
  verdict on_data(stage_context& c, direction d, chunk x) override {
    return data ? data(c, d, std::move(x)) : verdict::pass(std::move(x));
  }
  verdict on_expired(stage_context& c, direction d, chunk x) override {
    return expired ? expired(c, d, std::move(x)) : verdict::pass(std::move(x));
  }
  verdict on_end(stage_context& c, direction d, chunk x) override {
    return ended ? ended(c, d, std::move(x)) : verdict::pass(std::move(x));
  }
  void on_close(stage_context&, const reason& r) noexcept override {
    if (closed) closed(r);
  }
};

std::unique_ptr<scripted> on_data(std::function<verdict(stage_context&, direction, chunk)> f) {
  auto s = std::make_unique<scripted>();
  s->data = std::move(f);
  return s;
}
std::unique_ptr<scripted> pass_all() { return std::make_unique<scripted>(); }

constexpr auto to_server = direction::to_server;
constexpr auto to_client = direction::to_client;
constexpr auto client = side::client;
constexpr auto server = side::server;

}  // namespace

TEST(Flow, TransparentWithoutStages) {  // E3
  flow_rig r;
  r.open();
  r.data(client, "GET");
  r.data(server, "200");
  r.end(client);
  EXPECT_TRUE(r.server().fin);
  EXPECT_FALSE(r.client().fin);
  r.data(server, " OK");
  r.end(server);
  EXPECT_EQ(r.server().got, "GET");
  EXPECT_EQ(r.client().got, "200 OK");
  EXPECT_TRUE(r.over());
  EXPECT_TRUE(r.client().closed && r.server().closed) << "an orderly end needs no reset";
  EXPECT_EQ(r.f.why().how(), ending::done);
  EXPECT_EQ(r.f.by(), ended_by::client);
  EXPECT_EQ(r.f.count(to_server).in, 3u);
  EXPECT_EQ(r.f.count(to_client).out, 6u);
}

TEST(Flow, WritesOfOneTurnAreJoined) {  // E18
  flow_rig r{flow_rig::list(on_data([](stage_context& c, direction d, chunk x) {
    c.inject(d, "<"), c.inject(d, "[");
    buffer out{std::move(x), "]", ">"};
    return verdict::pass(std::move(out));
  }))};
  r.open();
  r.data(client, "x");
  EXPECT_EQ(r.server().got, "<[x]>") << "E5: what is injected within on_data precedes the verdict";
  EXPECT_EQ(r.server().sends, 1);
}

TEST(Flow, InjectFindsItsPlace) {  // E5
  std::string seen_first, seen_last;
  stage_context* middle = nullptr;
  auto first = on_data([&](stage_context&, direction d, chunk x) {
    if (d == to_server) seen_first += x.text();
    return verdict::pass(std::move(x));
  });
  auto mid = pass_all();
  mid->opened = [&](stage_context& c) { middle = &c; };
  auto last = on_data([&](stage_context&, direction d, chunk x) {
    if (d == to_server) seen_last += x.text();
    return verdict::pass(std::move(x));
  });
  flow_rig r{flow_rig::list(std::move(first), std::move(mid), std::move(last))};
  r.open();
  r.data(client, "a");
  EXPECT_TRUE(middle->inject(to_server, "B", place::after_me));
  EXPECT_TRUE(middle->inject(to_server, "C", place::first_stage));
  EXPECT_TRUE(middle->inject(to_server, "D", place::wire));
  EXPECT_EQ(seen_last, "a") << "E16: nothing is called from inside a call";
  r.settle();
  EXPECT_EQ(seen_first, "aC");
  EXPECT_EQ(seen_last, "aBC");
  r.data(client, "e");
  EXPECT_EQ(r.server().got.size(), 5u);
}

TEST(Flow, InjectionHasALimit) {  // E6, lesson 5
  flow_limits limits;
  limits.high = 1000, limits.low = 500;
  int refused = 0, accepted = 0;
  auto s = on_data([&](stage_context& c, direction d, chunk x) {
    for (int i = 0; i < 100; ++i) ++(c.inject(d, std::string(100, 'i')) ? accepted : refused);
    return verdict::pass(std::move(x));
  });
  flow_rig r{flow_rig::list(std::move(s)), limits};
  r.server().capacity = 0;
  r.open();
  r.data(client, "x");
  EXPECT_LE(r.f.waiting(to_server), 4000u);
  EXPECT_GT(refused, 50);
  std::uint64_t counted = 0;
  for (const auto& [name, n] : r.f.counters())
    if (std::string{name} == "injected over the limit") counted = n;
  EXPECT_EQ(counted, static_cast<std::uint64_t>(refused) * 100);
}

TEST(Lesson5, InjectingForEverEndsAtTheLimit) {
  flow_limits limits;
  limits.high = 1000, limits.low = 500;
  // Each injection is shown to the stage again, which injects again.
  flow_rig r{flow_rig::list(on_data([](stage_context& c, direction d, chunk x) {
               c.inject(d, "again and again", place::first_stage);
               return verdict::pass(std::move(x));
             })),
             limits};
  r.server().capacity = 0;
  r.open();
  r.data(client, "x");
  EXPECT_LE(r.f.waiting(to_server), 4000u);
}

TEST(Lesson2, FinWaitsBehindHeldOctets) {
  hold_token token;
  flow_rig r{flow_rig::list(on_data([&](stage_context&, direction d, chunk x) {
    return d == to_server ? verdict::hold(std::move(x), token, 0s, on_expiry::pass) : verdict::pass(std::move(x));
  }))};
  r.open();
  r.data(client, "held");
  r.end(client);
  r.data(server, "free");
  EXPECT_EQ(r.client().got, "free") << "E7: the other direction runs";
  r.after(1s);
  EXPECT_FALSE(r.server().fin);
  EXPECT_EQ(r.server().got, "");
  token.release();
  EXPECT_EQ(r.server().got, "");
  r.settle();
  EXPECT_EQ(r.server().got, "held");
  EXPECT_TRUE(r.server().fin);
  EXPECT_FALSE(static_cast<bool>(token));
}

TEST(Lesson2, ExpiryDropsOrClosesInOrder) {
  for (const on_expiry then : {on_expiry::pass, on_expiry::drop, on_expiry::close}) {
    hold_token token;
    bool first = true;
    flow_rig r{flow_rig::list(on_data([&](stage_context&, direction, chunk x) {
      if (!std::exchange(first, false)) return verdict::pass(std::move(x));
      return verdict::hold(std::move(x), token, 1s, then);
    }))};
    r.open();
    r.data(client, "held");
    r.data(client, "later");
    r.end(client);
    r.after(999ms);
    EXPECT_EQ(r.server().got, "");
    r.after(1ms);
    EXPECT_TRUE(r.server().fin);
    EXPECT_EQ(r.server().got, then == on_expiry::pass ? "heldlater" : "later");
    EXPECT_EQ(r.f.count(to_server).dropped, then == on_expiry::pass ? 0u : 4u);
    if (then == on_expiry::close) {
      EXPECT_TRUE(r.client().fin) << "close ends the other direction too";
    }
  }
}

TEST(Flow, TokenSaysWhatHappensToHeldOctets) {  // E9
  {
    hold_token token;
    flow_rig r{flow_rig::list(on_data([&](stage_context&, direction, chunk x) {
      return verdict::hold(std::move(x), token, 0s, on_expiry::drop);
    }))};
    r.open();
    r.data(client, "secret");
    EXPECT_EQ(as_text(token.bytes()), "secret");
    token.replace("******");
    r.settle();
    EXPECT_EQ(r.server().got, "******");
    r.data(client, "gone");
    { hold_token unanswered = std::move(token); }
    r.settle();
    EXPECT_EQ(r.server().got, "******") << "destroyed unanswered: on_expiry says drop";
    EXPECT_EQ(r.f.count(to_server).dropped, 4u);
  }
  hold_token outlives;
  {
    flow_rig r{flow_rig::list(on_data([&](stage_context&, direction, chunk x) {
      return verdict::hold(std::move(x), outlives, 0s, on_expiry::pass);
    }))};
    r.open();
    r.data(client, "x");
  }
  EXPECT_FALSE(static_cast<bool>(outlives));
  outlives.release();
}

TEST(Flow, ResetGoesPastAHold) {  // E8, lesson 4
  hold_token token;
  std::string seen;
  auto holder = on_data([&](stage_context&, direction, chunk x) {
    if (x.text() == "hold") return verdict::hold(std::move(x), token, 0s, on_expiry::pass);
    return verdict::pass(std::move(x));
  });
  flow_rig r{flow_rig::list(std::move(holder))};
  r.open();
  r.data(client, "before");
  r.data(client, "hold");
  r.data(client, "behind");
  r.reset(client);
  EXPECT_EQ(r.server().got, "beforebehind");
  EXPECT_TRUE(r.server().reset);
  EXPECT_FALSE(static_cast<bool>(token));
  EXPECT_EQ(r.f.count(to_server).dropped, 4u);
  EXPECT_EQ(r.f.why().how(), ending::reset);
  EXPECT_EQ(r.f.by(), ended_by::client);
  EXPECT_TRUE(r.over());
}

TEST(Lesson4, WhatIsKeptLeavesBeforeTheReset) {
  auto keeper = on_data([](stage_context&, direction, chunk x) { return verdict::keep({}, std::move(x)); });
  bool by_reset = false;
  keeper->ended = [&](stage_context& c, direction d, chunk kept) {
    by_reset = c.ended_by_reset(d);
    return verdict::pass(buffer{std::move(kept), "!"});
  };
  flow_rig r{flow_rig::list(std::move(keeper))};
  r.open();
  r.data(client, "abc");
  r.data(client, "def");
  EXPECT_EQ(r.server().got, "");
  r.reset(client);
  EXPECT_EQ(r.server().got, "abcdef!");
  EXPECT_TRUE(r.server().reset);
  EXPECT_TRUE(r.client().closed);
  EXPECT_TRUE(by_reset);
}

TEST(Flow, ResetAfterAFinReachesTheOtherSide) {
  flow_rig r;
  r.open();
  r.data(client, "bye");
  r.end(client);
  EXPECT_TRUE(r.server().fin);
  r.data(server, "late");
  r.reset(client);
  EXPECT_TRUE(r.server().reset);
  EXPECT_EQ(r.f.why().how(), ending::reset);
  EXPECT_TRUE(r.over());
}

TEST(Flow, KeepAsksForEnoughAndGivesItBack) {  // E10
  std::vector<std::string> shown;
  auto s = on_data([&](stage_context&, direction, chunk x) {
    shown.emplace_back(x.text());
    if (x.size() < 8) return verdict::keep({}, std::move(x), 4);
    return verdict::pass(std::move(x));
  });
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  for (const char* one : {"ab", "c", "d", "e", "f", "g", "h", "i", "j"}) r.data(client, one);
  EXPECT_EQ(shown, (std::vector<std::string>{"ab", "abcdef", "abcdefghij"}));
  EXPECT_EQ(r.server().got, "abcdefghij");
}

TEST(Flow, KeptTooLongExpires) {  // E10
  std::string expired;
  auto s = on_data([&](stage_context&, direction, chunk x) { return verdict::keep({}, std::move(x), 1, 50ms); });
  s->expired = [&](stage_context&, direction, chunk x) {
    expired = x.text();
    return verdict::pass(std::move(x));
  };
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  r.data(client, "abc");
  r.after(49ms);
  EXPECT_EQ(expired, "");
  r.after(1ms);
  EXPECT_EQ(expired, "abc");
  EXPECT_EQ(r.server().got, "abc");
}

TEST(Flow, KeepingTooMuchEndsTheFlow) {  // E11
  flow_limits limits;
  limits.high = 2000, limits.low = 1000;
  flow_rig r{flow_rig::list(on_data([](stage_context&, direction, chunk x) { return verdict::keep({}, std::move(x)); })),
             limits};
  r.open();
  r.data(client, std::string(600, 'x'));
  EXPECT_FALSE(r.f.closed());
  r.data(client, std::string(600, 'x'));
  EXPECT_TRUE(r.f.closed());
  EXPECT_EQ(r.f.why().how(), ending::over_limit);
}

TEST(Flow, BypassIsExact) {  // E12
  std::string seen;
  bool ended = false;
  auto s = on_data([&](stage_context& c, direction d, chunk x) {
    seen += x.text();
    c.bypass(d, 5);
    return verdict::pass(std::move(x));
  });
  s->ended = [&](stage_context&, direction, chunk x) {
    ended = true;
    return verdict::pass(std::move(x));
  };
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  r.data(client, "ab");
  r.data(client, "123");
  r.data(client, "45cd");
  r.data(client, "12345");
  r.data(client, "e");
  r.end(client);
  EXPECT_EQ(seen, "abcde");
  EXPECT_EQ(r.server().got, "ab12345cd12345e");
  EXPECT_TRUE(ended);
  EXPECT_EQ(r.f.count_of_stage(0, to_server).bypassed, 10u);
}

TEST(Flow, SplicesWhatNobodyWantsToSee) {
  flow_rig r;
  r.f.allow_splice(true);
  r.open();
  r.data(client, std::string(20000, 'x'));
  EXPECT_GT(r.client().splice_left, 0u) << "a read of 16 KiB or more begins it";
  EXPECT_FALSE(r.client().reading);
  r.tell(client, event::octets_spliced(50000));
  EXPECT_EQ(r.f.count(to_server).in, 70000u);
  EXPECT_EQ(r.f.count(to_server).out, 20000u) << "the driver holds the rest";
  EXPECT_EQ(r.f.waiting(to_server), 50000u);
  EXPECT_GT(r.client().splice_left, 0u);
  r.tell(server, event::octets_sent(50000));
  EXPECT_EQ(r.f.count(to_server).out, 70000u);
  for (int i = 0; i < 40; ++i) r.tell(client, event::octets_spliced(100)), r.tell(server, event::octets_sent(100));
  EXPECT_EQ(r.client().splice_left, 0u) << "small reads end it";
  EXPECT_TRUE(r.client().reading);
  EXPECT_EQ(r.server().splice_left, 0u);
}

TEST(Flow, WhatASpliceHoldsGoesOutBeforeTheClose) {
  flow_limits limits;
  limits.idle = 10s;
  flow_rig r{{}, limits};
  r.f.allow_splice(true);
  r.open();
  r.end(server);  // it will not read again, so nothing but what it is owed keeps it open
  r.data(client, std::string(20000, 'x'));
  r.tell(client, event::octets_spliced(50000));
  r.after(11s);
  EXPECT_EQ(r.client().splice_left, 0u);
  EXPECT_FALSE(r.server().closed);
  r.tell(server, event::octets_sent(30000));
  EXPECT_FALSE(r.server().closed);
  r.tell(server, event::octets_sent(20000));
  EXPECT_TRUE(r.server().closed);
  EXPECT_FALSE(r.server().reset);
  EXPECT_EQ(r.f.count(to_server).out, 70000u);
  EXPECT_EQ(r.f.count(to_server).dropped, 0u);
}

TEST(Flow, AResetCountsWhatASpliceHeldAsDropped) {
  flow_rig r;
  r.f.allow_splice(true);
  r.open();
  r.data(client, std::string(20000, 'x'));
  r.tell(client, event::octets_spliced(50000));
  r.tell(server, event::octets_sent(10000));
  r.reset(server);
  EXPECT_TRUE(r.over());
  EXPECT_EQ(r.f.count(to_server).out, 30000u);
  EXPECT_EQ(r.f.count(to_server).dropped, 40000u);
}

TEST(Flow, ASpliceThatStandsStillIsStuck) {
  flow_limits limits;
  limits.stuck = 10s;
  flow_rig r{{}, limits};
  r.f.allow_splice(true);
  r.open();
  r.data(client, std::string(20000, 'x'));
  r.tell(client, event::octets_spliced(5000));
  r.after(9s);
  EXPECT_FALSE(r.f.closed());
  r.after(2s);
  EXPECT_TRUE(r.f.closed());
  EXPECT_EQ(r.f.why().how(), ending::timed_out);
}

TEST(Flow, SplicingStopsWhenAStageWantsToSeeAgain) {
  stage_context* context = nullptr;
  std::string seen;
  auto s = on_data([&](stage_context&, direction, chunk x) {
    seen += x.text();
    return verdict::pass(std::move(x));
  });
  s->opened = [&](stage_context& c) {
    context = &c;
    c.bypass(to_server);
  };
  flow_rig r{flow_rig::list(std::move(s))};
  r.f.allow_splice(true);
  r.open();
  r.data(client, std::string(20000, 'x'));
  ASSERT_GT(r.client().splice_left, 0u);
  context->bypass(to_server, 0);
  r.settle();
  EXPECT_EQ(r.client().splice_left, 0u);
  EXPECT_TRUE(r.client().reading);
  r.data(client, "look");
  EXPECT_EQ(seen, "look");
}

TEST(Flow, WatermarksStopAndStartTheSource) {  // E13
  flow_limits limits;
  limits.high = 1000, limits.low = 400;
  flow_rig r{{}, limits};
  r.server().capacity = 0;
  r.open();
  EXPECT_EQ(r.client().room, 1000u);
  r.data(client, std::string(600, 'x'));
  EXPECT_TRUE(r.client().reading);
  EXPECT_LE(r.client().room, 400u) << "no more than the room left";
  r.data(client, std::string(400, 'x'));
  EXPECT_FALSE(r.client().reading);
  EXPECT_TRUE(r.server().reading) << "the other direction runs";
  r.drain(server, 300);
  EXPECT_FALSE(r.client().reading);
  r.drain(server, 300);
  EXPECT_TRUE(r.client().reading);
}

TEST(Lesson6, StuckEndsIt) {  // E13
  flow_limits limits;
  limits.high = 1000, limits.low = 400, limits.stuck = 2s;
  flow_rig r{{}, limits};
  r.server().capacity = 0;
  r.open();
  r.data(client, std::string(1000, 'x'));
  r.after(1999ms);
  EXPECT_FALSE(r.f.closed());
  r.after(1ms);
  EXPECT_TRUE(r.f.closed());
  EXPECT_EQ(r.f.why().how(), ending::timed_out);
}

TEST(Flow, ReadsAgainWhenTheLastPauseIsGone) {  // E14
  stage_context* context = nullptr;
  auto s = pass_all();
  s->opened = [&](stage_context& c) { context = &c; };
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  pause_token a = context->pause(to_server), b = context->pause(to_server);
  r.settle();
  EXPECT_FALSE(r.client().reading);
  a = pause_token{};
  r.settle();
  EXPECT_FALSE(r.client().reading);
  b = pause_token{};
  r.settle();
  EXPECT_TRUE(r.client().reading);
  { const pause_token outlives = context->pause(to_client); }
  r.settle();
  EXPECT_TRUE(r.server().reading);
}

TEST(Lesson6, PausedStageGetsWhatIsHeldBeforeMoreIsRead) {
  // A stage that holds its direction still receives, on release, what came behind, with no new octets.
  hold_token token;
  std::vector<std::string> shown;
  flow_rig r{flow_rig::list(on_data([&](stage_context&, direction, chunk x) {
    shown.emplace_back(x.text());
    if (shown.size() == 1) return verdict::hold(std::move(x), token, 0s, on_expiry::pass);
    return verdict::pass(std::move(x));
  }))};
  r.open();
  for (const char* m : {"one", "two", "three"}) r.data(client, m);
  EXPECT_EQ(shown.size(), 1u);
  token.release();
  r.settle();
  EXPECT_EQ(shown, (std::vector<std::string>{"one", "two", "three"}));
  EXPECT_EQ(r.server().got, "onetwothree");
}

TEST(Lesson6, CloseInTheCallbackThatDrains) {
  flow_limits limits;
  limits.high = 1000, limits.low = 400;
  stage_context* context = nullptr;
  auto s = pass_all();
  s->opened = [&](stage_context& c) { context = &c; };
  flow_rig r{flow_rig::list(std::move(s)), limits};
  r.server().capacity = 0;
  r.open();
  r.data(client, std::string(1000, 'x'));
  context->close();
  r.drain(server, 700);
  r.drain(server, 700);
  EXPECT_EQ(r.server().got.size(), 1000u);
  EXPECT_TRUE(r.server().fin && r.client().fin);
  r.end(client), r.end(server);
  EXPECT_TRUE(r.over());
}

TEST(Flow, CloseAndResetTakeTheUnitsPlace) {
  for (const bool hard : {false, true}) {
    flow_rig r{flow_rig::list(on_data([&](stage_context&, direction, chunk x) {
      if (x.text() != "stop") return verdict::pass(std::move(x));
      verdict v = verdict::drop(std::move(x), "stopped");
      return hard ? std::move(v).then_reset() : std::move(v).then_close();
    }))};
    r.open();
    r.data(client, "go ");
    r.data(client, "on");
    r.data(client, "stop");
    r.data(client, "never");
    EXPECT_EQ(r.server().got, "go on");
    if (hard) {
      EXPECT_TRUE(r.server().reset && r.client().reset);
      EXPECT_EQ(r.f.why().how(), ending::aborted);
    } else {
      EXPECT_TRUE(r.server().fin && r.client().fin);
      EXPECT_FALSE(r.f.closed());
      r.end(client), r.end(server);
      EXPECT_EQ(r.f.why().how(), ending::done);
    }
    EXPECT_TRUE(r.over());
    EXPECT_EQ(r.f.by(), ended_by::stage);
  }
}

TEST(Flow, WithoutEndKeepsTheDirectionOpen) {
  auto s = pass_all();
  stage_context* context = nullptr;
  s->opened = [&](stage_context& c) { context = &c; };
  s->ended = [](stage_context&, direction d, chunk x) {
    verdict v = verdict::pass(std::move(x));
    return d == to_server ? std::move(v).without_end() : std::move(v);
  };
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  r.end(client);
  EXPECT_FALSE(r.server().fin);
  EXPECT_TRUE(context->inject(to_server, "more"));
  r.settle();
  EXPECT_EQ(r.server().got, "more");
}

TEST(Lesson3, HalfClosedAndSilentEnds) {
  flow_rig r;
  r.open();
  r.end(client);
  r.after(4min);
  r.data(server, "x");
  r.after(4min + 59s);
  EXPECT_FALSE(r.client().fin) << "any octet starts the time anew";
  r.after(1s);
  EXPECT_TRUE(r.client().fin);
  r.after(10s);
  EXPECT_TRUE(r.over());
  EXPECT_EQ(r.f.why().how(), ending::timed_out);
}

TEST(Lesson3, HalfClosedWithAnOctetAMinuteStaysOpen) {
  flow_rig r;
  r.open();
  r.end(client);
  for (int minute = 0; minute < 60; ++minute) {
    r.after(1min);
    r.data(server, "x");
  }
  EXPECT_FALSE(r.client().fin);
  EXPECT_EQ(r.client().got.size(), 60u);
}

TEST(Lesson11, ADripFeedEndsAtTheMessagesDeadline) {
  flow_limits limits;
  limits.message = 10s, limits.idle = 3s;
  // A framer that waits for a line end that never comes.
  flow_rig r{flow_rig::list(on_data([](stage_context&, direction, chunk x) {
               if (x.text().find('\n') == std::string_view::npos) return verdict::keep({}, std::move(x));
               return verdict::pass(std::move(x));
             })),
             limits};
  r.open();
  r.data(client, "whole\n");
  int octets = 0;
  for (; octets < 60 && !r.f.closed(); ++octets) {
    r.data(client, "x");
    r.after(1s);
  }
  EXPECT_EQ(octets, 10);
  EXPECT_EQ(r.f.why().how(), ending::timed_out);
}

TEST(Flow, IdleEndsInOrder) {
  flow_limits limits;
  limits.idle = 3s;
  flow_rig r{{}, limits};
  r.open();
  r.after(2s);
  r.data(client, "x");
  r.after(2999ms);
  EXPECT_FALSE(r.server().fin);
  r.after(1ms);
  EXPECT_TRUE(r.server().fin && r.client().fin);
  r.end(client), r.end(server);
  EXPECT_EQ(r.f.why().how(), ending::timed_out);
}

TEST(Lesson9, TheFlushTimeRestartsOnlyWhenTheKernelTakesOctets) {
  flow_limits limits;
  limits.linger = 100ms;
  stage_context* context = nullptr;
  auto s = pass_all();
  s->opened = [&](stage_context& c) { context = &c; };
  flow_rig r{flow_rig::list(std::move(s)), limits};
  r.server().capacity = 0;
  r.open();
  r.data(client, std::string(1000, 'x'));
  context->close();
  r.settle();
  for (int i = 0; i < 10; ++i) {
    r.after(90ms);
    r.drain(server, 100);
  }
  EXPECT_EQ(r.server().got.size(), 1000u);
  EXPECT_TRUE(r.server().fin);
  EXPECT_FALSE(r.server().reset);
}

TEST(Lesson9, OurCloseIsNotTurnedIntoAResetByTheirLastOctets) {
  stage_context* context = nullptr;
  auto s = pass_all();
  s->opened = [&](stage_context& c) { context = &c; };
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  context->close();
  r.settle();
  EXPECT_TRUE(r.client().fin && r.server().fin);
  EXPECT_FALSE(r.client().closed);
  EXPECT_TRUE(r.client().reading) << "what still comes is read and thrown away";
  for (int i = 0; i < 5; ++i) r.data(client, "still talking");
  r.end(client), r.end(server);
  EXPECT_TRUE(r.client().closed);
  EXPECT_EQ(r.server().got, "");
}

TEST(Flow, BothEndedButASlowReaderGetsEverything) {
  flow_rig r;
  r.client().capacity = 0;
  r.open();
  r.data(server, std::string(5000, 'x'));
  r.end(server), r.end(client);
  r.after(10min);  // no time limit of ours ends what both peers have ended
  EXPECT_FALSE(r.f.closed());
  r.drain(client, 5000);
  EXPECT_EQ(r.client().got.size(), 5000u);
  EXPECT_TRUE(r.client().fin);
  EXPECT_TRUE(r.over());
}

TEST(Flow, AnExceptionEndsItsFlowOnly) {  // E22
  reason told;
  int closes = 0;
  auto s = on_data([](stage_context&, direction, chunk) -> verdict { throw std::runtime_error{"boom"}; });
  s->closed = [&](const reason& why) { told = why, ++closes; };
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  r.data(client, "x");
  EXPECT_TRUE(r.over());
  EXPECT_EQ(told.how(), ending::failed);
  EXPECT_EQ(told.text(), "boom");
  EXPECT_EQ(closes, 1);
}

TEST(Flow, OnCloseIsTheLastCallAndTimersDieWithIt) {  // E17
  int fired = 0, closes = 0;
  stage_context* context = nullptr;
  auto s = pass_all();
  s->opened = [&](stage_context& c) {
    context = &c;
    c.call_later(1s, [&] { ++fired; });
    c.call_later(10s, [&] { fired += 100; });
  };
  s->closed = [&](const reason&) { ++closes; };
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  r.after(1s);
  EXPECT_EQ(fired, 1);
  r.end(client), r.end(server);
  EXPECT_TRUE(r.over());
  r.after(1min);
  EXPECT_EQ(fired, 1);
  EXPECT_EQ(closes, 1);
}

TEST(Lesson20, NoCallbackComesFromInsideACall) {
  int depth = 0, deepest = 0;
  const auto count = [&](auto&& f) {
    deepest = std::max(deepest, ++depth);
    f();
    --depth;
  };
  hold_token token;
  std::vector<pause_token> pauses;
  int n = 0;
  auto s = std::make_unique<scripted>();
  s->data = [&](stage_context& c, direction d, chunk x) {
    std::optional<verdict> v;
    count([&] {
      ++n;
      pauses.push_back(c.pause(d));
      c.inject(opposite(d), "i");
      c.bypass(opposite(d), 1);
      c.call_later(1ms, [&] { count([&] { c.inject(to_server, "t"), c.inject(to_client, "t"); }); });
      if (token) token.release();
      pauses.clear();
      if (n == 30) c.close();
      if (n == 40) c.reset();
      v = n % 3 == 0 ? verdict::hold(std::move(x), token, 5ms, on_expiry::pass) : verdict::pass(std::move(x));
    });
    return std::move(*v);
  };
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  for (int i = 0; i < 60 && !r.f.closed(); ++i) {
    r.data(i % 2 ? client : server, "x");
    r.after(2ms);
  }
  EXPECT_EQ(deepest, 1);
}

TEST(Flow, CommandsAreOneStartForManySmallMessages) {
  flow_rig r;
  r.open();
  const int before = r.client().starts;
  for (int i = 0; i < 1000; ++i) r.data(client, "ping");
  EXPECT_LE(r.client().starts - before, 2) << "a grant is renewed only when half of it is used";
}

TEST(Flow, BrokenPeerTakesNothingAnyMore) {  // lesson 7
  stage_context* context = nullptr;
  auto s = pass_all();
  s->opened = [&](stage_context& c) { context = &c; };
  flow_rig r{flow_rig::list(std::move(s))};
  r.open();
  pause_token paused = context->pause(to_server);
  r.settle();
  r.tell(client, event::hung_up(true));
  r.data(server, "into the void");
  EXPECT_EQ(r.client().got, "");
  EXPECT_FALSE(r.f.closed()) << "what it sent may still wait to be read";
  paused = pause_token{};
  r.settle();
  r.data(client, "last words");
  r.reset(client);
  EXPECT_EQ(r.server().got, "last words");
  EXPECT_TRUE(r.server().reset);
  EXPECT_TRUE(r.over());
}
