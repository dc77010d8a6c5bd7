#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <midwire/base/export.hpp>
#include <midwire/base/views.hpp>

namespace midwire::streams {

/// `4096`, `64KiB`, `10MB`: KB MB GB count in 1000, KiB MiB GiB in 1024, no unit means octets.
/// \return nothing when it is something else or does not fit 64 bits.
MIDWIRE_API std::optional<std::uint64_t> parse_size(std::string_view text) noexcept;
/// `50ms`, `1.5s`, `2m`: ns us ms s m h; only zero needs no unit.
/// \return nothing when it is something else or longer than 100 years.
MIDWIRE_API std::optional<duration> parse_time(std::string_view text) noexcept;
/// `64 KiB`, `1.5 GB`: for people.
MIDWIRE_API std::string size_text(std::uint64_t octets);

}  // namespace midwire::streams
