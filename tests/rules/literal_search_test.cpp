#include "rules/literal_search.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>

#include <midwire/base/chance.hpp>

namespace midwire::rules {
namespace {

std::string lowered(std::string s) {
  for (auto& c : s)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  return s;
}

TEST(literal_search, finds_what_a_string_finds) {
  const std::uint64_t seed = std::random_device{}();
  random_source random{seed};
  for (auto n = static_cast<std::size_t>(100000 * MIDWIRE_TEST_SCALE); n > 0; --n) {
    const bool fold = random.one_in(2);
    static constexpr std::string_view letters[] = {"ab", "aAbB", "abcdefgh\\xff\\0", "aB@[`{-"};
    const auto from = letters[random.below(4)];
    std::string needle(1 + random.below(random.one_in(4) ? 40 : 5), 0), text(random.below(200), 0);
    for (auto& c : needle) c = from[random.below(from.size())];
    for (auto& c : text) c = from[random.below(from.size())];
    if (text.size() > needle.size() && random.one_in(2))
      text.replace(random.below(text.size() - needle.size()), needle.size(), needle);
    const literal_search search{needle, fold};
    const std::size_t begin = random.below(text.size() + 1);
    const std::string_view in{text};
    const std::size_t want = fold ? lowered(text).find(lowered(needle), begin) : text.find(needle, begin);
    ASSERT_EQ(search.find(as_bytes(in), begin), want) << "seed " << seed << " '" << needle << "' in '" << text << "'";
    // The longest proper prefix that ends the text behind `begin`.
    const std::string tail = fold ? lowered(text.substr(begin)) : text.substr(begin);
    std::size_t open = std::min(tail.size(), needle.size() - 1);
    const std::string wanted = fold ? lowered(needle) : needle;
    while (!tail.ends_with(wanted.substr(0, open))) --open;
    ASSERT_EQ(search.open_at_end(as_bytes(in), begin), open)
        << "seed " << seed << " '" << needle << "' in '" << text << "'";
  }
}

TEST(literal_search, worst_texts_stay_linear) {
  // First and last octet of the needle everywhere, and all that lies between but one.
  std::string needle(20000, 'a');
  needle[10000] = 'b';
  const literal_search search{needle, false};
  const std::string text(1 << 20, 'a');
  const auto start = std::chrono::steady_clock::now();
  for (int n = 0; n < 50; ++n) EXPECT_EQ(search.find(as_bytes(text), 0), literal_search::none);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds{20});  // 50 MiB; comparing would take hours
}

}  // namespace
}  // namespace midwire::rules
