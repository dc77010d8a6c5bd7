#include <midwire/engine/reactor.hpp>

#include <sys/random.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>

#include <midwire/base/assert.hpp>

#include "engine/coroutine_loop.hpp"
#include "engine/dialer.hpp"
#include "engine/listener_state.hpp"
#include "engine/reactor_impl.hpp"
#include "engine/thread_work_desk.hpp"
#include "engine/transport_impl.hpp"

namespace midwire {

namespace {
thread_local detail::reactor_impl* innermost = nullptr;
thread_local std::vector<detail::reactor_impl*> made;  // on this thread, in order
// Calls posted by other threads get this much of a turn (E23).
constexpr duration posted_budget = std::chrono::milliseconds{1};

std::uint64_t random_seed() noexcept {
  std::uint64_t seed = 0;
  // Without entropy the clock has to do: what is drawn is no secret.
  if (::getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed)
    seed = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  return seed;
}

callback<void(int, std::string_view)>& log_sink() {
  static callback<void(int, std::string_view)> sink;
  return sink;
}
}  // namespace

void set_log(callback<void(int level, std::string_view line)> sink) { log_sink() = std::move(sink); }

namespace detail {

void log(int level, std::string_view line) {
  if (auto& sink = log_sink()) {
    sink(level, line);
  } else if (level >= 2) {
    std::fprintf(stderr, "midwire: %.*s\n", static_cast<int>(line.size()), line.data());
  }
}

reactor_impl* here() noexcept { return innermost ? innermost : made.empty() ? nullptr : made.back(); }

bool reactor_impl::in_turn() const noexcept { return innermost == this; }

reactor_impl::reactor_impl(reactor& r, std::unique_ptr<driver> k, reactor_options o)
    : self{r},
      options{o},
      kernel{std::move(k)},
      wheel{kernel->now()},
      now{kernel->now()},
      random{o.seed != 0 ? o.seed : random_seed()} {
  made.push_back(this);
}

reactor_impl::~reactor_impl() {
  // What is still open is torn down without a word to anybody: the loop is gone. Coroutines first: they use the rest.
  if (coroutines) coroutines->end();
  if (desk) desk->close();
  resolver_.reset();
  later.clear(), when_running.clear();
  owned.clear();
  graveyard.clear();
  listeners.clear();
  coroutines.reset();
  std::erase(made, this);
}

void reactor_impl::failed(const char* what) noexcept {
  ++failures;
  try {
    log(3, std::string{"an exception left a callback: "} + what);
  } catch (...) {}
}

void reactor_impl::handle(socket_id s, socket_handler& h) {
  const std::size_t i = index_of(s);
  if (i >= handlers_.size()) handlers_.resize(std::max(i + 1, handlers_.size() * 2), entry{socket_id{}, nullptr});
  if (handlers_[i].id == s && handlers_[i].filter)
    handlers_[i].filter->above = &h;
  else
    handlers_[i] = {s, &h};
}

void reactor_impl::forget(socket_id s) noexcept {
  const std::size_t i = index_of(s);
  if (i >= handlers_.size() || handlers_[i].id != s) return;
  if (handlers_[i].filter)
    handlers_[i].filter->above = nullptr;
  else
    handlers_[i].handler = nullptr;
}

void reactor_impl::put_between(socket_id s, socket_filter& f) {
  const std::size_t i = index_of(s);
  MIDWIRE_ASSERT(!filter_of(s));
  f.above = i < handlers_.size() && handlers_[i].id == s ? handlers_[i].handler : nullptr;
  handle(s, f);
  handlers_[i].filter = &f;
}

void reactor_impl::take_away(socket_id s, const socket_filter& f) noexcept {
  if (filter_of(s) == &f) handlers_[index_of(s)] = {s, nullptr};
}

void reactor_impl::unqueue(deferred_work& w) noexcept {
  if (std::exchange(w.queued, false))
    std::replace(dirty.begin(), dirty.end(), &w, static_cast<deferred_work*>(nullptr));
}

void reactor_impl::catch_up() {
  for (std::size_t i = 0; i < dirty.size(); ++i)
    if (deferred_work* w = dirty[i]) {
      w->queued = false;
      w->catch_up();
    }
  dirty.clear();
}

void reactor_impl::retire(mortal& m) {
  const std::size_t place = m.place;
  if (place >= owned.size() || owned[place].get() != &m) return;
  graveyard.push_back(std::move(owned[place]));
  if (place + 1 != owned.size()) {
    owned[place] = std::move(owned.back());
    owned[place]->place = place;
  }
  owned.pop_back();
}

resolver& reactor_impl::names() {
  if (!resolver_) resolver_ = make_cares_resolver(self);
  return *resolver_;
}

void reactor_impl::post_from_thread(callback<void()> f) {
  // Woken under the lock: the loop cannot run the call, which may be its last, before this has let go of the driver.
  const std::lock_guard lock{posted_lock_};
  posted_.push_back(std::move(f));
  kernel->wake();
}

void reactor_impl::turn(duration at_most) {
  auto* const outer = std::exchange(innermost, this);
  instant until = kernel->now() + std::min<duration>(at_most, std::chrono::hours{24});
  if (!later.empty() || !dirty.empty()) until = instant{};
  if (const auto first = wheel.next()) until = std::min(until, *first);
  {
    const std::lock_guard lock{posted_lock_};
    if (!posted_.empty()) until = instant{};
  }
  happened.clear();
  kernel->wait(until, happened);
  now = kernel->now();
  wheel.set_now(now);
  for (auto& [id, what] : happened) {
    const bool fresh = what.what() == event::kind::accepted;
    const socket_id whose = fresh ? what.listener() : id;
    const std::size_t i = index_of(whose);
    if (i >= handlers_.size() || handlers_[i].id != whose || !handlers_[i].handler) {
      if (fresh) kernel->perform(id, command::close());
      continue;
    }
    guard([&] { handlers_[i].handler->on_event(id, std::move(what)); });
    if (!dirty.empty()) catch_up();
  }
  guard([&] { wheel.advance(now); });
  catch_up();
  // Only what was queued before: what these calls queue waits for the next turn.
  std::vector<callback<void()>> calls;
  calls.swap(later);
  for (auto& call : calls) {
    guard(call);
    catch_up();
  }
  {
    const std::lock_guard lock{posted_lock_};
    calls.clear();
    calls.swap(posted_);
  }
  std::size_t done = 0;
  // The budget is checked against the real clock only now and then: most posted calls are short.
  const auto began = calls.size() > 15 ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point{};
  for (; done < calls.size(); ++done) {
    if ((done & 15) == 15 && std::chrono::steady_clock::now() - began > posted_budget) break;
    guard(calls[done]);
    catch_up();
  }
  if (done < calls.size()) {
    const std::lock_guard lock{posted_lock_};
    posted_.insert(posted_.begin(), std::make_move_iterator(calls.begin() + static_cast<std::ptrdiff_t>(done)),
                   std::make_move_iterator(calls.end()));
  }
  happened.clear();
  kernel->flush_datagrams();
  while (!graveyard.empty()) {
    auto dead = std::move(graveyard);
    graveyard.clear();
    dead.clear();
  }
  innermost = outer;
}

void reactor_impl::run() {
  running = true, stopping = false;
  auto* const outer = std::exchange(innermost, this);
  for (auto first = std::exchange(when_running, {}); auto& f : first) {
    guard(f);
    catch_up();
  }
  innermost = outer;
  while (!stopping) turn(std::chrono::hours{1});
  stopping = false;
  if (coroutines) coroutines->shut_down(options.shutdown);
  kernel->flush_datagrams();  // it may have been stopped before its first turn
  running = false;
}

namespace {

class watcher final : public socket_handler {
 public:
  explicit watcher(callback<void(bool, bool)> ready) : ready_{std::move(ready)} {}
  void on_event(socket_id, event what) override {
    if (what.what() == event::kind::became_ready) ready_(what.readable(), what.writable());
  }

