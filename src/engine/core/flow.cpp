#include <midwire/engine/core/flow.hpp>

#include <algorithm>
#include <cstring>
#include <exception>

#include <midwire/base/assert.hpp>
#include <midwire/engine/core/tls_errc.hpp>

#include "engine/core/flow_impl.hpp"

namespace midwire {

using detail::end_mark;
using detail::flow_impl;
using detail::held_octets;
using detail::stage_slot;

namespace {
constexpr ended_by who_is(side s) noexcept { return s == side::client ? ended_by::client : ended_by::server; }
constexpr std::size_t usual_commands = 2;
}  // namespace

namespace detail {

flow_impl::flow_impl(std::vector<std::unique_ptr<stage>> stages, flow_limits l)
    : limits{l}, self_{std::make_shared<flow_impl*>(this)} {
  slots.reserve(stages.size());
  for (auto& s : stages) slots.push_back(std::make_unique<stage_slot>(*this, slots.size(), std::move(s)));
}

flow_impl::~flow_impl() {
  // Tokens that die with their stages ask for nothing.
  busy_ = true, state_ = state::closed;
  for (auto& slot : slots)
    for (auto& lane : slot->lanes)
      if (lane.held) lane.held->owner = nullptr;
  self_.reset();
  wheel_.reset();
  for (auto& slot : slots) slot->what.reset();  // while all that their contexts lead to is still there
}

void flow_impl::open(instant at) {
  now = at, state_ = state::open;
  touch();
  busy_ = true;
  for (auto& slot : slots) {
    slot->opened = true;
    try {
      slot->what->on_open(slot->context);
    } catch (const std::exception& e) { failed(e.what()); } catch (...) {
      failed("unknown exception");
    }
    if (state_ != state::open) break;
  }
  busy_ = false;
  work();
}

void flow_impl::handle(side from, event what, instant at) {
  now = std::max(now, at);
  if (state_ == state::closed) return;
  const direction d = direction_from(from), back = opposite(d);
  way& w = of(d);
  switch (what.what()) {
    case event::kind::data_received: {
      const std::size_t n = what.data().size();
      touch();
      w.granted -= std::min<std::uint64_t>(w.granted, n);
      w.count.in += n;
      if (state_ == state::closing || w.sink_dead || w.source_end != end_mark::none) {
        w.count.dropped += n;  // drained: it came after our close
        break;
      }
      w.read_average = w.read_average == 0 ? n : (w.read_average * 7 + n) / 8;
      w.waiting += n;
      if (slots.empty()) {
        w.out.append(std::move(what.data()));
      } else {
        slots.front()->lanes[index_of(d)].entered += n;
        slots.front()->lanes[index_of(d)].input.append(std::move(what.data()));
      }
      break;
    }
    case event::kind::octets_spliced: {
      const std::uint64_t n = what.octets();
      touch();
      w.count.in += n;
      if (w.sink_dead) {
        w.count.dropped += n;
        break;
      }
      w.waiting += n, w.in_flight += n, w.piped += n;
      w.splice_left -= std::min(w.splice_left, n);
      w.read_average = (w.read_average * 7 + n) / 8;
      for (auto& slot : slots) {
        auto& lane = slot->lanes[index_of(d)];
        if (lane.bypass != ~std::uint64_t{0}) lane.bypass -= std::min(lane.bypass, n);
        lane.entered += n, lane.offset = lane.entered;
        lane.count.in += n, lane.count.out += n, lane.count.bypassed += n;
      }
      break;
    }
    case event::kind::octets_sent: {
      way& sink = of(back);  // this side is the sink of the other side's direction
      const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(what.octets(), sink.in_flight));
      touch();
      sink.in_flight -= n, sink.waiting -= n, sink.count.out += n;
      sink.piped -= std::min(sink.piped, n);
      if (state_ == state::closing) start_linger();
      if (state_ == state::open && !dirty_ && !close_begun_ && sink.sink_end == end_mark::none && reads_on(back))
        return;
      break;
    }
    case event::kind::end_received:
      read_ended_[index_of(from)] = true;
      w.reading = w.spliced = false;
      source_ended(d, end_mark::fin, {});
      break;
    case event::kind::reset_received:
      read_ended_[index_of(from)] = true;
      w.reading = w.spliced = false;
      source_ended(d, end_mark::rst, what.error());
      break;
    case event::kind::hung_up:
      // A hint that the peer is going is for the read to confirm. Broken, it takes nothing any more, though what it
      // sent may still wait to be read; only a side that will never be read again has ended with this.
      if (!what.broken()) break;
      if (!of(back).sink_dead) {
        of(back).sink_dead = true;
        drop_waiting(back);
      }
      if (w.sink_dead) {
        read_ended_[index_of(from)] = true;
        source_ended(d, end_mark::rst, std::make_error_code(std::errc::connection_reset));
      }
      break;
    default: break;
  }
  work();
}

void flow_impl::source_ended(direction d, end_mark end, std::error_code error) {
  way& w = of(d);
  way& back = of(opposite(d));
  blame(who_is(source_of(d)));
  if (end == end_mark::rst) {
    // Nothing reaches this side any more: what was on its way there is lost, as it would be without us.
    if (!back.sink_dead) {
      back.sink_dead = true;
      drop_waiting(opposite(d));
    }
    if (why.how() == ending::done && state_ == state::open) {
      ending how = ending::reset;
      if (error == std::errc::timed_out || error == std::errc::host_unreachable ||
          error == std::errc::network_unreachable)
        how = ending::lost;
      if (error == tls_errc::truncated) how = ending::tls_truncated;
      why = reason{how, error, error.category() == tls_category() ? error.message() : ""};
    }
    w.truncated = error == tls_errc::truncated;
    w.ended_by_reset = true;
  }
  if (w.source_end == end_mark::rst || (w.source_end == end_mark::fin && end == end_mark::fin)) return;
  const bool had_fin = w.source_end == end_mark::fin;
  w.source_end = end;
  if (state_ != state::open) return;
  if (had_fin) {
    // The FIN is on its way, or has left; the reset follows it to the sink once the stages are through.
    if (w.sink_end == end_mark::none) {
      for (auto& slot : slots) {
        auto& lane = slot->lanes[index_of(d)];
        if (lane.end == end_mark::fin && !lane.end_shown) {
          lane.end = end_mark::rst;
          return;
        }
        if (lane.held) settle_hold(static_cast<std::size_t>(slot->context.index_), d, held_octets::answer::drop);
      }
    }
    end_sink(d, end_mark::rst);
    return;
  }
  if (slots.empty()) {
    end_sink(d, end);
  } else {
    slots.front()->lanes[index_of(d)].end = end;
  }
}

/// The first to end it counts, but for us: what a time limit or a stop cut short was ended by us.
void flow_impl::blame(ended_by who) {
  if (blamed_ && who != ended_by::engine) return;
  blamed_ = true;
  by = who;
}

void flow_impl::work() {
  if (busy_) {
    dirty_ = true;
    return;
  }
  busy_ = true;
  do {
    dirty_ = false;
    if (state_ == state::open)
      for (const direction d : both_directions) run_direction(d);
    if (std::exchange(reset_asked_, false) && state_ != state::closed) {
      blame(ended_by::stage);
      finish(reason{ending::aborted}, ended_by::stage);
    }
    if (std::exchange(close_asked_, false) && state_ == state::open)
      begin_closing(std::move(close_why_), ended_by::stage);
  } while (dirty_);
  check_books();
  flush();
  check_finished();
  if (state_ == state::open || state_ == state::closing)
    for (const direction d : both_directions) update_reading(d);
  busy_ = false;
}

void flow_impl::run_direction(direction d) {
  for (std::size_t i = 0; i < slots.size() && state_ == state::open; ++i) run_lane(i, d);
}

void flow_impl::run_lane(std::size_t i, direction d) {
  auto& lane = slots[i]->lanes[index_of(d)];
  const auto live = [this] { return state_ == state::open && !reset_asked_; };
  end_mark end = end_mark::none;
  do {
    while (live()) {
      if (lane.held) {
        if (lane.held->said == held_octets::answer::none) {
          if (lane.end != end_mark::rst) return;
          settle_hold(i, d, held_octets::answer::drop);  // E8: a reset goes past what is held
        } else {
          settle_hold(i, d, lane.held->said);
        }
        continue;
      }
      if (lane.input.empty()) break;
      if (lane.kept.empty() && lane.bypass > 0) {
        const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(lane.bypass, lane.input.size()));
        buffer passed = lane.input.take_front(n);
        if (lane.bypass != ~std::uint64_t{0}) lane.bypass -= n;
        lane.count.in += n, lane.count.out += n, lane.count.bypassed += n;
        lane.offset += n;
        emit(i, d, std::move(passed));
        continue;
      }
      if (!lane.kept.empty() && lane.input.size() < lane.at_least && !choked(d)) break;
      chunk data = take_shown(lane);
      const std::size_t shown = data.size();
      show(i, d, shown, false, [&](stage& s, stage_context& c) { return s.on_data(c, d, std::move(data)); });
    }
    if (!live() || lane.held || lane.end == end_mark::none || lane.end_shown) return;
    // Fewer new octets than the stage asked for: it gets them with what it kept, there will be no more.
    chunk rest = take_shown(lane, ~std::size_t{0});
    lane.end_shown = true;
    end = lane.end;
    const std::size_t shown = rest.size();
    show(i, d, shown, true, [&](stage& s, stage_context& c) { return s.on_end(c, d, std::move(rest)); });
  } while (!lane.end_shown);  // it decided about a part, and wants to see the rest first
  // A TLS peer that says no farewell may have cut a message short, unless a framer knows better (lesson 15).
  if (end == end_mark::rst && of(d).truncated && lane.end == end && lane.bypass == 0 && slots[i]->what->at_boundary(d))
    end = lane.end = end_mark::fin;
  if (live() && !lane.held && lane.end != end_mark::none) pass_end(i, d, end);
}

