#include <midwire/streams/sink/dump_format.hpp>

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

namespace {

using midwire::as_bytes;
using midwire::direction;
using namespace midwire::streams;

// 2026-11-22 20:32:13.000510251 UTC.
const wall_time moment{std::chrono::nanoseconds{1795379533000510251}};

struct in_utc {
  in_utc() {
    setenv("TZ", "UTC", 1);
    tzset();
  }
};

std::string dumped(dump_style style, std::string_view octets, piece::kind how = piece::kind::as_it_came,
                   direction d = direction::to_server, std::uint64_t offset = 0, bool colour = false) {
  const in_utc here;
  std::string out;
  append_dump(out, {how, d, offset, as_bytes(octets)}, moment, {style, colour, 0});
  return out;
}

struct row {
  const char* name;
  dump_style style;
  std::string_view octets, want;
};
constexpr row rows[] = {
    {"a line and the start of the next", dump_style::hex, std::string_view{"hello\nwo\x80\x1brld", 13},
     "> 2026/11/22 20:32:13.000510251  length=13 from=0 to=12\n"
     " 68 65 6c 6c 6f 0a                                hello.\n"
     " 77 6f 80 1b 72 6c 64                             wo..rld\n"
     "--\n"},
    {"sixteen in a row", dump_style::hex, "0123456789abcdefg",
     "> 2026/11/22 20:32:13.000510251  length=17 from=0 to=16\n"
     " 30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef\n"
     " 67                                               g\n"
     "--\n"},
    {"text with controls", dump_style::text, "GET / HTTP/1.1\r\n\tx\\\x1b[31m\a\b\v\f\x7f\xc3\xa4\n",
     "> 2026/11/22 20:32:13.000510251  length=32 from=0 to=31\n"
     "GET / HTTP/1.1\\r\n\tx\\\\.[31m\\a\\b\\v\\f...\n"},
    {"text without a line feed gets one", dump_style::text, "no end",
     "> 2026/11/22 20:32:13.000510251  length=6 from=0 to=5\nno end\n"},
};

TEST(dump_format, looks_like_socat) {
  for (const auto& r : rows) EXPECT_EQ(dumped(r.style, r.octets), r.want) << r.name;
}

TEST(dump_format, directions_marks_and_offsets) {
  const auto first_line = [](const std::string& text) { return text.substr(0, text.find('\n')); };
  EXPECT_EQ(first_line(dumped(dump_style::text, "ab", piece::kind::as_it_came, direction::to_client, 100)),
            "< 2026/11/22 20:32:13.000510251  length=2 from=100 to=101");
  EXPECT_EQ(first_line(dumped(dump_style::hex, "ab", piece::kind::before, direction::to_client, 5)),
            "<- 2026/11/22 20:32:13.000510251  length=2 from=5 to=6");
  EXPECT_EQ(first_line(dumped(dump_style::hex, "abc", piece::kind::after, direction::to_server, 5)),
            ">+ 2026/11/22 20:32:13.000510251  length=3 from=5 to=7");
  EXPECT_EQ(dumped(dump_style::hex, ""), "");
  const in_utc here;
  std::string out;
  append_dump(out, {piece::kind::as_it_came, direction::to_server, 0, as_bytes("a")}, moment,
              {dump_style::text, false, 7});
  EXPECT_EQ(first_line(out), "> 2026/11/22 20:32:13.000510251  length=1 from=0 to=0 conn=7");
}

TEST(dump_format, colour_marks_what_was_edited_and_ends_with_the_piece) {
  const auto before = dumped(dump_style::text, "a\n", piece::kind::before, direction::to_server, 0, true);
  EXPECT_TRUE(before.starts_with("\x1b[31m>-")) << before;
  EXPECT_TRUE(before.ends_with("a\x1b[0m\n")) << before;
  const auto after = dumped(dump_style::hex, "a", piece::kind::after, direction::to_server, 0, true);
  EXPECT_TRUE(after.starts_with("\x1b[32m>+")) << after;
  EXPECT_TRUE(after.ends_with("--\x1b[0m\n")) << after;
  EXPECT_EQ(dumped(dump_style::text, "a", piece::kind::as_it_came, direction::to_server, 0, true).find('\x1b'),
            std::string::npos);
}

TEST(dump_format, no_octet_reaches_a_terminal_as_a_control) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  for (const auto style : {dump_style::hex, dump_style::text})
    for (const char c : dumped(style, all)) {
      const auto octet = static_cast<std::uint8_t>(c);
      EXPECT_TRUE((octet >= 0x20 && octet < 0x7f) || c == '\n' || c == '\t') << static_cast<int>(octet);
    }
}

TEST(dump_format, printable) {
  EXPECT_EQ(printable("plain \xc3\xa4 \xe2\x82\xac"), "plain \xc3\xa4 \xe2\x82\xac");
  EXPECT_EQ(printable("\x1b]0;title\a\n"), "\\x1b]0;title\\x07\\x0a");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\xc2\\x9b31m");                               // C1 CSI
  EXPECT_EQ(printable("\xe2\x80\xae"), "\\xe2\\x80\\xae");  // right-to-left override
  EXPECT_EQ(printable("\xc0\xaf\xed\xa0\x80\xff"), "\\xc0\\xaf\\xed\\xa0\\x80\\xff");
  EXPECT_EQ(printable("cut \xe2\x82"), "cut \\xe2\\x82");
}

TEST(dump_format, time_and_hex) {
  EXPECT_EQ(rfc3339(moment), "2026-11-22T20:32:13.000510251Z");
  EXPECT_EQ(rfc3339(wall_time{}), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(hex(as_bytes(std::string_view{"\x00\xff az", 5})), "00ff20617a");
}

}  // namespace