 private:
  callback<void(bool, bool)> ready_;
};

class signal_watcher final : public socket_handler {
 public:
  explicit signal_watcher(callback<void()> then) : then_{std::move(then)} {}
  void on_event(socket_id, event what) override {
    if (what.what() == event::kind::signalled) then_();
  }

 private:
  callback<void()> then_;
};

/// A handler that is replaced or removed may be the one that is running.
struct buried_handler final : mortal {
  explicit buried_handler(std::unique_ptr<socket_handler> h) : handler{std::move(h)} {}
  std::unique_ptr<socket_handler> handler;
};

}  // namespace

}  // namespace detail

reactor::reactor(reactor_options options)
    : reactor{make_epoll_driver({options.accept_batch, options.read_budget}), options} {}
reactor::reactor(std::unique_ptr<driver> kernel, reactor_options options)
    : impl_{std::make_unique<detail::reactor_impl>(*this, std::move(kernel), options)} {}
reactor::~reactor() = default;

void reactor::run() { impl_->run(); }
void reactor::stop() { impl_->stopping = true; }
void reactor::turn(duration at_most) { impl_->turn(at_most); }
instant reactor::now() const noexcept { return impl_->now; }
reactor& reactor::current() {
  MIDWIRE_ASSERT(innermost != nullptr);
  return innermost->self;
}
const reactor_options& reactor::options() const noexcept { return impl_->options; }
std::uint64_t reactor::failures() const noexcept { return impl_->failures; }
void reactor::set_resolver(std::unique_ptr<resolver> r) { impl_->resolver_ = std::move(r); }

timer_ref reactor::call_later(duration from_now, callback<void()> then) {
  // In the past it would never let the others come.
  return impl_->wheel.call_at(add_time(impl_->now, std::max(from_now, duration{})),
                              [this, f = std::move(then)]() mutable { impl_->guard(f); });
}

timer_ref reactor::every(duration period, callback<void()> then) {
  return impl_->wheel.call_every(period, [this, f = std::move(then)]() mutable { impl_->guard(f); });
}

void reactor::call_when_running(callback<void()> then) {
  if (impl_->running)
    impl_->post(std::move(then));
  else
    impl_->when_running.push_back(std::move(then));
}

void reactor::on_signal(int number, callback<void()> then) {
  auto handler = std::make_unique<detail::signal_watcher>(std::move(then));
  auto& slot = impl_->signals[number];
  if (slot.second) {
    impl_->bury(std::make_unique<detail::buried_handler>(std::move(slot.second)));
  } else {
    slot.first = impl_->kernel->watch_signal(number);
  }
  impl_->handle(slot.first, *handler);
  slot.second = std::move(handler);
}

void reactor::call_from_thread(callback<void()> then) { impl_->post_from_thread(std::move(then)); }

void reactor::watch(int fd, bool read, bool write, callback<void(bool, bool)> ready) {
  auto handler = std::make_unique<detail::watcher>(std::move(ready));
  auto& slot = impl_->watches[fd];
  if (slot.second) {
    impl_->kernel->change_watch(slot.first, read, write);  // may throw: then the old handler stays
    impl_->bury(std::make_unique<detail::buried_handler>(std::move(slot.second)));
  } else {
    slot.first = impl_->kernel->watch(fd, read, write);
  }
  impl_->handle(slot.first, *handler);
  slot.second = std::move(handler);
}

void reactor::unwatch(int fd) {
  const auto it = impl_->watches.find(fd);
  if (it == impl_->watches.end()) return;
  impl_->forget(it->second.first);
  impl_->kernel->unwatch(it->second.first);
  impl_->bury(std::make_unique<detail::buried_handler>(std::move(it->second.second)));
  impl_->watches.erase(it);
}

timer::timer(reactor& r, callback<void()> then) : reactor_{r}, then_{std::move(then)} {}
timer::~timer() = default;
void timer::start(duration from_now) {
  last_ = from_now;
  auto& impl = reactor_.impl();
  const instant due = add_time(impl.now, std::max(from_now, duration{}));
  if (active())
    timer_hook::touch(due);
  else
    impl.wheel.start(*this, due);
}
void timer::touch() noexcept { start(last_); }
void timer::stop() noexcept { timer_hook::stop(); }

}  // namespace midwire
