// One verdict a message: E3 to E12 for stages that see messages, whatever the cuts of the stream.
#include <midwire/engine/core/message_stage.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>

#include <midwire/base/chance.hpp>
#include <midwire/proto/framers.hpp>

#include "engine/flow_rig.hpp"

using namespace midwire;
using namespace midwire::proto;
using namespace std::chrono_literals;
using namespace std::string_literals;
using tests::flow_rig;

namespace {

/// A message_stage made of closures; notes down what it is shown.
template <class F>
struct scripted : message_stage<F> {
  using decide = std::function<verdict(stage_context&, direction, chunk)>;
  using message_stage<F>::message_stage;
  verdict on_message(stage_context& c, direction d, chunk payload) override {
    seen.push_back(payload.detach());
    return message ? message(c, d, std::move(payload)) : verdict::pass(std::move(payload));
  }
  verdict on_message_expired(stage_context& c, direction d, chunk payload) override {
    expired_seen.push_back(payload.detach());
    return expired ? expired(c, d, std::move(payload)) : verdict::pass(std::move(payload));
  }
  verdict on_frame_error(stage_context& c, direction d, chunk rest, const parse_error& why) override {
    errors.push_back(text_of(why));
    if (error) return error(c, d, std::move(rest));
    return message_stage<F>::on_frame_error(c, d, std::move(rest), why);
  }
  decide message, expired, error;
  std::vector<std::string> seen, expired_seen, errors;
};
using lines = scripted<line_framer>;

/// Cuts of an input, by name: as it is, octet by octet, primes, two pieces at each place, random ones.
std::vector<std::vector<std::size_t>> cuts_of(std::size_t size) {
  std::vector<std::vector<std::size_t>> all{{size}, std::vector<std::size_t>(size, 1)};
  constexpr std::size_t primes[] = {2, 3, 5, 7, 11, 13, 17, 19, 23};
  const auto made_of = [size](auto next) {
    std::vector<std::size_t> pieces;
    for (std::size_t at = 0; at < size; at += pieces.back()) pieces.push_back(std::min<std::size_t>(next(), size - at));
    return pieces;
  };
  std::size_t turn = 0;
  all.push_back(made_of([&] { return primes[turn++ % std::size(primes)]; }));
  for (std::size_t at = 1; at < std::min<std::size_t>(size, 120); ++at) all.push_back({at, size - at});
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    random_source random{seed};
    all.push_back(made_of([&] { return 1 + random.below(9); }));
  }
  return all;
}

struct outcome {
  std::string server, client;
  std::vector<std::string> seen, errors;
  bool fin = false, over = false;
  friend bool operator==(const outcome&, const outcome&) = default;
  friend std::ostream& operator<<(std::ostream& out, const outcome& o) {
    out << "server \"" << o.server << "\" client \"" << o.client << "\" seen";
    for (const auto& s : o.seen) out << " [" << s << ']';
    for (const auto& e : o.errors) out << " error " << e;
    return out << (o.fin ? " fin" : "") << (o.over ? " over" : "");
  }
};

/// Sends `input` from the client, cut in all ways, and its end; the outcome must always be one and the same.
template <class Stage>
outcome same_for_all_cuts(const std::function<std::unique_ptr<Stage>()>& make, std::string_view input,
                          bool end = true) {
  std::optional<outcome> want;
  for (const auto& pieces : cuts_of(input.size())) {
    auto made = make();
    Stage& s = *made;
    flow_rig rig{flow_rig::list(std::move(made))};
    rig.open();
    std::size_t at = 0;
    for (const std::size_t n : pieces) {
      rig.data(side::client, input.substr(at, n));
      at += n;
    }
    if (end) rig.end(side::client);
    rig.after(10s);
    outcome got{rig.server().got, rig.client().got, s.seen, s.errors, rig.server().fin, rig.f.closed()};
    if (!want) want = got;
    EXPECT_EQ(got, *want) << pieces.size() << " pieces, the first of " << pieces.front();
    if (::testing::Test::HasFailure()) break;
  }
  return *want;
}
template <class Stage = lines>
outcome all_cuts(typename Stage::decide message, std::string_view input) {
  return same_for_all_cuts<Stage>(
      [&] {
        auto s = std::make_unique<Stage>();
        s->message = message;
        return s;
      },
      input);
}

}  // namespace

