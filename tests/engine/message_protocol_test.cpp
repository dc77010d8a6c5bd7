// Protocols that get messages, over a real transport on a simulated kernel.
#include <midwire/engine/message_protocol.hpp>

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include <midwire/base/chance.hpp>
#include <midwire/proto/framers.hpp>
#include <midwire/testing/sim_reactor.hpp>
#include <midwire/testing/string_transport.hpp>

using namespace midwire;
using namespace midwire::proto;
using namespace std::chrono_literals;
using namespace std::string_literals;
using midwire::testing::string_transport;

namespace {

namespace kit = midwire::testing;

/// A message_protocol made of closures; notes down what it is told, and how deep its callbacks are inside each other.
template <class F>
struct scripted : message_protocol<F> {
  using message_protocol<F>::message_protocol;
  struct inside {
    explicit inside(scripted& s) : p{s} { p.deepest = std::max(p.deepest, ++p.depth); }
    ~inside() { --p.depth; }
    scripted& p;
  };
  void connection_made() override {
    if (made) made();
  }
  void message_received(chunk payload) override {
    const inside mark{*this};
    if (noting) told.push_back(payload.detach());
    if (message) message(std::move(payload));
  }
  void raw_received(chunk octets) override {
    const inside mark{*this};
    if (noting) told.push_back("raw " + octets.detach());
    if (raw) raw(std::move(octets));
  }
  void frame_failed(const parse_error& why) override {
    const inside mark{*this};
    told.push_back("failed: " + text_of(why));
    if (failure)
      failure();
    else
      message_protocol<F>::frame_failed(why);
  }
  void read_connection_lost() override {
    told.push_back("end, " + std::to_string(this->unfinished()) + " unfinished");
    protocol::read_connection_lost();
  }
  std::function<void()> made, failure;
  std::function<void(chunk)> message, raw;
  std::vector<std::string> told;
  int depth = 0, deepest = 0;
  bool noting = true;
};
using lines = scripted<line_framer>;
using told = std::vector<std::string>;

}  // namespace

TEST(MessageProtocol, GetsAndSendsMessages) {
  lines p;
  p.message = [&](chunk line) { p.send_message(chunk{"you said " + line.detach()}); };
  string_transport t{p};
  t.deliver("one\r\ntw");
  EXPECT_EQ(p.told, (told{"one"}));
  EXPECT_EQ(p.unfinished(), 2u);
  t.deliver("o\nthree");
  t.deliver("\n\n");
  EXPECT_EQ(p.told, (told{"one", "two", "three", ""}));
  EXPECT_EQ(t.written(), "you said one\r\nyou said two\r\nyou said three\r\nyou said \r\n");
  t.deliver("rest");
  t.deliver_end();
  EXPECT_EQ(p.told.back(), "end, 4 unfinished");
  EXPECT_TRUE(t.closed());
}

TEST(MessageProtocol, MessagesAreTheSameForAllCuts) {
  const auto all = [](auto framer, const std::string& text, const kit::link_shape& shape) {
    kit::sim_reactor reactor{7, shape};
    auto noted = std::make_shared<told>();
    struct taking : message_protocol<decltype(framer)> {
      taking(decltype(framer) f, std::shared_ptr<told> n) : message_protocol<decltype(framer)>{f}, noted{n} {}
      void message_received(chunk payload) override { noted->push_back(payload.detach()); }
      std::shared_ptr<told> noted;
    };
    auto& port = reactor.listen_tcp(0, factory::of<taking>(framer, noted));
    kit::sim_peer peer{reactor.network()};
    peer.connect(port.host()).send(text).send_end();
    reactor.pump();
    return *noted;
  };
  const auto check = [&](auto framer, const std::string& text, std::size_t messages) {
    const told want = all(framer, text, {});
    EXPECT_EQ(want.size(), messages);
    for (const auto how : {kit::cut::one_octet, kit::cut::primes, kit::cut::random})
      EXPECT_EQ(all(framer, text, {.segments = how}), want);
    for (std::uint64_t at = 1; at < text.size(); ++at)
      EXPECT_EQ(all(framer, text, {.segments = kit::cut::every_position, .position = at}), want) << "cut at " << at;
  };
  check(line_framer{}, "one\r\n\r\ntwo\nthree\r\r\nrest", 4);
  check(delimiter_framer{"--"}, "a--b-c----d-", 3);
  check(length_framer{{.width = 2}}, "\0\3abc\0\0\0\1x\0\5hel"s, 3);
  check(netstring_framer{}, "5:hello,0:,3:a,b,1:", 3);
  check(varint_framer{}, "\3abc\0\1x\5hel"s, 3);
  check(fixed_framer{3}, "abcdefgh", 2);
}

