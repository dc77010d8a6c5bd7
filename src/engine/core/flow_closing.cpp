// How a flow ends: in order, by a reset, or because its time is over.
#include "engine/core/flow_impl.hpp"

namespace midwire::detail {

namespace {
constexpr duration reset_drain = std::chrono::seconds{1};
}  // namespace

void flow_impl::check_finished() {
  if (state_ == state::closed || state_ == state::fresh) return;
  // A reset that has reached its sink ends both sides: the sink when it has what came before.
  for (const direction d : both_directions) {
    if (of(d).sink_end != end_mark::rst) continue;
    const side to = sink_of(d);
    for (const side s : both_sides) {
      if (std::exchange(side_done_[index_of(s)], true)) continue;
      const bool broken = read_ended_[index_of(s)] && of(direction_from(s)).ended_by_reset;
      if (broken)
        say(s, command::close());
      else if (s == to || why.how() == ending::aborted)
        say(s, command::reset_after_drain(reset_drain));
      else
        say(s, command::reset());
    }
  }
  if (state_ == state::open) {
    const bool both = std::all_of(ways.begin(), ways.end(), [](const way& w) {
      return w.end_sent || w.sink_end == end_mark::rst || w.sink_dead;
    });
    if (both) {
      state_ = state::closing;
      start_linger();
    }
  }
  if (state_ == state::closing) {
    for (const side s : both_sides) {
      if (side_done_[index_of(s)]) continue;
      const way& to = of(opposite(direction_from(s)));  // what goes to this side
      const bool flushed = to.in_flight == 0 && to.out.empty();
      if ((flushed && read_ended_[index_of(s)]) || to.sink_dead) {
        side_done_[index_of(s)] = true;
        say(s, command::close());
      } else if (linger_until_ <= now && lingers()) {
        side_done_[index_of(s)] = true;
        say(s, flushed ? command::close() : command::reset());
        if (!flushed) drop_waiting(opposite(direction_from(s)));
      }
    }
  }
  if (side_done_[0] && side_done_[1]) finish(why, by);
}

void flow_impl::finish(reason because, ended_by who) {
  if (state_ == state::closed) return;
  blame(who);
  why = std::move(because);
  state_ = state::closed;
  for (const side s : both_sides)
    if (!std::exchange(side_done_[index_of(s)], true)) {
      const bool broken = read_ended_[index_of(s)] && of(direction_from(s)).ended_by_reset;
      say(s, broken ? command::close() : command::reset());
    }
  for (const direction d : both_directions) {
    // What was sent and then reset with a drain counts as out: the driver still delivers it.
    way& w = of(d);
    const std::size_t draining = w.sink_end == end_mark::rst && !w.sink_dead ? w.in_flight : 0;
    w.count.out += draining, w.waiting -= draining, w.in_flight -= draining;
    w.piped = 0;
    drop_waiting(d);
  }
  closed = true;
  const bool was_busy = std::exchange(busy_, true);
  wheel_.reset();
  for (auto& slot : slots)
    if (slot->opened) slot->what->on_close(slot->context, why);
  busy_ = was_busy;
}

void flow_impl::begin_closing(reason because, ended_by who) {
  blame(who);
  why = std::move(because);
  for (const direction d : both_directions) {
    way& w = of(d);
    if (w.swallowed_at) pass_end(*std::exchange(w.swallowed_at, std::nullopt), d, end_mark::fin);
    if (w.source_end != end_mark::none) continue;
    w.source_end = end_mark::fin;
    if (slots.empty())
      end_sink(d, end_mark::fin);
    else
      slots.front()->lanes[index_of(d)].end = end_mark::fin;
  }
  if (!std::exchange(close_begun_, true)) start_linger();
  dirty_ = true;
}

void flow_impl::start_linger() {
  linger_until_ = limits.linger.count() > 0 ? add_time(now, limits.linger) : instant::max();
}

/// Whether the linger bounds the end. Where both peers have said their last word the reader may take its time: only the
/// other limits bound that.
bool flow_impl::lingers() const noexcept { return close_begun_ || !(read_ended_[0] && read_ended_[1]); }

/// Whether silence ends the flow: a close that we began is bounded by its linger alone.
bool flow_impl::idle_counts() const noexcept {
  return limits.idle.count() > 0 && (!close_begun_ || (state_ == state::closing && limits.linger.count() <= 0));
}

bool flow_impl::holding() const noexcept {
  for (const auto& slot : slots)
    for (const auto& lane : slot->lanes)
      if (lane.held) return true;
  return false;
}

/// When a flow that has ended in one direction only, and is not being closed, has been silent for too long.
instant flow_impl::half_closed_until() const noexcept {
  const bool half = of(direction::to_server).end_sent != of(direction::to_client).end_sent;
  if (!half || close_begun_ || limits.half_closed.count() <= 0) return instant::max();
  return add_time(last_activity_, limits.half_closed);
}

}  // namespace midwire::detail