TEST(MessageStage, WhatNobodyEditedLeavesAsItCame) {  // E3
  const std::string text = "one\r\ntwo\nthree\r\r\n\n\r\nnot whole";
  const outcome o = all_cuts<>(nullptr, text);
  EXPECT_EQ(o.server, text);
  EXPECT_EQ(o.seen, (std::vector<std::string>{"one", "two", "three\r", "", ""}));
  EXPECT_TRUE(o.fin);
  ASSERT_EQ(o.errors.size(), 1u) << "the end came inside a message";
  EXPECT_NE(o.errors[0].find("truncated"), std::string::npos);
}

TEST(MessageStage, EveryFramerIsTransparent) {  // E3
  const auto check = [](auto framer, const std::string& text, std::size_t messages) {
    using stage_type = scripted<decltype(framer)>;
    const outcome o = same_for_all_cuts<stage_type>([&] { return std::make_unique<stage_type>(framer); }, text);
    EXPECT_EQ(o.server, text);
    EXPECT_EQ(o.seen.size(), messages);
  };
  check(delimiter_framer{"--"}, "a--b-c----d-", 3);
  check(fixed_framer{3}, "abcdefgh", 2);
  check(length_framer{{.width = 2, .offset = 1}}, "x\0\3abcy\0\0z\0\1"s, 2);
  check(length_framer{{.width = 1, .with_header = true}}, "\3abc\0\2d"s, 2);
  check(netstring_framer{}, "5:hello,0:,3:a,b,1:", 3);
  check(varint_framer{99, varint_framer::padding::allowed}, "\x83\0abc\0\x80\x80\0\2x"s, 3);
}

TEST(MessageStage, EditedMessagesAreFramedLikeTheirOwn) {
  const auto upper = [](stage_context&, direction, chunk c) {
    for (auto& octet : c.writable()) octet = static_cast<std::uint8_t>(std::toupper(octet));
    return verdict::pass(std::move(c));
  };
  EXPECT_EQ(all_cuts<>(upper, "one\r\ntwo\n\r\nthree\n").server, "ONE\r\nTWO\n\r\nTHREE\n");
  const auto longer = [](stage_context&, direction, chunk c) {
    return verdict::pass(buffer{std::move(c), chunk{"+"}});
  };
  EXPECT_EQ(all_cuts<>(longer, "one\r\n\ntwo\n").server, "one+\r\n+\ntwo+\n");
  const auto other = [](stage_context&, direction, chunk) { return verdict::pass("new"); };
  EXPECT_EQ(all_cuts<>(other, "one\r\n\n").server, "new\r\nnew\n");
  const auto shorter = [](stage_context&, direction, chunk c) {
    c.truncate(1);
    return verdict::pass(std::move(c));
  };
  EXPECT_EQ(all_cuts<>(shorter, "one\r\nx\n\n").server, "o\r\nx\n\n");
  const auto empty = [](stage_context&, direction, chunk) { return verdict::pass({}); };
  EXPECT_EQ(all_cuts<>(empty, "one\r\nx\n\n").server, "\r\n\n\n") << "an empty payload is a message, too";
}

TEST(MessageStage, LengthsFollowAnEditAndTheOctetsBeforeThemStay) {
  struct prefixed : scripted<length_framer> {
    prefixed() : scripted{length_framer{{.width = 2, .offset = 2, .adjust = -4}}} {}
  };
  const auto longer = [](stage_context&, direction, chunk c) {
    if (c.text() == "same") return verdict::pass(std::move(c));
    c.append("!!");
    return verdict::pass(std::move(c));
  };
  EXPECT_EQ((all_cuts<prefixed>(longer, "ab\0\6hicd\0\10sameef\0\4"s).server), "ab\0\10hi!!cd\0\10sameef\0\6!!"s);
  struct whole : scripted<length_framer> {
    whole() : scripted{length_framer{{.width = 1, .offset = 1, .with_header = true}}} {}
  };
  const auto other_type = [](stage_context&, direction, chunk c) {
    c.writable()[0] = 'T';
    c.append("!");
    return verdict::pass(std::move(c));
  };
  EXPECT_EQ((all_cuts<whole>(other_type, "a\2hib\0"s).server), "T\3hi!T\1!"s);
}