TEST(MessageProtocol, PausedItGetsNothingUntilItResumes) {  // E15, lesson 6
  lines p;
  p.message = [&](chunk line) {
    if (line.text() == "pause") p.transport().pause_reading();
  };
  string_transport t{p};
  t.deliver("a\npause\nb\nc\nhal");
  EXPECT_EQ(p.told, (told{"a", "pause"}));
  t.deliver("f\n");
  t.deliver_end();
  EXPECT_EQ(p.told.size(), 2u);
  p.transport().resume_reading();
  t.advance(0s);
  EXPECT_EQ(p.told, (told{"a", "pause", "b", "c", "half", "end, 0 unfinished"})) << "without new octets";
}

TEST(MessageProtocol, PausedAndResumedInsideAMessageItGoesOn) {
  lines p;
  p.message = [&](chunk) {
    p.transport().pause_reading();
    p.transport().resume_reading();
  };
  string_transport t{p};
  t.deliver("a\nb\nc\n");
  EXPECT_EQ(p.told, (told{"a", "b", "c"}));
  EXPECT_EQ(p.deepest, 1);
}

TEST(MessageProtocol, NothingComesBehindLoseConnection) {
  for (const bool abort : {false, true}) {
    lines p;
    p.message = [&](chunk line) {
      if (line.text() != "quit") return;
      p.send_message("bye");
      if (abort)
        p.transport().abort_connection();
      else
        p.transport().lose_connection();
    };
    string_transport t{p};
    t.deliver("a\nquit\nb\nc\n");
    t.deliver("d\n");
    EXPECT_EQ(p.told, (told{"a", "quit"}));
    EXPECT_EQ(t.written(), abort ? "" : "bye\r\n");
    EXPECT_TRUE(abort ? t.closed() : t.disconnecting());
  }
}

TEST(MessageProtocol, RawOctetsAndBack) {
  lines p;
  std::size_t wanted = 0;
  p.message = [&](chunk line) {
    if (!line.text().starts_with("DATA ")) return;
    wanted = std::stoul(line.detach().substr(5));
    p.set_raw();
  };
  p.raw = [&](chunk octets) {
    octets.drop_front(std::min(wanted, octets.size()));
    wanted -= std::min(wanted, p.told.back().size() - 4);
    if (wanted == 0) p.set_framed(std::move(octets));
  };
  string_transport t{p};
  t.deliver("x\nDATA 5\nab");
  t.deliver("c\ndNEXT\nDATA 1\n");
  t.deliver("zlast\n");
  EXPECT_EQ(p.told, (told{"x", "DATA 5", "raw ab", "raw c\ndNEXT\nDATA 1\n", "NEXT", "DATA 1", "raw zlast\n", "last"}));
  EXPECT_EQ(p.deepest, 1) << "set_raw and set_framed call nothing";
}

TEST(MessageProtocol, TheModeCanChangeBetweenTwoReads) {
  lines p;
  string_transport t{p};
  t.deliver("a\nhalf");
  p.set_raw();
  EXPECT_EQ(p.told, (told{"a"})) << "nothing is called from inside (E16)";
  t.advance(0s);
  EXPECT_EQ(p.told, (told{"a", "raw half"}));
  t.deliver("more\n");
  p.set_framed("again\nand ");
  EXPECT_EQ(p.told.size(), 3u);
  t.advance(0s);
  EXPECT_EQ(p.told.back(), "again");
  t.deliver("again\n");
  EXPECT_EQ(p.told, (told{"a", "raw half", "raw more\n", "again", "and again"}));
}

TEST(MessageProtocol, WhatIsNoMessageClosesByDefault) {
  scripted<netstring_framer> p;
  string_transport t{p};
  t.deliver("1:a,x1:b,1:c,");
  t.deliver("1:d,");
  EXPECT_EQ(p.told, (told{"a", "failed: netstring at octet 0: bad value"}));
  EXPECT_TRUE(t.disconnecting());
}

TEST(MessageProtocol, TooLongALineIsToldBeforeItIsStored) {
  lines p{line_framer{100}};
  string_transport t{p};
  t.deliver(std::string(101, 'x'));
  EXPECT_EQ(p.told, (told{"failed: line at octet 100: too long: 101 octets, at most 100"}));
  EXPECT_EQ(p.unfinished(), 0u);
}