/// Whether a stage waits for octets that nobody will read: the direction is full of what is kept and of what came
/// behind it. It is shown what there is; to keep that, too, is over its limit (E11).
bool flow_impl::choked(direction d) const noexcept {
  const way& w = of(d);
  return w.waiting >= limits.high && w.in_flight == 0 && w.out.empty();
}

/// What was kept, with the new octets that the stage asked for; or with `at_least` of them, as far as there are.
chunk flow_impl::take_shown(stage_slot::lane& lane, std::size_t at_least) {
  chunk data = std::move(lane.kept);
  if (at_least == 0) at_least = data.empty() ? 1 : lane.at_least;
  lane.kept_until = instant::max();
  std::size_t fresh = 0;
  if (!lane.input.empty()) {
    fresh = lane.input.begin()->size();
    chunk first = lane.input.pop_front();
    if (fresh >= at_least || lane.input.empty()) {
      data.append(std::move(first));
    } else {
      // Several pieces are copied once, not each behind the others.
      buffer all{std::move(data), std::move(first)};
      for (; fresh < at_least && !lane.input.empty(); all.append(lane.input.pop_front()))
        fresh += lane.input.begin()->size();
      data = std::move(all).join();
    }
  }
  lane.count.in += fresh;
  return data;
}

template <class Call>
void flow_impl::show(std::size_t i, direction d, std::size_t shown, bool ending_now, Call call) {
  stage_slot& slot = *slots[i];
  auto& lane = slot.lanes[index_of(d)];
  const std::uint64_t settled = lane.count.in;
  lane.offset = settled > shown ? settled - shown : 0;
  lane.count.kept = 0;
  try {
    apply(i, d, call(*slot.what, slot.context), shown, ending_now);
  } catch (const std::exception& e) {
    of(d).waiting -= shown, of(d).count.dropped += shown;
    failed(e.what());
  } catch (...) {
    of(d).waiting -= shown, of(d).count.dropped += shown;
    failed("unknown exception");
  }
}

