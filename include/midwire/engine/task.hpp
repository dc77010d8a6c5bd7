#pragma once

#include <array>
#include <concepts>
#include <exception>
#include <initializer_list>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include <midwire/base/assert.hpp>
#include <midwire/base/export.hpp>
#include <midwire/base/views.hpp>
#include <midwire/engine/awaiter.hpp>

namespace midwire {

namespace detail {

/// Told when a task has come to its end; must not destroy it from inside. Or that it was destroyed before.
class MIDWIRE_API continuation {
 public:
  virtual void finished() noexcept = 0;
  virtual void dropped() noexcept {}

 protected:
  ~continuation() = default;
};

/// What all coroutines that are tasks have in common.
class MIDWIRE_API promise_base : public runnable {
 public:
  promise_base(const promise_base&) = delete;
  promise_base& operator=(const promise_base&) = delete;

  /// Begins it, unless it has begun; the calling thread's loop runs it, before anything else that is ready.
  void start();
  /// The same in its turn, on that loop.
  void start_later(coroutine_loop& on);
  /// Who is told of the end. One at a time; null: nobody.
  void tell(continuation* who) noexcept {
    MIDWIRE_ASSERT(who == nullptr || then_ == nullptr);
    then_ = who;
  }
  bool finished() const noexcept { return finished_; }
  std::exception_ptr error() const noexcept { return error_; }
  /// `child` is awaited by this one, and owned by `owner`.
  void awaits(promise_base& child, promise_base*& owner) noexcept {
    awaited_ = &child;
    child.parent_ = this, child.owner_ = &owner;
  }
  void awaits_no_more() noexcept { awaited_ = nullptr; }
  /// Destroys the coroutine, and before it those it awaits, innermost first: however many there are, the stack does not
  /// grow.
  static void destroy(promise_base* outermost) noexcept;

  std::suspend_always initial_suspend() const noexcept { return {}; }
  struct at_end {
    bool await_ready() const noexcept { return false; }
    template <class P>
    void await_suspend(std::coroutine_handle<P> who) const noexcept {
      promise_base& p = who.promise();
      p.finished_ = true;
      if (p.then_) std::exchange(p.then_, nullptr)->finished();
    }
    void await_resume() const noexcept {}
  };
  at_end final_suspend() const noexcept { return {}; }
  void unhandled_exception() noexcept { error_ = std::current_exception(); }

 protected:
  promise_base() noexcept = default;
  ~promise_base() = default;
  void is(std::coroutine_handle<> self) noexcept { self_ = self; }

 private:
  std::coroutine_handle<> self_;
  continuation* then_ = nullptr;
  promise_base *awaited_ = nullptr, *parent_ = nullptr, **owner_ = nullptr;
  std::exception_ptr error_;
  bool started_ = false, finished_ = false;
};

/// Owns a coroutine.
class task_base {
 public:
  task_base() noexcept = default;
  task_base(task_base&& other) noexcept : promise_{std::exchange(other.promise_, nullptr)} {}
  task_base& operator=(task_base&& other) noexcept {
    if (this != &other) promise_base::destroy(std::exchange(promise_, std::exchange(other.promise_, nullptr)));
    return *this;
  }
  ~task_base() { promise_base::destroy(std::exchange(promise_, nullptr)); }
  promise_base* promise() const noexcept { return promise_; }

 protected:
  explicit task_base(promise_base& p) noexcept : promise_{&p} {}
  promise_base* promise_ = nullptr;
};

template <class T>
class task_promise : public promise_base {
 public:
  task_promise() noexcept { is(std::coroutine_handle<task_promise>::from_promise(*this)); }
  task<T> get_return_object() noexcept;
  template <class V>
  requires std::constructible_from<T, V>
  void return_value(V&& value) { value_.emplace(std::forward<V>(value)); }
  T take() {
    if (error()) std::rethrow_exception(error());
    return std::move(*value_);
  }

 private:
  std::optional<T> value_;
};

template <>
class task_promise<void> : public promise_base {
 public:
  task_promise() noexcept { is(std::coroutine_handle<task_promise>::from_promise(*this)); }
  task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void take() {
    if (error()) std::rethrow_exception(error());
  }
};

/// A coroutine that waits for a task, and owns it.
template <class T>
class task_operation final : private task_base, private continuation {
 public:
  explicit task_operation(task_base&& t) noexcept : task_base{std::move(t)} { MIDWIRE_ASSERT(promise_ != nullptr); }
  task_operation(task_operation&& other) noexcept : task_base{std::move(other)} {}
  ~task_operation() {
    if (parent_) parent_->awaits_no_more();
    if (promise_) promise_->tell(nullptr);
  }
  bool ready() const noexcept { return promise_->finished(); }
  void arm(runnable& who) {
    who_ = &who;
    promise_->tell(this);
    if ((parent_ = who.promise())) parent_->awaits(*promise_, promise_);
    promise_->start();
  }
  T take() { return static_cast<task_promise<T>*>(promise_)->take(); }

