// When a direction is read, spliced, or left alone.
#include <algorithm>

#include "engine/core/flow_impl.hpp"

namespace midwire::detail {

namespace {
// A direction splices once its reads average this much, with so much budget left, and copies again below that.
constexpr std::size_t splice_from = 16 * 1024, splice_until = 4 * 1024, splice_budget = 64 * 1024;
}  // namespace

std::uint64_t flow_impl::bypass_left(direction d) const {
  std::uint64_t least = ~std::uint64_t{0};
  for (const auto& slot : slots) least = std::min(least, slot->lanes[index_of(d)].bypass);
  return least;
}

bool flow_impl::splice_wanted(direction d) const {
  const way& w = of(d);
  // What was spliced and waits in the driver goes out in front of what comes; anything else does not.
  if (!may_splice || w.pauses > 0 || w.waiting > (w.spliced ? w.piped : 0) || w.sink_dead ||
      w.source_end != end_mark::none)
    return false;
  const std::uint64_t budget = bypass_left(d);
  // A stage may have lowered its budget since: the driver knows only the old one.
  if (w.spliced) return w.splice_left > 0 && budget >= w.splice_left && w.read_average >= splice_until;
  return budget >= splice_budget && w.read_average >= splice_from;
}

/// Nearly every octets_sent is of octets that the kernel took at once: nothing stood still for them, nothing changes.
bool flow_impl::reads_on(direction d) const noexcept {
  const way& w = of(d);
  if (!w.reading || w.full || w.waiting >= limits.high || (may_splice && w.read_average >= splice_from)) return false;
  return w.granted >= (limits.high - w.waiting) / 2;
}

void flow_impl::update_reading(direction d) {
  way& w = of(d);
  const side from = source_of(d);
  // While a splice holds octets its driver reads nothing, so few are as full as many.
  const bool blocked = w.spliced && w.piped > 0;
  if ((w.waiting >= limits.high || blocked) && !w.full) {
    w.full = true, w.full_since = now;
  } else if (w.full && w.waiting <= limits.low && !blocked) {
    w.full = false;
  }
  if (side_done_[index_of(from)] || read_ended_[index_of(from)]) return;
  // After our own end the peer's octets are read and thrown away, so that its last ones do not turn our close into a
  // reset (RFC 9293 section 3.6.1).
  const bool drain = state_ == state::closing || (w.source_end == end_mark::fin && w.end_sent);
  if (drain) {
    if (w.spliced) say(from, command::splice(0)), w.spliced = false;
    if (!w.reading || w.granted <= limits.high) {  // a grant with a limit says that the octets matter
      w.reading = true, w.granted = ~std::uint64_t{0};
      say(from, command::start_reading());
    }
    return;
  }
  if (splice_wanted(d)) {
    if (w.spliced) return;
    if (std::exchange(w.reading, false)) say(from, command::stop_reading());
    w.spliced = true, w.granted = 0, w.splice_left = bypass_left(d);
    say(from, command::splice(w.splice_left));
    return;
  }
  if (std::exchange(w.spliced, false)) say(from, command::splice(0));
  const bool want = w.pauses == 0 && !w.full && !w.sink_dead && w.source_end == end_mark::none;
  if (!want) {
    if (std::exchange(w.reading, false)) say(from, command::stop_reading());
    w.granted = 0;
    return;
  }
  const std::uint64_t room = limits.high > w.waiting ? limits.high - w.waiting : 0;
  // A grant is renewed only when it has shrunk to half of the room: small messages cost no command.
  if (!w.reading || w.granted > room || w.granted < room / 2) {
    w.reading = true, w.granted = room;
    say(from, command::start_reading(room));
  }
}

}  // namespace midwire::detail
