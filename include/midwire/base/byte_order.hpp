#pragma once

#include <cstddef>
#include <cstdint>

namespace midwire {

/// Which octet of a number comes first: the most or the least significant one.
enum class byte_order : std::uint8_t { big, little };

/// The number in the `width` octets (0 to 8) at `from`.
constexpr std::uint64_t load_number(const std::uint8_t* from, std::size_t width, byte_order order) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < width; ++i) value = value << 8 | from[order == byte_order::big ? i : width - 1 - i];
  return value;
}

/// Writes the low `width` octets (0 to 8) of `value` to `to`.
constexpr void store_number(std::uint8_t* to, std::uint64_t value, std::size_t width, byte_order order) noexcept {
  for (std::size_t i = 0; i < width; ++i, value >>= 8)
    to[order == byte_order::big ? width - 1 - i : i] = static_cast<std::uint8_t>(value);
}

}  // namespace midwire
