#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include <midwire/engine/awaiter.hpp>

namespace midwire {

namespace detail {

template <class T>
struct channel_state {
  explicit channel_state(std::size_t most) : capacity{std::max<std::size_t>(most, 1)} {}
  /// Whoever stands first and can go on.
  void nudge() noexcept {
    if (closed || items.size() < capacity) senders.wake_first();
    if (closed || !items.empty()) receivers.wake_first();
  }
  void close() noexcept {
    closed = true;
    senders.wake_all();
    receivers.wake_all();
  }
  std::deque<T> items;
  std::size_t capacity;
  wait_list senders, receivers;
  bool closed = false;
};

template <class T>
class send_operation {
 public:
  send_operation(std::shared_ptr<channel_state<T>> s, T&& value)
      : state_{std::move(s)}, value_{hold(std::move(value))} {}
  send_operation(send_operation&&) noexcept = default;
  ~send_operation() {
    if (!place_.linked()) return;
    place_.unlink();
    state_->nudge();
  }
  bool ready() const noexcept {
    return state_->closed || (state_->senders.turn_of(place_) && state_->items.size() < state_->capacity);
  }
  void arm(runnable& who) noexcept { state_->senders.wait(place_, who); }
  void take() {
    place_.unlink();
    if (state_->closed) throw reason_error{reason{ending::aborted, {}, "the channel is closed"}};
    if constexpr (inside)
      state_->items.push_back(std::move(value_));
    else
      state_->items.push_back(std::move(*value_));
    state_->nudge();
  }

 private:
  // Large ones wait on the heap.
  static constexpr bool inside =
      sizeof(T) <= 64 && alignof(T) <= alignof(std::max_align_t) && std::is_nothrow_move_constructible_v<T>;
  static auto hold(T&& value) {
    if constexpr (inside)
      return std::move(value);
    else
      return std::make_unique<T>(std::move(value));
  }
  std::shared_ptr<channel_state<T>> state_;
  std::conditional_t<inside, T, std::unique_ptr<T>> value_;
  wait_place place_;
};

template <class T>
class receive_operation {
 public:
  explicit receive_operation(std::shared_ptr<channel_state<T>> s) noexcept : state_{std::move(s)} {}
  receive_operation(receive_operation&&) noexcept = default;
  ~receive_operation() {
    if (!place_.linked()) return;
    place_.unlink();
    state_->nudge();
  }
  bool ready() const noexcept {
    return state_->receivers.turn_of(place_) && (state_->closed || !state_->items.empty());
  }
  void arm(runnable& who) noexcept { state_->receivers.wait(place_, who); }
  std::optional<T> take() {
    place_.unlink();
    std::optional<T> got;
    if (!state_->items.empty()) {
      got.emplace(std::move(state_->items.front()));
      state_->items.pop_front();
    }
    state_->nudge();
    return got;
  }

 private:
  std::shared_ptr<channel_state<T>> state_;
  wait_place place_;
};

}  // namespace detail

/// A queue between coroutines of one loop: first come, first served, on both ends. Values are moved, never copied.
///
/// Lifetime  may go while others wait in it: that closes it.
/// Threads   one loop's.
template <class T>
class channel {
 public:
  static_assert(await_safe<T>,
                "g++ 12 destroys such a temporary in a co_await expression twice: give it a constructor");
  /// Holds up to so many values, at least one.
  explicit channel(std::size_t capacity = 1) : state_{std::make_shared<detail::channel_state<T>>(capacity)} {}
  channel(channel&&) noexcept = default;
  channel& operator=(channel&&) = delete;
  ~channel() { close(); }

  /// Waits for room. Cancelled, the value was not sent. Throws reason_error (ending::aborted) when the channel is
  /// closed, also while it waits.
  awaiter<void> send(T value) {
    return awaiter<void>{std::in_place_type<detail::send_operation<T>>, state_, std::move(value)};
  }
  /// Waits for a value. Empty: the channel was closed and all that was sent has been received.
  awaiter<std::optional<T>> receive() {
    return awaiter<std::optional<T>>{std::in_place_type<detail::receive_operation<T>>, state_};
  }
  /// What was sent can still be received; more is not taken.
  void close() noexcept {
    if (state_) state_->close();
  }
  /// Values that were sent and not received.
  std::size_t size() const noexcept { return state_->items.size(); }

 private:
  std::shared_ptr<detail::channel_state<T>> state_;
};

}  // namespace midwire
