#include <midwire/streams/pipeline/changes.hpp>

#include <gtest/gtest.h>

#include <iostream>
#include <string>
#include <vector>

#include <midwire/base/chance.hpp>

namespace {

using midwire::as_bytes;
using midwire::as_text;
using midwire::random_source;
using midwire::streams::change_tracker;

/// Writes pieces as `same`, `[was|left]`, and keeps both streams and their offsets honest.
struct record {
  change_tracker tracker{[this](const change_tracker::change& c) {
    EXPECT_EQ(c.was_offset, in.size());
    EXPECT_EQ(c.offset, out.size());
    EXPECT_FALSE(c.octets.empty() && c.was.empty());
    EXPECT_TRUE(c.edited || as_text(c.octets) == as_text(c.was));
    in += as_text(c.was), out += as_text(c.octets);
    shown += c.edited ? "[" + std::string{as_text(c.was)} + "|" + std::string{as_text(c.octets)} + "]"
                      : std::string{as_text(c.octets)};
  }};
  std::string in, out, shown;
  void came(std::string_view t) { tracker.came(as_bytes(t)); }
  void left(std::string_view t) { tracker.left(as_bytes(t)); }
  void edited(std::string_view a, std::string_view b) { tracker.edited(as_bytes(a), as_bytes(b)); }
};

TEST(changes, an_edit_is_shown_where_it_was_made) {
  record r;
  r.came("GET /secret HTTP");
  r.edited("secret", "hidden!");
  r.left("GET /hidden! HTTP");
  EXPECT_EQ(r.shown, "GET /[secret|hidden!] HTTP");
}

TEST(changes, what_is_held_back_is_not_shown_as_removed) {
  record r;
  r.came("abc sec");
  r.left("abc ");
  EXPECT_EQ(r.shown, "abc ");
  r.came("ret def");
  r.edited("secret", "x");
  r.left("x def");
  r.tracker.end();
  EXPECT_EQ(r.shown, "abc [secret|x] def");
}

TEST(changes, output_in_pieces) {
  record r;
  r.came("1 secret 2");
  r.edited("secret", "hidden");
  for (const char* piece : {"1 ", "hi", "dden", " 2"}) r.left(piece);
  EXPECT_EQ(r.shown, "1 [secret|hidden] 2");
}

TEST(changes, removal_and_insertion) {
  record r;
  r.came("drop me");
  r.edited("drop me", "");
  EXPECT_EQ(r.shown, "[drop me|]");
  r.came("tail");
  r.edited("", "head ");
  r.left("head tail");
  r.came(" foo end");
  r.edited("foo ", "");
  r.left(" end");
  EXPECT_EQ(r.shown, "[drop me|][|head ]tail [foo |]end");
}

TEST(changes, several_edits_in_one_piece_reported_out_of_order) {
  record r;
  r.came("a one b two c");
  r.edited("two", "2");
  r.edited("one", "1111");
  r.left("a 1111 b 2 c");
  EXPECT_EQ(r.shown, "a [one|1111] b [two|2] c");
}

TEST(changes, edits_of_edits_become_one_piece) {
  record r;
  r.came("say hello to everybody");
  r.edited("hello", "good day");
  r.edited("day to", "night, ");
  r.left("say good night,  everybody");
  r.tracker.end();
  EXPECT_EQ(r.in, "say hello to everybody");
  EXPECT_EQ(r.out, "say good night,  everybody");
  EXPECT_TRUE(r.shown.starts_with("say [")) << r.shown;
  EXPECT_TRUE(r.shown.ends_with("] everybody")) << r.shown;
}

TEST(changes, memory_is_bounded_when_nothing_leaves) {
  record r;
  const std::string block(65536, 'x');
  for (int i = 0; i < 64; ++i) r.came(block);
  EXPECT_GE(r.in.size(), 64 * block.size() - change_tracker::limit);
  EXPECT_EQ(r.out, "");
}

// Whatever rules do, and however it is cut: the pieces add up to what came and what left.
TEST(changes, pieces_add_up_for_random_edits) {
  const std::uint64_t seed = 20261122;
  std::cout << "seed " << seed << '\n';
  random_source random{seed};
  const int cases = static_cast<int>(2000 * MIDWIRE_TEST_SCALE) + 20;
  for (int n = 0; n < cases; ++n) {
    record r;
    std::string in, out, waiting_in, waiting_out;
    for (int step = 0; step < 40; ++step) {
      std::string part;
      for (auto i = random.below(6); i-- > 0;) part += static_cast<char>('a' + random.below(3));
      in += part;
      r.came(part);
      if (random.one_in(3)) {
        std::string instead;
        for (auto i = random.below(4); i-- > 0;) instead += static_cast<char>('a' + random.below(3));
        if (!random.one_in(4)) r.edited(part, instead);  // now and then a hint is missing
        if (random.one_in(5)) r.edited("zz", "yy");      // or leads nowhere
        part = instead;
      }
      waiting_out += part;
      if (random.one_in(2)) {
        const auto cut = random.below(waiting_out.size() + 1);
        r.left(std::string_view{waiting_out}.substr(0, cut));
        out += waiting_out.substr(0, cut);
        waiting_out.erase(0, cut);
      }
    }
    r.left(waiting_out);
    out += waiting_out;
    r.tracker.end();
    ASSERT_EQ(r.in, in) << "case " << n;
    ASSERT_EQ(r.out, out) << "case " << n;
  }
}

}  // namespace