TEST(MessageStage, DroppedMessagesGoWithTheirFraming) {  // E1, E2
  auto s = std::make_unique<lines>();
  s->message = [](stage_context&, direction, chunk c) {
    return c.text() == "no" ? verdict::drop(std::move(c), "refused") : verdict::pass(std::move(c));
  };
  flow_rig rig{flow_rig::list(std::move(s))};
  rig.open();
  rig.data(side::client, "yes\r\nno\r\nno\nyes\n");
  EXPECT_EQ(rig.server().got, "yes\r\nyes\n");
  EXPECT_EQ(rig.f.count(direction::to_server).dropped, 7u);
  EXPECT_EQ(rig.f.count_of_stage(0, direction::to_server).dropped, 7u);
  EXPECT_EQ(rig.f.count_of_stage(0, direction::to_server).in, 16u);
  ASSERT_EQ(rig.f.counters().size(), 1u);
  EXPECT_EQ(rig.f.counters()[0].second, 7u);
}

TEST(MessageStage, InjectedOctetsGoBetweenMessages) {  // E5
  const auto numbered = [n = 0](stage_context& c, direction d, chunk line) mutable {
    c.inject(d, "before " + std::to_string(n) + "\r\n");
    c.inject(opposite(d), "answer " + std::to_string(n++) + "\r\n");
    return verdict::pass(std::move(line));
  };
  const outcome o = same_for_all_cuts<lines>(
      [&] {
        auto s = std::make_unique<lines>();
        s->message = numbered;
        return s;
      },
      "a\nb\r\nc\nrest");
  EXPECT_EQ(o.server, "before 0\r\na\nbefore 1\r\nb\r\nbefore 2\r\nc\nrest");
  EXPECT_EQ(o.client, "answer 0\r\nanswer 1\r\nanswer 2\r\n");
}

TEST(MessageStage, InjectedFromElsewhereTheyDoNotSplitAMessage) {  // E5
  auto made = std::make_unique<lines>();
  lines& s = *made;
  stage_context* context = nullptr;
  s.message = [&](stage_context& c, direction, chunk line) {
    context = &c;
    return verdict::pass(std::move(line));
  };
  flow_rig rig{flow_rig::list(std::move(made))};
  rig.open();
  rig.data(side::client, "first\nhalf of");
  context->inject(direction::to_server, "INJECTED\n");
  rig.settle();
  rig.data(side::client, " it\n");
  EXPECT_EQ(rig.server().got, "first\nINJECTED\nhalf of it\n");
}

TEST(MessageStage, AHeldMessageHoldsTheOnesBehindIt) {  // E7
  hold_token token;
  auto made = std::make_unique<lines>();
  lines& s = *made;
  s.message = [&](stage_context&, direction d, chunk line) {
    if (d == direction::to_server && line.text() == "LOGIN")
      return verdict::hold(std::move(line), token, 2s, on_expiry::drop);
    return verdict::pass(std::move(line));
  };
  flow_rig rig{flow_rig::list(std::move(made))};
  rig.open();
  rig.data(side::client, "a\nLOGIN\r\nb\nc\nhal");
  EXPECT_EQ(rig.server().got, "a\n");
  EXPECT_EQ(as_text(token.bytes()), "LOGIN");
  EXPECT_EQ(s.seen, (std::vector<std::string>{"a", "LOGIN"})) << "nobody sees what waits";
  rig.data(side::server, "the other way runs\n");
  EXPECT_EQ(rig.client().got, "the other way runs\n");
  rig.data(side::client, "f\n");
  rig.end(side::client);
  EXPECT_EQ(rig.server().got, "a\n");
  EXPECT_FALSE(rig.server().fin);
  token.release();
  rig.settle();
  EXPECT_EQ(rig.server().got, "a\nLOGIN\r\nb\nc\nhalf\n") << "with its own framing";
  EXPECT_TRUE(rig.server().fin);
}

