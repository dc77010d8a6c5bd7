#include <midwire/engine/core/timer_wheel.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <utility>

#include <midwire/base/assert.hpp>

namespace midwire {

namespace {

constexpr unsigned tick_bits = 20;  // a tick is 2^20 ns, a little over a millisecond
constexpr unsigned slot_bits = 5, slots = 1u << slot_bits, levels = 5;
constexpr std::uint32_t far_slot = levels * slots;  // more than 2^25 ticks (9.7 hours) away
constexpr std::uint32_t near_slot = far_slot + 1;   // in the heap

constexpr std::int64_t tick_of(instant when) noexcept { return when.time_since_epoch().count() >> tick_bits; }

}  // namespace

// A deadline's level is the highest group of five bits in which its tick differs from the wheel's: so all of a level
// come before all of the next, and none waits in a slot that the wheel has passed. What belongs to the present tick,
// or to an earlier one, waits in a pairing heap: that gives the exact order inside a tick, and next() its exactness.
// List and heap link alike: `link_` is whatever points to the hook, so it can leave either knowing no more.
struct timer_wheel::impl {
  std::int64_t tick = 0;
  timer_hook* near = nullptr;
  std::array<std::uint32_t, levels> used{};
  std::array<timer_hook*, far_slot + 1> lists{};
  std::array<instant, far_slot + 1> first{};  // no hook of the slot is placed earlier; maybe none as early any more

  static bool before(const timer_hook& a, const timer_hook& b) noexcept {
    return a.placed_ != b.placed_ ? a.placed_ < b.placed_ : a.order_ < b.order_;
  }

  static void push(timer_hook*& head, timer_hook& hook) noexcept {
    hook.next_ = head, hook.link_ = &head;
    if (head) head->link_ = &hook.next_;
    head = &hook;
  }

  /// Two heaps as one; either may be null. The roots' own next_ and link_ are the caller's.
  static timer_hook* meld(timer_hook* a, timer_hook* b) noexcept {
    if (!a || !b) return a ? a : b;
    if (before(*b, *a)) std::swap(a, b);
    push(a->child_, *b);
    return a;
  }

  static timer_hook* meld_all(timer_hook* siblings) noexcept {
    timer_hook* pairs = nullptr;
    while (siblings) {
      timer_hook* a = siblings;
      timer_hook* b = a->next_;
      siblings = b ? b->next_ : nullptr;
      a = meld(a, b);
      a->next_ = pairs, pairs = a;
    }
    timer_hook* root = nullptr;
    while (pairs) {
      timer_hook* rest = pairs->next_;
      root = meld(root, pairs);
      pairs = rest;
    }
    return root;
  }

  void add_near(timer_hook* heap) noexcept {
    near = meld(near, heap);
    if (near) near->next_ = nullptr, near->link_ = &near;
  }

