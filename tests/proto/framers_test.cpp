// Fixed sizes, netstrings, varints, framers of one's own; what all framers have in common.
#include <midwire/proto/custom_framer.hpp>
#include <midwire/proto/fixed_framer.hpp>
#include <midwire/proto/framers.hpp>
#include <midwire/proto/netstring_framer.hpp>
#include <midwire/proto/varint_framer.hpp>

#include "proto/framer_rig.hpp"

using namespace midwire;
using namespace midwire::proto;
using namespace std::string_literals;
using tests::encoded, tests::frame_all_cuts, tests::frame_whole, tests::framed, tests::from_hex;

namespace {

static_assert(framer<fixed_framer> && framer<netstring_framer> && framer<varint_framer> && framer<custom_framer>);

parse_error netstring_error(parse_errc code, std::uint32_t offset, std::uint32_t need = 0, std::uint32_t have = 0) {
  return {code, layer_id::netstring, offset, need, have};
}
parse_error varint_error(parse_errc code, std::uint32_t offset, std::uint32_t need = 0, std::uint32_t have = 0) {
  return {code, layer_id::varint, offset, need, have};
}

}  // namespace

TEST(FixedFramer, CutsAndRefuses) {
  EXPECT_EQ(frame_all_cuts(fixed_framer{3}, "abcdefgh"), (framed{{"abc", "def"}, "gh", {}}));
  EXPECT_EQ(frame_all_cuts(fixed_framer{1}, "ab"), (framed{{"a", "b"}, "", {}}));
  EXPECT_EQ(encoded(fixed_framer{3}, "abc"), "abc");
  EXPECT_EQ(encoded(fixed_framer{3}, "ab"), "refused");
  EXPECT_EQ(encoded(fixed_framer{3}, "abcd"), "refused");
  EXPECT_THROW(fixed_framer{0}, std::invalid_argument);
}

TEST(NetstringFramer, Table) {
  const struct {
    const char* name;
    std::string input;
    framed want;
  } rows[] = {
      {"two", "5:hello,0:,3:a,b,", {{"hello", "", "a,b"}, "", {}}},
      {"not whole", "5:hell", {{}, "5:hell", {}}},
      {"digits only", "12", {{}, "12", {}}},
      {"no digit", "1:a,:b,", {{"a"}, ":b,", netstring_error(parse_errc::bad_value, 0)}},
      {"a letter", "1x:a,", {{}, "1x:a,", netstring_error(parse_errc::bad_value, 1)}},
      {"white space", " 1:a,", {{}, " 1:a,", netstring_error(parse_errc::bad_value, 0)}},
      {"a sign", "-1:a,", {{}, "-1:a,", netstring_error(parse_errc::bad_value, 0)}},
      {"a leading zero", "05:hello,", {{}, "05:hello,", netstring_error(parse_errc::bad_value, 0)}},
      {"two zeros", "00:,", {{}, "00:,", netstring_error(parse_errc::bad_value, 0)}},
      {"no comma", "3:abc;", {{}, "3:abc;", netstring_error(parse_errc::bad_value, 5)}},
      {"the limit", "100:", {{}, "100:", {}}},
      {"over it", "101:", {{}, "101:", netstring_error(parse_errc::too_long, 0, 101, 100)}},
      {"far over it",
       "99999999999999999999999",
       {{}, "99999999999999999999999", netstring_error(parse_errc::too_long, 0, 999, 100)}},
  };
  for (const auto& r : rows) {
    SCOPED_TRACE(r.name);
    EXPECT_EQ(frame_all_cuts(netstring_framer{100}, r.input), r.want);
  }
}

TEST(NetstringFramer, LimitAndSending) {
  EXPECT_EQ(frame_whole(netstring_framer{}, "99999:").error, std::nullopt);
  EXPECT_EQ(frame_whole(netstring_framer{}, "100000").error->code, parse_errc::too_long);
  EXPECT_EQ(frame_whole(netstring_framer{~std::size_t{0}}, "9999999999999999999999999").error->code,
            parse_errc::too_long);
  EXPECT_EQ(frame_whole(netstring_framer{0}, "0:,"), (framed{{""}, "", {}}));
  EXPECT_EQ(encoded(netstring_framer{}, "hello"), "5:hello,");
  EXPECT_EQ(encoded(netstring_framer{}, ""), "0:,");
  EXPECT_EQ(netstring_framer{}.next(as_bytes("5:he")).at_least(), 4u);
  for (std::uint64_t seed = 1; seed <= 10; ++seed)
    EXPECT_EQ(tests::round_trips(netstring_framer{}, "01:,a", 300, seed), 200u);
}

TEST(VarintFramer, Table) {
  using padding = varint_framer::padding;
  const std::string two_hundred(200, 'x');
  const struct {
    const char* name;
    padding padded;
    std::string input;
    framed want;
  } rows[] = {
      {"short ones", padding::refused, from_hex("03 616263 00 01 64"), {{"abc", "", "d"}, "", {}}},
      {"two octets", padding::refused, from_hex("c801") + two_hundred, {{two_hundred}, "", {}}},
      {"not whole", padding::refused, from_hex("80"), {{}, from_hex("80"), {}}},
      {"padded",
       padding::refused,
       from_hex("8300 616263"),
       {{}, from_hex("8300 616263"), varint_error(parse_errc::bad_value, 1)}},
      {"padded, allowed", padding::allowed, from_hex("8300 616263 808000"), {{"abc", ""}, "", {}}},
      {"ten octets, allowed", padding::allowed, from_hex("83808080808080808000 616263"), {{"abc"}, "", {}}},
      {"eleven octets",
       padding::allowed,
       from_hex("8380808080808080808000"),
       {{}, from_hex("8380808080808080808000"), varint_error(parse_errc::bad_value, 9)}},
      {"over the limit",
       padding::refused,
       from_hex("c901"),
       {{}, from_hex("c901"), varint_error(parse_errc::too_long, 0, 201, 200)}},
      {"over it at once",
       padding::refused,
       from_hex("808001"),
       {{}, from_hex("808001"), varint_error(parse_errc::too_long, 0, 16384, 200)}},
      {"2^64 - 1",
       padding::allowed,
       from_hex("ffffffffffffffffff01"),
       {{}, from_hex("ffffffffffffffffff01"), varint_error(parse_errc::too_long, 0, 16383, 200)}},
  };
  for (const auto& r : rows) {
    SCOPED_TRACE(r.name);
    EXPECT_EQ(frame_all_cuts(varint_framer{200, r.padded}, r.input), r.want);
  }
}

