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
  explicit row(std::vector<action> all, std::size_t window = 64 * 1024) : actions{std::move(all)} {
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
  std::vector<action> actions;
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
    {"a+b", ""},          {"a*", ""},         {"a|ab|abc", ""},      {"(?:abc|ab)c?", ""}, {"ab(?=c)", ""},
    {"ab(?!c)", ""},      {"(?<=a)b", ""},    {"(?<!a)b", ""},       {"(?<=ab)c+", ""},    {"(?<=(?<=a)b)c", ""},
    {"\\ba", ""},         {"a\\b", ""},       {"\\Ba\\B", ""},       {"\\b\\w+\\b", ""},   {"^a", ""},
    {"^a", "m"},          {"a$", ""},         {"a$", "m"},           {"\\Aa", ""},         {"\\Aab|b", ""},
    {"a\\z", ""},         {"a\\Z", ""},       {"ab*?c", ""},         {"a.*?b", ""},        {"a.*b", ""},
    {"a.*b", "s"},        {"(a|b)\\1", ""},   {"(a+)(b+)", ""},      {"(a)?b", ""},        {"[^a]b", ""},
    {"\\n", ""},          {"\\n$", ""},       {"^\\n", "m"},         {"^$\\n", "m"},       {"(?<=^a)b", "m"},
    {"(?<=\\Aa)b", ""},   {"(?<=^)b", ""},    {"\\Ga", ""},          {"\\Gab|c", ""},      {"(?:\\Ga|b)c?", ""},
    {"A+B", "i"},         {"a b # two", "x"}, {"a++b", ""},          {"(?>a+|ba)c", ""},   {"a(?=.*c)", ""},
    {"a(?=[^c]*b)", "s"}, {"(?=ab)a", ""},    {"a\\Kb", ""},         {".*b", ""},          {".*b", "s"},
    {".+", ""},           {"^.+$", "m"},      {"\\w+ ?", ""},        {"(?:a|b)*c", ""},    {"a{2,3}", ""},
    {"a{2,}?b", ""},      {"(a(b)?)+c", ""},  {"\\R", ""},           {"b\\R?a", ""},       {"(?<=\\bab)c", ""},
    {"(?<!\\w)b", ""},    {"a(?!$)", ""},     {"(?i)a(?-i)b", ""},   {"(?m)^b$", ""},      {"(?<n>a|b)\\k<n>", ""},
    {"a(?=\\z)|c", ""},   {"c(?=\\n?$)", ""}, {"(?|a(b)|c(a))", ""}, {"(a(?1)?b)", ""},    {"\\s+", ""},
    {"[ab]{3}", ""},      {"b(?<=ab)", ""},   {"(?<=a|bc)c", ""},    {"ab", ""},           {"AB", "i"},
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
    s += (a.pattern.how == pattern::kind::regex ? "/" : "\"") + a.pattern.octets + (a.pattern.multi_line ? " m" : "") +
         (a.pattern.dot_all ? " s" : "") + " times " + std::to_string(a.times) + "\n";
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
    for (const auto& m : r.members) ASSERT_EQ(m->count().early, 0u) << show(actions, text);
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
      std::fill(may.begin() + static_cast<std::ptrdiff_t>(at), may.begin() + static_cast<std::ptrdiff_t>(at + size),
                acts);
      got += r.feed(text.substr(at, size), {}, acts);
      at += size;
    }
    got += r.finish();
    const std::string want = replace_reference::replace(actions[0], text, [&](std::size_t at) { return may[at]; });
    ASSERT_EQ(got, want) << show(actions, text) << " may begin at " << ::testing::PrintToString(may);
  }
}