  /// Moves a slot's hooks to the front of `out`.
  void take(std::uint32_t slot, timer_hook*& out) noexcept {
    while (timer_hook* hook = lists[slot]) {
      lists[slot] = hook->next_;
      push(out, *hook);
    }
  }
};

timer_hook::~timer_hook() { stop(); }

void timer_hook::touch(instant due) noexcept {
  if (!wheel_) return;
  if (due < placed_) {
    wheel_->unlink(*this);
    due_ = due;
    wheel_->place(*this);
  } else {
    due_ = due;
  }
}

void timer_hook::stop() noexcept {
  if (!wheel_) return;
  wheel_->unlink(*this);
  --wheel_->count_;
  wheel_ = nullptr;
}

/// Keeps itself alive for as long as it is to be called.
struct detail::delayed_call final : timer_hook {
  explicit delayed_call(callback<void()> f) noexcept : then{std::move(f)} {}
  void fired() override {
    const auto alive = self;
    auto call = std::move(then);  // cancelled from inside, it must not destroy what runs
    if (period.count() <= 0) {
      self.reset();
      call();
      return;
    }
    const auto late = home->now() - due();
    home->start(*this, add_time(due(), period * (late / period + 1)));
    struct restore {  // an exception does not end the rounds
      delayed_call& of;
      callback<void()>& call;
      ~restore() {
        if (of.active()) of.then = std::move(call);
      }
    } const again{*this, call};
    call();
  }
  void abandoned() noexcept override {
    const auto alive = std::move(self);
    const auto gone = std::move(then);
  }
  std::shared_ptr<delayed_call> self;
  callback<void()> then;
  timer_wheel* home = nullptr;
  duration period{};
};

bool timer_ref::cancel() noexcept {
  if (!active()) return false;
  const auto call = call_;  // what the closure owns may own this
  call->stop();
  const auto self = std::move(call->self);
  const auto gone = std::move(call->then);
  return true;
}

bool timer_ref::active() const noexcept { return call_ && call_->active(); }

instant timer_ref::due() const noexcept { return active() ? call_->due() : instant{}; }

void timer_ref::reset(duration from_now) {
  if (active()) call_->touch(add_time(call_->wheel_->now(), from_now));
}

void timer_ref::delay(duration more) {
  if (active()) call_->touch(add_time(call_->due(), more));
}

timer_wheel::timer_wheel(instant start) : impl_{std::make_unique<impl>()}, now_{start} { impl_->tick = tick_of(start); }

timer_wheel::~timer_wheel() {
  if (gone_) *gone_ = true;
  // One at a time: a closure that goes may stop other hooks.
  const auto drop = [](timer_hook*& list) {
    while (timer_hook* hook = list) {
      hook->stop();
      hook->abandoned();
    }
  };
  drop(impl_->near);
  for (auto& list : impl_->lists) drop(list);
}

void timer_wheel::start(timer_hook& hook, instant due) {
  hook.stop();
  hook.wheel_ = this, hook.due_ = due, hook.order_ = ++orders_;
  ++count_;
  place(hook);
}

timer_ref timer_wheel::call_at(instant due, callback<void()> then) {
  timer_ref ref;
  ref.call_ = std::make_shared<detail::delayed_call>(std::move(then));
  ref.call_->self = ref.call_;
  start(*ref.call_, due);
  return ref;
}

timer_ref timer_wheel::call_every(duration period, callback<void()> then) {
  MIDWIRE_ASSERT(period.count() > 0);
  timer_ref ref = call_at(add_time(now_, period), std::move(then));
  ref.call_->home = this, ref.call_->period = period;
  return ref;
}

std::optional<instant> timer_wheel::next() const noexcept {
  if (impl_->near) return impl_->near->placed_;
  for (std::uint32_t level = 0; level < levels; ++level)
    if (const auto used = impl_->used[level])
      return impl_->first[level * slots + static_cast<std::uint32_t>(std::countr_zero(used))];
  if (impl_->lists[far_slot]) return impl_->first[far_slot];
  return std::nullopt;
}

void timer_wheel::advance(instant now) {
  set_now(now);
  struct watch {
    explicit watch(timer_wheel& w) noexcept : wheel{w}, outer{std::exchange(w.gone_, &gone)} {}
    ~watch() {
      if (!gone)
        wheel.gone_ = outer;
      else if (outer)
        *outer = true;
    }
    timer_wheel& wheel;
    bool gone = false;
    bool* outer;
  } alive{*this};
  settle();
  const std::uint64_t last = orders_;
  // now_ may move on meanwhile; what that makes due waits for the next call.
  while (!alive.gone && impl_->near && impl_->near->placed_ <= now) {
    timer_hook& hook = *impl_->near;
    // Started on the way and due only now: it sorts behind all that was due before. Who starts himself again at once
    // would never let this end.
    if (hook.order_ > last && hook.due_ >= now) break;
    if (hook.due_ > hook.placed_) {
      unlink(hook);
      place(hook);
    } else {
      hook.stop();
      hook.fired();
    }
  }
}

/// Puts the hook where its deadline belongs.
void timer_wheel::place(timer_hook& hook) noexcept {
  hook.placed_ = hook.due_;
  hook.child_ = nullptr;
  const std::int64_t tick = tick_of(hook.due_);
  if (tick <= impl_->tick) {
    hook.slot_ = near_slot;
    impl_->add_near(&hook);
    return;
  }
  const auto differs = static_cast<std::uint64_t>(tick ^ impl_->tick);
  const auto level = static_cast<std::uint32_t>(std::bit_width(differs) - 1) / slot_bits;
  std::uint32_t slot = far_slot;
  if (level < levels) {
    const auto index = static_cast<std::uint32_t>(tick >> (level * slot_bits)) % slots;
    slot = level * slots + index;
    impl_->used[level] |= 1u << index;
  }
  auto& list = impl_->lists[slot];
  impl_->first[slot] = list ? std::min(impl_->first[slot], hook.placed_) : hook.placed_;
  hook.slot_ = slot;
  impl::push(list, hook);
}

void timer_wheel::unlink(timer_hook& hook) noexcept {
  *hook.link_ = hook.next_;
  if (hook.next_) hook.next_->link_ = hook.link_;
  hook.next_ = nullptr, hook.link_ = nullptr;
  if (hook.slot_ == near_slot) {
    impl_->add_near(impl::meld_all(std::exchange(hook.child_, nullptr)));
  } else if (hook.slot_ != far_slot && !impl_->lists[hook.slot_]) {
    impl_->used[hook.slot_ / slots] &= ~(1u << hook.slot_ % slots);
  }
}

/// Takes the wheel to the tick of now_: the slots passed and the one reached are placed anew, nearer or in the heap.
void timer_wheel::settle() noexcept {
  const std::int64_t tick = tick_of(now_);
  if (tick <= impl_->tick) return;
  const auto differs = static_cast<std::uint64_t>(tick ^ impl_->tick);
  const auto highest = static_cast<std::uint32_t>(std::bit_width(differs) - 1) / slot_bits;
  impl_->tick = tick;
  timer_hook* moved = nullptr;
  for (std::uint32_t level = 0; level < std::min(highest + 1, levels); ++level) {
    // Below the highest group that changed, a whole turn is over.
    const auto index = static_cast<std::uint32_t>(tick >> (level * slot_bits)) % slots;
    const std::uint32_t over = level < highest ? ~0u : ~0u >> (slots - 1 - index);
    for (auto left = impl_->used[level] & over; left != 0; left &= left - 1)
      impl_->take(level * slots + static_cast<std::uint32_t>(std::countr_zero(left)), moved);
    impl_->used[level] &= ~over;
  }
  if (highest >= levels) impl_->take(far_slot, moved);
  while (moved) {
    timer_hook& hook = *moved;
    moved = hook.next_;
    place(hook);
  }
}

}  // namespace midwire
