#include "engine/coroutine_loop.hpp"

#include <midwire/base/assert.hpp>

namespace midwire {

reason_error::reason_error(reason why)
    : std::runtime_error{std::string{name_of(why.how())} + (why.text().empty() ? "" : ": " + why.text())},
      why_{std::move(why)} {}

namespace detail {

namespace {
// In one turn; the rest waits for the next, so that coroutines which wake each other leave time for sockets (E23).
constexpr int most_in_a_turn = 256;
}  // namespace

/// An outermost coroutine.
struct coroutine_loop::root final : link, continuation {
  root(coroutine_loop& l, task<> b, failed_fn f) : loop{l}, body{std::move(b)}, ended{std::move(f)} {}
  void finished() noexcept override { move_before(loop.ended_); }
  coroutine_loop& loop;
  task<> body;
  failed_fn ended;
};

void runnable::wake() noexcept {
  if (loop_) loop_->ready(*this);
}

void runnable::transfer() noexcept {
  if (loop_) loop_->next(*this);
}

void runnable::suspend(std::coroutine_handle<> who, promise_base* promise) {
  who_ = who, promise_ = promise;
  coroutine_loop::here().suspended(*this);
}

void promise_base::start() {
  if (std::exchange(started_, true)) return;
  suspend(self_, this);
  transfer();
}

void promise_base::start_later(coroutine_loop& on) {
  if (std::exchange(started_, true)) return;
  who_ = self_, promise_ = this;
  on.suspended(*this);
  wake();
}

void promise_base::destroy(promise_base* outermost) noexcept {
  if (!outermost) return;
  promise_base* p = outermost;
  while (p->awaited_) p = p->awaited_;
  for (;;) {
    promise_base* const parent = p->parent_;
    const bool last = p == outermost;
    if (!last) {
      *p->owner_ = nullptr;
      parent->awaited_ = nullptr;
    }
    if (p->then_) std::exchange(p->then_, nullptr)->dropped();
    p->self_.destroy();
    if (last) return;
    p = parent;
  }
}

coroutine_loop& coroutine_loop::of(reactor_impl& r) {
  if (!r.coroutines) r.coroutines = std::make_shared<coroutine_loop>(r);
  return *r.coroutines;
}

coroutine_loop& coroutine_loop::here() {
  reactor_impl* const r = detail::here();
  MIDWIRE_ASSERT(r != nullptr);
  return of(*r);
}

coroutine_loop::~coroutine_loop() {
  end();
  // What somebody else owns sleeps for ever.
  for (link* list : {&suspended_, &ready_, &next_})
    while (list->linked()) {
      auto* const r = static_cast<runnable*>(list->next());
      r->unlink();
      r->loop_ = nullptr;
    }
}

void coroutine_loop::end() noexcept {
  over_ = true;
  for (link* list : {&roots_, &ended_})
    while (list->linked()) {
      const std::unique_ptr<root> gone{static_cast<root*>(list->next())};
      gone->unlink();
    }
  at_shutdown.clear();
}

void coroutine_loop::suspended(runnable& r) noexcept {
  r.loop_ = this, r.state_ = runnable::state::suspended;
  r.move_before(suspended_);
}

void coroutine_loop::ready(runnable& r) {
  if (r.state_ != runnable::state::suspended) return;
  r.state_ = runnable::state::ready;
  r.move_before(ready_);
  schedule();
}

void coroutine_loop::next(runnable& r) {
  if (r.state_ != runnable::state::suspended && r.state_ != runnable::state::ready) return;
  r.state_ = runnable::state::next;
  r.move_behind(next_);
  schedule();
}

void coroutine_loop::schedule() {
  if (over_ || std::exchange(scheduled_, true)) return;
  reactor_.post([this] { run(); });
}

void coroutine_loop::resume(runnable& r) {
  suspended(r);  // what it waits for may not have come
  if (r.poll_ && !r.poll_(r)) return;
  r.state_ = runnable::state::running;
  r.unlink();
  r.who_.resume();
}

/// A coroutine that begins another, or ends and lets its parent go on, only leaves a note in next_: the stack is as
/// deep after a million of them as after one, and no call by another can come between.
void coroutine_loop::run() {
  for (int i = 0; i < most_in_a_turn && (next_.linked() || ready_.linked()); ++i) {
    if (!next_.linked()) resume(*static_cast<runnable*>(ready_.next()));
    while (next_.linked()) resume(*static_cast<runnable*>(next_.next()));
    bury_ended();
    reactor_.catch_up();
  }
  scheduled_ = false;
  if (next_.linked() || ready_.linked()) schedule();
}

void coroutine_loop::bury_ended() {
  while (ended_.linked()) {
    const std::unique_ptr<root> gone{static_cast<root*>(ended_.next())};
    gone->unlink();
    const std::exception_ptr error = gone->body.promise()->error();
    if (gone->ended) {
      reactor_.guard([&] { gone->ended(error); });
    } else if (error) {
      reactor_.guard([&] { std::rethrow_exception(error); });
    }
  }
}

void coroutine_loop::spawn(task<> body, failed_fn ended) {
  if (over_ || !body.promise()) return;
  auto made = std::make_unique<root>(*this, std::move(body), std::move(ended));
  root* const r = made.release();
  r->move_before(roots_);
  r->body.promise()->tell(r);
  r->body.promise()->start_later(*this);
}

void coroutine_loop::shut_down(duration at_most) {
  if (at_shutdown.empty()) return;
  auto left = std::make_shared<std::size_t>(0);
  reactor_.post([this, left] {
    // Kept as long as the loop: they are the closures of coroutines.
    for (auto& make : std::exchange(at_shutdown, {})) {
      shutting_down_.push_back(std::move(make));
      reactor_.guard([&] {
        task<> body = shutting_down_.back()();
        if (!body.promise()) return;
        ++*left;
        spawn(std::move(body), [left](const std::exception_ptr& error) {
          --*left;
          if (error) std::rethrow_exception(error);
        });
      });
    }
  });
  const instant deadline = add_time(reactor_.kernel->now(), at_most);
  reactor_.turn(duration{});
  while (*left > 0 && !reactor_.stopping && reactor_.now < deadline) reactor_.turn(deadline - reactor_.now);
  if (*left > 0) log(2, "shutdown: " + std::to_string(*left) + " not done in time");
}

namespace {

class sleep_operation final : private timer_hook {
 public:
  sleep_operation(reactor_impl& r, duration d) noexcept : reactor_{r}, for_{d} {}
  sleep_operation(sleep_operation&& other) noexcept : reactor_{other.reactor_}, for_{other.for_} {}
  bool ready() const noexcept { return over_; }
  void arm(runnable& who) {
    who_ = &who;
    reactor_.wheel.start(*this, add_time(reactor_.now, std::max(for_, duration{})));
  }
  void take() noexcept {}

