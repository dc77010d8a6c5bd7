#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>

#include <midwire/base/export.hpp>
#include <midwire/base/views.hpp>

namespace midwire::streams {

/// Lays what came in one direction beside what left, so that edits can be shown as before and after.
///
/// Exact      all `was` end to end are what came, all `octets` end to end are what left, whatever the hints say; where
///            a piece is unchanged the two are the same.
/// Hints      edits that were made, in the order they were made; they decide where a changed piece begins and ends.
///            Without a fitting hint the piece runs from the first difference to where both agree again.
/// Memory     what came and has not left, at most `limit`; what is older is shown as removed.
class MIDWIRE_API change_tracker {
 public:
  struct change {
    std::uint64_t offset = 0, was_offset = 0;
    byte_view octets, was;  ///< valid during the call; either may be empty
    bool edited = false;
  };
  static constexpr std::size_t limit = std::size_t{1} << 20;

  explicit change_tracker(std::function<void(const change&)> show) : show_{std::move(show)} {}
  void came(byte_view octets);
  void edited(byte_view before, byte_view after);
  void left(byte_view octets);
  /// Nothing more comes: shows what is open yet.
  void end();

 private:
  struct hint {
    std::string before, after;
  };
  void settle(bool final);
  void show_same(std::size_t octets);
  void show_changed(std::size_t was, std::size_t octets);

  std::function<void(const change&)> show_;
  std::string in_, out_;
  std::deque<hint> hints_;
  std::uint64_t in_offset_ = 0, out_offset_ = 0;
};

}  // namespace midwire::streams
