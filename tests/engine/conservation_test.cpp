// Lesson 1: whatever stages decide and however the input is cut, no octet is lost or made up, and the output is that
// of a reference that works on whole strings.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include <midwire/base/chance.hpp>

#include "engine/flow_rig.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using tests::flow_rig;

namespace {

/// What a stage does to a whole direction.
using reference = std::function<std::string(const std::string&)>;

struct upper_stage : stage {
  verdict on_data(stage_context&, direction, chunk data) override {
    for (auto& octet : data.writable()) octet = static_cast<std::uint8_t>(std::toupper(octet));
    return verdict::pass(std::move(data));
  }
};

/// Lengthens: each a becomes aa, as separate chunks of one buffer.
struct doubling_stage : stage {
  verdict on_data(stage_context&, direction, chunk data) override {
    buffer out;
    while (!data.empty()) {
      const auto text = data.text();
      const auto at = text.find('a');
      if (at == text.npos) {
        out.append(std::move(data));
        break;
      }
      out.append(data.take_front(at + 1));
      out.append(chunk::literal("a"));
    }
    return verdict::pass(std::move(out));
  }
};

/// Shortens, and drops whole chunks through verdict::drop.
struct dropping_stage : stage {
  verdict on_data(stage_context&, direction, chunk data) override {
    std::string left;
    for (const char c : data.text())
      if (c != 'd') left += c;
    if (left.empty()) return verdict::drop(std::move(data), "all d");
    return verdict::pass(chunk{std::move(left)});
  }
};

/// Whole lines only, reversed; asks for random numbers of new octets, gives up what is left at the end.
struct line_stage : stage {
  explicit line_stage(std::uint64_t seed) : random{seed} {}
  verdict on_data(stage_context&, direction, chunk data) override { return lines(std::move(data)); }
  // Fewer new octets than it asked for may still have completed a line.
  verdict on_end(stage_context&, direction, chunk kept) override { return lines(std::move(kept)); }
  verdict lines(chunk data) {
    buffer out;
    for (auto at = data.text().find('\n'); at != std::string_view::npos; at = data.text().find('\n')) {
      chunk line = data.take_front(at + 1);
      std::reverse(line.writable().begin(), line.writable().end() - 1);
      out.append(std::move(line));
    }
    if (data.empty()) return verdict::pass(std::move(out));
    return verdict::keep(std::move(out), std::move(data), 1 + random.below(3));
  }
  random_source random;
};

/// Holds now and then; the octets stay as they are.
struct holding_stage : stage {
  explicit holding_stage(std::uint64_t seed) : random{seed} {}
  verdict on_data(stage_context& c, direction d, chunk data) override {
    if (!random.one_in(3)) return verdict::pass(std::move(data));
    auto& token = tokens[index_of(d)];
    if (random.one_in(2)) return verdict::hold(std::move(data), token, 3ms, on_expiry::pass);
    c.call_later(std::chrono::milliseconds{1 + random.below(5)}, [&token] { token.release(); });
    return verdict::hold(std::move(data), token, 0s, on_expiry::pass);
  }
  random_source random;
  std::array<hold_token, 2> tokens;
};

/// Looks away for random numbers of octets; pauses reading now and then.
struct absent_stage : stage {
  explicit absent_stage(std::uint64_t seed) : random{seed} {}
  verdict on_data(stage_context& c, direction d, chunk data) override {
    c.bypass(d, random.below(20));
    if (random.one_in(4)) {
      pause = c.pause(random.one_in(2) ? d : opposite(d));
      c.call_later(2ms, [this] { pause = pause_token{}; });
    }
    return verdict::pass(std::move(data));
  }
  random_source random;
  pause_token pause;
};

struct made {
  std::unique_ptr<stage> what;
  reference on_whole;
  bool keeps = false;
};

made make(random_source& random) {
  const reference same = [](const std::string& s) { return s; };
  switch (random.below(7)) {
    case 0:
      return {std::make_unique<upper_stage>(), [](std::string s) {
                std::transform(s.begin(), s.end(), s.begin(), [](char c) { return static_cast<char>(std::toupper(c)); });
                return s;
              }};
    case 1:
      return {std::make_unique<doubling_stage>(), [](const std::string& s) {
                std::string out;
                for (const char c : s) out += c == 'a' ? "aa" : std::string(1, c);
                return out;
              }};
    case 2:
      return {std::make_unique<dropping_stage>(), [](std::string s) {
                s.erase(std::remove(s.begin(), s.end(), 'd'), s.end());
                return s;
              }};
    case 3:
      return {std::make_unique<line_stage>(random.next()), [](const std::string& s) {
                std::string out;
                std::size_t from = 0;
                for (auto at = s.find('\n'); at != s.npos; at = s.find('\n', from)) {
                  std::string line = s.substr(from, at - from);
                  std::reverse(line.begin(), line.end());
                  out += line + '\n';
                  from = at + 1;
                }
                return out + s.substr(from);
              },
              true};
    case 4: return {std::make_unique<holding_stage>(random.next()), same};
    case 5: return {std::make_unique<absent_stage>(random.next()), same};
    default: return {std::make_unique<stage>(), same};
  }
}

std::string random_text(random_source& random) {
  static constexpr char alphabet[] = "aabcdde\n";
  std::string s(random.below(60), ' ');
  for (auto& c : s) c = alphabet[random.below(sizeof alphabet - 1)];
  return s;
}

void run_case(std::uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  random_source random{seed};
  std::vector<std::unique_ptr<stage>> stages;
  std::array<std::string, 2> input{random_text(random), random_text(random)}, want = input;
  const std::size_t count = random.below(5);
  bool keeps = false;
  for (std::size_t i = 0; i < count; ++i) {
    made m = make(random);
    for (auto& w : want) w = m.on_whole(w);
    stages.push_back(std::move(m.what));
    keeps |= m.keeps;
  }
  flow_limits limits;
  // A stage may keep as much as the low mark (E11), so the longest line has to fit below it.
  limits.high = (keeps ? 2000 : 20) + random.below(200), limits.low = limits.high / 2;
  flow_rig r{std::move(stages), limits};
  const bool slow = random.one_in(2);
  if (slow) r.client().capacity = r.server().capacity = 0;
  r.open();
  std::array<std::size_t, 2> sent{};
  std::array<bool, 2> ended{};
  for (int step = 0; step < 2000 && !r.f.closed(); ++step) {
    const side s = random.one_in(2) ? side::client : side::server;
    const std::size_t i = index_of(direction_from(s));
    switch (random.below(4)) {
      case 0:
      case 1: {
        auto& from = r.at(s);
        if (!from.reading || from.room == 0 || ended[i]) break;
        const auto left = input[i].size() - sent[i];
        const auto n = std::min<std::size_t>({left, static_cast<std::size_t>(from.room), 1 + random.below(12)});
        if (n > 0) r.data(s, std::string_view{input[i]}.substr(sent[i], n));
        sent[i] += n;
        if (sent[i] == input[i].size() && random.one_in(2)) ended[i] = true, r.end(s);
        break;
      }
      case 2:
        if (slow) r.drain(s, random.below(30));
        break;
      default: r.after(std::chrono::microseconds{random.below(3000)});
    }
    for (const direction d : {direction::to_server, direction::to_client}) {
      const auto c = r.f.count(d);
      // E13: only what edits and injection add goes beyond the high mark.
      ASSERT_LE(r.f.waiting(d), limits.high * 32);
      ASSERT_LE(c.in, input[index_of(d)].size());
    }
  }
  ASSERT_TRUE(r.f.closed()) << "both sides ended, yet the flow has not";
  EXPECT_EQ(r.server().got, want[0]);
  EXPECT_EQ(r.client().got, want[1]);
  EXPECT_TRUE(r.server().fin && r.client().fin);
  EXPECT_EQ(r.f.why().how(), ending::done);
  EXPECT_EQ(r.f.count(direction::to_server).in, input[0].size());
  EXPECT_EQ(r.f.count(direction::to_server).out, want[0].size());
  EXPECT_EQ(r.f.count(direction::to_client).out, want[1].size());
}

}  // namespace

TEST(Lesson1, NoOctetIsLostOrMadeUp) {
  const auto cases = static_cast<std::uint64_t>(100000 * MIDWIRE_TEST_SCALE);
  for (std::uint64_t seed = 1; seed <= cases; ++seed) {
    run_case(seed);
    if (testing::Test::HasFailure()) return;
  }
}