 private:
  void fired() override {
    over_ = true;
    who_->wake();
  }
  reactor_impl& reactor_;
  duration for_;
  runnable* who_ = nullptr;
  bool over_ = false;
};

class limit_operation final : private timer_hook, private continuation {
 public:
  limit_operation(duration d, promise_base& body) noexcept : for_{d}, body_{body} {}
  limit_operation(limit_operation&& other) noexcept : for_{other.for_}, body_{other.body_} {}
  ~limit_operation() override { body_.tell(nullptr); }
  bool ready() const noexcept { return body_.finished() || over_; }
  void arm(runnable& who) {
    who_ = &who;
    reactor_impl& r = coroutine_loop::here().reactor();
    body_.tell(this);
    r.wheel.start(*this, add_time(r.now, std::max(for_, duration{})));
    body_.start();
  }
  bool take() const noexcept { return body_.finished(); }

 private:
  void fired() override {
    over_ = true;
    who_->wake();
  }
  void finished() noexcept override { who_->transfer(); }
  duration for_;
  promise_base& body_;
  runnable* who_ = nullptr;
  bool over_ = false;
};

}  // namespace

awaiter<bool> ended_within(duration at_most, task_base& body) {
  MIDWIRE_ASSERT(body.promise() != nullptr);
  return awaiter<bool>{std::in_place_type<limit_operation>, at_most, *body.promise()};
}

struct task_group::member final : continuation {
  void finished() noexcept override { group->ended(*this); }
  void dropped() noexcept override { group->dropped(*this); }
  task_group* group = nullptr;
  promise_base* promise = nullptr;
};

task_group::task_group(until how, std::initializer_list<task_base*> tasks)
    : until_{how},
      members_{std::make_unique<member[]>(tasks.size())},
      size_{tasks.size()},
      left_{tasks.size()},
      first_{tasks.size()} {
  std::size_t i = 0;
  for (task_base* t : tasks) {
    MIDWIRE_ASSERT(t->promise() != nullptr);
    member& m = members_[i++];
    m.group = this, m.promise = t->promise();
    if (m.promise->finished()) ended(m);
  }
}

task_group::~task_group() {
  if (!armed_) return;
  for (std::size_t i = 0; i < size_; ++i)
    if (members_[i].promise && !members_[i].promise->finished()) members_[i].promise->tell(nullptr);
}

bool task_group::done() const noexcept { return left_ == 0 || first_ < size_; }

void task_group::arm(runnable& who) {
  who_ = &who, armed_ = true;
  for (std::size_t i = 0; i < size_; ++i)
    if (!members_[i].promise->finished()) members_[i].promise->tell(&members_[i]);
  // Each goes before those that are there: the first is the first to run.
  for (std::size_t i = size_; i-- > 0;) members_[i].promise->start();
}

void task_group::dropped(member& m) noexcept {
  m.promise = nullptr;
  --left_;
  if (who_ && done()) std::exchange(who_, nullptr)->wake();
}

void task_group::ended(const member& m) noexcept {
  --left_;
  if (first_ == size_ && (until_ == until::one || m.promise->error()))
    first_ = static_cast<std::size_t>(&m - members_.get());
  if (who_ && done()) std::exchange(who_, nullptr)->transfer();
}

}  // namespace detail

awaiter<void> reactor::sleep(duration from_now) {
  return awaiter<void>{std::in_place_type<detail::sleep_operation>, *impl_, from_now};
}

void reactor::spawn(task<> body) { detail::coroutine_loop::of(*impl_).spawn(std::move(body), {}); }

void reactor::on_shutdown(callback<task<>()> make) {
  detail::coroutine_loop::of(*impl_).at_shutdown.push_back(std::move(make));
}

}  // namespace midwire