TEST(MessageStage, AHeldMessageCanBeReplacedDroppedOrExpire) {  // E8, E9
  const auto run = [](const std::function<void(flow_rig&, hold_token&)>& answer, chunk held = {}) {
    hold_token token;
    auto made = std::make_unique<scripted<length_framer>>(length_framer{{.width = 2, .offset = 1}});
    made->message = [&](stage_context&, direction, chunk c) {
      if (c.text() != "hold") return verdict::pass(std::move(c));
      return verdict::hold(held.empty() ? std::move(c) : held.share(), token, 2s, on_expiry::pass);
    };
    flow_rig rig{flow_rig::list(std::move(made))};
    rig.open();
    rig.data(side::client, "a\0\1xb\0\4holdc\0\1y"s);
    EXPECT_EQ(rig.server().got, "a\0\1x"s);
    EXPECT_EQ(as_text(token.bytes()), held.empty() ? "hold" : held.text());
    answer(rig, token);
    rig.settle();
    return rig.server().got;
  };
  EXPECT_EQ(run([](flow_rig&, hold_token& t) { t.release(); }), "a\0\1xb\0\4holdc\0\1y"s);
  EXPECT_EQ(run([](flow_rig&, hold_token& t) { t.replace("longer"); }), "a\0\1xb\0\6longerc\0\1y"s);
  EXPECT_EQ(run([](flow_rig&, hold_token& t) { t.replace({}); }), "a\0\1xb\0\0c\0\1y"s);
  EXPECT_EQ(run([](flow_rig&, hold_token& t) { t.drop(); }), "a\0\1xc\0\1y"s);
  EXPECT_EQ(run([](flow_rig& r, hold_token&) { r.after(3s); }), "a\0\1xb\0\4holdc\0\1y"s);
  EXPECT_EQ(run([](flow_rig&, hold_token& t) { t.release(); }, "edited"), "a\0\1xb\0\6editedc\0\1y"s);
  EXPECT_EQ(run([](flow_rig&, hold_token& t) { t.replace("again"); }, "edited"), "a\0\1xb\0\5againc\0\1y"s);
  EXPECT_EQ(run([](flow_rig&, hold_token& t) {
              EXPECT_THROW(t.replace(std::string(65536, 'x')), encode_error);
              EXPECT_EQ(as_text(t.bytes()), "hold") << "it is held as before";
              t.release();
            }),
            "a\0\1xb\0\4holdc\0\1y"s);
}

TEST(MessageStage, AResetPassesAHeldMessageAndShowsTheRest) {  // E8
  hold_token token;
  auto made = std::make_unique<lines>();
  made->message = [&](stage_context&, direction, chunk c) {
    return c.text() == "hold" ? verdict::hold(std::move(c), token, 0s, on_expiry::pass) : verdict::pass(std::move(c));
  };
  flow_rig rig{flow_rig::list(std::move(made))};
  rig.open();
  rig.data(side::client, "a\nhold\nb\nhold\nc");
  rig.reset(side::client);
  EXPECT_EQ(rig.server().got, "a\nb\nc");
  EXPECT_TRUE(rig.server().reset);
  EXPECT_TRUE(rig.f.closed());
  EXPECT_FALSE(token);
}

TEST(MessageStage, EachMessageMayBeHeld) {
  const outcome o = same_for_all_cuts<lines>(
      [] {
        auto s = std::make_unique<lines>();
        auto tokens = std::make_shared<std::deque<hold_token>>();
        s->message = [tokens](stage_context& c, direction, chunk line) {
          auto& token = tokens->emplace_back();
          c.call_later(1ms, [&token] { token.release(); });
          return verdict::hold(std::move(line), token, 0s, on_expiry::drop);
        };
        return s;
      },
      "a\n\nb\r\nc\nrest");
  EXPECT_EQ(o.server, "a\n\nb\r\nc\nrest");
  EXPECT_TRUE(o.fin);
}

