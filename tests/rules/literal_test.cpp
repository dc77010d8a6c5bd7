#include "rules/literal.hpp"

#include <gtest/gtest.h>

#include <string>

namespace midwire::rules::detail {
namespace {

TEST(literal, octets) {
  struct row {
    const char* word;
    const char* hex;  // nothing: refused
  };
  constexpr row rows[] = {
      {"aa:bb", "aabb"},    {"aa-bb-cc", "aabbcc"}, {"aa.bb", "aabb"},   {"AABB", "aabb"},    {"7a", "7a"},
      {"7", "07"},          {"0x47", "47"},         {"0x7", "07"},       {"0x4747", nullptr}, {"123", nullptr},
      {"aa:b", nullptr},    {"aa:bb-cc", nullptr},  {"aa:", nullptr},    {"", nullptr},       {"zz", nullptr},
      {"aa:bbcc", nullptr}, {"0x", nullptr},        {"aa::bb", nullptr}, {"aab:b", nullptr}};
  for (const row& r : rows) {
    std::string out, hex;
    const bool good = parse_octets(r.word, out);
    EXPECT_EQ(good, r.hex != nullptr) << r.word;
    for (const char c : out)
      hex += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4], hex += "0123456789abcdef"[c & 15];
    if (good && r.hex) { EXPECT_EQ(hex, r.hex) << r.word; }
  }
}

TEST(literal, spans) {
  struct row {
    const char* word;
    std::int64_t nanoseconds;  // negative: refused
  };
  constexpr row rows[] = {{"10s", 10'000'000'000},
                          {"10", 10'000'000'000},
                          {"1m", 60'000'000'000},
                          {"3.5", 3'500'000'000},
                          {"3.5s", 3'500'000'000},
                          {"100ms", 100'000'000},
                          {"7us", 7000},
                          {"7ns", 7},
                          {"1h", 3'600'000'000'000},
                          {".5", 500'000'000},
                          {"0.5m", 30'000'000'000},
                          {"1.0000000001", 1'000'000'000},
                          {"", -1},
                          {".", -1},
                          {"s", -1},
                          {"10x", -1},
                          {"1e3", -1},
                          {"10 s", -1},
                          {"9999999999999999999", -1},
                          {"9999999999h", -1}};
  for (const row& r : rows) {
    wide n = 0;
    EXPECT_EQ(parse_span(r.word, n), r.nanoseconds >= 0) << r.word;
    if (r.nanoseconds >= 0) { EXPECT_EQ(static_cast<std::int64_t>(n), r.nanoseconds) << r.word; }
  }
}

}  // namespace
}  // namespace midwire::rules::detail