void flow_impl::apply(std::size_t i, direction d, verdict v, std::size_t shown, bool ending_now) {
  auto& lane = slots[i]->lanes[index_of(d)];
  way& w = of(d);
  if (!v.unseen_.empty()) {
    // As if they had not come yet: they are shown when this verdict has been carried out, a hold of it settled.
    const std::size_t unseen = v.unseen_.size();
    shown -= unseen, lane.count.in -= unseen;
    lane.input.prepend(std::move(v.unseen_));
    if (std::exchange(ending_now, false)) lane.end_shown = false;
  }
  const std::size_t out = v.out_.size(), rest = v.rest_.size();
  std::size_t stays = 0;
  const bool last = ending_now || v.after_ != verdict::after::nothing;
  if (v.kind_ == verdict::kind::keep && last) {  // to keep at the end is to pass
    v.out_.append(std::move(v.rest_));
    v.kind_ = verdict::kind::pass;
  } else if (v.kind_ == verdict::kind::hold &&
             ((ending_now && lane.end == end_mark::rst) || v.after_ == verdict::after::reset)) {  // E8
    v.kind_ = verdict::kind::drop;
    v.why_ = "held octets dropped";
  }
  const std::size_t leaves = v.out_.size();
  switch (v.kind_) {
    case verdict::kind::pass: break;
    case verdict::kind::drop:
      w.count.dropped += rest, lane.count.dropped += rest;
      count(v.why_ ? v.why_ : "dropped", rest);
      break;
    case verdict::kind::keep:
      stays = rest;
      if (!v.rest_.empty()) {
        v.rest_.compact();  // E20
        if (lane.kept_since == instant{}) lane.kept_since = now;
        lane.kept = std::move(v.rest_);
        lane.at_least = std::max<std::size_t>(v.at_least_, 1);
        lane.kept_until = v.at_most_.count() > 0 ? add_time(now, v.at_most_) : instant::max();
      }
      break;
    case verdict::kind::hold: {
      stays = rest;
      v.rest_.compact();
      auto held = std::make_shared<held_octets>();
      held->owner = this, held->stage = i, held->dir = d, held->octets.append(std::move(v.rest_)), held->then = v.then_;
      held->framing = std::move(v.framing_);
      if (v.at_most_.count() > 0) held->deadline = add_time(now, v.at_most_);
      lane.held = held;
      lane.count.held = stays;
      *v.token_ = hold_token{};
      v.token_->held_ = std::move(held);
      break;
    }
  }
  // What the stage was shown is gone; what it answered with is here instead.
  w.edited += static_cast<std::int64_t>(out + rest) - static_cast<std::int64_t>(shown);
  w.waiting = w.waiting - shown + leaves + stays;
  lane.count.out += leaves;
  lane.count.kept = lane.kept.size();
  if (lane.kept.empty()) lane.kept_since = {};
  emit(i, d, std::move(v.out_));
  if (lane.kept.size() > limits.low) {
    finish(reason{ending::over_limit, {}, "a stage kept " + std::to_string(lane.kept.size()) + " octets"},
           ended_by::engine);
    return;
  }
  if (v.after_ == verdict::after::nothing && v.without_end_ && ending_now && lane.end == end_mark::fin) {
    lane.end = end_mark::none;  // shown, and not passed on
    w.swallowed_at = i;
    return;
  }
  if (v.after_ != verdict::after::nothing) {
    blame(ended_by::stage);
    const bool hard = v.after_ == verdict::after::reset;
    why = hard ? reason{ending::aborted} : std::move(*v.why_ended_);
    // What came behind these octets goes nowhere.
    const auto held = std::exchange(lane.held, nullptr);
    for (std::size_t k = 0; k <= i; ++k) {
      drop_lane(k, d);
      slots[k]->lanes[index_of(d)].end = end_mark::none, slots[k]->lanes[index_of(d)].end_shown = true;
    }
    w.source_end = hard ? end_mark::rst : end_mark::fin;
    if (held) {
      lane.held = held, lane.count.held = held->octets.size();
      lane.end = w.source_end;  // it follows when the hold is settled
    } else {
      pass_end(i, d, w.source_end);
    }
    if (!hard && !std::exchange(close_begun_, true)) start_linger();
    way& back = of(opposite(d));
    if (!hard && back.swallowed_at)
      pass_end(*std::exchange(back.swallowed_at, std::nullopt), opposite(d), end_mark::fin);
    if (!hard && back.source_end == end_mark::none) {
      back.source_end = end_mark::fin;
      slots.front()->lanes[index_of(opposite(d))].end = end_mark::fin;
    }
    dirty_ = true;
  }
}

