#pragma once

#include <cstdint>
#include <string_view>

namespace midwire {

/// splitmix64: one well-mixed 64-bit value for each input.
constexpr std::uint64_t mix(std::uint64_t x) noexcept {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}
/// FNV-1a over the text, mixed: the name of a rule or a listener as a number.
constexpr std::uint64_t hash_text(std::string_view text) noexcept {
  std::uint64_t h = 0xcbf29ce484222325ull;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return mix(h);
}

/// A random decision as a function of what it is about, never of when it is made (promise 6).
struct chance_key {
  std::uint64_t seed, rule, listener, connection, direction, unit;
  /// Uniform in [0, 1).
  constexpr double draw() const noexcept {
    std::uint64_t h = mix(seed);
    for (const std::uint64_t part : {rule, listener, connection, direction, unit}) h = mix(h ^ mix(part));
    return static_cast<double>(h >> 11) * 0x1.0p-53;
  }
};

/// A seeded generator for tests and simulations (xorshift64*). Same seed, same numbers, on every machine.
class random_source {
 public:
  explicit random_source(std::uint64_t seed) noexcept : state_{mix(seed) | 1} {}
  std::uint64_t next() noexcept {
    state_ ^= state_ >> 12, state_ ^= state_ << 25, state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dull;
  }
  /// Uniform in [0, bound); bound 0 gives 0.
  std::uint64_t below(std::uint64_t bound) noexcept { return bound == 0 ? 0 : next() % bound; }
  double unit() noexcept { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  bool one_in(std::uint64_t n) noexcept { return below(n) == 0; }

 private:
  std::uint64_t state_;
};

}  // namespace midwire