TEST(MessageStage, BypassCountsFromBehindTheMessage) {  // E12
  const auto skipping = [](stage_context& c, direction d, chunk line) {
    if (line.text() == "skip 5") c.bypass(d, 5);
    for (auto& octet : line.writable()) octet = static_cast<std::uint8_t>(std::toupper(octet));
    return verdict::pass(std::move(line));
  };
  EXPECT_EQ(all_cuts<>(skipping, "a\nskip 5\nb\nc\nde\nf\n").server, "A\nSKIP 5\nb\nc\ndE\nF\n");
  const auto forever = [](stage_context& c, direction d, chunk line) {
    c.bypass(d);
    return verdict::pass(chunk{"LAST " + line.detach()});
  };
  EXPECT_EQ(all_cuts<>(forever, "a\nb\nc").server, "LAST a\nb\nc");
}

TEST(MessageStage, NothingBehindThenCloseLeaves) {
  const auto closing = [](stage_context&, direction, chunk line) {
    if (line.text() == "quit") return verdict::pass(std::move(line)).then_close();
    return verdict::pass(std::move(line));
  };
  const outcome o = all_cuts<>(closing, "a\nquit\r\nb\nc");
  EXPECT_EQ(o.server, "a\nquit\r\n");
  EXPECT_TRUE(o.fin);
  const auto keeping = [](stage_context&, direction, chunk line) {
    if (line.text() == "quit") return verdict::keep("bye", std::move(line)).then_close();
    return verdict::pass(std::move(line));
  };
  EXPECT_EQ(all_cuts<>(keeping, "a\nquit\r\nb\nc").server, "a\nbye\r\nquit\r\n");
}

TEST(MessageStage, AKeptMessageJoinsTheNext) {  // E10
  const auto joining = [](stage_context&, direction, chunk line) {
    if (!line.text().ends_with('\\')) return verdict::pass(std::move(line));
    line.truncate(line.size() - 1);
    return verdict::keep({}, std::move(line), 1, 1s);
  };
  const outcome o = all_cuts<>(joining, "a\nb\\\r\nc\\\nd\r\ne\n");
  EXPECT_EQ(o.server, "a\nbcd\r\ne\n");
  const auto first_out = [](stage_context&, direction, chunk line) {
    if (line.text() != "ab") return verdict::pass(std::move(line));
    chunk a = line.take_front(1);
    return verdict::keep(std::move(a), std::move(line));
  };
  EXPECT_EQ(all_cuts<>(first_out, "ab\nc\r\n").server, "a\nbc\r\n");
  // Nothing comes behind it: unedited, it leaves as it came; edited, framed anew.
  const auto whole = [](stage_context&, direction, chunk line) { return verdict::keep({}, std::move(line)); };
  EXPECT_EQ(all_cuts<>(whole, "ab\r\n").server, "ab\r\n");
  EXPECT_EQ(all_cuts<>(whole, "ab\r\nnot whole").server, "ab\r\nnot whole");
  EXPECT_EQ(all_cuts<>(whole, "\r\n").server, "\r\n");
  EXPECT_EQ(all_cuts<>(joining, "b\\\n").server, "b\r\n");
}

TEST(MessageStage, AKeptMessageExpiresThoughTheNextHasBegun) {  // E10: a drip feed does not renew its time
  auto made = std::make_unique<lines>();
  lines& s = *made;
  s.message = [](stage_context&, direction, chunk line) {
    if (line.text() == "keep") return verdict::keep({}, std::move(line), 1, 100ms);
    return verdict::pass(std::move(line));
  };
  flow_rig rig{flow_rig::list(std::move(made))};
  rig.open();
  rig.data(side::client, "a\nkeep\r\n");
  for (int i = 0; i < 9; ++i) {
    rig.after(10ms);
    rig.data(side::client, "x");
  }
  EXPECT_EQ(rig.server().got, "a\n");
  rig.after(11ms);
  EXPECT_EQ(rig.server().got, "a\nkeep\r\n");
  EXPECT_EQ(s.expired_seen, (std::vector<std::string>{"keep"}));
  rig.data(side::client, "y\n");
  EXPECT_EQ(rig.server().got, "a\nkeep\r\nxxxxxxxxxy\n");
  EXPECT_EQ(s.seen.back(), "xxxxxxxxxy");
}