void flow_impl::drop_lane(std::size_t i, direction d) {
  auto& lane = slots[i]->lanes[index_of(d)];
  std::size_t gone = lane.input.size() + lane.kept.size();
  lane.input.clear();
  lane.kept = {}, lane.kept_until = instant::max(), lane.kept_since = {}, lane.count.kept = 0;
  if (lane.held) {
    gone += lane.held->octets.size();
    lane.held->owner = nullptr;
    lane.held.reset();
    lane.count.held = 0;
  }
  way& w = of(d);
  w.waiting -= gone, w.count.dropped += gone, lane.count.dropped += gone;
}

void flow_impl::emit(std::size_t i, direction d, buffer octets) {
  if (octets.empty()) return;
  way& w = of(d);
  if (w.sink_dead) {
    w.waiting -= octets.size(), w.count.dropped += octets.size();
    return;
  }
  if (i + 1 < slots.size()) {
    auto& next = slots[i + 1]->lanes[index_of(d)];
    next.entered += octets.size();
    next.input.append(std::move(octets));
  } else {
    w.out.append(std::move(octets));
  }
}

void flow_impl::pass_end(std::size_t i, direction d, end_mark end) {
  if (i + 1 < slots.size()) {
    auto& next = slots[i + 1]->lanes[index_of(d)];
    if (!next.end_shown) next.end = end;
    dirty_ = true;
  } else {
    end_sink(d, end);
  }
}

