#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string_view>

namespace midwire {

/// Octets that someone else owns.
using byte_view = std::span<const std::uint8_t>;
using duration = std::chrono::nanoseconds;
/// A moment of the steady clock, real or simulated.
using instant = std::chrono::time_point<std::chrono::steady_clock, duration>;

/// The sum, or the last or the first instant there is: a limit of "for ever" never wraps round into the past.
constexpr instant add_time(instant from, duration by) noexcept {
  std::int64_t sum = 0;
  if (__builtin_add_overflow(from.time_since_epoch().count(), by.count(), &sum))
    return by.count() > 0 ? instant::max() : instant::min();
  return instant{duration{sum}};
}

inline byte_view as_bytes(std::string_view text) noexcept {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(byte_view bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The flow's two ends and its two directions, decided by who opened the connection.
enum class side : std::uint8_t { client, server };
enum class direction : std::uint8_t { to_server, to_client };

constexpr direction opposite(direction d) noexcept {
  return d == direction::to_server ? direction::to_client : direction::to_server;
}
constexpr std::size_t index_of(direction d) noexcept { return static_cast<std::size_t>(d); }
constexpr std::size_t index_of(side s) noexcept { return static_cast<std::size_t>(s); }
/// The side that octets of this direction come from, and the one they go to.
constexpr side source_of(direction d) noexcept { return d == direction::to_server ? side::client : side::server; }
constexpr side sink_of(direction d) noexcept { return d == direction::to_server ? side::server : side::client; }
/// The direction of what this side sends.
constexpr direction direction_from(side s) noexcept {
  return s == side::client ? direction::to_server : direction::to_client;
}
constexpr std::string_view name_of(direction d) noexcept {
  return d == direction::to_server ? "to_server" : "to_client";
}
constexpr std::string_view name_of(side s) noexcept { return s == side::client ? "client" : "server"; }

}  // namespace midwire
