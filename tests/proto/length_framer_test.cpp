#include <midwire/proto/length_framer.hpp>

#include "proto/framer_rig.hpp"

using namespace midwire;
using namespace midwire::proto;
using tests::encoded, tests::frame_all_cuts, tests::frame_whole, tests::framed, tests::from_hex;

namespace {

static_assert(framer<length_framer> && reframer<length_framer>);

struct row {
  const char* name;
  length_format format;
  const char* input;
  std::vector<const char*> messages;
  const char* rest;
  std::optional<parse_error> error;
};

constexpr auto little = byte_order::little;
parse_error bad(std::uint32_t offset, std::uint32_t need, std::uint32_t have) {
  return {parse_errc::bad_length, layer_id::length, offset, need, have};
}
parse_error too_long(std::uint32_t offset, std::uint32_t need, std::uint32_t have) {
  return {parse_errc::too_long, layer_id::length, offset, need, have};
}

const row rows[] = {
    {"one octet", {.width = 1}, "03 616263 00 01 64", {"616263", "", "64"}, "", {}},
    {"two octets", {.width = 2}, "0003 616263 0000", {"616263", ""}, "", {}},
    {"two octets, little", {.width = 2, .order = little}, "0300 616263", {"616263"}, "", {}},
    {"three octets", {.width = 3}, "000001 61", {"61"}, "", {}},
    {"three octets, little", {.width = 3, .order = little}, "010000 61", {"61"}, "", {}},
    {"four octets", {}, "00000002 6162 0000", {"6162"}, "0000", {}},
    {"five octets", {.width = 5}, "0000000002 6162", {"6162"}, "", {}},
    {"eight octets", {.width = 8}, "0000000000000002 6162", {"6162"}, "", {}},
    {"eight octets, little", {.width = 8, .order = little}, "0200000000000000 6162", {"6162"}, "", {}},
    {"at an offset", {.width = 2, .offset = 2}, "aabb 0001 61 ccdd 0000", {"61", ""}, "", {}},
    {"that counts its header", {.width = 2, .offset = 2, .adjust = -4}, "aabb 0005 61", {"61"}, "", {}},
    {"with two octets more", {.width = 1, .adjust = 2}, "01 eeff 61", {"eeff61"}, "", {}},
    {"with the header",
     {.width = 2, .offset = 1, .with_header = true},
     "aa 0001 61 bb 0000",
     {"aa000161", "bb0000"},
     "",
     {}},
    {"ten are allowed", {.width = 1, .max = 10}, "0a 30313233343536373839", {"30313233343536373839"}, "", {}},
    {"eleven are not", {.width = 1, .max = 10}, "0b 30", {}, "0b30", too_long(0, 11, 10)},
    {"the header counts with it",
     {.width = 1, .with_header = true, .max = 3},
     "02 3031 03",
     {"023031"},
     "03",
     too_long(0, 4, 3)},
    {"shorter than its own header", {.width = 2, .adjust = -4}, "0003 61", {}, "000361", bad(0, 4, 3)},
    {"the first bad one is at its offset",
     {.width = 1, .offset = 2, .adjust = -3},
     "aabb03 ccdd01",
     {""},
     "ccdd01",
     bad(2, 3, 1)},
    {"2^64 - 1", {.width = 8}, "ffffffffffffffff 00", {}, "ffffffffffffffff00", too_long(0, 0xffffffff, 99999)},
    {"2^64 - 1 and two more",
     {.width = 8, .adjust = 2},
     "ffffffffffffffff",
     {},
     "ffffffffffffffff",
     too_long(0, 0xffffffff, 99999)},
    {"2^63", {.width = 8, .adjust = -8}, "8000000000000000", {}, "8000000000000000", too_long(0, 0xffffffff, 99999)},
    {"the default limit", {}, "0001869f", {}, "0001869f", {}},
    {"one over it", {}, "000186a0", {}, "000186a0", too_long(0, 100000, 99999)},
};

}  // namespace

TEST(LengthFramer, Table) {
  for (const auto& r : rows) {
    SCOPED_TRACE(r.name);
    framed want;
    for (const auto* m : r.messages) want.messages.push_back(from_hex(m));
    want.rest = from_hex(r.rest), want.error = r.error;
    EXPECT_EQ(frame_all_cuts(length_framer{r.format}, from_hex(r.input)), want);
  }
}