void flow_impl::end_sink(direction d, end_mark end) {
  way& w = of(d);
  if (w.sink_end == end_mark::rst) return;
  w.sink_end = end;
}

void flow_impl::settle_hold(std::size_t i, direction d, held_octets::answer said) {
  auto& lane = slots[i]->lanes[index_of(d)];
  auto held = std::move(lane.held);
  lane.held.reset();
  held->owner = nullptr;
  const std::size_t n = held->octets.size();
  lane.count.held = 0;
  if (said == held_octets::answer::pass) {
    lane.count.out += n;
    emit(i, d, std::move(held->octets));
  } else {
    of(d).waiting -= n, of(d).count.dropped += n, lane.count.dropped += n;
    count("held octets dropped", n);
  }
  if (said == held_octets::answer::close) {
    close_asked_ = true;
    close_why_ = reason{ending::timed_out, {}, "a hold's time was over"};
  }
  // Held in on_end: the end follows now.
  if (lane.end != end_mark::none && lane.end_shown) pass_end(i, d, lane.end);
  dirty_ = true;
}

void flow_impl::drop_waiting(direction d) {
  way& w = of(d);
  for (std::size_t i = 0; i < slots.size(); ++i) drop_lane(i, d);
  w.out.clear();
  w.count.dropped += w.waiting;
  w.waiting = w.in_flight = w.piped = 0;
}

void flow_impl::failed(const char* what) {
  count("exceptions");
  finish(reason{ending::failed, {}, what}, ended_by::engine);
}

