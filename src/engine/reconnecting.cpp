#include <midwire/engine/reconnecting.hpp>

#include <algorithm>
#include <cstdio>

#include "engine/redialer.hpp"

namespace midwire {

namespace detail {

namespace {

constexpr duration long_enough = std::chrono::seconds{10};

/// Stands before the user's factory for one attempt.
class attempt_factory final : public factory {
 public:
  attempt_factory(factory_ptr wrapped, std::weak_ptr<redialer*> owner)
      : wrapped_{std::move(wrapped)}, owner_{std::move(owner)} {}
  std::unique_ptr<protocol> build_protocol(const address& peer) override {
    std::unique_ptr<protocol> p;
    try {
      p = wrapped_->build_protocol(peer);
    } catch (...) {
      tell([](redialer& r) { r.failed(reason{ending::failed, {}, "the factory threw"}); });
      throw;
    }
    tell([&](redialer& r) {
      if (p)
        r.connected(p.get());
      else
        r.failed(factory_access::refusal(*wrapped_));
    });
    return p;
  }
  // The redialer first: what the user does there, a stop() for example, has the last word.
  void connection_failed(const reason& why) override {
    tell([&](redialer& r) { r.failed(why); });
    wrapped_->connection_failed(why);
  }
  void connection_lost(const reason& why) override {
    tell([&](redialer& r) { r.lost(why); });
    wrapped_->connection_lost(why);
  }

 private:
  void begin(transport_impl& t) override { factory_access::begin(*wrapped_, t); }
  reason refusal() const override { return factory_access::refusal(*wrapped_); }
  template <class F>
  void tell(F&& f) {
    if (const auto owner = owner_.lock()) f(**owner);
  }
  factory_ptr wrapped_;
  std::weak_ptr<redialer*> owner_;
};

}  // namespace

redialer::redialer(reactor_impl& r, factory_ptr f, retry_rules& rules, dial_fn dial)
    : reactor_{r},
      factory_{std::move(f)},
      rules_{rules},
      dial_{std::move(dial)},
      random_{r.random.next()},
      wait_{static_cast<double>(rules.times.first.count())} {
  rules_.live.push_back(this);
}

redialer::~redialer() { std::erase(rules_.live, this); }

deferred<protocol*> redialer::start(reactor_impl& r, const factory_ptr& f, retry_rules& rules, dial_fn dial) {
  auto owned = std::make_unique<redialer>(r, f, rules, std::move(dial));
  redialer& d = *owned;
  d.promise_.on_cancel([weak = std::weak_ptr<redialer*>{d.self_}] {
    if (const auto still = weak.lock()) (*still)->stop({});
  });
  auto answer = d.promise_.get();
  r.own(std::move(owned));
  try {
    d.dial();
  } catch (...) {
    d.stop({});
    throw;
  }
  return answer;
}

void redialer::dial() { attempt_ = dial_(std::make_shared<attempt_factory>(factory_, self_)); }

/// Its outcome comes by way of the factory; its own answer is taken by nobody else.
void redialer::forget_attempt() {
  std::move(attempt_).then([](protocol*) {}, [](const reason&) {});
}

void redialer::connected(protocol* p) {
  forget_attempt();
  connected_at_ = reactor_.now;
  promise_.succeed(p);
}

void redialer::failed(const reason& why) {
  forget_attempt();
  retry(why);
}

void redialer::lost(const reason& why) {
  if (reactor_.now - connected_at_ > std::max(rules_.times.first, long_enough))
    failed_ = 0, wait_ = static_cast<double>(rules_.times.first.count());
  retry(why);
}

void redialer::retry(const reason& why) {
  if (stopped_) return;
  const backoff& times = rules_.times;
  if (times.max_retries > 0 && failed_ >= times.max_retries) return stop(why);
  ++failed_;
  const auto longest = static_cast<double>(times.longest.count());
  const double jitter = std::clamp(times.jitter, 0.0, 1.0) * (2 * random_.unit() - 1);
  const double wait = std::clamp(std::min(wait_, longest) * (1 + jitter), 0.0, longest);
  wait_ = std::min(wait_ * std::max(times.factor, 1.0), longest);
  char words[64];
  std::snprintf(words, sizeof words, "; again in %.3f s", wait / 1e9);
  log(1, "not connected: " + std::string{name_of(why.how())} + (why.text().empty() ? "" : ", " + why.text()) + words);
  reactor_.wheel.start(*this, add_time(reactor_.now, duration{static_cast<duration::rep>(wait)}));
}

void redialer::stop(const std::optional<reason>& why) {
  if (std::exchange(stopped_, true)) return;
  timer_hook::stop();
  self_.reset();
  attempt_.cancel();
  if (why) promise_.fail(*why);
  std::erase(rules_.live, this);
  reactor_.retire(*this);
}

deferred<protocol*> dial_as_told(reactor_impl& r, const factory_ptr& f, redialer::dial_fn dial_once) {
  if (retry_rules* const rules = factory_access::retries(*f))
    return redialer::start(r, f, *rules, std::move(dial_once));
  return dial_once(f);
}

}  // namespace detail

reconnecting_factory::reconnecting_factory(factory_ptr wrapped, const backoff& times)
    : wrapped_{std::move(wrapped)}, rules_{std::make_unique<detail::retry_rules>(times)} {}
reconnecting_factory::~reconnecting_factory() = default;

void reconnecting_factory::stop() {
  for (auto* const d : std::exchange(rules_->live, {})) d->stop(reason{ending::aborted, {}, "stopped"});
}

std::unique_ptr<protocol> reconnecting_factory::build_protocol(const address& peer) {
  return wrapped_->build_protocol(peer);
}
void reconnecting_factory::started() { wrapped_->started(); }
void reconnecting_factory::stopped() { wrapped_->stopped(); }
void reconnecting_factory::connection_failed(const reason& why) { wrapped_->connection_failed(why); }
void reconnecting_factory::connection_lost(const reason& why) { wrapped_->connection_lost(why); }
detail::retry_rules* reconnecting_factory::retries() noexcept { return rules_.get(); }
void reconnecting_factory::begin(detail::transport_impl& t) { detail::factory_access::begin(*wrapped_, t); }
reason reconnecting_factory::refusal() const { return detail::factory_access::refusal(*wrapped_); }

std::shared_ptr<reconnecting_factory> reconnecting(factory_ptr wrapped, backoff times) {
  return std::make_shared<reconnecting_factory>(std::move(wrapped), times);
}

}  // namespace midwire
