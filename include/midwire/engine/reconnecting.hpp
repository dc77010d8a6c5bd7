#pragma once

#include <cstddef>
#include <memory>

#include <midwire/base/export.hpp>
#include <midwire/engine/protocol.hpp>

namespace midwire {

namespace detail {
struct retry_rules;
}

/// The waits between attempts: `first`, then each `factor` times the one before, never over `longest`. To each, up to
/// the share `jitter` is added or taken away at random, so that those who lost a server together do not come back
/// together; reactor_options::seed decides by how much.
struct backoff {
  duration first = std::chrono::seconds{1}, longest = std::chrono::hours{1};
  /// 1 or more; and 0 to 1.
  double factor = 2.718, jitter = 0.12;
  /// Attempts in a row that may fail after the first; 0 is without limit.
  std::size_t max_retries = 0;
};

/// A factory for connect_*: when an attempt fails, or the connection is lost in whatever way, it connects again to the
/// same place. The wrapped factory hears of each failure and each loss.
///
/// Answer    the deferred of connect_* is answered by the first connection, or fails when the last retry has, or by
///           stop(). Its cancel() stops connecting.
/// Waits     start from the first again behind a connection that lasted longer than 10 s, and than `first`.
/// Lifetime  each connect_* is apart from the others; they end with their reactor.
class MIDWIRE_API reconnecting_factory final : public factory {
 public:
  reconnecting_factory(factory_ptr wrapped, const backoff& times);
  ~reconnecting_factory() override;
  /// No more attempts; those under way and their waits end, and a connect_* without an answer fails with
  /// ending::aborted. A connection that is up stays. A later connect_* begins anew.
  void stop();

  std::unique_ptr<protocol> build_protocol(const address& peer) override;
  void started() override;
  void stopped() override;
  void connection_failed(const reason& why) override;
  void connection_lost(const reason& why) override;

 private:
  detail::retry_rules* retries() noexcept override;
  void begin(detail::transport_impl& t) override;
  reason refusal() const override;
  factory_ptr wrapped_;
  std::unique_ptr<detail::retry_rules> rules_;
};

/// `connect_tcp(host, port, reconnecting(f))`. A listener takes no notice of it.
MIDWIRE_API std::shared_ptr<reconnecting_factory> reconnecting(factory_ptr wrapped, backoff times = {});

}  // namespace midwire