TEST(MessageProtocol, AfterAFailureOctetsAreDroppedOrRawOrFramedAnew) {
  const auto run = [](const std::function<void(scripted<netstring_framer>&)>& answer) {
    scripted<netstring_framer> p;
    p.failure = [&] { answer(p); };
    string_transport t{p};
    t.deliver("1:a,bad");
    t.deliver("1:b,");
    return p.told;
  };
  const std::string why = "failed: netstring at octet 0: bad value";
  EXPECT_EQ(run([](auto&) {}), (told{"a", why}));
  EXPECT_EQ(run([](auto& p) { p.set_raw(); }), (told{"a", why, "raw bad", "raw 1:b,"}));
  EXPECT_EQ(run([](auto& p) { p.set_framed(); }), (told{"a", why, "b"}));
  EXPECT_EQ(run([](auto& p) { p.set_framed("1:x,"); }), (told{"a", why, "x", "b"}));
}

TEST(MessageProtocol, WhatCannotBeFramedIsAnExceptionAndSendsNothing) {
  lines p;
  std::string caught;
  p.message = [&](chunk line) {
    try {
      p.send_message("two\nlines");
    } catch (const encode_error& e) { caught = e.what(); }
    if (line.text() == "let it go") p.send_message("two\nlines");
  };
  string_transport t{p};
  t.deliver("a\n");
  EXPECT_EQ(caught, "a line with a line end inside");
  EXPECT_EQ(t.written(), "");
  EXPECT_FALSE(t.closed());
  t.deliver("let it go\n");  // E22
  EXPECT_TRUE(t.closed());
  EXPECT_EQ(t.why().how(), ending::failed);
}

TEST(MessageProtocol, ALongMessageInManyPieces) {
  scripted<length_framer> p;
  string_transport t{p};
  std::string text(99'999 + 4, '\0');
  for (std::size_t i = 4; i < text.size(); ++i) text[i] = static_cast<char>(i * 31 + i / 999);
  store_number(reinterpret_cast<std::uint8_t*>(text.data()), 99'999, 4, byte_order::big);
  for (std::size_t at = 0; at < text.size(); at += 1448) t.deliver(text.substr(at, 1448));
  ASSERT_EQ(p.told.size(), 1u);
  EXPECT_TRUE(p.told[0] == text.substr(4));
  EXPECT_EQ(p.unfinished(), 0u);
}

TEST(MessageProtocol, ItsOctetsCanBeEditedAndSentOn) {
  struct shout : line_receiver {
    void message_received(chunk line) override {
      for (auto& octet : line.writable()) octet = static_cast<std::uint8_t>(std::toupper(octet));
      send_message(std::move(line));
    }
  } p;
  string_transport t{p};
  t.deliver("one\ntwo\nthree\n");
  EXPECT_EQ(t.written(), "ONE\r\nTWO\r\nTHREE\r\n");
}

TEST(MessageProtocol, ACustomFramerThatLiesIsNoHarm) {
  for (const step lie : {step::frame(0, 0, 0), step::frame(1000, 0, 1), step::frame(2, 3, 1)}) {
    scripted<custom_framer> p{custom_framer{[lie](byte_view) { return lie; }, [](chunk, buffer&) {}}};
    string_transport t{p};
    t.deliver("octets");
    EXPECT_EQ(p.told, (told{"failed: message at octet 0: bad length: need 0, have 0"}));
  }
}

TEST(Lesson12, SetRawFromMessageReceivedDoesNotRecurse) {
  constexpr int rounds = 100'000;
  lines p;
  p.noting = false;
  int messages = 0, raws = 0;
  p.message = [&](chunk) {
    ++messages;
    p.set_raw();
  };
  p.raw = [&](chunk octets) {
    ++raws;
    octets.drop_front(1);
    p.set_framed(std::move(octets));
  };
  string_transport t{p};
  std::string text;
  for (int i = 0; i < rounds; ++i) text += "x\n!";
  t.deliver(text);
  EXPECT_EQ(messages, rounds);
  EXPECT_EQ(raws, rounds);
  EXPECT_EQ(p.deepest, 1);
}

TEST(Lesson12, ManyEmptyLinesInOneRead) {
  lines p;
  p.noting = false;
  std::size_t messages = 0;
  p.message = [&](chunk) { ++messages; };
  string_transport t{p};
  t.deliver(std::string(1 << 20, '\n'));
  EXPECT_EQ(messages, std::size_t{1} << 20);
  EXPECT_EQ(p.deepest, 1);
}