TEST(MessageStage, NoMessageIsPassedUnframed) {
  struct netstrings : scripted<netstring_framer> {};
  const std::string text = "1:a,2:bc,x1:d,1:e,";
  const outcome o = all_cuts<netstrings>(nullptr, text);
  EXPECT_EQ(o.server, text);
  EXPECT_EQ(o.seen, (std::vector<std::string>{"a", "bc"}));
  EXPECT_EQ(o.errors, (std::vector<std::string>{"netstring at octet 0: bad value"}));
}

TEST(MessageStage, NoMessageCanBeDroppedOrEndTheFlow) {
  using netstrings = scripted<netstring_framer>;
  const auto with = [](netstrings::decide error) {
    return [error] {
      auto s = std::make_unique<netstrings>();
      s->error = error;
      return s;
    };
  };
  const auto dropping = [](stage_context&, direction, chunk rest) { return verdict::drop(std::move(rest), "bad"); };
  outcome o;
  for (const auto& pieces : cuts_of(18)) {
    auto made = with(dropping)();
    flow_rig rig{flow_rig::list(std::move(made))};
    rig.open();
    std::size_t at = 0;
    for (const auto n : pieces) rig.data(side::client, "1:a,2:bc,x1:d,1:e,"s.substr(at, n)), at += n;
    rig.end(side::client);
    ASSERT_EQ(rig.server().got, "1:a,2:bc,") << "whatever the cuts";
    ASSERT_EQ(rig.f.count(direction::to_server).dropped, 9u);
    ASSERT_TRUE(rig.server().fin);
  }
  const auto closing = [](stage_context&, direction, chunk rest) {
    return verdict::drop(std::move(rest), "bad").then_close();
  };
  o = same_for_all_cuts<netstrings>(with(closing), "1:a,x1:d,1:e,", false);
  EXPECT_EQ(o.server, "1:a,");
  EXPECT_TRUE(o.fin);
}

TEST(MessageStage, WhatCannotBeFramedEndsTheFlow) {
  auto made = std::make_unique<lines>();
  made->message = [](stage_context&, direction, chunk) { return verdict::pass("two\r\nlines"); };
  flow_rig rig{flow_rig::list(std::move(made))};
  rig.open();
  rig.data(side::client, "one\n");
  EXPECT_TRUE(rig.f.closed());
  EXPECT_EQ(rig.f.why().how(), ending::failed);
  EXPECT_EQ(rig.f.why().text(), "a line with a line end inside");
  EXPECT_EQ(rig.server().got, "");
}

TEST(MessageStage, ACustomFramerThatLiesIsNoHarm) {
  for (const step lie : {step::frame(0, 0, 0), step::frame(1000, 0, 1), step::frame(2, 3, 1), step::frame(2, 0, 3)}) {
    using custom = scripted<custom_framer>;
    custom_framer f{[lie](byte_view) { return lie; }, [](chunk c, buffer& out) { out.append(std::move(c)); }};
    const outcome o = same_for_all_cuts<custom>([&] { return std::make_unique<custom>(f); }, "octets");
    EXPECT_EQ(o.server, "octets");
    EXPECT_TRUE(o.seen.empty());
  }
}