TEST(VarintFramer, TheLargestNumbers) {
  // Nothing before the tenth octet tells that it does not fit.
  EXPECT_EQ(
      frame_whole(varint_framer{~std::size_t{0}, varint_framer::padding::allowed}, from_hex("80808080808080808002"))
          .error,
      varint_error(parse_errc::bad_value, 9));
  EXPECT_EQ(frame_whole(varint_framer{~std::size_t{0}}, from_hex("80808080808080808001")).error->code,
            parse_errc::too_long);
}

TEST(VarintFramer, Sends) {
  EXPECT_EQ(encoded(varint_framer{}, "abc"), from_hex("03") + "abc");
  EXPECT_EQ(encoded(varint_framer{}, ""), from_hex("00"));
  const std::string long_one(300, 'x'), longer(16384, 'y');
  EXPECT_EQ(encoded(varint_framer{}, long_one), from_hex("ac02") + long_one);
  EXPECT_EQ(encoded(varint_framer{}, std::string(127, 'x')).size(), 128u);
  EXPECT_EQ(encoded(varint_framer{}, std::string(128, 'x')).size(), 130u);
  EXPECT_EQ(encoded(varint_framer{}, longer), from_hex("808001") + longer);
  for (std::uint64_t seed = 1; seed <= 10; ++seed)
    EXPECT_EQ(tests::round_trips(varint_framer{}, "ab\x80", 300, seed), 200u);
}

namespace {

/// One octet says how many groups of four follow.
custom_framer groups_of_four() {
  return custom_framer{[](byte_view seen) {
                         if (seen.empty()) return step::need_more();
                         const std::size_t size = 1 + std::size_t{4} * seen[0];
                         return seen.size() < size ? step::need_more(size - seen.size())
                                                   : step::frame(size, 1, size - 1);
                       },
                       [](chunk payload, buffer& out) {
                         if (payload.size() % 4 != 0 || payload.size() > 4 * 255)
                           throw encode_error{"not in groups of four"};
                         out.append(chunk{std::string(1, static_cast<char>(payload.size() / 4))});
                         out.append(std::move(payload));
                       }};
}

}  // namespace

TEST(CustomFramer, IsAFramerAsOthers) {
  EXPECT_EQ(frame_all_cuts(groups_of_four(), "\1abcd\0\2abcdefgh\1ab"s),
            (framed{{"abcd", "", "abcdefgh"}, "\1ab", {}}));
  EXPECT_EQ(encoded(groups_of_four(), "abcd"), "\1abcd");
  EXPECT_EQ(encoded(groups_of_four(), "abc"), "refused");
}

TEST(CustomFramer, WhatItClaimsIsChecked) {
  const auto claiming = [](step s) { return custom_framer{[s](byte_view) { return s; }, [](chunk, buffer&) {}}; };
  const auto why = [&](step s) { return claiming(s).next(as_bytes("abcd")); };
  EXPECT_EQ(why(step::frame(4, 1, 3)).what(), step::kind::frame);
  EXPECT_EQ(why(step::frame(0, 0, 0)).what(), step::kind::error) << "it would never end";
  EXPECT_EQ(why(step::frame(5, 0, 1)).what(), step::kind::error);
  EXPECT_EQ(why(step::frame(4, 5, 0)).what(), step::kind::error);
  EXPECT_EQ(why(step::frame(4, 2, 3)).what(), step::kind::error);
  EXPECT_EQ(why(step::frame(4, 2, ~std::size_t{0})).what(), step::kind::error);
  EXPECT_EQ(why(step::need_more(0)).at_least(), 1u);
  EXPECT_EQ(text_of(why(step::frame(0, 0, 0)).why()), "message at octet 0: bad length: need 0, have 0");
}

TEST(CustomFramer, NeedsItsCallables) {
  EXPECT_THROW((custom_framer{nullptr, [](chunk, buffer&) {}}), std::invalid_argument);
  EXPECT_THROW((custom_framer{[](byte_view) { return step::need_more(); }, nullptr}), std::invalid_argument);
  int resets = 0;
  custom_framer f{[](byte_view) { return step::need_more(); }, [](chunk, buffer&) {}, [&] { ++resets; }};
  f.reset();
  EXPECT_EQ(resets, 1);
  groups_of_four().reset();
}

TEST(Framers, ErrorsHaveWordsForPeople) {
  EXPECT_EQ(text_of(netstring_error(parse_errc::bad_value, 3)), "netstring at octet 3: bad value");
  EXPECT_EQ(text_of({parse_errc::bad_length, layer_id::length, 2, 4, 1}),
            "length-prefixed message at octet 2: bad length: need 4, have 1");
  EXPECT_EQ(text_of({parse_errc::truncated, layer_id::framer, 0, 9, 4}),
            "message at octet 0: truncated: need 9, have 4");
}
