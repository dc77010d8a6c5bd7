#include "rules/stream_replacer.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <midwire/base/chance.hpp>

#include "rules/replace_reference.hpp"

namespace midwire::rules {
namespace {

using namespace std::chrono_literals;

action replacing(std::string octets, std::string with) {
  action a;
  a.kind = action_kind::replace, a.word = "replace";
  a.pattern.octets = std::move(octets);
  if (!with.empty()) a.value.parts = {{std::move(with), -1}};
  return a;
}
action replacing_regex(std::string source, std::string with, std::string_view flags = "") {
  action a = replacing(std::move(source), std::move(with));
  a.pattern.how = pattern::kind::regex;
  a.pattern.ignore_case = flags.find('i') != flags.npos, a.pattern.multi_line = flags.find('m') != flags.npos;
  a.pattern.dot_all = flags.find('s') != flags.npos, a.pattern.extended = flags.find('x') != flags.npos;
  return a;
}

std::uint64_t seed_of_run() {
  static const std::uint64_t seed = [] {
    const char* given = std::getenv("MIDWIRE_TEST_SEED");
    return given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  }();
  return seed;
}
std::size_t cases(double n) { return static_cast<std::size_t>(n * MIDWIRE_TEST_SCALE) + 1; }

/// Replacers in a row, fed by hand.
struct row {
  explicit row(const std::vector<action>& actions, std::size_t window = 64 * 1024) {
    for (const auto& a : actions) {
      plans.push_back(std::make_unique<replace_plan>(replace_plan::of(a)));
      members.push_back(
          std::make_unique<stream_replacer>(*plans.back(), stream_replacer::settings{.window = window, .chance = {}}));
    }
  }
  std::string feed(std::string_view octets, instant now = {}, bool acts = true) {
    units.push_back({.index = units.size() + 1, .arrived = now, .acts = {acts}});
    passing io;
    io.octets = chunk{octets};
    io.units.append(octets.size(), &units.back());
    return run(std::move(io), {});
  }
  std::string expire(instant over_age) { return run({}, {.over_age = over_age}); }
  std::string finish() { return run({}, {.ended = true}); }
  std::string run(passing io, stream_replacer::terms t) {
    t.varies = varies;
    for (auto& m : members) {
      m->feed(io, t);
      EXPECT_EQ(io.octets.size(), io.units.size());
      EXPECT_EQ(m->held_octets().size(), m->held());
    }
    return std::string{io.octets.text()};
  }
  std::size_t held() const {
    std::size_t octets = 0;
    for (const auto& m : members) octets += m->held();
    return octets;
  }
  std::deque<unit_mark> units;
  std::vector<std::unique_ptr<replace_plan>> plans;
  std::vector<std::unique_ptr<stream_replacer>> members;
  std::size_t varies = stream_replacer::terms::no_rule;
};

std::string whole(const std::vector<action>& actions, std::string text) {
  for (const auto& a : actions) text = replace_reference::replace(a, text);
  return text;
}

struct source {
  const char* pattern;
  const char* flags;
};
constexpr source regexes[] = {
    {"a+b", ""}, {"a*", ""}, {"a|ab|abc", ""}, {"(?:abc|ab)c?", ""}, {"ab(?=c)", ""}, {"ab(?!c)", ""},
    {"(?<=a)b", ""}, {"(?<!a)b", ""}, {"(?<=ab)c+", ""}, {"(?<=(?<=a)b)c", ""}, {"\\ba", ""}, {"a\\b", ""},
    {"\\Ba\\B", ""}, {"\\b\\w+\\b", ""}, {"^a", ""}, {"^a", "m"}, {"a$", ""}, {"a$", "m"}, {"\\Aa", ""},
    {"\\Aab|b", ""}, {"a\\z", ""}, {"a\\Z", ""}, {"ab*?c", ""}, {"a.*?b", ""}, {"a.*b", ""}, {"a.*b", "s"},
    {"(a|b)\\1", ""}, {"(a+)(b+)", ""}, {"(a)?b", ""}, {"[^a]b", ""}, {"\\n", ""}, {"\\n$", ""}, {"^\\n", "m"},
    {"^$\\n", "m"}, {"(?<=^a)b", "m"}, {"(?<=\\Aa)b", ""}, {"(?<=^)b", ""}, {"\\Ga", ""}, {"\\Gab|c", ""},
    {"(?:\\Ga|b)c?", ""}, {"A+B", "i"}, {"a b # two", "x"}, {"a++b", ""}, {"(?>a+|ba)c", ""}, {"a(?=.*c)", ""},
    {"a(?=[^c]*b)", "s"}, {"(?=ab)a", ""}, {"a\\Kb", ""}, {".*b", ""}, {".*b", "s"}, {".+", ""}, {"^.+$", "m"},
    {"\\w+ ?", ""}, {"(?:a|b)*c", ""}, {"a{2,3}", ""}, {"a{2,}?b", ""}, {"(a(b)?)+c", ""}, {"\\R", ""},
    {"b\\R?a", ""}, {"(?<=\\bab)c", ""}, {"(?<!\\w)b", ""}, {"a(?!$)", ""}, {"(?i)a(?-i)b", ""}, {"(?m)^b$", ""},
    {"(?<n>a|b)\\k<n>", ""}, {"a(?=\\z)|c", ""}, {"c(?=\\n?$)", ""}, {"(?|a(b)|c(a))", ""}, {"(a(?1)?b)", ""},
    {"\\s+", ""}, {"[ab]{3}", ""}, {"b(?<=ab)", ""}, {"(?<=a|bc)c", ""}, {"ab", ""}, {"AB", "i"},
};
constexpr const char* literals[] = {"a", "ab", "aab", "aba", "abab", "aaab", "abcab", "aaaa", "b\n", "ba", "abacaba"};
constexpr const char* values[] = {"", "x", "ab", "a", "longer than it was", "\n"};

action any_action(random_source& random) {
  const char* with = values[random.below(std::size(values))];
  if (random.one_in(3)) return replacing(literals[random.below(std::size(literals))], with);
  const source& s = regexes[random.below(std::size(regexes))];
  action a = replacing_regex(s.pattern, with, s.flags);
  if (random.one_in(2)) a.value.parts = {{"<", -1}, {"", static_cast<int>(random.below(3))}, {">", -1}};
  if (std::string_view{s.pattern}.find('(') == std::string_view::npos && a.value.parts.size() == 3)
    a.value.parts[1].group = 0;
  if (random.one_in(8)) a.times = 1 + random.below(3);
  return a;
}
std::string any_text(random_source& random, std::size_t most) {
  static constexpr std::string_view letters[] = {"ab", "abc", "aab\n", "abc \n", "aA bB\r\nc"};
  const std::string_view from = letters[random.below(std::size(letters))];
  std::string text(random.below(most + 1), 0);
  for (auto& c : text) c = from[random.below(from.size())];
  return text;
}
std::string show(const std::vector<action>& actions, const std::string& text) {
  std::string s = "seed " + std::to_string(seed_of_run()) + "\n";
  for (const auto& a : actions)
    s += (a.pattern.how == pattern::kind::regex ? "/" : "\"") + a.pattern.octets +
         (a.pattern.multi_line ? " m" : "") + (a.pattern.dot_all ? " s" : "") + " times " + std::to_string(a.times) +
         "\n";
  return s + "text " + ::testing::PrintToString(text);
}

TEST(stream_replacer, equals_the_whole_answer_however_it_is_cut) {
  random_source random{seed_of_run()};
  for (std::size_t n = cases(100000); n > 0; --n) {
    std::vector<action> actions;
    for (std::size_t count = 1 + random.below(3); count > 0; --count) actions.push_back(any_action(random));
    const std::string text = any_text(random, 40);
    const std::string want = whole(actions, text);
    const std::size_t most = random.one_in(4) ? 1 : 1 + random.below(12);
    row r{actions};
    std::string got;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = std::min(text.size() - at, 1 + random.below(most));
      got += r.feed(text.substr(at, size));
      at += size;
    }
    got += r.finish();
    ASSERT_EQ(r.held(), 0u);
    ASSERT_EQ(got, want) << show(actions, text);
    for (const auto& m : r.members) ASSERT_EQ(m->count().early_held + m->count().early_fresh, 0u) << show(actions, text);
  }
}

TEST(stream_replacer, equals_the_whole_answer_cut_at_each_octet) {
  random_source random{seed_of_run() + 1};
  for (std::size_t n = cases(3000); n > 0; --n) {
    const std::vector<action> actions{any_action(random)};
    const std::string text = any_text(random, 24);
    const std::string want = whole(actions, text);
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      row r{actions};
      std::string got = r.feed(text.substr(0, cut));
      got += r.feed(text.substr(cut));
      got += r.finish();
      ASSERT_EQ(got, want) << show(actions, text) << " cut " << cut;
    }
  }
}

TEST(stream_replacer, begins_only_where_the_filter_held) {
  random_source random{seed_of_run() + 2};
  for (std::size_t n = cases(50000); n > 0; --n) {
    const std::vector<action> actions{any_action(random)};
    // Where \G stands behind a start that was passed over is nothing PCRE2 answers for the whole text.
    if (actions[0].pattern.octets.find("\\G") != std::string::npos) continue;
    const std::string text = any_text(random, 30);
    std::vector<bool> may(text.size() + 1);
    row r{actions};
    r.varies = 0;
    std::string got;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = std::min(text.size() - at, 1 + random.below(6));
      const bool acts = random.one_in(2);
      std::fill(may.begin() + static_cast<std::ptrdiff_t>(at), may.begin() + static_cast<std::ptrdiff_t>(at + size), acts);
      got += r.feed(text.substr(at, size), {}, acts);
      at += size;
    }
    got += r.finish();
    const std::string want = replace_reference::replace(actions[0], text, [&](std::size_t at) { return may[at]; });
    ASSERT_EQ(got, want) << show(actions, text) << " may begin at " << ::testing::PrintToString(may);
  }
}

}  // namespace
}  // namespace midwire::rules
