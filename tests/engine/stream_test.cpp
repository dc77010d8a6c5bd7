// stream: reads at every cut, ends, back-pressure, and reads that are cancelled.
#include <midwire/engine/stream.hpp>

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <midwire/engine.hpp>
#include <midwire/testing/sim_reactor.hpp>

namespace midwire {
namespace {

using namespace std::chrono_literals;
using testing::cut;
using testing::link_shape;
using testing::sim_peer;
using testing::sim_reactor;
using lines = std::vector<std::string>;

/// A reactor and the far end of what it opens.
struct rig {
  explicit rig(link_shape shape = {}) : r{1, shape} { peer.listen(); }
  std::string at() const { return "tcp://" + peer.host().text(); }
  sim_reactor r;
  sim_peer peer{r.network()};
};

std::string printable(const reason_error& e) { return "! " + std::string{name_of(e.how())}; }

const cut every_cut[] = {cut::as_sent, cut::one_octet, cut::primes, cut::every_position, cut::random};

}  // namespace

TEST(Stream, ReadsTheSameHoweverTheOctetsAreCut) {
  const std::string input = "first line\r\nsecond\r\n\r\n0123456789tail\r\nthe rest of it";
  const auto body = [](reactor& r, std::string at, lines& out) -> task<> {
    stream s = co_await r.open(at);
    out.push_back("line " + (co_await s.read_until("\r\n", 100)).detach());
    out.push_back("line " + (co_await s.read_until("\r\n", 100)).detach());
    out.push_back("line " + (co_await s.read_until("\r\n", 100)).detach());
    out.push_back("ten " + (co_await s.read_exactly(10)).text());
    out.push_back("none " + (co_await s.read_exactly(0)).text());
    out.push_back("line " + (co_await s.read_until("\r\n", 100)).detach());
    out.push_back("end " + std::to_string((co_await s.read_until("\r\n", 100)).empty()));
    out.push_back("end " + std::to_string((co_await s.read_exactly(16)).empty()));
    std::string rest;
    for (;;) {
      const chunk some = co_await s.read_some();
      if (some.empty()) break;
      rest += some.text();
    }
    out.push_back("rest " + rest);
    out.push_back("end " + std::to_string((co_await s.read_some()).empty()));
  };
  const lines want{"line first line\r\n", "line second\r\n", "line \r\n", "ten 0123456789",      "none ",
                   "line tail\r\n",       "end 1",           "end 1",     "rest the rest of it", "end 1"};
  for (const cut c : every_cut) {
    const std::size_t positions = c == cut::every_position ? input.size() : 1;
    for (std::size_t at = 1; at <= positions; ++at) {
      rig g{{.segments = c, .position = at}};
      lines log;
      g.r.spawn(body(g.r, g.at(), log));
      g.peer.send(input).send_end();
      g.r.pump();
      EXPECT_EQ(log, want) << "cut " << int(c) << " at " << at;
      EXPECT_EQ(g.r.failures(), 0u);
    }
  }
}

TEST(Stream, ALineThatIsTooLongStaysUnread) {
  rig g;
  lines log;
  g.r.spawn([](reactor& r, std::string at, lines& out) -> task<> {
    stream s = co_await r.open(at);
    for (int i = 0; i < 2; ++i) {
      try {
        co_await s.read_until("\n", 10);
      } catch (const reason_error& e) { out.push_back(printable(e)); }
    }
    out.push_back((co_await s.read_until("\n", 13)).detach());
    out.push_back((co_await s.read_until("\n", 13)).detach());
  }(g.r, g.at(), log));
  g.peer.send("0123456789ab\nnext\n");
  g.r.pump();
  EXPECT_EQ(log, (lines{"! over_limit", "! over_limit", "0123456789ab\n", "next\n"}));
}

TEST(Stream, ADelimiterAcrossTheCutIsFound) {
  for (std::size_t at = 1; at < 12; ++at) {
    rig g{{.segments = cut::every_position, .position = at}};
    lines log;
    g.r.spawn([](reactor& r, std::string where, lines& out) -> task<> {
      stream s = co_await r.open(where);
      out.push_back((co_await s.read_until("--ab--", 64)).detach());
      out.push_back((co_await s.read_some()).detach());
    }(g.r, g.at(), log));
    g.peer.send("x--a--ab--yz");
    g.r.pump();
    ASSERT_EQ(log.at(0), "x--a--ab--") << at;
    ASSERT_TRUE(log.at(1) == "yz" || log.at(1) == "y") << at;
  }
}

TEST(Stream, Lesson19AReadThatIsCancelledAtAnyOctetLosesNone) {
  // The peer sends an octet each millisecond; the reader gives up after each, and asks for the same again.
  const std::string input = "one\r\ntwo\r\n12345three\r\n";
  struct reads {
    static task<chunk> line(stream& s) { co_return co_await s.read_until("\r\n", 64); }
    static task<buffer> five(stream& s) { co_return co_await s.read_exactly(5); }
  };
  for (const duration patience : {duration{100us}, duration{1ms}, duration{1500us}, duration{3ms}, duration{7ms}}) {
    rig g;
    lines log;
    int gave_up = 0;
    g.r.spawn([](reactor& r, std::string at, lines& out, duration d, int& n) -> task<> {
      stream s = co_await r.open(at);
      for (const char* what : {"line", "line", "five", "line"}) {
        for (;;) {
          if (std::string_view{what} == "five") {
            if (auto got = co_await within(d, reads::five(s))) {
              out.push_back(got->text());
              break;
            }
          } else if (auto got = co_await within(d, reads::line(s))) {
            out.push_back(got->detach());
            break;
          }
          ++n;
        }
      }
    }(g.r, g.at(), log, patience, gave_up));
    g.r.pump();
    for (const char octet : input) {
      g.peer.send(std::string_view{&octet, 1});
      g.r.advance(1ms);
    }
    g.r.advance(10ms);
    EXPECT_EQ(log, (lines{"one\r\n", "two\r\n", "12345", "three\r\n"})) << patience.count();
    EXPECT_GT(gave_up, 0);
  }
}

namespace {
/// One message, in a task of its own: what is dropped when time runs out.
template <class F>
task<std::optional<chunk>> next_of(stream& s, F& framer) {
  co_return co_await s.next(framer);
}
/// Reads messages to the end, giving up after each `patience`.
template <class F>
task<> read_messages(reactor& r, std::string at, F framer, duration patience, lines& out, int& gave_up) {
  stream s = co_await r.open(at);
  for (;;) {
    auto got = co_await within(patience, next_of(s, framer));
    if (!got) {
      ++gave_up;
      continue;
    }
    if (!*got) break;
    out.push_back((*got)->detach());
  }
  out.push_back("end, " + std::to_string(s.unread()) + " left");
}

/// The input, an octet each millisecond, to a reader that gives up again and again.
template <class F>
void drip(const std::string& input, const F& framer, const lines& want) {
  for (const duration patience : {duration{100us}, duration{999us}, duration{1ms}, duration{1500us}, duration{5ms}}) {
    rig g;
    lines log;
    int gave_up = 0;
    g.r.spawn(read_messages(g.r, g.at(), framer, patience, log, gave_up));
    g.r.pump();
    for (const char octet : input) {
      g.peer.send(std::string_view{&octet, 1});
      g.r.advance(1ms);
    }
    g.peer.send_end();
    g.r.advance(10ms);
    EXPECT_EQ(log, want) << patience.count();
    EXPECT_GT(gave_up, 0);
  }
}
}  // namespace

TEST(Stream, Lesson19EveryMessageOnceThoughNextIsCancelledAtEachOctet) {
  drip("one\r\n\r\nthree is longer\nfour\r\nfi", proto::line_framer{},
       {"one", "", "three is longer", "four", "end, 2 left"});
  drip("3:abc,0:,12:hello world!,", proto::netstring_framer{}, {"abc", "", "hello world!", "end, 0 left"});
  drip(std::string{"\0\3abc\0\0\0\5hello\0", 15}, proto::length_framer{{.width = 2}},
       {"abc", "", "hello", "end, 1 left"});
}

TEST(Stream, Lesson19GivingUpAtEachMomentOfAMessage) {
  // Cancelled once, before each event of a reading, and never again: the others come as if nothing had been.
  for (int at = 0; at < 40; ++at) {
    rig g{{.segments = cut::one_octet}};
    lines log;
    int gave_up = 0;
    g.r.spawn([](reactor& r, std::string where, duration first, lines& out, int& n) -> task<> {
      stream s = co_await r.open(where);
      proto::line_framer framer;
      for (duration d = first;; d = 1h) {
        auto got = co_await within(d, next_of(s, framer));
        if (!got) {
          ++n;
          continue;
        }
        if (!*got) break;
        out.push_back((*got)->detach());
      }
    }(g.r, g.at(), at * 500us, log, gave_up));
    g.r.pump();
    for (const char octet : std::string{"alpha\r\nbeta\r\n"}) {
      g.peer.send(std::string_view{&octet, 1});
      g.r.advance(1ms);
    }
    g.peer.send_end();
    g.r.advance(1s);
    EXPECT_EQ(log, (lines{"alpha", "beta"})) << at;
  }
}

TEST(Stream, MessagesAreTheSameHoweverTheyAreCut) {
  const std::string input = "one\r\ntwo\n\n" + std::string(5000, 'x') + "\r\nlast\r\n";
  const lines want{"one", "two", "", std::string(5000, 'x'), "last", "end, 0 left"};
  for (const cut c : every_cut)
    for (std::size_t at = 1; at <= (c == cut::every_position ? 20u : 1u); ++at) {
      rig g{{.segments = c, .position = at}};
      lines log;
      int gave_up = 0;
      g.r.spawn(read_messages(g.r, g.at(), proto::line_framer{}, 1h, log, gave_up));
      g.peer.send(input).send_end();
      g.r.pump();
      EXPECT_EQ(log, want) << int(c) << " " << at;
    }
}

TEST(Stream, AFramerBeginsAnewWhenSomebodyElseHasRead) {
  rig g;
  lines log;
  g.r.spawn([](reactor& r, std::string at, lines& out) -> task<> {
    stream s = co_await r.open(at);
    proto::line_framer framer;
    auto got = co_await within(1s, next_of(s, framer));
    out.push_back(got ? "?" : "gave up");
    out.push_back((co_await s.read_exactly(20)).text());
    out.push_back((co_await s.next(framer)).value().detach());
  }(g.r, g.at(), log));
  g.peer.send("these are 20 octets.");
  g.r.advance(2s);
  g.peer.send("a\nrest");
  g.r.advance(1s);
  EXPECT_EQ(log, (lines{"gave up", "these are 20 octets.", "a"}));
}

TEST(Stream, WhatAFramerRefusesStaysUnread) {
  rig g;
  lines log;
  g.r.spawn([](reactor& r, std::string at, lines& out) -> task<> {
    stream s = co_await r.open(at);
    proto::netstring_framer framer;
    out.push_back((co_await s.next(framer)).value().detach());
    for (int i = 0; i < 2; ++i) {
      try {
        co_await s.next(framer);
        out.push_back("?");
      } catch (const reason_error& e) {
        out.push_back(printable(e));
        EXPECT_EQ(e.code(), std::errc::bad_message);
      }
    }
    out.push_back((co_await s.read_some()).detach());
  }(g.r, g.at(), log));
  g.peer.send("2:ok,x:y");
  g.r.pump();
  EXPECT_EQ(log, (lines{"ok", "! failed", "! failed", "x:y"}));
}

TEST(Stream, AFramerThatThrowsThrowsIntoItsCoroutine) {
  struct thrower {
    proto::step next(byte_view seen) {
      if (seen.size() < 3) return proto::step::need_more(3 - seen.size());
      throw std::runtime_error{"framer"};
    }
    void encode(chunk, buffer&) {}
    void reset() {}
  };
  rig g{{.segments = cut::one_octet}};
  lines log;
  g.r.spawn([](reactor& r, std::string at, lines& out) -> task<> {
    stream s = co_await r.open(at);
    thrower framer;
    try {
      co_await s.next(framer);
    } catch (const std::runtime_error& e) { out.push_back(e.what()); }
    out.push_back(std::to_string(s.unread()));
  }(g.r, g.at(), log));
  g.r.pump();
  g.peer.send("abc");
  g.r.pump();
  EXPECT_EQ(log, (lines{"framer", "3"}));
}

TEST(Stream, Lesson12ManyMessagesInOneReadTakeLinearTime) {
  // Counted, not timed: how many octets the framer was shown in all.
  struct counting {
    proto::step next(byte_view seen) {
      shown += std::min<std::size_t>(seen.size(), 64);
      return inner.next(seen);
    }
    void encode(chunk c, buffer& out) { inner.encode(std::move(c), out); }
    void reset() {
      ++resets;
      inner.reset();
    }
    proto::line_framer inner{};
    std::size_t shown = 0, resets = 0;
  };
  rig g;
  int messages = 0;
  std::size_t resets = 0;
  g.r.spawn([](reactor& r, std::string at, int& n, std::size_t& again) -> task<> {
    stream s = co_await r.open(at);
    counting framer;
    while (co_await s.next(framer)) ++n;
    again = framer.resets;
  }(g.r, g.at(), messages, resets));
  std::string input;
  for (int i = 0; i < 50'000; ++i) input += "line\n";
  g.peer.send(input).send_end();
  g.r.pump();
  EXPECT_EQ(messages, 50'000);
  EXPECT_LE(resets, 1u) << "only before the first";
}

TEST(Stream, AnotherReaderGoesOnWhereACancelledOneStopped) {
  rig g;
  lines log;
  g.r.spawn([](reactor& r, std::string at, lines& out) -> task<> {
    stream s = co_await r.open(at);
    const auto ten = [](stream& from) -> task<buffer> { co_return co_await from.read_exactly(10); };
    const auto got = co_await within(5s, ten(s));
    out.push_back(got ? "?" : "gave up with " + std::to_string(s.unread()));
    out.push_back((co_await s.read_some()).detach());
  }(g.r, g.at(), log));
  g.peer.send("abcde");
  g.r.advance(1min);
  EXPECT_EQ(log, (lines{"gave up with 5", "abcde"}));
}

TEST(Stream, SeveralReadersAreServedInTheirOrder) {
  rig g;
  lines log;
  const auto reader = [](stream& s, lines& out, std::string name, std::size_t n) -> task<> {
    const buffer got = co_await s.read_exactly(n);
    out.push_back(name + got.text());
  };
  g.r.spawn([](reactor& r, std::string at, lines& out, auto& read) -> task<> {
    stream s = co_await r.open(at);
    co_await when_all(read(s, out, "a ", 4), read(s, out, "b ", 2), read(s, out, "c ", 1));
  }(g.r, g.at(), log, reader));
  g.r.pump();
  for (const char* piece : {"12", "3", "45", "6", "7"}) {
    g.peer.send(piece);
    g.r.pump();
  }
  EXPECT_EQ(log, (lines{"a 1234", "b 56", "c 7"}));
}

TEST(Stream, AResetIsThrownBehindWhatCameBeforeIt) {
  rig g;
  lines log;
  g.r.spawn([](reactor& r, std::string at, lines& out) -> task<> {
    stream s = co_await r.open(at);
    try {
      for (;;) {
        const chunk some = co_await s.read_some();
        out.push_back(some.detach());
        if (some.empty()) break;
      }
    } catch (const reason_error& e) { out.push_back(printable(e)); }
    for (int i = 0; i < 2; ++i) {
      try {
        if (i == 0)
          co_await s.write("x");
        else
          co_await s.drain();
        out.push_back("?");
      } catch (const reason_error& e) { out.push_back(printable(e)); }
    }
    EXPECT_EQ(s.transport(), nullptr);
  }(g.r, g.at(), log));
  g.peer.send("before");
  g.r.pump();
  g.peer.reset();
  g.r.pump();
  EXPECT_EQ(log, (lines{"before", "! reset", "! reset", "! reset"}));
}

TEST(Stream, HalfClosedItStillReads) {
  rig g;
  lines log;
  g.r.spawn([](reactor& r, std::string at, lines& out) -> task<> {
    stream s = co_await r.open(at);
    co_await s.write("question");
    s.close_write();
    try {
      co_await s.write("more");
      out.push_back("?");
    } catch (const reason_error& e) { out.push_back(printable(e)); }
    co_await s.drain();
    out.push_back("drained");
    out.push_back((co_await s.read_some()).detach());
    out.push_back("end " + std::to_string((co_await s.read_some()).empty()));
  }(g.r, g.at(), log));
  g.r.pump();
  EXPECT_EQ(g.peer.received(), "question");
  EXPECT_TRUE(g.peer.saw_end());
  g.peer.send("answer");
  g.r.pump();
  g.peer.send_end();
  g.r.pump();
  EXPECT_EQ(log, (lines{"! aborted", "drained", "answer", "end 1"}));
}

TEST(Stream, DroppedItFlushesAndCloses) {
  rig g;
  g.r.spawn([](reactor& r, std::string at) -> task<> {
    stream s = co_await r.open(at);
    co_await s.write(std::string(300'000, 'a'));
    co_await s.write("end");
  }(g.r, g.at()));
  g.r.pump();
  EXPECT_EQ(g.peer.received().size(), 300'003u);
  EXPECT_TRUE(g.peer.saw_end());
  EXPECT_FALSE(g.peer.saw_reset());
}

TEST(Stream, AbortResets) {
  rig g;
  lines log;
  g.r.spawn([](reactor& r, std::string at, lines& out) -> task<> {
    stream s = co_await r.open(at);
    s.abort();
    try {
      co_await s.read_some();
      out.push_back("?");
    } catch (const reason_error& e) { out.push_back(printable(e)); }
  }(g.r, g.at(), log));
  g.r.pump();
  EXPECT_TRUE(g.peer.saw_reset());
  EXPECT_EQ(log, lines{"! aborted"});
}

TEST(Stream, CloseEndsAReadThatWaits) {
  rig g;
  lines log;
  g.r.spawn([](reactor& r, std::string at, lines& out) -> task<> {
    stream s = co_await r.open(at);
    const auto read = [](stream& from, lines& o) -> task<> {
      o.push_back("end " + std::to_string((co_await from.read_some()).empty()));
    };
    const auto close = [](reactor& l, stream& it) -> task<> {
      co_await l.sleep(1s);
      it.close();
    };
    co_await when_all(read(s, out), close(r, s));
  }(g.r, g.at(), log));
  g.r.advance(1min);
  EXPECT_EQ(log, lines{"end 1"});
}

TEST(Stream, AReaderThatDoesNotReadStopsItsPeer) {
  rig g;
  lines log;
  g.r.spawn([](reactor& r, std::string at, lines& out) -> task<> {
    stream s = co_await r.open(at);
    co_await r.sleep(10s);
    out.push_back(s.unread() <= 2 * 128 * 1024 ? "bounded" : std::to_string(s.unread()));
    std::size_t all = 0;
    for (;;) {
      const chunk some = co_await s.read_some();
      if (some.empty()) break;
      all += some.size();
    }
    out.push_back(std::to_string(all));
  }(g.r, g.at(), log));
  g.peer.send(std::string(4'000'000, 'x')).send_end();
  g.r.advance(5s);
  EXPECT_GT(g.peer.unsent(), 3'000'000u);
  g.r.advance(1min);
  EXPECT_EQ(log, (lines{"bounded", "4000000"}));
}

TEST(Stream, AReadMayAskForMoreThanTheMark) {
  for (const cut c : {cut::as_sent, cut::primes}) {
    rig g{{.segments = c}};
    lines log;
    g.r.spawn([](reactor& r, std::string at, lines& out) -> task<> {
      stream s = co_await r.open(at);
      co_await r.sleep(1s);
      out.push_back(std::to_string((co_await s.read_exactly(1'000'000)).size()));
      out.push_back(std::to_string((co_await s.read_until("!", 1'000'000)).size()));
      out.push_back(std::to_string((co_await s.read_exactly(1)).size()));
    }(g.r, g.at(), log));
    g.peer.send(std::string(1'000'000, 'x') + std::string(600'000, 'y') + "!z").send_end();
    g.r.advance(1min);
    EXPECT_EQ(log, (lines{"1000000", "600001", "1"}));
  }
}

TEST(Stream, AWriterWaitsForASlowPeer) {
  rig g;
  lines log;
  int written = 0;
  g.r.spawn([](reactor& r, std::string at, lines& out, int& n) -> task<> {
    stream s = co_await r.open(at);
    for (; n < 100; ++n) co_await s.write(std::string(64 * 1024, static_cast<char>('a' + n % 26)));
    co_await s.drain();
    out.push_back("drained");
  }(g.r, g.at(), log, written));
  g.peer.stop_reading();
  g.r.advance(1s);
  EXPECT_LT(written, 12) << "256 KiB, the window and what was on its way";
  EXPECT_GT(written, 3);
  g.peer.start_reading();
  g.r.advance(1s);
  EXPECT_EQ(written, 100);
  EXPECT_EQ(log, lines{"drained"});
  std::string want;
  for (int i = 0; i < 100; ++i) want += std::string(64 * 1024, static_cast<char>('a' + i % 26));
  EXPECT_TRUE(g.peer.received() == want);
}

TEST(Stream, Lesson19ACancelledWriteIsQueuedWholeOrNotAtAll) {
  rig g;
  std::string want;
  int gave_up = 0, left = 200;
  struct writes {
    static task<> one(stream& s, std::string text) { co_await s.write(std::move(text)); }
  };
  g.r.spawn([](reactor& r, std::string at, std::string& expected, int& lost, int& n) -> task<> {
    stream s = co_await r.open(at);
    for (; n > 0; --n) {
      std::string text = "<" + std::to_string(n) + std::string(20'000, 'm') + ">";
      if (co_await within(1ms, writes::one(s, text)))
        expected += text;
      else
        ++lost;
    }
    co_await s.drain();
  }(g.r, g.at(), want, gave_up, left));
  g.peer.stop_reading();
  g.r.pump();
  bool on = false;
  for (int i = 0; i < 400; ++i) {
    if (i % 10 == 0) { (on = !on) ? g.peer.stop_reading() : g.peer.start_reading(); }
    g.r.advance(300us);
  }
  g.peer.start_reading();
  g.r.advance(1s);
  EXPECT_EQ(left, 0);
  EXPECT_GT(gave_up, 0);
  EXPECT_TRUE(g.peer.received() == want) << g.peer.received().size() << " of " << want.size();
}

TEST(Stream, DrainWaitsForWhatIsUnsent) {
  rig g;
  lines log;
  g.r.spawn([](reactor& r, std::string at, lines& out) -> task<> {
    stream s = co_await r.open(at);
    co_await s.drain();
    out.push_back("nothing yet");
    co_await s.write(std::string(200'000, 'x'));
    co_await s.drain();
    out.push_back("drained");
    co_await s.write("y");
    s.close();
    co_await s.drain();
    out.push_back("gone");
  }(g.r, g.at(), log));
  g.peer.stop_reading();
  g.r.advance(1s);
  EXPECT_EQ(log, lines{"nothing yet"});
  g.peer.start_reading();
  g.r.advance(1s);
  EXPECT_EQ(log, (lines{"nothing yet", "drained"})) << "the peer has not ended";
  g.peer.send_end();
  g.r.advance(1s);
  EXPECT_EQ(log.back(), "gone");
}

TEST(Stream, OpenFails) {
  sim_reactor r;
  lines log;
  r.names().fail("nowhere.test", reason{ending::refused, {}, "no such name"});
  r.spawn([](reactor& l, lines& out) -> task<> {
    for (std::string where : {"tcp://127.0.0.1:1", "tcp://nowhere.test:80"}) {
      try {
        stream s = co_await l.open(where);
        out.push_back("?");
      } catch (const reason_error& e) { out.push_back(printable(e)); }
    }
    try {
      stream s = co_await l.open("tcp://no port");
      out.push_back("?");
    } catch (const std::system_error& e) { out.push_back("system_error"); }
  }(r, log));
  r.advance(1min);
  EXPECT_EQ(log, (lines{"! refused", "! refused", "system_error"}));
}

TEST(Stream, OpeningCanBeGivenUp) {
  sim_reactor r;
  lines log;
  r.names().never("n.test");
  r.spawn([](reactor& l, lines& out) -> task<> {
    const auto open = [](reactor& loop) -> task<stream> { co_return co_await loop.open("tcp://n.test:80"); };
    const auto got = co_await within(1s, open(l));
    out.push_back(got ? "?" : "gave up");
  }(r, log));
  r.pump();
  EXPECT_EQ(r.names().waiting(), 1u);
  r.advance(2s);
  EXPECT_EQ(log, lines{"gave up"});
  EXPECT_EQ(r.names().waiting(), 0u);
}

TEST(Stream, MayOutliveItsReactor) {
  std::unique_ptr<stream> s;
  {
    rig g;
    g.r.spawn([](reactor& r, std::string at, std::unique_ptr<stream>& out) -> task<> {
      out = std::make_unique<stream>(co_await r.open(at));
      co_await r.sleep(1h);
    }(g.r, g.at(), s));
    g.peer.send("unread");
    g.r.pump();
    EXPECT_EQ(s->unread(), 6u);
  }
  EXPECT_EQ(s->transport(), nullptr);
  s->close();
}

// ---- serving

namespace {
lines served;
task<> shout(stream s) {
  for (;;) {
    chunk line = co_await s.read_until("\n", 100);
    if (line.empty()) break;
    for (auto& octet : line.writable()) octet = static_cast<std::uint8_t>(std::toupper(octet));
    co_await s.write(std::move(line));
  }
  served.push_back("left " + std::to_string(s.unread()));
}
}  // namespace

TEST(Serve, EachConnectionByACoroutine) {
  for (const cut c : every_cut) {
    served.clear();
    sim_reactor r{1, {.segments = c}};
    auto& port = r.listen("tcp://127.0.0.1:0", shout);
    sim_peer a{r.network()}, b{r.network()};
    a.connect(port.host()).send("one\ntwo\n");
    b.connect(port.host()).send("three\nfo");
    r.pump();
    EXPECT_EQ(a.received(), "ONE\nTWO\n");
    EXPECT_EQ(b.received(), "THREE\n");
    a.send_end();
    b.send("ur\nfive").send_end();
    r.pump();
    EXPECT_EQ(b.received(), "THREE\nFOUR\n");
    EXPECT_TRUE(a.saw_end() && b.saw_end());
    EXPECT_FALSE(a.saw_reset() || b.saw_reset());
    EXPECT_EQ(served, (lines{"left 0", "left 4"}));
    EXPECT_EQ(r.failures(), 0u);
  }
}

TEST(Serve, AnExceptionResetsItsConnectionAndNoOther) {  // E22
  sim_reactor r;
  set_log([](int, std::string_view) {});
  auto& port = r.listen("tcp://127.0.0.1:0", [](stream s) -> task<> {
    const chunk c = co_await s.read_some();
    if (c.text() == "bad") throw std::runtime_error{"nonsense"};
    co_await s.write("fine");
    co_await s.read_some();
  });
  sim_peer good{r.network()}, bad{r.network()};
  good.connect(port.host()).send("good");
  bad.connect(port.host()).send("bad");
  r.pump();
  set_log({});
  EXPECT_TRUE(bad.saw_reset());
  EXPECT_EQ(good.received(), "fine");
  EXPECT_FALSE(good.saw_reset() || good.saw_end());
  EXPECT_EQ(r.failures(), 1u);
}

TEST(Serve, APeersResetIsNoFailureOfOurs) {
  sim_reactor r;
  lines log;
  set_log([&](int level, std::string_view line) {
    if (level > 0) log.emplace_back(line);
  });
  auto& port = r.listen("tcp://127.0.0.1:0", [](stream s) -> task<> { co_await s.read_some(); });
  sim_peer p{r.network()};
  p.connect(port.host());
  r.pump();
  p.reset();
  r.pump();
  set_log({});
  EXPECT_EQ(r.failures(), 0u);
  EXPECT_EQ(log, lines{});
}

TEST(Serve, OverUnixSocketsOfTheKernel) {
  char folder[] = "/tmp/midwire-stream-XXXXXX";
  ASSERT_TRUE(::mkdtemp(folder));
  const std::string path = std::string{folder} + "/s";
  {
    reactor r;
    lines log;
    r.listen("unix:" + path, [](stream s) -> task<> {
      for (;;) {
        chunk some = co_await s.read_some();
        if (some.empty()) co_return;
        co_await s.write(std::move(some));
      }
    });
    r.spawn([](reactor& l, std::string at, lines& out) -> task<> {
      stream s = co_await l.open(at);
      const auto send = [](stream& to) -> task<> {
        for (int i = 0; i < 50; ++i) co_await to.write(std::string(40'000, static_cast<char>('a' + i % 26)));
        to.close_write();
      };
      const auto count = [](stream& from) -> task<std::size_t> {
        std::size_t all = 0;
        for (;;) {
          const chunk some = co_await from.read_some();
          if (some.empty()) co_return all;
          all += some.size();
        }
      };
      const auto both = co_await when_all(send(s), count(s));
      out.push_back(std::to_string(std::get<1>(both)));
      l.stop();
    }(r, "unix:" + path, log));
    r.call_later(60s, [&] { r.stop(); });
    r.run();
    EXPECT_EQ(log, lines{"2000000"});
  }
  ::unlink(path.c_str());
  ::rmdir(folder);
}

}  // namespace midwire