void flow_impl::flush() {
  for (const direction d : both_directions) {
    way& w = of(d);
    const side to = sink_of(d);
    if (side_done_[index_of(to)]) {
      if (!w.out.empty()) drop_waiting(d);
      continue;
    }
    if (!w.out.empty()) {
      w.in_flight += w.out.size();
      say(to, command::send(std::move(w.out)));
      w.out.clear();
    }
    if (w.sink_end == end_mark::fin && !w.end_sent && !w.sink_dead) {
      w.end_sent = true;
      say(to, command::send_end());
    }
  }
}

void flow_impl::close(reason because, ended_by who, instant at) {
  now = std::max(now, at);
  if (state_ != state::open) return;
  begin_closing(std::move(because), who);
  work();
}

void flow_impl::abort(reason because, ended_by who, instant at) {
  now = std::max(now, at);
  if (state_ == state::closed) return;
  finish(std::move(because), who);
}

void flow_impl::expire() {
  if (wheel_) {
    try {
      wheel_->advance(now);
    } catch (const std::exception& e) { failed(e.what()); } catch (...) {
      failed("unknown exception");
    }
  }
  for (std::size_t i = 0; i < slots.size() && state_ == state::open; ++i)
    for (const direction d : both_directions) {
      auto& lane = slots[i]->lanes[index_of(d)];
      if (lane.held && lane.held->deadline <= now && lane.held->said == held_octets::answer::none) {
        lane.held->said = lane.held->then == on_expiry::pass   ? held_octets::answer::pass
                          : lane.held->then == on_expiry::drop ? held_octets::answer::drop
                                                               : held_octets::answer::close;
      }
      if (!lane.kept.empty() && lane.kept_until <= now && !lane.held) {
        // Fewer new ones than it asked for, but they belong behind it.
        chunk kept = take_shown(lane, ~std::size_t{0});
        const std::size_t shown = kept.size();
        show(i, d, shown, false, [&](stage& s, stage_context& c) { return s.on_expired(c, d, std::move(kept)); });
      } else if (limits.message.count() > 0 && lane.kept_since != instant{} &&
                 add_time(lane.kept_since, limits.message) <= now) {
        finish(reason{ending::timed_out, {}, "an unfinished message"}, ended_by::engine);
      }
    }
}

void flow_impl::advance(instant at) {
  now = std::max(now, at);
  if (state_ == state::closed || state_ == state::fresh) return;
  busy_ = true;
  expire();
  busy_ = false;
  if (state_ == state::open) {
    // Once a close has begun its own limits bound it: to begin it again would move nothing.
    if (idle_counts() && add_time(last_activity_, limits.idle) <= now) {
      begin_closing(reason{ending::timed_out, {}, "idle"}, ended_by::engine);
    } else if (half_closed_until() <= now) {
      begin_closing(reason{ending::timed_out, {}, "half closed and silent"}, ended_by::engine);
    }
    // A close waits behind what a stage holds (E8), and else no longer than this.
    if (close_begun_ && linger_until_ <= now && !holding()) finish(why, by);
  } else if (state_ == state::closing && idle_counts() && add_time(last_activity_, limits.idle) <= now) {
    finish(reason{ending::timed_out, {}, "idle"}, ended_by::engine);
  }
  for (const way& w : ways)
    if (state_ != state::closed && limits.stuck.count() > 0 && w.full && add_time(w.full_since, limits.stuck) <= now)
      finish(reason{ending::timed_out, {}, "the reader took nothing"}, ended_by::engine);
  work();
}

