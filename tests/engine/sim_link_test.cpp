// The testing kit: two protocols over a simulated link, and each fault that can be asked for.
#include <midwire/testing/sim_link.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace midwire::testing {
namespace {

using std::chrono::operator""ms;
using std::chrono::operator""s;

/// Writes down what happens to it.
struct scribe : protocol {
  void connection_made() override {
    ++made;
    if (!greeting.empty()) transport().write(greeting);
  }
  void data_received(chunk data) override {
    text += data.text();
    pieces.push_back(data.size());
    if (echoes) transport().write(std::move(data));
  }
  void read_connection_lost() override {
    ++ends;
    if (closes) transport().lose_connection();
  }
  void connection_lost(const reason& why) override { ++lost, how = why.how(); }
  std::string text, greeting;
  std::vector<std::size_t> pieces;
  int made = 0, ends = 0, lost = 0;
  ending how = ending::done;
  bool echoes = false, closes = true;
};

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return text;
}

class SimLinkCuts : public ::testing::TestWithParam<cut> {};
INSTANTIATE_TEST_SUITE_P(all, SimLinkCuts,
                         ::testing::Values(cut::as_sent, cut::one_octet, cut::primes, cut::every_position,
                                           cut::random));

TEST_P(SimLinkCuts, JoinTwoProtocols) {
  sim_reactor r{7};
  scribe a, b;
  a.greeting = pattern(5000);
  b.echoes = true;
  sim_link link{r, a, b, {.segments = GetParam(), .latency = 3ms, .rate = 1'000'000}};
  EXPECT_EQ(a.made + b.made, 0);
  EXPECT_FALSE(link.up());
  r.pump();
  EXPECT_TRUE(link.up());
  EXPECT_EQ(a.made, 1);
  EXPECT_EQ(b.made, 1);
  EXPECT_EQ(b.text, a.greeting);
  EXPECT_EQ(a.text, a.greeting);
  EXPECT_EQ(b.pieces.size() == 5000u, GetParam() == cut::one_octet);
  a.transport().lose_connection();
  r.pump();
  EXPECT_TRUE(link.closed());
  EXPECT_EQ(b.ends, 1);
  EXPECT_EQ(link.why(side::client).how(), ending::done);
  EXPECT_EQ(link.why(side::server).how(), ending::done);
}

TEST(SimLink, LatencyAndRate) {
  sim_reactor r;
  scribe a, b;
  sim_link link{r, a, b, {.latency = 20ms, .rate = 1000}};
  r.pump();
  const instant sent = r.now();
  a.transport().write(pattern(100));
  r.pump();
  EXPECT_EQ(b.text.size(), 100u);
  EXPECT_EQ(r.now() - sent, 120ms);
}

TEST(SimLink, AResetAtEachOctet) {
  for (std::uint64_t octet = 0; octet <= 20; ++octet) {
    sim_reactor r;
    scribe a, b;
    a.greeting = pattern(20) + (octet == 20 ? "more" : "");
    sim_link link{r, a, b};
    link.reset_at(octet);
    r.pump();
    EXPECT_EQ(b.text, pattern(20).substr(0, octet)) << octet;
    EXPECT_TRUE(link.closed()) << octet;
    EXPECT_EQ(a.how, ending::reset) << octet;
    EXPECT_EQ(b.how, ending::reset) << octet;
    EXPECT_EQ(a.lost + b.lost, 2);
  }
}

TEST(SimLink, AResetThatIsAskedForLate) {
  sim_reactor r;
  scribe a, b;
  sim_link link{r, a, b};
  r.pump();
  a.transport().write("12345");
  r.pump();
  link.reset_at(8);  // still to come
  a.transport().write("6");
  r.pump();
  EXPECT_TRUE(link.up());
  a.transport().write("789");
  r.pump();
  EXPECT_EQ(b.text, "12345678");
  EXPECT_EQ(link.why(side::client).how(), ending::reset);
  scribe c, d;
  sim_link other{r, c, d};
  r.pump();
  c.transport().write("12345");
  r.pump();
  other.reset_at(3);  // gone by: at once
  r.pump();
  EXPECT_EQ(d.text, "12345");
  EXPECT_TRUE(other.closed());
}

TEST(SimLink, AnEndBeforeAndBehindTheData) {
  for (const std::uint64_t octet : {0u, 3u, 5u}) {
    sim_reactor r;
    scribe a, b;
    a.greeting = "12345", b.greeting = "answer", b.closes = false;
    sim_link link{r, a, b};
    link.set_faults(direction::to_server, {.end_at = octet});
    r.pump();
    EXPECT_EQ(b.text, a.greeting.substr(0, octet));
    EXPECT_EQ(b.ends, 1);
    EXPECT_EQ(a.text, "answer");  // the other way is open
    EXPECT_EQ(a.ends, 0);
  }
}

