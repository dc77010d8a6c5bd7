#include <midwire/proto/delimiter_framer.hpp>

#include "proto/framer_rig.hpp"

using namespace midwire;
using namespace midwire::proto;
using namespace std::string_literals;
using tests::encoded, tests::frame_all_cuts, tests::frame_whole, tests::framed;

namespace {

static_assert(framer<delimiter_framer> && !reframer<delimiter_framer>);

struct row {
  const char* name;
  std::string delimiter, input;
  std::vector<std::string> messages;
  std::string rest;
  bool too_long = false;
};

const row rows[] = {
    {"one octet", "|", "a|bc||d", {"a", "bc", ""}, "d"},
    {"a zero", "\0"s, "a\0\0b"s, {"a", ""}, "b"},
    {"several", "--", "a--b-c--", {"a", "b-c"}, ""},
    {"begun twice", "ab", "aab", {"a"}, ""},
    {"begun in itself", "aab", "aaab", {"a"}, ""},
    {"begun far in itself", "abac", "ababac", {"ab"}, ""},
    {"of equal octets", "aa", "aaaa", {"", ""}, ""},
    {"the first one counts", "aa", "baaa", {"b"}, "a"},
    {"half of one at the end", "END", "xEN", {}, "xEN"},
    {"ten are allowed", "\r\n", "0123456789\r\n", {"0123456789"}, ""},
    {"eleven are not", "\r\n", "0123456789a\r\n", {}, "0123456789a\r\n", true},
    {"ten and half a delimiter", "\r\n", "0123456789\rx\r\n", {}, "0123456789\rx\r\n", true},
    {"no end in sight", "aab", std::string(40, 'a'), {}, std::string(40, 'a'), true},
};

}  // namespace

TEST(DelimiterFramer, Table) {
  for (const auto& r : rows) {
    SCOPED_TRACE(r.name);
    const framed got = frame_all_cuts(delimiter_framer{r.delimiter, 10}, r.input);
    EXPECT_EQ(got.messages, r.messages);
    EXPECT_EQ(got.rest, r.rest);
    ASSERT_EQ(got.error.has_value(), r.too_long);
    if (got.error) { EXPECT_EQ(*got.error, (parse_error{parse_errc::too_long, layer_id::delimiter, 10, 11, 10})); }
  }
}

TEST(DelimiterFramer, EqualsASearchInTheWholeText) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    random_source random{seed};
    std::string delimiter(1 + random.below(5), 'a'), text(60, 'a');
    for (auto& c : delimiter) c = static_cast<char>('a' + random.below(2));
    for (auto& c : text) c = static_cast<char>('a' + random.below(2));
    framed want;
    std::size_t at = 0;
    for (auto found = text.find(delimiter); found != text.npos; found = text.find(delimiter, at)) {
      want.messages.push_back(text.substr(at, found - at));
      at = found + delimiter.size();
    }
    want.rest = text.substr(at);
    EXPECT_EQ(frame_whole(delimiter_framer{delimiter}, text), want);
    EXPECT_EQ(tests::frame_in_pieces(delimiter_framer{delimiter}, text, [&] { return 1 + random.below(4); }), want);
  }
}

TEST(DelimiterFramer, RefusesWhatWouldEndTooEarly) {
  EXPECT_EQ(encoded(delimiter_framer{"--"}, "a-b"), "a-b--");
  EXPECT_EQ(encoded(delimiter_framer{"--"}, ""), "--");
  EXPECT_EQ(encoded(delimiter_framer{"--"}, "a--b"), "refused");
  EXPECT_EQ(encoded(delimiter_framer{"--"}, "a-"), "refused") << "a--- ends behind a";
  EXPECT_EQ(encoded(delimiter_framer{"aab"}, "a"), "aaab");
  EXPECT_EQ(encoded(delimiter_framer{"abab"}, "ab"), "refused");
  EXPECT_EQ(encoded(delimiter_framer{";", 2}, "longer"), "longer;");
}

TEST(DelimiterFramer, RoundTrips) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed)
    for (const char* delimiter : {"a", "ab", "aab", "abab", "\r\n", "aaaa"})
      EXPECT_GT(tests::round_trips(delimiter_framer{delimiter, 100}, "abc\r\n", 8, seed), 10u);
}

TEST(DelimiterFramer, ADelimiterNeedsAnOctet) { EXPECT_THROW(delimiter_framer{""}, std::invalid_argument); }