TEST(LengthFramer, AsksForWhatIsMissingAndNothingElse) {
  length_framer f{{.width = 2}};
  EXPECT_EQ(f.next({}).at_least(), 2u);
  EXPECT_EQ(f.next(as_bytes(from_hex("ff"))).at_least(), 1u);
  EXPECT_EQ(f.next(as_bytes(from_hex("0100"))).at_least(), 256u);
  EXPECT_EQ(f.next(as_bytes(from_hex("010061"))).at_least(), 255u);
}

TEST(LengthFramer, Sends) {
  const std::string text = "abc";
  EXPECT_EQ(encoded(length_framer{}, text), from_hex("00000003") + text);
  EXPECT_EQ(encoded(length_framer{}, ""), from_hex("00000000"));
  EXPECT_EQ(encoded(length_framer{{.width = 2, .order = little}}, text), from_hex("0300") + text);
  EXPECT_EQ(encoded(length_framer{{.width = 8}}, text), from_hex("0000000000000003") + text);
  EXPECT_EQ(encoded(length_framer{{.width = 2, .offset = 2, .adjust = -4}}, text), from_hex("00000007") + text);
  EXPECT_EQ(encoded(length_framer{{.width = 1, .adjust = 2}}, text), from_hex("01") + text);
  EXPECT_EQ(encoded(length_framer{{.width = 1, .max = 2}}, text), from_hex("03") + text)
      << "limits are for what is read";
}

TEST(LengthFramer, RefusesWhatDoesNotFit) {
  EXPECT_EQ(encoded(length_framer{{.width = 1}}, std::string(255, 'x')).size(), 256u);
  EXPECT_EQ(encoded(length_framer{{.width = 1}}, std::string(256, 'x')), "refused");
  EXPECT_EQ(encoded(length_framer{{.width = 1, .adjust = -1}}, std::string(254, 'x')).size(), 255u);
  EXPECT_EQ(encoded(length_framer{{.width = 1, .adjust = -1}}, std::string(255, 'x')), "refused");
  EXPECT_EQ(encoded(length_framer{{.width = 2}}, std::string(65536, 'x')), "refused");
  EXPECT_EQ(encoded(length_framer{{.width = 1, .adjust = 2}}, "x"), "refused");
  EXPECT_EQ(encoded(length_framer{{.width = 2, .offset = 1, .with_header = true}}, "ab"), "refused");
  EXPECT_EQ(encoded(length_framer{{.adjust = std::numeric_limits<std::int64_t>::min()}}, "ab"), "refused");
}

TEST(LengthFramer, WithItsHeaderTheLengthIsPutRight) {
  const length_framer f{{.width = 2, .offset = 1, .with_header = true}};
  EXPECT_EQ(encoded(f, from_hex("aa 9999 6162")), from_hex("aa 0002 6162"));
  EXPECT_EQ(encoded(f, from_hex("aa 9999")), from_hex("aa 0000"));
  // Who shares the octets keeps them as they were.
  chunk payload{from_hex("aa 9999 6162")};
  const chunk shared = payload.share();
  buffer out;
  f.encode(std::move(payload), out);
  EXPECT_EQ(out.text(), from_hex("aa 0002 6162"));
  EXPECT_EQ(shared.text(), from_hex("aa 9999 6162"));
}

TEST(LengthFramer, FramesLikeAnother) {
  const length_framer f{{.width = 2, .offset = 2, .adjust = -4}};
  buffer out;
  f.encode_like(as_bytes(from_hex("aabb 0005 61")), "long", out);
  EXPECT_EQ(out.text(), from_hex("aabb 0008") + "long");
  out.clear();
  f.encode_like(as_bytes("no"), "x", out);
  EXPECT_EQ(out.text(), from_hex("0000 0005") + "x");
}

TEST(LengthFramer, RoundTrips) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed)
    for (std::size_t width = 1; width <= 8; ++width)
      for (const byte_order order : {byte_order::big, byte_order::little}) {
        EXPECT_EQ(tests::round_trips(length_framer{{.width = width, .order = order}}, "ab\n", 200, seed, 50), 50u);
        EXPECT_GT(tests::round_trips(length_framer{{.width = width, .order = order, .offset = 3, .adjust = 2}}, "ab",
                                     99, seed, 50),
                  30u);
        EXPECT_EQ(tests::round_trips(length_framer{{.width = width, .order = order, .adjust = -9}}, "ab", 99, seed, 50),
                  50u);
      }
}

TEST(LengthFramer, AWidthOfNoneOrNineIsRefused) {
  EXPECT_THROW(length_framer{{.width = 0}}, std::invalid_argument);
  EXPECT_THROW(length_framer{{.width = 9}}, std::invalid_argument);
  EXPECT_THROW((length_framer{{.offset = ~std::size_t{0}}}), std::invalid_argument);
}