TEST(SimLink, ShortWritesAndABlockedWriter) {
  sim_reactor r;
  scribe a, b;
  a.greeting = pattern(1000);
  sim_link link{r, a, b};
  link.set_faults(direction::to_server, {.short_write = 7, .blocked_at = 100, .blocked_for = 2s});
  r.turn(0ms), r.turn(0ms);
  for (int i = 0; i < 100; ++i) r.turn(0ms);
  EXPECT_EQ(b.text, pattern(1000).substr(0, 100));  // EAGAIN, for two seconds
  EXPECT_EQ(a.transport().buffered(), 900u);
  r.advance(1s);
  EXPECT_EQ(b.text.size(), 1000u);  // advance() ends with a pump(), which waits for what is on its way
  EXPECT_EQ(b.text, pattern(1000));
  for (const std::size_t piece : b.pieces) EXPECT_LE(piece, 7u);
}

TEST(SimLink, GivesItsProtocolsBack) {
  sim_reactor r;
  scribe a, b;
  { sim_link never_up{r, a, b}; }
  r.pump();
  EXPECT_EQ(a.made + b.made + a.lost + b.lost, 0);
  {
    sim_link link{r, a, b, {.latency = 5ms}};
    r.pump();
    a.transport().write("on its way");
  }
  EXPECT_EQ(a.lost, 1);
  EXPECT_EQ(b.lost, 1);
  EXPECT_EQ(a.how, ending::aborted);
  r.advance(10s);
  EXPECT_EQ(a.lost + b.lost, 2);
  // And again, on the same reactor.
  sim_link link{r, a, b};
  r.pump();
  EXPECT_TRUE(link.up());
}

TEST(SimLink, TheSameSeedGivesTheSameRun) {
  const auto run = [](std::uint64_t seed) {
    sim_reactor r{seed};
    scribe a, b;
    a.greeting = pattern(3000);
    sim_link link{r, a, b, {.segments = cut::random}};
    r.pump();
    return b.pieces;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
}

struct noting_factory final : factory {
  explicit noting_factory(std::string& l) : log{l} {}
  std::unique_ptr<protocol> build_protocol(const address&) override {
    struct silent final : protocol {
      explicit silent(std::string& l) : log{l} {}
      void connection_made() override { log += "made "; }
      void data_received(chunk) override {}
      void connection_lost(const reason& why) override { log += "lost:" + std::string{name_of(why.how())} + ' '; }
      std::string& log;
    };
    return std::make_unique<silent>(log);
  }
  void connection_failed(const reason& why) override { log += "failed:" + std::string{name_of(why.how())} + ' '; }
  std::string& log;
};

// What a link between two protocols cannot show: an accept that fails, nobody there, a name that nobody answers for.
TEST(SimKit, AcceptConnectAndNamesFailAsTold) {
  set_log([](int, std::string_view) {});
  sim_reactor r;
  std::string client, server;
  auto& port = r.listen_tcp(4000, std::make_shared<noting_factory>(server));
  const auto dial = [&](const std::string& host, std::uint16_t to) {
    client.clear(), server.clear();
    r.connect_tcp(host, to, std::make_shared<noting_factory>(client), {.timeout = 5s});
    r.pump();
  };
  r.simulated().fail_accepts(1);  // EMFILE
  dial("127.0.0.1", port.host().port());
  EXPECT_EQ(client, "made lost:done ");
  EXPECT_EQ(server, "");
  dial("127.0.0.1", port.host().port());
  EXPECT_EQ(client, "made ");
  EXPECT_EQ(server, "made ");
  r.network().script(address::loopback(4000), {.refused = true});
  dial("127.0.0.1", 4000);
  EXPECT_EQ(client, "failed:refused ");
  r.network().script(address::loopback(4000), {.silent = true});
  dial("127.0.0.1", 4000);
  EXPECT_EQ(client, "");
  r.advance(5s);
  EXPECT_EQ(client, "failed:refused ");
  r.names().never("mute.test");
  dial("mute.test", 4000);
  r.advance(4999ms);
  EXPECT_EQ(client, "");
  r.advance(1ms);
  EXPECT_EQ(client, "failed:refused ");
  EXPECT_EQ(r.names().asked(), std::vector<std::string>{"mute.test"});
  set_log({});
}

}  // namespace
}  // namespace midwire::testing
