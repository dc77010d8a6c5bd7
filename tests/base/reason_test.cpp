#include <midwire/base/reason.hpp>

#include <gtest/gtest.h>

using midwire::ending;
using midwire::reason;

TEST(Reason, CarriesWhatItWasGiven) {
  const reason r{ending::reset, std::make_error_code(std::errc::connection_reset), "by the peer"};
  EXPECT_EQ(r.how(), ending::reset);
  EXPECT_EQ(r.code(), std::errc::connection_reset);
  EXPECT_EQ(r.text(), "by the peer");
  EXPECT_EQ(reason{}.how(), ending::done);
}

TEST(Reason, EveryEndingHasItsOwnName) {
  std::string seen;
  for (int i = 0; i <= static_cast<int>(ending::aborted); ++i) {
    const auto name = std::string{name_of(static_cast<ending>(i))};
    EXPECT_EQ(seen.find(' ' + name + ' '), seen.npos) << name;
    EXPECT_NE(name, "unknown");
    seen += ' ' + name + ' ';
  }
}
