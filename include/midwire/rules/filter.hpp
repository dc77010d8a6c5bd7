#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include <midwire/base/export.hpp>
#include <midwire/fields/facts.hpp>
#include <midwire/fields/registry.hpp>

namespace midwire::rules {

namespace detail {
struct filter_program;
}

enum class tri : std::uint8_t { no, yes, depends };

/// A compiled display filter. Immutable and cheap to copy; evaluation does not allocate.
class MIDWIRE_API filter {
 public:
  filter() noexcept = default;
  explicit filter(std::shared_ptr<const detail::filter_program> p) noexcept : program_{std::move(p)} {}
  /// No filter: holds always.
  bool empty() const noexcept { return program_ == nullptr; }
  bool holds(const fields::stream_unit& unit) const;
  /// What connection facts and the direction alone decide: `depends` when units may differ.
  tri decide(const fields::connection_facts& conn, direction d) const;
  /// Reads payload or unit.*, or draws chance() for each unit: what it answers depends on how the stream was cut.
  bool reads_units() const noexcept;
  /// Reads something that changes while a connection lives (payload, unit.*, conn.age, conn.octets, chance).
  bool varies() const noexcept;
  /// Whether it can hold in this direction at all, whatever the connection: `from.client` cannot to the client.
  bool can_hold(direction d) const;
  /// Draws chance(…).
  bool uses_chance() const noexcept;
  /// Reads from.client or from.server: whoever wrote it thought of the direction.
  bool names_direction() const noexcept;

 private:
  std::shared_ptr<const detail::filter_program> program_;
};

}  // namespace midwire::rules