TEST(stream_replacer, holds_exactly_the_longest_suffix_that_may_begin_the_literal) {
  random_source random{seed_of_run() + 3};
  for (std::size_t n = cases(20000); n > 0; --n) {
    std::string literal(1 + random.below(8), 0), text(random.below(40), 0);
    for (auto& c : literal) c = "ab"[random.below(2)];
    for (auto& c : text) c = "ab"[random.below(2)];
    row r{{replacing(literal, "X")}};
    std::string seen;  // what has come behind the last match
    for (const char c : text) {
      r.feed({&c, 1});
      seen += c;
      if (seen.ends_with(literal)) seen.clear();
      std::size_t longest = std::min(seen.size(), literal.size() - 1);
      while (!seen.ends_with(literal.substr(0, longest))) --longest;
      ASSERT_EQ(r.held(), longest) << literal << " in " << text << " seed " << seed_of_run();
    }
  }
}

TEST(stream_replacer, long_literals_stay_linear) {
  // Octets for octet, the worst text for a comparing search: all but the last octet of the literal, again and again.
  std::string literal(64 * 1024, 'a');
  literal.back() = 'b';
  row r{{replacing(literal, "X")}};
  const std::string text(1 << 20, 'a');
  const auto start = std::chrono::steady_clock::now();
  std::size_t out = r.feed(text).size();
  for (int n = 0; n < 200000; ++n) out += r.feed("a").size();
  EXPECT_EQ(r.held(), literal.size() - 1);
  EXPECT_EQ(out + r.held(), text.size() + 200000);
  EXPECT_TRUE(r.feed("b").ends_with("X"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, 20s);
}

TEST(stream_replacer, case_is_folded_in_both_searches) {
  random_source random{seed_of_run() + 4};
  for (std::size_t n = cases(5000); n > 0; --n) {
    std::string text(random.below(300), 0);
    for (auto& c : text) c = "aAbB-"[random.below(5)];
    const std::string needle = std::string{"aAb"}.substr(0, 1 + random.below(3)) + "-";
    const action regex = replacing_regex("(?:)" + needle, "X", "i");  // PCRE2's way
    action literal = replacing(needle, "X");
    literal.pattern.ignore_case = true;
    const std::size_t cut = random.below(text.size() + 1);
    row a{{literal}}, b{{replacing_regex(needle, "X", "i")}};
    const std::string want = replace_reference::replace(regex, text);
    for (row* r : {&a, &b}) {
      std::string got = r->feed(text.substr(0, cut));
      got += r->feed(text.substr(cut));
      got += r->finish();
      ASSERT_EQ(got, want);
    }
  }
}

TEST(stream_replacer, over_the_window_the_candidate_goes_and_later_ones_stay) {
  row r{{replacing_regex("a[^c]*b", "X")}, 100};
  std::string got = r.feed("a" + std::string(90, 'x'));
  EXPECT_EQ(got, "");
  got += r.feed(std::string(20, 'y') + "a");
  EXPECT_EQ(got, "a" + std::string(90, 'x') + std::string(20, 'y'));
  EXPECT_EQ(r.held(), 1u);
  EXPECT_EQ(r.members[0]->count().early, 111u);
  got = r.feed("zb");
  EXPECT_EQ(got + r.finish(), "X");
  // Whole by then: it is replaced.
  row w{{replacing_regex("a+", "X")}, 100};
  EXPECT_EQ(w.feed(std::string(100, 'a')), "");
  EXPECT_EQ(w.feed("a"), "X");
  row l{{replacing(std::string(50, 'a') + "b", "X")}, 20};
  l.feed(std::string(40, 'a'));
  EXPECT_EQ(l.held(), 20u);
}

TEST(stream_replacer, what_is_over_age_goes_and_what_is_younger_may_stay) {
  random_source random{seed_of_run() + 5};
  for (std::size_t n = cases(20000); n > 0; --n) {
    const std::vector<action> actions{any_action(random)};
    const std::string text = any_text(random, 30);
    row r{actions};
    std::vector<int> came;
    std::string got;
    int now = 0;
    for (const char c : text) {
      now += static_cast<int>(random.below(4));
      got += r.feed({&c, 1}, instant{std::chrono::milliseconds{now}});
      got += r.expire(instant{std::chrono::milliseconds{now - 5}});
      for (const auto& s : r.members[0]->held_units())
        ASSERT_GT(s.unit->arrived, instant{std::chrono::milliseconds{now - 5}}) << show(actions, text);
    }
    got += r.finish();
    ASSERT_EQ(r.held(), 0u);
    // What was decided early may only have missed matches: with nothing early the answer is the whole one.
    if (r.members[0]->count().early == 0) { ASSERT_EQ(got, whole(actions, text)) << show(actions, text); }
  }
}

TEST(stream_replacer, all_at_once_over_age_is_the_end_of_the_stream) {
  random_source random{seed_of_run() + 6};
  for (std::size_t n = cases(20000); n > 0; --n) {
    const std::vector<action> actions{any_action(random)};
    const std::string text = any_text(random, 30);
    row r{actions};
    std::string got;
    for (const char c : text) got += r.feed({&c, 1});
    got += r.expire(instant::max());
    ASSERT_EQ(r.held(), 0u);
    ASSERT_EQ(got, whole(actions, text)) << show(actions, text);
  }
}

TEST(stream_replacer, a_match_as_long_as_the_window_is_found_in_small_pieces) {
  // The last one takes PCRE2 several steps for each octet: looked at again and again it costs too much sooner.
  const struct {
    const char* pattern;
    std::size_t size;
  } patterns[] = {{"<b>(?:[^<]|<(?!/b>))*</b>", 60000},
                  {"<b>.*?</b>", 60000},
                  {"<b[^>]*>.*?</b>", 60000},
                  {"<b>(.|\\n)*?</b>", 16000}};
  for (const auto& [pattern, size] : patterns) {
    row r{{replacing_regex(pattern, "X", "s")}};
    const std::string text = "a<b>" + std::string(size, 'y') + "</b>z";
    std::string got;
    for (std::size_t at = 0; at < text.size(); at += 1448) got += r.feed(text.substr(at, 1448));
    got += r.finish();
    EXPECT_TRUE(got == "aXz") << pattern << ": " << got.size() << " octets";
    EXPECT_EQ(r.members[0]->count().early, 0u) << pattern;
  }
}

// What the searches may cost at most, in octets: what the budget starts with and is given, and a few plain scans.
std::uint64_t most_work(std::uint64_t octets, std::uint64_t arrivals, std::uint64_t microseconds = 0) {
  return (std::uint64_t{64} << 20) + (128 + 32) * octets + 4096 * arrivals + 100 * microseconds;
}

TEST(stream_replacer, a_dribbled_match_is_never_given_up_and_the_work_stays_bounded) {
  const struct {
    const char* pattern;
    std::string match;
  } samples[] = {{"<.*?>", "<" + std::string(10000, 'a') + ">"},
                 {"<.*?>", "<" + std::string(20000, 'a') + ">"},
                 {"<.*?>", "<" + std::string(60000, 'a') + ">"},
                 {"<[^>]*>", "<" + std::string(60000, 'a') + ">"},
                 {"BEGIN[\\s\\S]*?END", "BEGIN" + std::string(54000, 'a') + "END"},
                 {"<b>(.|\\n)*?</b>", "<b>" + std::string(54000, 'a') + "</b>"}};
  for (const auto& [pattern, match] : samples)
    for (const std::size_t piece : {1u, 10u, 20u, 100u, 300u, 1448u}) {
      std::string text = "pre", want = "pre";
      for (int n = piece < 10 ? 2 : 6; n > 0; --n) text += match + " - ", want += "T - ";
      row r{{replacing_regex(pattern, "T", "s")}};
      std::string got;
      std::uint64_t arrivals = 0;
      for (std::size_t at = 0; at < text.size(); at += piece, ++arrivals) got += r.feed(text.substr(at, piece));
      got += r.finish();
      EXPECT_TRUE(got == want) << pattern << " in pieces of " << piece << ": " << got.size() << " octets";
      EXPECT_EQ(r.members[0]->count().early, 0u) << pattern << " in pieces of " << piece;
      EXPECT_EQ(r.members[0]->count().limit_hits, 0u) << pattern << " in pieces of " << piece;
      EXPECT_LT(r.members[0]->count().scanned, most_work(text.size(), arrivals)) << pattern << " by " << piece;
    }
}

TEST(stream_replacer, hostile_text_that_dribbles_costs_a_bounded_work) {
  const std::string tags(200000, '<'), as(200000, 'a');
  const struct {
    const char* pattern;
    const std::string& text;
  } hostile[] = {{"<[^>]*>", tags}, {"<.*?>", tags}, {"(a+)+$", as}, {"(a+)+b", as}, {"(a|aa)+b", as}, {"a*a*a*b", as}};
  for (const auto& [pattern, text] : hostile)
    for (const std::size_t piece : {10u, 100u}) {
      row r{{replacing_regex(pattern, "T", "s")}};
      std::string got;
      std::uint64_t arrivals = 0;
      instant now{};
      const auto feed = [&](std::string_view octets) {
        r.units.push_back({.index = ++arrivals, .arrived = now, .acts = {true}});
        passing io;
        io.octets = chunk{octets};
        io.units.append(octets.size(), &r.units.back());
        got += r.run(std::move(io), {.now = now});
        now += 100us;
        ASSERT_LE(r.held(), 80u * 1024);
      };
      for (std::size_t at = 0; at < text.size(); at += piece) feed(std::string_view{text}.substr(at, piece));
      got += r.run({}, {.now = now, .ended = true});
      EXPECT_EQ(r.held(), 0u);
      EXPECT_EQ(r.members[0]->offset(), text.size());
      EXPECT_LT(r.members[0]->count().scanned, most_work(text.size(), arrivals, 100 * arrivals)) << pattern;
      if (r.members[0]->count().limit_hits > 0) { EXPECT_GT(r.members[0]->count().early, 0u) << pattern; }
    }
}

TEST(stream_replacer, a_start_that_pcre2_gives_up_counts_as_early) {
  row r{{replacing_regex("(x+x+)+y", "Z")}};
  const std::string text = std::string(60, 'x') + "-xxy";
  std::string got = r.feed(text);
  got += r.finish();
  EXPECT_EQ(got, std::string(60, 'x') + "-Z");
  EXPECT_GT(r.members[0]->count().limit_hits, 0u);
  EXPECT_GT(r.members[0]->count().early, 0u);
}

TEST(stream_replacer, hostile_text_costs_a_bounded_time) {
  const struct {
    const char* pattern;
    std::string text;
  } hostile[] = {
      {"(a+)+$", std::string(64 * 1024, 'a') + "!"},
      {"(a+)+b", std::string(64 * 1024, 'a') + "!"},
      {"(a|aa)+$", std::string(64 * 1024, 'a') + "!"},
      {"(.*)*x", std::string(64 * 1024, 'y') + "\n"},
      {"a*a*a*b", std::string(32 * 1024, 'a') + "c"},
      {"(x+x+)+y", std::string(40, 'x') + "-" + std::string(40, 'x') + "-" + std::string(9000, 'x') + "-"},
  };
  for (const auto& h : hostile) {
    row r{{replacing_regex(h.pattern, "Z")}};
    const auto start = std::chrono::steady_clock::now();
    std::string got;
    for (std::size_t at = 0; at < h.text.size(); at += 1000) got += r.feed(h.text.substr(at, 1000));
    for (int n = 0; n < 20; ++n) got += r.feed(std::string(500, 'a') + "!");
    got += r.finish();
    const auto took = std::chrono::steady_clock::now() - start;
    EXPECT_LT(took, 20s) << h.pattern;
    EXPECT_GT(got.size(), 0u);
    std::printf("%s: %lld ms, %llu limits, %llu early\n", h.pattern,
                static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()),
                static_cast<unsigned long long>(r.members[0]->count().limit_hits),
                static_cast<unsigned long long>(r.members[0]->count().early));
  }
}

}  // namespace
}  // namespace midwire::rules
