#include <midwire/base/chance.hpp>

#include <gtest/gtest.h>

using midwire::chance_key;

TEST(Chance, IsAFunctionOfItsKeyAlone) {
  const chance_key key{42, 1, 2, 3, 0, 9};
  EXPECT_EQ(key.draw(), (chance_key{42, 1, 2, 3, 0, 9}.draw()));
  for (const chance_key other : {chance_key{43, 1, 2, 3, 0, 9}, chance_key{42, 2, 2, 3, 0, 9}, chance_key{42, 1, 3, 3, 0, 9},
                                 chance_key{42, 1, 2, 4, 0, 9}, chance_key{42, 1, 2, 3, 1, 9}, chance_key{42, 1, 2, 3, 0, 8}})
    EXPECT_NE(key.draw(), other.draw());
}

TEST(Chance, IsUniformOverUnits) {
  int hits = 0;
  for (std::uint64_t unit = 0; unit < 100000; ++unit) {
    const double x = chance_key{7, 1, 1, 1, 0, unit}.draw();
    ASSERT_GE(x, 0.0);
    ASSERT_LT(x, 1.0);
    hits += x < 0.2;
  }
  EXPECT_NEAR(hits, 20000, 600);  // over four standard deviations
}
