#include <midwire/rules/rule_stage.hpp>

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <midwire/base/chance.hpp>
#include <midwire/engine/core/flow.hpp>

#include "rules/replace_reference.hpp"

namespace midwire::rules {
namespace {

using namespace std::chrono_literals;
using text_counts = std::vector<std::pair<std::string, std::uint64_t>>;

std::uint64_t seed_of_run() {
  static const std::uint64_t seed = [] {
    const char* given = std::getenv("MIDWIRE_TEST_SEED");
    return given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  }();
  return seed;
}
std::size_t cases(double n) { return static_cast<std::size_t>(n * MIDWIRE_TEST_SCALE) + 1; }

rule_set_ptr rules_of(const std::string& text) {
  const auto made = compile({{.name = "test.rules", .text = text, .folder = "", .file = true}}, {});
  for (const auto& d : made.diagnostics)
    if (d.how == diagnostic::severity::error) ADD_FAILURE() << format(d);
  return made.rules ? made.rules : std::make_shared<const rule_set>();
}

struct listener : rule_observer {
  bool wants_edits() const override { return true; }
  void edited(direction d, const rule& r, std::string_view action, std::uint64_t offset, byte_view before,
              byte_view after) override {
    edits.push_back(std::string{name_of(d)} + " " + r.name + " " + std::string{action} + " " + std::to_string(offset) +
                    " " + std::string{as_text(before)} + ">" + std::string{as_text(after)});
  }
  void logged(direction, const rule&, std::string text) override { logs.push_back(std::move(text)); }
  void dumped(direction, const rule&, std::uint64_t offset, byte_view octets) override {
    dumps.push_back(std::to_string(offset) + " " + std::string{as_text(octets)});
  }
  void released_early(direction, std::uint64_t octets, bool first) override {
    early += octets;
    firsts += first;
  }
  std::vector<std::string> edits, logs, dumps;
  std::uint64_t early = 0;
  int firsts = 0;
};

fields::connection_facts facts_of(std::uint64_t connection = 1) {
  fields::connection_facts f;
  f.client = address::ipv4({10, 0, 0, 1}, 40000), f.server = address::ipv4({10, 0, 0, 2}, 80);
  f.id = connection, f.listener = 7, f.seed = 42;
  return f;
}

/// A flow with one rule stage, and sinks that take everything at once.
struct connection {
  explicit connection(rule_set_ptr rules, rule_options options = {}, rule_observer* observer = nullptr,
                      std::uint64_t id = 1)
      : pipe{make(std::move(rules), options, observer, id, stage)} {
    pipe.allow_splice(true);
    pipe.open(now);
    settle();
  }
  static std::vector<std::unique_ptr<midwire::stage>> make(rule_set_ptr rules, rule_options options,
                                                           rule_observer* observer, std::uint64_t id,
                                                           rule_stage*& stage) {
    std::vector<std::unique_ptr<midwire::stage>> stages;
    auto made = std::make_unique<rule_stage>(std::move(rules), facts_of(id), options, observer);
    stage = made.get();
    stages.push_back(std::move(made));
    return stages;
  }
  void settle() {
    side to{};
    command what = command::close();
    while (pipe.next_command(to, what)) {
      const auto s = index_of(to);
      switch (what.what()) {
        case command::kind::send: {
          out[s] += what.octets().text();
          pipe.handle(to, event::octets_sent(what.octets().size()), now);
          break;
        }
        case command::kind::send_end: ends[s] += "fin "; break;
        case command::kind::reset:
        case command::kind::reset_after_drain: ends[s] += "rst "; break;
        case command::kind::close: ends[s] += "close "; break;
        case command::kind::splice: splices[s] = what.count(); break;
        default: break;
      }
    }
  }
  connection& send(std::string_view octets, side from = side::client) {
    pipe.handle(from, event::data_received(chunk{octets}), now);
    settle();
    return *this;
  }
  connection& end(side from = side::client) {
    pipe.handle(from, event::end_received(), now);
    settle();
    return *this;
  }
  connection& reset(side from = side::client) {
    pipe.handle(from, event::reset_received({}), now);
    settle();
    return *this;
  }
  connection& wait(duration d) {
    const instant until = now + d;
    while (auto due = pipe.next_deadline()) {
      if (*due > until) break;
      now = std::max(now, *due);
      pipe.advance(now);
      settle();
    }
    now = until;
    pipe.advance(now);
    settle();
    return *this;
  }
  const std::string& at_server() const { return out[index_of(side::server)]; }
  const std::string& at_client() const { return out[index_of(side::client)]; }
  const std::string& server_saw() const { return ends[index_of(side::server)]; }

