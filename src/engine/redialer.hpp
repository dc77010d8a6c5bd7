#pragma once

#include <functional>
#include <optional>
#include <vector>

#include <midwire/engine/reconnecting.hpp>

#include "engine/reactor_impl.hpp"

namespace midwire::detail {

/// What wrapping factories tell the engine, and each other.
struct factory_access {
  static retry_rules* retries(factory& f) noexcept { return f.retries(); }
  static void begin(factory& f, transport_impl& t) { f.begin(t); }
  static reason refusal(const factory& f) { return f.refusal(); }
};

class redialer;

struct retry_rules {
  explicit retry_rules(const backoff& t) : times{t} {}
  backoff times;
  std::vector<redialer*> live;
};

/// One connect_* with a factory that reconnects: attempts, waits and connections, until it is stopped.
class redialer final : public mortal, private timer_hook {
 public:
  /// One attempt, by a factory that hears of its outcome.
  using dial_fn = std::function<deferred<protocol*>(const factory_ptr&)>;

  redialer(reactor_impl& r, factory_ptr f, retry_rules& rules, dial_fn dial);
  ~redialer() override;
  redialer(const redialer&) = delete;
  redialer& operator=(const redialer&) = delete;
  /// The reactor owns the redialer from now on.
  static deferred<protocol*> start(reactor_impl& r, const factory_ptr& f, retry_rules& rules, dial_fn dial);
  /// Runs no code of the user's. An answer that is still owed is a failure, or, without a reason, never comes.
  void stop(const std::optional<reason>& why);

  // Told by the attempt under way, and by the connection it became.
  void connected(protocol* p);
  void failed(const reason& why);
  void lost(const reason& why);

 private:
  void fired() override { dial(); }
  void dial();
  void retry(const reason& why);
  void forget_attempt();

  reactor_impl& reactor_;
  factory_ptr factory_;
  retry_rules& rules_;
  dial_fn dial_;
  promise_of<protocol*> promise_;
  deferred<protocol*> attempt_;
  random_source random_;
  double wait_;  // nanoseconds, without jitter
  std::size_t failed_ = 0;
  instant connected_at_{};
  bool stopped_ = false;
  std::shared_ptr<redialer*> self_ = std::make_shared<redialer*>(this);
};

/// A factory that reconnects makes each attempt by `dial_once`; any other makes one.
deferred<protocol*> dial_as_told(reactor_impl& r, const factory_ptr& f, redialer::dial_fn dial_once);

}  // namespace midwire::detail
