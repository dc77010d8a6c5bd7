#include <midwire/streams/source/units.hpp>

#include <array>
#include <charconv>
#include <cstdio>
#include <limits>

namespace midwire::streams {
namespace {

struct unit {
  std::string_view name;
  std::uint64_t factor;
};
constexpr std::array<unit, 8> sizes{{{"", 1},
                                     {"B", 1},
                                     {"KB", 1000},
                                     {"MB", 1000'000},
                                     {"GB", 1000'000'000},
                                     {"KiB", 1ull << 10},
                                     {"MiB", 1ull << 20},
                                     {"GiB", 1ull << 30}}};
constexpr std::array<unit, 6> times{
    {{"ns", 1}, {"us", 1000}, {"ms", 1000'000}, {"s", 1000'000'000}, {"m", 60'000'000'000}, {"h", 3600'000'000'000}}};

// A decimal number with at most nine digits behind the point, times the unit's factor; what is finer than one is cut.
template <std::size_t N>
std::optional<std::uint64_t> scaled(std::string_view text, const std::array<unit, N>& units) noexcept {
  const auto end = text.data() + text.size();
  std::uint64_t whole = 0;
  auto [at, error] = std::from_chars(text.data(), end, whole);
  if (error != std::errc{}) return std::nullopt;
  std::uint64_t part = 0, tenths = 1;
  if (at != end && *at == '.') {
    const auto digits = ++at;
    while (at != end && *at >= '0' && *at <= '9') {
      if (at - digits >= 9) return std::nullopt;
      part = part * 10 + static_cast<std::uint64_t>(*at++ - '0'), tenths *= 10;
    }
    if (at == digits) return std::nullopt;
  }
  const std::string_view name{at, static_cast<std::size_t>(end - at)};
  for (const auto& u : units) {
    if (u.name != name) continue;
    if (tenths > 1 && u.factor == 1) return std::nullopt;
    if (whole > std::numeric_limits<std::uint64_t>::max() / u.factor) return std::nullopt;
    // Below 10^9 times 3.6 * 10^12 would not fit: split the factor.
    const std::uint64_t fraction = part * (u.factor / tenths) + part * (u.factor % tenths) / tenths;
    const std::uint64_t sum = whole * u.factor + fraction;
    return sum < fraction ? std::nullopt : std::optional{sum};
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) noexcept { return scaled(text, sizes); }

std::optional<duration> parse_time(std::string_view text) noexcept {
  if (text == "0") return duration{};
  const auto octets = scaled(text, times);
  constexpr std::uint64_t longest = 100ull * 366 * 24 * 3600 * 1000'000'000;
  if (!octets || *octets > longest) return std::nullopt;
  return duration{static_cast<duration::rep>(*octets)};
}

std::string size_text(std::uint64_t octets) {
  if (octets < 10'000) return std::to_string(octets) + (octets == 1 ? " octet" : " octets");
  constexpr std::array<const char*, 6> names{"KB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(octets) / 1000;
  std::size_t i = 0;
  while (value >= 999.95 && i + 1 < names.size()) value /= 1000, ++i;
  char text[32];
  std::snprintf(text, sizeof text, value < 10 ? "%.2f %s" : "%.1f %s", value, names[i]);
  return text;
}

}  // namespace midwire::streams