  instant now{1h};
  rule_stage* stage = nullptr;
  std::array<std::string, 2> out, ends;
  std::array<std::uint64_t, 2> splices{};
  flow pipe;
};

// Each with the reference's way to do the same on the whole text.
struct sample_rule {
  const char* text;
  const char* pattern;
  const char* flags;  // null: a literal
  const char* with;
  int group = -1;
};
constexpr sample_rule samples[] = {
    {R"(do replace "ab" with "x")", "ab", nullptr, "x"},
    {R"(do replace "aab" with "ba")", "aab", nullptr, "ba"},
    {R"(do replace "abab" with "")", "abab", nullptr, ""},
    {R"(do replace "aaab" with "aaaab")", "aaab", nullptr, "aaaab"},
    {R"(do delete "ba")", "ba", nullptr, ""},
    {R"(do replace /a+b/ with "<$0>")", "a+b", "", "<>", 0},
    {R"(do replace /(a|b)\1/ with "<$1>")", "(a|b)\\1", "", "<>", 1},
    {R"(do replace /(?<=a)b/ with "Z")", "(?<=a)b", "", "Z"},
    {R"(do replace /a(?=b)/ with "aa")", "a(?=b)", "", "aa"},
    {R"(do replace /\bab\b/ with "c")", "\\bab\\b", "", "c"},
    {R"(do replace /^a/m with "-")", "^a", "m", "-"},
    {R"(do replace /^a/ with "-")", "^a", "", "-"},
    {R"(do replace /a$/ with "end")", "a$", "", "end"},
    {R"(do replace /a\z/ with "end")", "a\\z", "", "end"},
    {R"(do replace /b.*?a/s with "b")", "b.*?a", "s", "b"},
    {R"(do replace /x|-|Z/ with "ab")", "x|-|Z", "", "ab"},
};
action reference_action(const sample_rule& s) {
  action a;
  a.pattern.octets = s.pattern;
  if (s.flags) {
    a.pattern.how = pattern::kind::regex;
    a.pattern.multi_line = std::string_view{s.flags} == "m", a.pattern.dot_all = std::string_view{s.flags} == "s";
  }
  if (s.group >= 0)
    a.value.parts = {{"<", -1}, {"", s.group}, {">", -1}};
  else
    a.value.parts = {{s.with, -1}};
  return a;
}

TEST(rule_stage, several_rules_equal_the_whole_answer_however_it_is_cut) {
  random_source random{seed_of_run()};
  std::vector<rule_set_ptr> known;
  std::vector<std::vector<action>> actions;
  for (int n = 0; n < 200; ++n) {
    std::string text;
    std::vector<action> wanted;
    for (std::size_t count = 1 + random.below(4); count > 0; --count) {
      const auto& s = samples[random.below(std::size(samples))];
      text += std::string{s.text} + "\n";
      wanted.push_back(reference_action(s));
    }
    known.push_back(rules_of(text));
    actions.push_back(std::move(wanted));
  }
  for (std::size_t n = cases(30000); n > 0; --n) {
    const std::size_t which = random.below(known.size());
    std::string text(random.below(60), 0);
    for (auto& c : text) c = "aabb\n "[random.below(6)];
    std::string want = text;
    for (const auto& a : actions[which]) want = replace_reference::replace(a, want);
    connection c{known[which], {.strict = true}};
    const std::size_t most = random.one_in(3) ? 1 : 1 + random.below(20);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = std::min(text.size() - at, 1 + random.below(most));
      c.send(std::string_view{text}.substr(at, size));
      at += size;
      const auto count = c.pipe.count(direction::to_server);
      ASSERT_EQ(count.in, at);
      ASSERT_EQ(count.out, c.at_server().size());
    }
    if (random.one_in(2))
      c.end();
    else
      c.reset();
    std::string names;
    for (const auto& r : known[which]->rules) names += r.text + "\n";
    ASSERT_EQ(c.at_server(), want) << "seed " << seed_of_run() << "\n" << names << ::testing::PrintToString(text);
    ASSERT_EQ(c.stage->early(direction::to_server), 0u);
  }
}

TEST(rule_stage, no_octet_is_held_longer_than_hold_however_the_sender_dribbles) {
  random_source random{seed_of_run() + 1};
  // Patterns that may always begin and never end, so that what comes out is what came in.
  const auto rules = rules_of(
      "do replace \"aaaX\" with \"y\"\ndo replace /[ab]+X/ with \"y\"\ndo replace /b.*X/s with \"y\"\n"
      "do replace \"abbaX\" with \"y\"\n");
  for (std::size_t n = cases(1000); n > 0; --n) {
    connection c{rules};
    std::vector<instant> arrived;
    std::string sent;
    const auto check = [&] {
      const std::size_t gone = c.at_server().size();
      ASSERT_LE(gone, sent.size());
      ASSERT_EQ(c.at_server(), sent.substr(0, gone)) << "seed " << seed_of_run();
      if (gone < sent.size()) { ASSERT_LT(c.now - arrived[gone], 50ms) << "seed " << seed_of_run(); }
    };
    for (int step = 0; step < 60; ++step) {
      std::string piece(1 + random.below(3), 0);
      for (auto& ch : piece) ch = "abc"[random.one_in(20) ? 2 : random.below(2)];
      arrived.insert(arrived.end(), piece.size(), c.now);
      sent += piece;
      c.send(piece);
      check();
      const duration pause = std::chrono::microseconds{random.below(20000)};
      for (int part = 0; part < 4; ++part) {
        c.wait(pause / 4);
        check();
      }
    }
    c.wait(50ms);
    ASSERT_EQ(c.at_server(), sent);
  }
}

TEST(rule_stage, what_is_over_age_is_decided_as_if_the_stream_ended_there) {
  connection c{rules_of("do replace /ab+/ with \"X\"")};
  c.send("abb");
  EXPECT_EQ(c.at_server(), "");
  c.wait(30ms).send("b");
  c.wait(19ms);
  EXPECT_EQ(c.at_server(), "");
  c.wait(1ms);
  EXPECT_EQ(c.at_server(), "X");
  c.send("bb").end();
  EXPECT_EQ(c.at_server(), "Xbb");
  EXPECT_EQ(c.stage->early(direction::to_server), 4u);
}

TEST(rule_stage, younger_octets_stay_held_where_they_may_begin_a_match) {
  listener heard;
  connection c{rules_of("do replace \"aab\" with \"X\""), {}, &heard};
  c.send("a");
  c.wait(30ms).send("a");
  c.wait(20ms);
  EXPECT_EQ(c.at_server(), "a");
  c.wait(10ms).send("ab").wait(100ms);
  EXPECT_EQ(c.at_server(), "aX");
  EXPECT_EQ(heard.early, 1u);
  EXPECT_EQ(heard.firsts, 1);
  EXPECT_EQ(heard.edits, (std::vector<std::string>{"to_server test.rules:1 replace 1 aab>X"}));
}

TEST(rule_stage, strict_holds_for_ever_and_zero_not_at_all) {
  connection strict{rules_of("do replace \"ab\" with \"X\""), {.strict = true}};
  strict.send("a").wait(1h).send("b");
  EXPECT_EQ(strict.at_server(), "X");
  connection none{rules_of("do replace \"ab\" with \"X\""), {.hold = 0ms}};
  none.send("a");
  EXPECT_EQ(none.at_server(), "a");
  none.send("bab");
  EXPECT_EQ(none.at_server(), "abX");
}

TEST(rule_stage, a_dribbled_match_shorter_than_the_window_is_found) {
  const struct {
    const char* rule;
    std::string match;
  } found[] = {{R"(do replace /<.*?>/s with "T")", "<" + std::string(10000, 'a') + ">"},
               {R"(do replace /<.*?>/s with "T")", "<" + std::string(20000, 'a') + ">"},
               {R"(do replace /<[^>]*>/ with "T")", "<" + std::string(60000, 'a') + ">"},
               {R"(do replace /BEGIN[\s\S]*?END/ with "T")", "BEGIN" + std::string(54000, 'a') + "END"}};
  for (const auto& [rule, match] : found)
    for (const std::size_t piece : {1u, 10u, 20u, 100u, 300u})
      for (const bool strict : {true, false}) {
        const std::string text = "pre" + match + "post";
        listener heard;
        connection c{rules_of(rule), {.hold = 1h, .strict = strict}, &heard};
        for (std::size_t at = 0; at < text.size(); at += piece) {
          c.send(std::string_view{text}.substr(at, piece));
          if (!strict) c.wait(100us);
        }
        c.wait(1s);  // and no more octets
        EXPECT_TRUE(c.at_server() == "preTpost") << rule << " by " << piece << ": " << c.at_server().size();
        EXPECT_EQ(c.stage->early(direction::to_server), 0u) << rule << " by " << piece;
        EXPECT_EQ(heard.early, 0u);
      }
}

TEST(rule_stage, a_scan_that_was_put_off_comes_without_more_octets) {
  connection c{rules_of(R"(do replace /<.*?>/s with "T")"), {.strict = true}};
  // Again and again, until the budget no longer allows a scan for each arrival.
  const std::string match = "<" + std::string(60000, 'a') + ">";
  std::size_t put_off = 0;
  std::string want;
  for (int n = 0; n < 4; ++n) {
    for (std::size_t at = 0; at < match.size(); at += 10) c.send(std::string_view{match}.substr(at, 10));
    put_off += c.at_server() == want;
    c.wait(1s);
    want += "T";
    EXPECT_TRUE(c.at_server() == want) << n << ": " << c.at_server().size();
    EXPECT_FALSE(c.pipe.next_deadline());
  }
  EXPECT_GT(put_off, 0u);
  EXPECT_EQ(c.stage->early(direction::to_server), 0u);
}

TEST(rule_stage, a_regex_that_needs_too_long_is_told) {
  listener heard;
  connection c{rules_of(R"(do replace /(x+x+)+y/ with "Z")"), {}, &heard};
  c.send(std::string(60, 'x') + "-xxy").wait(1s);
  EXPECT_EQ(c.at_server(), std::string(60, 'x') + "-Z");
  EXPECT_GT(heard.early, 0u);
  EXPECT_EQ(heard.firsts, 1);
}

TEST(rule_stage, held_octets_stay_below_the_bound_for_all_rules) {
  const std::string rules = "do replace /a[^Z]*Z/ with \"1\"\ndo replace /b[^Y]*Y/ with \"2\"\n";
  connection c{rules_of(rules + "do replace /c[^X]*X/ with \"3\"\n"),
               {.window = 4000, .most_held = 6000, .strict = true}};
  std::string sent;
  random_source random{seed_of_run() + 2};
  for (int n = 0; n < 200; ++n) {
    std::string piece(500, 0);
    for (auto& ch : piece) ch = "abcdefgh"[random.below(8)];
    sent += piece;
    c.send(piece);
    ASSERT_LE(c.pipe.waiting(direction::to_server), 6000u);
    ASSERT_FALSE(c.pipe.closed());
  }
  c.end();
  EXPECT_EQ(c.at_server(), sent);
  EXPECT_GT(c.stage->early(direction::to_server), 0u);
  EXPECT_LE(c.stage->early(direction::to_server), sent.size());
}

TEST(rule_stage, a_held_token_leaves_before_the_fin_and_before_the_reset) {
  connection fin{rules_of("do replace \"abc\" with \"X\"")};
  fin.send("xab").end();
  EXPECT_EQ(fin.at_server(), "xab");
  EXPECT_EQ(fin.server_saw(), "fin ");
  connection rst{rules_of("do replace /ab+/ with \"X\"")};
  rst.send("xab").reset();
  EXPECT_EQ(rst.at_server(), "xX");
  EXPECT_NE(rst.server_saw().find("rst"), std::string::npos);
}

TEST(rule_stage, insert_counts_from_the_start_of_the_direction) {
  for (std::size_t cut = 0; cut <= 6; ++cut) {
    listener heard;
    connection c{rules_of("do insert \"<\" at start, insert \"-\" at 3, insert \">\" at end"), {}, &heard};
    const std::string text = "abcdef";
    if (cut > 0) c.send(text.substr(0, cut));
    if (cut < 6) c.send(text.substr(cut));
    c.end();
    EXPECT_EQ(c.at_server(), "<ab-cdef>") << cut;
    EXPECT_EQ(heard.edits.size(), 3u);
  }
  connection reset{rules_of("do insert \">\" at end")};
  reset.send("ab").reset();
  EXPECT_EQ(reset.at_server(), "ab");
  connection empty{rules_of("when from.client do insert \"<\" at start, insert \">\" at end")};
  empty.end().end(side::server);
  EXPECT_EQ(empty.at_server(), "<>");
  EXPECT_EQ(empty.at_client(), "");
}

TEST(rule_stage, truncate_ends_the_octets_not_the_direction) {
  connection c{rules_of("do truncate 4")};
  c.send("ab").send("cdef").send("gh").end();
  EXPECT_EQ(c.at_server(), "abcd");
  EXPECT_EQ(c.server_saw(), "fin ");
  EXPECT_EQ(c.stage->edits(), (text_counts{{"test.rules:1", 1}}));
}

TEST(rule_stage, drop_takes_the_unit_and_nothing_that_was_before_it) {
  listener heard;
  connection c{rules_of("do replace \"abcd\" with \"X\"\nwhen unit.index == 2 do drop"), {}, &heard};
  c.send("xxab").send("zz").send("yy");
  EXPECT_EQ(c.at_server(), "xxabyy");
  EXPECT_EQ(heard.edits.back(), "to_server test.rules:2 drop 4 zz>");
  connection whole{rules_of("when payload contains \"bad\" do drop")};
  whole.send("good").send("bad").send("ok");
  EXPECT_EQ(whole.at_server(), "goodok");
  EXPECT_EQ(whole.pipe.count(direction::to_server).dropped, 3u);
}

TEST(rule_stage, a_match_that_a_dropped_unit_completes_belongs_to_where_it_began) {
  connection c{rules_of("do replace \"abcd\" with \"X\"\nwhen unit.index == 2 do drop")};
  c.send("xxab").send("cdzz").send("yy");
  EXPECT_EQ(c.at_server(), "xxXyy");
  connection late{rules_of("do replace \"abcd\" with \"X\"\nwhen unit.index == 1 do drop")};
  late.send("xxab").send("cdzz").send("yy");
  EXPECT_EQ(late.at_server(), "zzyy");
}

TEST(rule_stage, close_and_reset_take_the_units_place) {
  connection c{rules_of("do replace /ab+/ with \"X\"\nwhen payload contains \"quit\" do close")};
  c.send("xab").send("quit").send("more");
  EXPECT_EQ(c.at_server(), "xX");
  EXPECT_EQ(c.server_saw().substr(0, 4), "fin ");
  connection r{rules_of("do replace /ab+/ with \"X\"\nwhen payload contains \"quit\" do reset")};
  r.send("xab").send("quit").send("more");
  EXPECT_EQ(r.at_server(), "xX");
  EXPECT_NE(r.server_saw().find("rst"), std::string::npos);
}

TEST(rule_stage, stop_hides_the_unit_from_later_rules) {
  connection c{rules_of("when payload contains \"s\" do stop\ndo replace /ab*/ with \"X\"\n")};
  c.send("xa");
  EXPECT_EQ(c.at_server(), "x");
  c.send("bsab");  // not seen: what was held is decided before it
  EXPECT_EQ(c.at_server(), "xXbsab");
  c.send("bab").end();
  EXPECT_EQ(c.at_server(), "xXbsabbX");
  connection start{rules_of("when unit.index == 2 do stop\ndo replace /^a|(?<=z)b/ with \"X\"\n")};
  start.send("az").send("b").send("ab").end();
  EXPECT_EQ(start.at_server(), "Xzbab");
}

TEST(rule_stage, a_later_rule_sees_the_unit_as_the_earlier_one_left_it) {
  listener heard;
  connection c{
      rules_of("do replace \"cat\" with \"dog\", dump\nwhen payload contains \"dog\" do log \"{unit.len} {payload}\"\n"
               "when payload contains \"hc\" do log \"held too\"\n"),
      {},
      &heard};
  c.send("a cat");
  EXPECT_EQ(heard.dumps, (std::vector<std::string>{"0 a dog"}));
  EXPECT_EQ(heard.logs, (std::vector<std::string>{"5 a dog"}));
  c.send(" hc");  // the c is held by the first rule, and still part of the unit
  EXPECT_EQ(heard.dumps.back(), "5  hc");
  EXPECT_EQ(heard.logs.back(), "held too");
}

TEST(rule_stage, times_and_chance_are_kept_to_and_reproducible) {
  connection c{rules_of("do replace \"a\" with \"X\" times 2")};
  c.send("aa").send("a");
  EXPECT_EQ(c.at_server(), "XXa");
  c.send("aaa", side::server);
  EXPECT_EQ(c.at_client(), "XXa");

  const std::string text(1000, 'a');
  const auto run = [&](const std::string& rules, std::uint64_t id, std::size_t cut) {
    connection each{rules_of(rules), {}, nullptr, id};
    for (std::size_t at = 0; at < text.size(); at += cut) each.send(std::string_view{text}.substr(at, cut));
    return each.end().at_server();
  };
  const std::string per_match = "r: do replace \"a\" with \"X\" chance 20% per unit";
  const std::string one = run(per_match, 1, 1000);
  EXPECT_EQ(one, run(per_match, 1, 7));
  EXPECT_NE(one, run(per_match, 2, 1000));
  const auto hits = std::count(one.begin(), one.end(), 'X');
  EXPECT_GT(hits, 140);
  EXPECT_LT(hits, 260);
  // Another rule in front changes nothing.
  EXPECT_EQ(one, run("do replace \"zzz\" with \"y\"\n" + per_match, 1, 100));

  int whole = 0;
  for (std::uint64_t id = 1; id <= 300; ++id) {
    const std::string got = run("r: do replace \"a\" with \"X\" chance 20%", id, 500);
    ASSERT_TRUE(got == text || got == std::string(1000, 'X'));
    whole += got[0] == 'X';
  }
  EXPECT_GT(whole, 30);
  EXPECT_LT(whole, 90);
}

TEST(rule_stage, a_match_begins_only_in_units_for_which_the_filter_held) {
  connection c{rules_of("when payload contains \"!\" do replace \"ab\" with \"X\"")};
  c.send("ab").send("ab!a").send("bab").send("!ab").end();
  EXPECT_EQ(c.at_server(), "abX!Xab!X");
}

TEST(rule_stage, directions_that_no_rule_can_touch_are_given_to_splice) {
  connection c{rules_of("when from.client do replace \"a\" with \"b\" times 1")};
  EXPECT_EQ(c.pipe.count_of_stage(0, direction::to_client).bypassed, 0u);
  c.send("xyz", side::server);
  EXPECT_EQ(c.pipe.count_of_stage(0, direction::to_client).bypassed, 3u);
  c.send("xa").send("a");
  EXPECT_EQ(c.at_server(), "xba");
  EXPECT_EQ(c.pipe.count_of_stage(0, direction::to_server).bypassed, 1u);
}

TEST(rule_stage, reload_counts_from_the_next_unit_and_keeps_what_stays) {
  const std::string stays = "do replace \"one\" with \"1\" times 2\n";
  connection c{rules_of(stays + "do replace \"abc\" with \"X\"\n")};
  c.send("one ab");
  EXPECT_EQ(c.at_server(), "1 ");
  c.stage->reload(rules_of(stays + "do replace \"c\" with \"C\"\n"));
  EXPECT_EQ(c.at_server(), "1 ");
  c.send("c one one").end();  // what the rule that is gone held is decided; one of two times is used
  EXPECT_EQ(c.at_server(), "1 abC 1 one");
  EXPECT_EQ(c.stage->edits(), (text_counts{{"test.rules:1", 2}, {"test.rules:2", 1}}));

  connection held{rules_of(stays + "do replace \"q\" with \"Q\"\n")};
  held.send("on");
  held.stage->reload(rules_of("do replace \"z\" with \"Z\"\n" + stays));
  held.send("ez");  // its held octets and its place in the stream stay
  EXPECT_EQ(held.at_server(), "1Z");

  connection woken{rules_of("when from.server do replace \"a\" with \"b\"")};
  woken.send("a");
  woken.stage->reload(rules_of("do replace /^a|b/ with \"X\", insert \"!\" at 3"));
  woken.send("abab");
  EXPECT_EQ(woken.at_server(), "aaX!aX");
  woken.stage->reload(rules_of(""));
  woken.send("ab").send("ab", side::server);
  EXPECT_EQ(woken.at_server(), "aaX!aXab");
  EXPECT_GT(woken.pipe.count_of_stage(0, direction::to_server).bypassed, 2u);
}

TEST(rule_stage, reload_in_the_middle_keeps_every_octet_in_order) {
  random_source random{seed_of_run() + 3};
  // Rules that never replace anything: whatever is reloaded when, what comes out is what came in.
  const std::string all[] = {"do replace \"aabX\" with \"1\"", "do replace /b+aX/ with \"2\"",
                             "do replace \"abaX\" with \"3\"",
                             "when payload contains \"bb\" do replace /a.*X/ with \"4\"", "when unit.len > 2 do stop"};
  for (std::size_t n = cases(3000); n > 0; --n) {
    const auto any = [&] {
      std::string text;
      for (std::size_t count = random.below(5); count > 0; --count) text += all[random.below(std::size(all))] + "\n";
      return rules_of(text);
    };
    connection c{any(), {.strict = random.one_in(2)}};
    std::string sent;
    for (int step = 0; step < 20; ++step) {
      std::string piece(1 + random.below(4), 0);
      for (auto& ch : piece) ch = "ab"[random.below(2)];
      sent += piece;
      c.send(piece);
      if (random.one_in(3)) c.stage->reload(any());
      if (random.one_in(3)) c.wait(std::chrono::milliseconds{random.below(60)});
    }
    c.end();
    ASSERT_EQ(c.at_server(), sent) << "seed " << seed_of_run();
  }
}

}  // namespace
}  // namespace midwire::rules
