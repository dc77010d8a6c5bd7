#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <tuple>

#include <midwire/base/address.hpp>
#include <midwire/base/chunk.hpp>
#include <midwire/base/export.hpp>
#include <midwire/base/reason.hpp>
#include <midwire/engine/transport.hpp>

namespace midwire {

namespace detail {
class transport_impl;
struct factory_access;
struct retry_rules;
}  // namespace detail
namespace testing::detail {
class borrowed_protocol;
}

/// What is done with the octets of one connection. One object a connection, made by a factory.
class MIDWIRE_API protocol {
 public:
  virtual ~protocol() = default;
  virtual void connection_made() {}
  /// TLS is up, after transport().start_tls(); where it was there from the start, connection_made() says so.
  virtual void handshake_completed() {}
  /// Yours: edit it, keep it, pass it on.
  virtual void data_received(chunk data) = 0;
  /// The peer's FIN; by default transport().lose_connection().
  virtual void read_connection_lost();
  /// Our FIN has left.
  virtual void write_connection_lost() {}
  /// Once, and last.
  virtual void connection_lost(const reason&) {}
  /// From connection_made to connection_lost, both included.
  midwire::transport& transport() const noexcept { return *transport_; }

 private:
  friend class detail::transport_impl;
  friend class testing::detail::borrowed_protocol;
  midwire::transport* transport_ = nullptr;
};

class factory;
using factory_ptr = std::shared_ptr<factory>;

/// Builds a protocol for each connection. One factory may serve several ports.
class MIDWIRE_API factory {
 public:
  /// A factory of P(arguments...); the arguments are copied for each connection.
  template <std::derived_from<protocol> P, class... A>
  static factory_ptr of(A... arguments);
  virtual ~factory() = default;
  /// The first port was opened, the last one closed.
  virtual void started() {}
  virtual void stopped() {}
  /// Null refuses the connection: it is closed.
  virtual std::unique_ptr<protocol> build_protocol(const address& peer) = 0;
  /// Of connections made by connect_*; and of those that a TLS listener took and whose handshake failed.
  virtual void connection_failed(const reason&) {}
  /// Of connections made by connect_*.
  virtual void connection_lost(const reason&) {}

 private:
  friend class reactor;
  friend class reactor_pool;
  friend struct detail::factory_access;
  // What factories that wrap others add: how to connect again, limits of a connection that begins, and why there is
  // none.
  virtual detail::retry_rules* retries() noexcept { return nullptr; }
  virtual void begin(detail::transport_impl&) {}
  virtual reason refusal() const;
  int ports_ = 0;
};

namespace detail {
template <class P, class... A>
class simple_factory final : public factory {
 public:
  explicit simple_factory(A... arguments) : arguments_{std::move(arguments)...} {}
  std::unique_ptr<protocol> build_protocol(const address&) override {
    return std::apply([](const A&... a) { return std::make_unique<P>(a...); }, arguments_);
  }

 private:
  std::tuple<A...> arguments_;
};
}  // namespace detail

template <std::derived_from<protocol> P, class... A>
factory_ptr factory::of(A... arguments) {
  return std::make_shared<detail::simple_factory<P, A...>>(std::move(arguments)...);
}

}  // namespace midwire
