#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include <midwire/base/assert.hpp>
#include <midwire/base/export.hpp>
#include <midwire/base/reason.hpp>

namespace midwire {

/// Thrown into a coroutine when what it awaits has failed.
class MIDWIRE_API reason_error : public std::runtime_error {
 public:
  explicit reason_error(reason why);
  const reason& why() const noexcept { return why_; }
  ending how() const noexcept { return why_.how(); }
  std::error_code code() const noexcept { return why_.code(); }
  /// Words for people; may be empty. what() has the ending's name in front of them.
  const std::string& text() const noexcept { return why_.text(); }

 private:
  reason why_;
};

/// What may be a temporary inside a co_await expression: g++ 12 destroys aggregates with destructors there twice, and
/// leaves alone every class that declares a constructor.
template <class T>
concept await_safe = std::is_lvalue_reference_v<T> || !std::is_aggregate_v<T> || std::is_trivially_destructible_v<T>;
/// The same for what can be called: a closure with captures that have destructors must have a name.
template <class F>
concept named_or_trivial = std::is_lvalue_reference_v<F> || std::is_trivially_destructible_v<F>;

template <class T = void>
class task;

namespace detail {

class coroutine_loop;
class promise_base;

/// One place in a list that owns nothing; leaves it as it goes.
class link {
 public:
  link() noexcept : next_{this}, prev_{this} {}
  link(const link&) = delete;
  link& operator=(const link&) = delete;
  ~link() { unlink(); }
  void unlink() noexcept {
    next_->prev_ = prev_, prev_->next_ = next_;
    next_ = prev_ = this;
  }
  bool linked() const noexcept { return next_ != this; }
  link* next() const noexcept { return next_; }
  /// Leaves the list it is in, and goes before `other`: before a list's head is its back.
  void move_before(link& other) noexcept {
    unlink();
    next_ = &other, prev_ = other.prev_;
    prev_->next_ = this, other.prev_ = this;
  }
  void move_behind(link& other) noexcept { move_before(*other.next_); }

 private:
  link *next_, *prev_;
};

/// A coroutine that is suspended, and what must come true before it goes on. In one list of its loop at a time.
class MIDWIRE_API runnable : private link {
 public:
  /// Something has happened: the loop will look again, and resumes the coroutine when there is what it waits for. Never
  /// from inside this call.
  void wake() noexcept;
  /// Next of all, before anything else can come between.
  void transfer() noexcept;
  /// The coroutine's own promise when it is a task; else null.
  promise_base* promise() const noexcept { return promise_; }

 protected:
  /// Whether there is what it waits for; may be asked often. Null: yes.
  using poll_fn = bool (*)(runnable&) noexcept;
  explicit runnable(poll_fn p = nullptr) noexcept : poll_{p} {}
  ~runnable() = default;
  /// On the loop that this thread is in.
  void suspend(std::coroutine_handle<> who, promise_base* promise);

 private:
  friend class coroutine_loop;
  friend class promise_base;
  enum class state : std::uint8_t { running, suspended, ready, next };
  poll_fn poll_;
  std::coroutine_handle<> who_;
  promise_base* promise_ = nullptr;
  coroutine_loop* loop_ = nullptr;
  state state_ = state::running;
};

/// A place in the queue of those who wait for one thing.
class wait_place : public link {
 public:
  wait_place() noexcept = default;
  // Taken along before anybody waits.
  wait_place(wait_place&&) noexcept : link{} {}
  runnable* who = nullptr;
};

/// Those who wait for one thing, first come first served.
class wait_list {
 public:
  wait_list() noexcept = default;
  bool empty() const noexcept { return !head_.linked(); }
  /// Whether it is this one's turn: first in the queue, or not in it and the queue is empty.
  bool turn_of(const wait_place& p) const noexcept { return p.linked() ? head_.next() == &p : empty(); }
  void wait(wait_place& p, runnable& who) noexcept {
    p.who = &who;
    p.move_before(head_);
  }
  void wake_first() noexcept {
    if (!empty()) static_cast<wait_place*>(head_.next())->who->wake();
  }
  void wake_all() noexcept {
    for (link* l = head_.next(); l != &head_; l = l->next()) static_cast<wait_place*>(l)->who->wake();
  }

 private:
  link head_;
};

}  // namespace detail

/// What an asynchronous member returns: `co_await` it once, in the expression that made it. Dropping it, before or
/// while a coroutine waits for it, cancels: nothing has been taken from where the value would have come from.
///
/// It holds its operation inside and allocates nothing.
template <class T>
class [[nodiscard]] awaiter final : private detail::runnable {
 public:
  /// For those who make awaiters. `Operation` has ready(): whether take() can be called, asked before the coroutine is
  /// suspended and each time its runnable is woken; arm(runnable&): says whom to wake; take(): the value, or throws.
  template <class Operation, class... A>
  explicit awaiter(std::in_place_type_t<Operation>, A&&... arguments) : runnable{&poll}, table_{&table_of<Operation>} {
    static_assert(sizeof(Operation) <= sizeof(storage_) && alignof(Operation) <= alignof(std::max_align_t));
    ::new (static_cast<void*>(storage_)) Operation(std::forward<A>(arguments)...);
  }
  /// Only before it is awaited.
  awaiter(awaiter&& other) noexcept : runnable{&poll}, table_{std::exchange(other.table_, nullptr)} {
    if (table_) table_->move(other.storage_, storage_);
  }
  awaiter& operator=(awaiter&&) = delete;
  ~awaiter() {
    if (table_) table_->destroy(storage_);
  }

  bool await_ready() { return table_->ready(storage_); }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> who) {
    if constexpr (std::is_base_of_v<detail::promise_base, Promise>)
      suspend(who, &who.promise());
    else
      suspend(who, nullptr);
    table_->arm(storage_, *this);
  }
  T await_resume() {
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    return table_->take(storage_);
  }

 private:
  struct operations {
    bool (*ready)(void*);
    void (*arm)(void*, detail::runnable&);
    T (*take)(void*);
    void (*move)(void* from, void* to) noexcept;
    void (*destroy)(void*) noexcept;
  };
  template <class O>
  static constexpr operations table_of = {[](void* p) { return static_cast<O*>(p)->ready(); },
                                          [](void* p, detail::runnable& who) { static_cast<O*>(p)->arm(who); },
                                          [](void* p) -> T { return static_cast<O*>(p)->take(); },
                                          [](void* from, void* to) noexcept {
                                            ::new (to) O(std::move(*static_cast<O*>(from)));
                                            static_cast<O*>(from)->~O();
                                          },
                                          [](void* p) noexcept { static_cast<O*>(p)->~O(); }};
  static bool poll(detail::runnable& r) noexcept {
    auto& self = static_cast<awaiter&>(r);
    try {
      return self.table_->ready(self.storage_);
    } catch (...) {
      // It is the coroutine's own.
      self.error_ = std::current_exception();
      return true;
    }
  }

  const operations* table_;
  std::exception_ptr error_;
  alignas(std::max_align_t) unsigned char storage_[128];
};

static_assert(await_safe<awaiter<void>> && await_safe<reason> && await_safe<reason_error>);

}  // namespace midwire