std::optional<instant> flow_impl::next_deadline() const {
  if (state_ == state::closed || state_ == state::fresh) return std::nullopt;
  instant first = instant::max();
  if (dirty_) first = now;
  const auto consider = [&](instant at) { first = std::min(first, at); };
  if (wheel_)
    if (const auto due = wheel_->next()) consider(*due);
  if (state_ == state::closing) {
    if (lingers()) consider(linger_until_);
  } else {
    for (const auto& slot : slots)
      for (const auto& lane : slot->lanes) {
        if (lane.held)
          consider(lane.held->said == held_octets::answer::none ? lane.held->deadline : now);
        else
          consider(lane.kept_until);
        if (limits.message.count() > 0 && lane.kept_since != instant{})
          consider(add_time(lane.kept_since, limits.message));
      }
    consider(half_closed_until());
    if (close_begun_ && !holding()) consider(linger_until_);
  }
  if (idle_counts()) consider(add_time(last_activity_, limits.idle));
  if (limits.stuck.count() > 0)
    for (const way& w : ways)
      if (w.full) consider(add_time(w.full_since, limits.stuck));
  if (first == instant::max()) return std::nullopt;
  return first;
}

bool flow_impl::next_command(side& to, command& what) {
  if (next_command_ == commands_.size()) {
    commands_.clear();
    next_command_ = 0;
    if (commands_.capacity() > usual_commands) commands_.shrink_to_fit();  // an idle flow pins little
    if (commands_.capacity() == 0) commands_.reserve(usual_commands);
    return false;
  }
  auto& next = commands_[next_command_++];
  to = next.to;
  what = std::move(next.what);
  return true;
}

void flow_impl::check_books() const {
#ifndef NDEBUG
  for (const direction d : both_directions) {
    const way& w = of(d);
    std::size_t waiting = w.out.size() + w.in_flight;
    for (const auto& slot : slots) {
      const auto& lane = slot->lanes[index_of(d)];
      waiting += lane.input.size() + lane.kept.size() + (lane.held ? lane.held->octets.size() : 0);
    }
    MIDWIRE_ASSERT(waiting == w.waiting);
    const auto in = static_cast<std::int64_t>(w.count.in + w.count.injected) + w.edited;
    MIDWIRE_ASSERT(in == static_cast<std::int64_t>(w.count.out + w.count.dropped + w.waiting));  // E1
  }
#endif
}

}  // namespace detail

std::string_view name_of(ended_by who) noexcept {
  switch (who) {
    case ended_by::client: return "client";
    case ended_by::server: return "server";
    case ended_by::stage: return "stage";
    case ended_by::engine: return "engine";
  }
  return "unknown";
}

flow::flow(std::vector<std::unique_ptr<stage>> stages, flow_limits limits)
    : impl_{std::make_unique<flow_impl>(std::move(stages), limits)} {}
flow::flow(flow&&) noexcept = default;
flow& flow::operator=(flow&&) noexcept = default;
flow::~flow() = default;

void flow::set_identity(std::uint64_t id, address client, address server) {
  impl_->id = id, impl_->ends = {client, server};
}
void flow::allow_splice(bool yes) { impl_->may_splice = yes; }
void flow::open(instant now) { impl_->open(now); }
void flow::handle(side from, event what, instant now) { impl_->handle(from, std::move(what), now); }
void flow::advance(instant now) { impl_->advance(now); }
std::optional<instant> flow::next_deadline() const { return impl_->next_deadline(); }
bool flow::next_command(side& to, command& what) { return impl_->next_command(to, what); }
void flow::close(reason why, instant now) { impl_->close(std::move(why), ended_by::engine, now); }
void flow::abort(reason why, instant now) { impl_->abort(std::move(why), ended_by::engine, now); }
bool flow::closed() const noexcept { return impl_->closed; }
const reason& flow::why() const noexcept { return impl_->why; }
ended_by flow::by() const noexcept { return impl_->by; }
flow_count flow::count(direction d) const noexcept { return impl_->ways[index_of(d)].count; }
stage_count flow::count_of_stage(std::size_t index, direction d) const noexcept {
  return impl_->slots[index]->lanes[index_of(d)].count;
}
const std::vector<std::pair<const char*, std::uint64_t>>& flow::counters() const noexcept { return impl_->counters; }
std::size_t flow::waiting(direction d) const noexcept { return impl_->ways[index_of(d)].waiting; }
void flow::on_work(callback<void()> notify) { impl_->notify = std::move(notify); }

}  // namespace midwire