 private:
  void finished() noexcept override { who_->transfer(); }
  runnable* who_ = nullptr;
  promise_base* parent_ = nullptr;
};

/// Several tasks that run at the same time, until one has ended or all have.
class MIDWIRE_API task_group {
 public:
  enum class until : std::uint8_t { one, all };
  task_group(until how, std::initializer_list<task_base*> tasks);
  task_group(const task_group&) = delete;
  task_group& operator=(const task_group&) = delete;
  ~task_group();
  /// One has ended; all have, or one with an exception.
  bool done() const noexcept;
  void arm(runnable& who);
  /// Which ended first; of all: which ended with an exception, or their number.
  std::size_t first() const noexcept { return first_; }

 private:
  struct member;
  void ended(const member& m) noexcept;
  void dropped(member& m) noexcept;
  until until_;
  std::unique_ptr<member[]> members_;
  std::size_t size_, left_, first_;
  runnable* who_ = nullptr;
  bool armed_ = false;
};

class group_operation {
 public:
  explicit group_operation(task_group& g) noexcept : group_{g} {}
  bool ready() const noexcept { return group_.done(); }
  void arm(runnable& who) { group_.arm(who); }
  std::size_t take() const noexcept { return group_.first(); }

 private:
  task_group& group_;
};

/// True when the task ended before the time was over.
MIDWIRE_API awaiter<bool> ended_within(duration at_most, task_base& body);

template <class T>
using or_monostate = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

}  // namespace detail

/// A coroutine. It begins when it is awaited or given to reactor::spawn(), on that reactor, and never from inside the
/// call that made it. `co_await std::move(t)` gives its value, or throws what left it.
///
/// Dropping it cancels: the coroutine is destroyed where it stands, with all it awaits.
/// Threads   one loop's. Its parameters live in it: take values, and references to what outlives it.
template <class T>
class [[nodiscard]] task : public detail::task_base {
 public:
  static_assert(!std::is_reference_v<T>, "a task gives a value");
  using promise_type = detail::task_promise<T>;
  task(task&&) noexcept = default;
  task& operator=(task&&) noexcept = default;
  ~task() = default;
  awaiter<T> operator co_await() && {
    return awaiter<T>{std::in_place_type<detail::task_operation<T>>, std::move(*this)};
  }
  /// Whether it has come to its end: awaiting it gives the value at once.
  bool done() const noexcept { return promise_ && promise_->finished(); }

 private:
  friend promise_type;
  explicit task(promise_type& p) noexcept : detail::task_base{p} {}
};

template <class T>
task<T> detail::task_promise<T>::get_return_object() noexcept {
  return task<T>{*this};
}
inline task<void> detail::task_promise<void>::get_return_object() noexcept { return task<void>{*this}; }

/// Runs the task for at most so long. Empty: time ran out and the task is gone; what it awaited is cancelled.
template <class T>
requires(!std::is_void_v<T>) task<std::optional<T>> within(duration at_most, task<T> body) {
  const bool ended = co_await detail::ended_within(at_most, body);
  task<T> it = std::move(body);  // gone when this returns
  if (!ended) co_return std::nullopt;
  co_return co_await std::move(it);
}
/// The same for a task without a value. False: time ran out and the task is gone.
inline task<bool> within(duration at_most, task<void> body) {
  const bool ended = co_await detail::ended_within(at_most, body);
  task<void> it = std::move(body);
  if (ended) co_await std::move(it);
  co_return ended;
}

namespace detail {
template <class T>
or_monostate<T> value_of(task<T>& t) {
  auto& p = static_cast<task_promise<T>&>(*t.promise());
  if constexpr (std::is_void_v<T>) {
    p.take();
    return {};
  } else {
    return p.take();
  }
}
}  // namespace detail

/// Runs them at the same time and gives all values, std::monostate for those without. When one ends with an exception,
/// the others are cancelled and it is thrown.
template <class... T>
task<std::tuple<detail::or_monostate<T>...>> when_all(task<T>... tasks) {
  detail::task_group group{detail::task_group::until::all, {&tasks...}};
  const std::size_t failed = co_await awaiter<std::size_t>{std::in_place_type<detail::group_operation>, group};
  if (failed < sizeof...(T)) {
    const std::array<detail::promise_base*, sizeof...(T)> promises{tasks.promise()...};
    std::rethrow_exception(promises[failed]->error());
  }
  co_return std::tuple<detail::or_monostate<T>...>{detail::value_of(tasks)...};
}

/// Runs them at the same time until the first has ended, by an exception too, and tells which. The others go on for as
/// long as they live; await the first to have its value, and any of the others to wait for it. One that is dropped
/// meanwhile never ends; when all were, this gives their number.
template <class... T>
requires(sizeof...(T) > 0) task<std::size_t> when_any(task<T>&... tasks) {
  detail::task_group group{detail::task_group::until::one, {&tasks...}};
  co_return co_await awaiter<std::size_t>{std::in_place_type<detail::group_operation>, group};
}

static_assert(await_safe<task<>> && await_safe<task<std::optional<int>>>);

}  // namespace midwire
