#include <midwire/proto/line_framer.hpp>

#include "proto/framer_rig.hpp"

using namespace midwire;
using namespace midwire::proto;
using namespace std::string_literals;
using tests::encoded, tests::frame_all_cuts, tests::frame_whole, tests::framed;

namespace {

static_assert(framer<line_framer> && reframer<line_framer>);

struct row {
  const char* name;
  line_end accepted;
  std::string input;
  std::vector<std::string> messages;
  std::string rest;
  bool too_long = false;
};

const row rows[] = {
    {"both ends", line_end::any, "one\r\ntwo\nthree\r\n", {"one", "two", "three"}, ""},
    {"empty lines", line_end::any, "\r\n\n\r\n", {"", "", ""}, ""},
    {"a CR inside", line_end::any, "a\rb\n\r\r\n", {"a\rb", "\r"}, ""},
    {"the last one is not whole", line_end::any, "one\ntw", {"one"}, "tw"},
    {"a CR that may still end it", line_end::any, "one\r", {}, "one\r"},
    {"zeros and high octets", line_end::any, "\0\xff\n"s, {"\0\xff"s}, ""},
    {"strict: a lone LF is an octet", line_end::crlf, "a\nb\r\n\n\r\n", {"a\nb", "\n"}, ""},
    {"strict: a lone CR is an octet", line_end::crlf, "a\rb\r\r\n", {"a\rb\r"}, ""},
    {"LF only: a CR is an octet", line_end::lf, "a\r\nb\n", {"a\r", "b"}, ""},
    {"ten are allowed", line_end::any, "0123456789\r\n0123456789\n", {"0123456789", "0123456789"}, ""},
    {"eleven are not", line_end::any, "x\n0123456789a\n", {"x"}, "0123456789a\n", true},
    {"eleven with CR are not", line_end::any, "0123456789a\r\n", {}, "0123456789a\r\n", true},
    {"ten and a CR that ends nothing", line_end::any, "0123456789\rx\n", {}, "0123456789\rx\n", true},
    {"no end in sight", line_end::any, std::string(40, 'x'), {}, std::string(40, 'x'), true},
    {"strict: ten", line_end::crlf, "0123456789\r\n", {"0123456789"}, ""},
    {"strict: ten and a lone LF", line_end::crlf, "0123456789\n\r\n", {}, "0123456789\n\r\n", true},
    {"LF only: ten", line_end::lf, "0123456789\n", {"0123456789"}, ""},
    {"LF only: ten and a CR", line_end::lf, "0123456789\r\n", {}, "0123456789\r\n", true},
};

}  // namespace

TEST(LineFramer, Table) {
  for (const auto& r : rows) {
    SCOPED_TRACE(r.name);
    const framed got = frame_all_cuts(line_framer{10, r.accepted}, r.input);
    EXPECT_EQ(got.messages, r.messages);
    EXPECT_EQ(got.rest, r.rest);
    ASSERT_EQ(got.error.has_value(), r.too_long);
    if (got.error) {
      EXPECT_EQ(got.error->code, parse_errc::too_long);
      EXPECT_EQ(text_of(*got.error), "line at octet 10: too long: 11 octets, at most 10");
    }
  }
}

TEST(LineFramer, TheLimitIsTheDefaultOfLineReceivers) {
  line_framer f;
  const std::string line(16384, 'x');
  EXPECT_EQ(frame_whole(f, line + "\r\n").messages.size(), 1u);
  EXPECT_EQ(frame_whole(f, line + "x\r\n").error->code, parse_errc::too_long);
  // Told as soon as it is certain: nobody has to store more.
  EXPECT_EQ(f.next(as_bytes(line + "x")).what(), step::kind::error);
  EXPECT_EQ(f.next(as_bytes(line + "\r")).what(), step::kind::need_more);
}

TEST(LineFramer, NoLimitIsNoOverflow) {
  EXPECT_EQ(frame_whole(line_framer{~std::size_t{0}}, "ab\r\nc").messages.size(), 1u);
  EXPECT_EQ(frame_whole(line_framer{0}, "\r\n\na\n"),
            (framed{{"", ""}, "a\n", parse_error{parse_errc::too_long, layer_id::line, 0, 1, 0}}));
}

TEST(LineFramer, Sends) {
  EXPECT_EQ(encoded(line_framer{}, "abc"), "abc\r\n");
  EXPECT_EQ(encoded(line_framer{}, ""), "\r\n");
  EXPECT_EQ(encoded(line_framer{16384, line_end::lf}, "abc"), "abc\n");
  EXPECT_EQ(encoded(line_framer{16384, line_end::any, line_end::lf}, "abc"), "abc\n");
  EXPECT_EQ(encoded(line_framer{3}, "longer than what is read"), "longer than what is read\r\n");
}

TEST(LineFramer, RefusesWhatWouldBeReadAsSomethingElse) {
  EXPECT_EQ(encoded(line_framer{}, "a\nb"), "refused");
  EXPECT_EQ(encoded(line_framer{}, "a\r\nb"), "refused");
  EXPECT_EQ(encoded(line_framer{}, "a\r"), "a\r\r\n");
  EXPECT_EQ(encoded(line_framer{16384, line_end::any, line_end::lf}, "a\r"), "refused");
  EXPECT_EQ(encoded(line_framer{16384, line_end::crlf}, "a\nb\r"), "a\nb\r\r\n");
  EXPECT_EQ(encoded(line_framer{16384, line_end::crlf}, "a\r\nb"), "refused");
  EXPECT_EQ(encoded(line_framer{16384, line_end::lf}, "a\r"), "a\r\n");
}

TEST(LineFramer, FramesLikeAnother) {
  const auto like = [](line_framer f, std::string_view other, std::string_view payload) {
    buffer out;
    f.encode_like(as_bytes(other), chunk{payload}, out);
    return out.text();
  };
  EXPECT_EQ(like(line_framer{}, "old\n", "new"), "new\n");
  EXPECT_EQ(like(line_framer{}, "old\r\n", "new"), "new\r\n");
  EXPECT_EQ(like(line_framer{}, "\n", "new"), "new\n");
  EXPECT_EQ(like(line_framer{}, "old\n", "new\r"), "new\r\r\n") << "an LF alone would take the CR along";
  EXPECT_EQ(like(line_framer{16384, line_end::crlf}, "old\r\n", "new"), "new\r\n");
}

TEST(LineFramer, RoundTrips) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    for (const line_end accepted : {line_end::any, line_end::crlf, line_end::lf})
      EXPECT_GT(tests::round_trips(line_framer{100, accepted}, "abc\r\n", 8, seed), 10u);
    EXPECT_GT(tests::round_trips(line_framer{100, line_end::any, line_end::lf}, "abc\r\n", 8, seed), 10u);
  }
}

TEST(LineFramer, ResetForgetsWhatWasSeen) {
  line_framer f;
  EXPECT_EQ(f.next(as_bytes("a long beginning")).what(), step::kind::need_more);
  f.reset();
  EXPECT_EQ(f.next(as_bytes("b\n")).size(), 2u);
}
