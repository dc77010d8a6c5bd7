#include "engine/dialer.hpp"

#include <algorithm>

namespace midwire::detail {

namespace {
constexpr duration between_attempts = std::chrono::milliseconds{250};
constexpr duration other_family = std::chrono::milliseconds{50};
}  // namespace

dialer::dialer(reactor_impl& r, endpoint to, connect_options options, refuse_fn refuse, result_fn done)
    : reactor_{r}, to_{std::move(to)}, options_{options}, refuse_{std::move(refuse)}, done_{std::move(done)} {}

dialer::~dialer() { cancel(); }

void dialer::start() {
  if (options_.timeout.count() > 0) deadline_ = add_time(reactor_.now, options_.timeout);
  if (to_.how == endpoint::scheme::unix_path) {
    waiting_.push_back(address::unix_path(to_.path));
  } else if (const auto literal = address::parse_ip(to_.host, to_.port)) {
    waiting_.push_back(*literal);
  } else {
    asking_ = true;
    try {
      query_ = reactor_.names().ask(to_.host, [this](resolver::answer a) { got(std::move(a)); });
      plan();
      return;
    } catch (const std::exception& e) {
      asking_ = false;
      last_ = reason{ending::failed, {}, e.what()};
    }
  }
  try_next();
}

void dialer::got(resolver::answer a) {
  if (finished_) return;
  for (auto& found : a.addresses) waiting_.push_back(found.with_port(to_.port));
  if (a.last) asking_ = false;
  if (a.addresses.empty() && a.last && !a.error.text().empty())
    last_ = reason{ending::refused, a.error.code(), a.error.text()};
  if (!trying_.empty()) {
    // The next attempt has its time; an address that comes later than all the others gets one.
    if (!waiting_.empty() && next_try_ == instant::max()) next_try_ = reactor_.now + between_attempts;
    plan();
    return;
  }
  // The other family may be about to answer, and is preferred when it is IPv6.
  const bool six =
      std::any_of(waiting_.begin(), waiting_.end(), [](const address& x) { return x.family() == address::kind::ipv6; });
  if (asking_ && !six && !waiting_.empty()) {
    next_try_ = reactor_.now + other_family;
    plan();
    return;
  }
  try_next();
}

void dialer::try_next() {
  next_try_ = instant::max();
  std::stable_sort(waiting_.begin(), waiting_.end(), [](const address& a, const address& b) {
    return a.family() == address::kind::ipv6 && b.family() == address::kind::ipv4;
  });
  while (!waiting_.empty()) {
    const address to = waiting_.front();
    waiting_.erase(waiting_.begin());
    if (refuse_) {
      std::optional<std::string> why = "the check of the address failed";
      reactor_.guard([&] { why = refuse_(to); });
      if (why) {
        last_ = reason{ending::refused, {}, std::move(*why)};
        continue;
      }
    }
    try {
      const socket_id s = reactor_.kernel->connect(to, options_);
      reactor_.handle(s, *this);
      trying_.push_back(s);
    } catch (const std::system_error& e) {
      last_ = reason{ending::refused, e.code(), e.what()};
      continue;
    }
    if (!waiting_.empty()) next_try_ = reactor_.now + between_attempts;
    plan();
    return;
  }
  if (trying_.empty() && !asking_) {
    // From the loop, never from start().
    reactor_.post([this, alive = std::weak_ptr<bool>{alive_}] {
      if (!alive.expired() && !finished_) finish(std::nullopt, last_);
    });
    return;
  }
  plan();
}

void dialer::plan() {
  const instant due = std::min(deadline_, next_try_);
  if (due == instant::max()) return timer_hook::stop();
  if (active())
    timer_hook::touch(due);
  else
    reactor_.wheel.start(*this, due);
}

void dialer::fired() {
  if (finished_) return;
  if (deadline_ <= reactor_.now)
    return finish(std::nullopt,
                  reason{ending::refused, std::make_error_code(std::errc::timed_out), "no answer in time"});
  if (next_try_ <= reactor_.now)
    try_next();
  else
    plan();
}

void dialer::on_event(socket_id s, event what) {
  if (finished_) return;
  const auto it = std::find(trying_.begin(), trying_.end(), s);
  if (it == trying_.end()) return;
  if (what.what() == event::kind::connected) {
    trying_.erase(it);
    finish(s, reason{});
  } else if (what.what() == event::kind::connect_failed) {
    reactor_.forget(s);
    trying_.erase(it);
    last_ = reason{ending::refused, what.error(), what.error().message()};
    if (!waiting_.empty() || trying_.empty()) try_next();
  }
}

void dialer::finish(std::optional<socket_id> s, reason why) {
  auto done = std::move(done_);
  if (s) reactor_.forget(*s);
  cancel();
  done(s, std::move(why));
}

void dialer::cancel() noexcept {
  if (std::exchange(finished_, true)) return;
  timer_hook::stop();
  if (asking_ && reactor_.resolver_) reactor_.resolver_->forget(query_);
  for (const socket_id s : trying_) {
    reactor_.forget(s);
    reactor_.kernel->perform(s, command::close());
  }
  trying_.clear();
}

}  // namespace midwire::detail
