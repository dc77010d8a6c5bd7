// Lesson 12: what is built on framers takes linear time. Judged in release builds, where the program runs alone.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>

#include <midwire/engine/core/message_stage.hpp>
#include <midwire/engine/message_protocol.hpp>
#include <midwire/proto/line_framer.hpp>
#include <midwire/testing/sim_reactor.hpp>

#include "engine/flow_rig.hpp"

using namespace midwire;
using namespace midwire::proto;
using tests::flow_rig;

namespace {

struct counting : message_stage<line_framer> {
  using message_stage::message_stage;
  verdict on_message(stage_context&, direction, chunk line) override {
    ++messages, octets += line.size();
    return verdict::pass(std::move(line));
  }
  std::size_t messages = 0, octets = 0;
};

/// Seconds for `text` in such pieces through a stage and back out; checks that all of it came.
double seconds_for(const std::string& text, std::size_t piece, std::size_t messages) {
  auto made = std::make_unique<counting>(line_framer{~std::size_t{0}});
  counting& s = *made;
  flow_rig rig{flow_rig::list(std::move(made)), {.high = 64 << 20, .low = 32 << 20}};
  rig.open();
  const auto begin = std::chrono::steady_clock::now();
  for (std::size_t at = 0; at < text.size(); at += piece)
    rig.data(side::client, std::string_view{text}.substr(at, piece));
  const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_EQ(s.messages, messages);
  EXPECT_TRUE(rig.server().got == text);
  return took;
}

struct counting_lines : message_protocol<line_framer> {
  explicit counting_lines(std::size_t* n) : message_protocol{line_framer{~std::size_t{0}}}, messages{n} {}
  void message_received(chunk) override { ++*messages; }
  std::size_t* messages;
};

/// Seconds for `text` in reads of such a cut through a protocol.
double seconds_for(const std::string& text, midwire::testing::cut how, std::size_t messages) {
  std::size_t got = 0;
  midwire::testing::sim_reactor reactor{1, {.segments = how, .window = 1 << 22}};
  auto& port = reactor.listen_tcp(0, factory::of<counting_lines>(&got));
  midwire::testing::sim_peer peer{reactor.network()};
  peer.connect(port.host());
  reactor.pump();
  const auto begin = std::chrono::steady_clock::now();
  peer.send(text);
  reactor.pump();
  const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_EQ(got, messages);
  return took;
}

/// Four times the input may take six times as long, in release; elsewhere it must be done before one gets tired of it.
void expect_linear(const std::function<double(std::size_t octets)>& run, std::size_t small) {
#ifdef MIDWIRE_RELEASE
  double best = 1e9;
  for (int i = 0; i < 3; ++i) {
    const double one = run(small);
    best = std::min(best, run(4 * small) / one);
  }
  EXPECT_LT(best, 6) << "four times the input took that many times as long";
#else
  EXPECT_LT(run(small), 60) << "quadratic";
#endif
}

}  // namespace

TEST(Lesson12, StagesTakeLinearTime) {
  expect_linear([](std::size_t n) { return seconds_for(std::string(n, '\n'), 65536, n); }, 256 * 1024);
  expect_linear([](std::size_t n) { return seconds_for(std::string(n - 1, 'x') + "\n", 1, 1); }, 256 * 1024);
}

TEST(Lesson12, ProtocolsTakeLinearTime) {
  using midwire::testing::cut;
  expect_linear([](std::size_t n) { return seconds_for(std::string(n, '\n'), cut::as_sent, n); }, 256 * 1024);
  expect_linear([](std::size_t n) { return seconds_for(std::string(n - 1, 'x') + "\n", cut::one_octet, 1); },
                64 * 1024);
}
