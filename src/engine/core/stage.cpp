#include <midwire/engine/core/stage.hpp>

#include <algorithm>
#include <cstring>

#include <midwire/engine/core/message_stage.hpp>

#include "engine/core/flow_impl.hpp"

namespace midwire {

using detail::flow_impl;
using detail::held_octets;

namespace detail {

// ---- what stages and tokens ask for: nothing here calls a stage (E16)

void flow_impl::poke() {
  dirty_ = true;
  if (!busy_ && notify && state_ != state::closed) notify();
}

bool flow_impl::inject(std::size_t index, direction d, buffer octets, place where) {
  way& w = of(d);
  const std::size_t n = octets.size();
  if (n == 0) return true;
  const bool ended = where == place::first_stage ? (!slots.empty() && slots.front()->lanes[index_of(d)].end_shown)
                     : where == place::wire      ? w.sink_end != end_mark::none
                     : index + 1 < slots.size()  ? slots[index + 1]->lanes[index_of(d)].end != end_mark::none
                                                 : w.sink_end != end_mark::none;
  if (state_ != state::open && state_ != state::fresh) return count("injected too late", n), false;
  if (ended || w.sink_dead) return count("injected too late", n), false;
  if (w.waiting + n > 4 * limits.high) return count("injected over the limit", n), false;
  w.waiting += n, w.count.injected += n;
  slots[index]->lanes[index_of(d)].count.injected += n;
  if (where == place::first_stage) {
    auto& first = slots.front()->lanes[index_of(d)];
    first.entered += n;
    first.input.append(std::move(octets));
  } else {
    emit(where == place::wire ? slots.size() : index, d, std::move(octets));
  }
  poke();
  return true;
}

void flow_impl::bypass(std::size_t index, direction d, std::uint64_t octets) {
  slots[index]->lanes[index_of(d)].bypass = octets;
  poke();
}

pause_token flow_impl::pause(direction d) {
  ++of(d).pauses;
  pause_token token;
  token.flow_ = self_, token.direction_ = d;
  poke();
  return token;
}

void flow_impl::unpause(pause_token& token) {
  if (const auto flow = token.flow_.lock()) {
    --(*flow)->of(token.direction_).pauses;
    (*flow)->poke();
  }
  token.flow_.reset();
}

timer_ref flow_impl::call_later(duration from_now, callback<void()> then) {
  if (state_ == state::closed) return {};
  if (!wheel_) wheel_ = std::make_unique<timer_wheel>(now);
  // In the past it would never let the others come.
  auto ref = wheel_->call_at(add_time(now, std::max(from_now, duration{})), std::move(then));
  poke();
  return ref;
}

void flow_impl::request_close(reason because) {
  if (!close_asked_) close_why_ = std::move(because);
  close_asked_ = true;
  poke();
}

void flow_impl::request_reset() {
  reset_asked_ = true;
  poke();
}

void flow_impl::count(const char* name, std::uint64_t n) {
  if (n == 0) return;
  for (auto& [known, value] : counters)
    if (known == name || std::strcmp(known, name) == 0) {
      value += n;
      return;
    }
  counters.emplace_back(name, n);
}

void flow_impl::answered(held_octets&) { poke(); }

}  // namespace detail

pause_token::pause_token(pause_token&& other) noexcept : flow_{std::move(other.flow_)}, direction_{other.direction_} {
  other.flow_.reset();
}
pause_token& pause_token::operator=(pause_token&& other) noexcept {
  if (this != &other) {
    flow_impl::unpause(*this);
    flow_ = std::move(other.flow_), direction_ = other.direction_;
    other.flow_.reset();
  }
  return *this;
}
pause_token::~pause_token() { flow_impl::unpause(*this); }

hold_token::hold_token() noexcept = default;
hold_token::hold_token(hold_token&& other) noexcept = default;
hold_token& hold_token::operator=(hold_token&& other) noexcept {
  if (this != &other) {
    hold_token old{std::move(*this)};  // answered by its destructor
    held_ = std::move(other.held_);
  }
  return *this;
}
hold_token::~hold_token() {
  if (!*this) return;
  held_->said = held_->then == on_expiry::pass   ? held_octets::answer::pass
                : held_->then == on_expiry::drop ? held_octets::answer::drop
                                                 : held_octets::answer::close;
  held_->owner->answered(*held_);
}
hold_token::operator bool() const noexcept { return held_ && held_->owner && held_->said == held_octets::answer::none; }
byte_view hold_token::bytes() const {
  if (!*this) return {};
  if (held_->octets.chunks() > 1) held_->octets = buffer{std::move(held_->octets).join()};
  if (held_->octets.empty()) return {};
  const byte_view all = held_->octets.begin()->bytes();
  if (!held_->framing) return all;
  return all.subspan(held_->framing->front, all.size() - held_->framing->front - held_->framing->back);
}
void hold_token::release() {
  if (!*this) return;
  held_->said = held_octets::answer::pass;
  held_->owner->answered(*held_);
  held_.reset();
}
void hold_token::replace(buffer instead) {
  if (!*this) return;
  if (held_->framing) {
    bytes();  // makes one chunk of them
    const chunk like = held_->octets.empty() ? chunk{} : held_->octets.begin()->share();
    instead = held_->framing->by->reframe(held_->dir, like.bytes(), std::move(instead));
  }
  auto& w = held_->owner->ways[index_of(held_->dir)];
  const auto before = held_->octets.size(), after = instead.size();
  w.waiting = w.waiting - before + after;
  w.edited += static_cast<std::int64_t>(after) - static_cast<std::int64_t>(before);
  held_->octets = std::move(instead);
  release();
}
void hold_token::drop() {
  if (!*this) return;
  held_->said = held_octets::answer::drop;
  held_->owner->answered(*held_);
  held_.reset();
}

bool stage_context::inject(direction d, buffer octets, place where) {
  return flow_.inject(index_, d, std::move(octets), where);
}
void stage_context::bypass(direction d, std::uint64_t octets) { flow_.bypass(index_, d, octets); }
pause_token stage_context::pause(direction d) { return flow_.pause(d); }
timer_ref stage_context::call_later(duration from_now, callback<void()> then) {
  return flow_.call_later(from_now, std::move(then));
}
void stage_context::close(reason why) { flow_.request_close(std::move(why)); }
void stage_context::reset() { flow_.request_reset(); }
void stage_context::count(const char* why) { flow_.count(why); }
const address& stage_context::peer(side s) const noexcept { return flow_.ends[index_of(s)]; }
std::uint64_t stage_context::flow_id() const noexcept { return flow_.id; }
std::uint64_t stage_context::offset(direction d) const noexcept {
  return flow_.slots[index_]->lanes[index_of(d)].offset;
}
bool stage_context::ended_by_reset(direction d) const noexcept {
  return flow_.slots[index_]->lanes[index_of(d)].end == detail::end_mark::rst;
}
instant stage_context::now() const noexcept { return flow_.now; }

}  // namespace midwire
