#include <midwire/base/callback.hpp>

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>

using midwire::callback;

TEST(Callback, CallsWhatItHolds) {
  callback<int(int)> twice = [](int x) { return 2 * x; };
  EXPECT_EQ(twice(21), 42);
  callback<int(int)> moved = std::move(twice);
  EXPECT_FALSE(static_cast<bool>(twice));
  EXPECT_EQ(moved(4), 8);
}

TEST(Callback, DestroysItsClosureOnce) {
  auto count = std::make_shared<int>(0);
  {
    callback<void()> small = [count] { ++*count; };
    std::array<char, 200> large{};
    callback<void()> big = [count, large] { *count += large[0] + 1; };
    EXPECT_EQ(count.use_count(), 3);
    small(), big();
    callback<void()> other = std::move(big);
    other();
    small = std::move(other);
    small();
    EXPECT_EQ(count.use_count(), 2);
  }
  EXPECT_EQ(*count, 4);
  EXPECT_EQ(count.use_count(), 1);
}

TEST(Callback, TakesMoveOnlyClosuresAndArguments) {
  auto owned = std::make_unique<std::string>("kept");
  callback<std::string(std::unique_ptr<std::string>)> join = [o = std::move(owned)](std::unique_ptr<std::string> more) {
    return *o + *more;
  };
  EXPECT_EQ(join(std::make_unique<std::string>("!")), "kept!");
}
