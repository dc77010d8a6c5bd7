#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <midwire/base/chunk.hpp>
#include <midwire/base/views.hpp>

namespace midwire::rules {

/// What is known of a unit (a chunk as it arrived) while octets of it are on their way through the rules.
struct unit_mark {
  static constexpr std::uint32_t nowhere = std::numeric_limits<std::uint32_t>::max();

  std::uint64_t index = 0;  ///< in its direction, from 1
  instant arrived{};
  std::uint32_t stopped_at = nowhere, dropped_at = nowhere;  ///< the action that did it, by its place in the chain
  std::vector<bool> acts;  ///< for each rule whose filter varies: whether it held for this unit

  /// It met `stop` before the action at this place, which does not see its octets.
  bool hidden_from(std::uint32_t action) const noexcept { return stopped_at < action; }
};

/// Octets of one unit that lie side by side. `early`: an action has decided them early already.
struct unit_span {
  std::size_t size;
  const unit_mark* unit;
  bool early = false;
};

/// Which octets of a run belong to which unit, in order. Units are owned by the chain.
class unit_spans {
 public:
  bool empty() const noexcept { return first_ == spans_.size(); }
  std::size_t size() const noexcept { return octets_; }
  std::size_t count() const noexcept { return spans_.size() - first_; }
  const unit_span* begin() const noexcept { return spans_.data() + first_; }
  const unit_span* end() const noexcept { return spans_.data() + spans_.size(); }
  const unit_span& front() const noexcept { return spans_[first_]; }
  const unit_span& back() const noexcept { return spans_.back(); }

  void clear() noexcept {
    spans_.clear();
    first_ = octets_ = 0;
  }
  void append(std::size_t octets, const unit_mark* unit, bool early = false) {
    if (octets == 0) return;
    octets_ += octets;
    if (!empty() && spans_.back().unit == unit && spans_.back().early == early) {
      spans_.back().size += octets;
      return;
    }
    spans_.push_back({octets, unit, early});
  }
  void append(const unit_spans& more) {
    for (const auto& s : more) append(s.size, s.unit, s.early);
  }
  /// Takes the first `octets` away, and puts them behind `to` when there is one.
  void move_front(std::size_t octets, unit_spans* to) {
    while (octets > 0) {
      unit_span& s = spans_[first_];
      const std::size_t part = octets < s.size ? octets : s.size;
      if (to) to->append(part, s.unit, s.early);
      s.size -= part, octets -= part, octets_ -= part;
      if (s.size == 0) ++first_;
    }
    if (first_ == spans_.size()) {
      spans_.clear();
      first_ = 0;
    } else if (first_ > 64 && first_ > spans_.size() / 2) {
      spans_.erase(spans_.begin(), spans_.begin() + static_cast<std::ptrdiff_t>(first_));
      first_ = 0;
    }
  }
  /// Marks [from, to) as decided early; how many of them were not yet.
  std::size_t mark_early(std::size_t from, std::size_t to) {
    unit_spans marked;
    std::size_t fresh = 0;
    move_front(from, &marked);
    for (std::size_t left = to - from; left > 0;) {
      const unit_span s = front();
      const std::size_t part = left < s.size ? left : s.size;
      if (!s.early) fresh += part;
      marked.append(part, s.unit, true);
      move_front(part, nullptr);
      left -= part;
    }
    marked.append(*this);
    *this = std::move(marked);
    return fresh;
  }
  /// The octets of the last unit count as those of `instead` from now on.
  void rename_back(const unit_mark* last, const unit_mark* instead) {
    std::size_t first = spans_.size();
    while (first > first_ && spans_[first - 1].unit == last) --first;
    const std::vector<unit_span> renamed(spans_.begin() + static_cast<std::ptrdiff_t>(first), spans_.end());
    for (const auto& s : renamed) octets_ -= s.size;
    spans_.erase(spans_.begin() + static_cast<std::ptrdiff_t>(first), spans_.end());
    for (const auto& s : renamed) append(s.size, instead, s.early);
  }

 private:
  std::vector<unit_span> spans_;
  std::size_t first_ = 0, octets_ = 0;
};

/// Octets that go from one action to the next, side by side in memory, with their units.
struct passing {
  chunk octets;
  unit_spans units;
};

}  // namespace midwire::rules