TEST(MessageStage, AMessageLongerThanItsFlowMayKeepEndsIt) {  // E11
  for (const std::size_t size : {200'000u, 1'000'000u}) {
    auto made = std::make_unique<scripted<length_framer>>(length_framer{{.max = 2'000'000}});
    flow_rig rig{flow_rig::list(std::move(made)), {.high = 150'000, .low = 100'000}};
    rig.open();
    std::string text(size + 4, 'x');
    store_number(reinterpret_cast<std::uint8_t*>(text.data()), size, 4, byte_order::big);
    std::size_t at = 0;
    for (; at < text.size() && !rig.f.closed(); at += 10'000) {
      const auto room = rig.client().room;
      if (!rig.client().reading || room == 0) break;
      rig.data(side::client, std::string_view{text}.substr(at, std::min<std::size_t>(10'000, room)));
    }
    EXPECT_TRUE(rig.f.closed()) << "it must not stand still for ever";
    EXPECT_EQ(rig.f.why().how(), ending::over_limit);
  }
}

TEST(MessageStage, AMessageInManyPiecesIsWhole) {
  auto made = std::make_unique<scripted<length_framer>>();
  auto& s = *made;
  flow_rig rig{flow_rig::list(std::move(made))};
  rig.open();
  std::string text(99'999 + 4, '\0');
  for (std::size_t i = 4; i < text.size(); ++i) text[i] = static_cast<char>(i * 31 + i / 999);
  store_number(reinterpret_cast<std::uint8_t*>(text.data()), 99'999, 4, byte_order::big);
  for (std::size_t at = 0; at < text.size(); at += 1448)
    rig.data(side::client, std::string_view{text}.substr(at, 1448));
  ASSERT_EQ(s.seen.size(), 1u);
  EXPECT_TRUE(s.seen[0] == text.substr(4));
  EXPECT_TRUE(rig.server().got == text);
}

TEST(MessageStage, AnUnfinishedMessageObeysTheLimitOfItsTime) {  // lesson 11, for each message anew
  flow_rig rig{flow_rig::list(std::make_unique<lines>()), {.message = 1s}};
  rig.open();
  for (int i = 0; i < 10; ++i) {
    rig.after(500ms);
    rig.data(side::client, "x\ny");  // each second piece of a message comes in time, though one is always open
  }
  EXPECT_FALSE(rig.f.closed());
  for (int i = 0; i < 10; ++i) {
    rig.after(150ms);
    if (!rig.f.closed()) rig.data(side::client, "z");
  }
  EXPECT_TRUE(rig.f.closed());
  EXPECT_EQ(rig.f.why().how(), ending::timed_out);
}

TEST(Lesson12, AllCutsGiveTheSameMessages) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    random_source text_source{seed};
    std::string text;
    for (int i = 0; i < 12; ++i) {
      text += std::string(text_source.below(6), static_cast<char>('a' + text_source.below(4)));
      text += text_source.one_in(2) ? "\r\n" : "\n";
    }
    // What a stage decides is a function of the message alone.
    const auto deciding = [](stage_context& c, direction d, chunk line) {
      const std::uint64_t dice = hash_text(line.text()) % 9;
      switch (dice) {
        case 0: return verdict::drop(std::move(line), "dice");
        case 1: return verdict::pass("replaced");
        case 2: return verdict::pass(buffer{chunk{"<"}, std::move(line), chunk{">"}});
        case 3: c.inject(d, "injected\n"); return verdict::pass(std::move(line));
        case 4: c.inject(opposite(d), line.detach() + "\n"); return verdict::pass(std::move(line));
        case 5: c.bypass(d, 3); return verdict::pass(std::move(line));
        case 6: return line.size() > 20 ? verdict::pass(std::move(line)) : verdict::keep({}, std::move(line));
        default: return verdict::pass(std::move(line));
      }
    };
    all_cuts<>(deciding, text);
    if (::testing::Test::HasFailure()) break;
  }
}

TEST(Lesson12, TinyMessagesPinNoMemory) {
  // A row of slices of one segment is one chunk again when it leaves: 65,536 messages are one send of one piece.
  flow_rig rig{flow_rig::list(std::make_unique<lines>())};
  rig.open();
  rig.server().capacity = 0;
  rig.data(side::client, std::string(65536, '\n'));
  EXPECT_EQ(rig.server().sends, 1);
  EXPECT_EQ(rig.server().queued.size(), 1u);
  EXPECT_EQ(rig.server().queued_octets, 65536u);
}
