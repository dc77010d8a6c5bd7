#include <midwire/streams/source/units.hpp>

#include <gtest/gtest.h>

namespace {

using namespace std::chrono_literals;
using midwire::streams::parse_size;
using midwire::streams::parse_time;
using midwire::streams::size_text;

TEST(units, sizes) {
  EXPECT_EQ(parse_size("0"), 0u);
  EXPECT_EQ(parse_size("4096"), 4096u);
  EXPECT_EQ(parse_size("64KiB"), 65536u);
  EXPECT_EQ(parse_size("64KB"), 64000u);
  EXPECT_EQ(parse_size("1.5MiB"), 1572864u);
  EXPECT_EQ(parse_size("2GB"), 2000000000u);
  EXPECT_EQ(parse_size("18446744073709551615"), ~0ull);
  for (const auto* bad : {"", "x", "-1", "+1", "1 KB", "1kb", "1K", "1.KB", "1.5", ".5KB", "0x10",
                          "18446744073709551616", "99999999999GiB", "1KBx"})
    EXPECT_FALSE(parse_size(bad)) << bad;
}

TEST(units, times) {
  EXPECT_EQ(parse_time("0"), 0ns);
  EXPECT_EQ(parse_time("50ms"), 50ms);
  EXPECT_EQ(parse_time("1.5s"), 1500ms);
  EXPECT_EQ(parse_time("2m"), 2min);
  EXPECT_EQ(parse_time("1h"), 1h);
  EXPECT_EQ(parse_time("7us"), 7us);
  EXPECT_EQ(parse_time("3ns"), 3ns);
  EXPECT_EQ(parse_time("0.000000001h"), 3600ns);
  EXPECT_EQ(parse_time("0.999999999s"), 999999999ns);
  for (const auto* bad : {"", "10", "s", "1d", "1 s", "-1s", "1e3s", "1.5ns", "99999999h", "1.0000000001s"})
    EXPECT_FALSE(parse_time(bad)) << bad;
}

TEST(units, sizes_for_people) {
  EXPECT_EQ(size_text(0), "0 octets");
  EXPECT_EQ(size_text(1), "1 octet");
  EXPECT_EQ(size_text(9999), "9999 octets");
  EXPECT_EQ(size_text(10000), "10.0 KB");
  EXPECT_EQ(size_text(1234567), "1.23 MB");
  EXPECT_EQ(size_text(999999999), "1.00 GB");
}

}  // namespace
