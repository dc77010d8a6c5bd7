#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <midwire/base/export.hpp>
#include <midwire/engine/core/flow.hpp>
#include <midwire/engine/endpoint.hpp>
#include <midwire/engine/pool.hpp>
#include <midwire/engine/reactor.hpp>

namespace midwire {

namespace detail {
class relay_core;
}

/// One relayed connection, as its owner sees it.
struct flow_info {
  std::uint64_t id = 0;  ///< counts from 1, per relay, in the order of accepting
  address client, server;
  midwire::reactor* loop = nullptr;
};

struct flow_summary {
  reason why;
  ended_by by = ended_by::engine;
  duration age{};
  bool opened = false;                 ///< false: dialling failed
  std::array<flow_count, 2> counts{};  ///< by index_of(direction)
};

/// What the owner of a relay may want to know and to decide. Each member is called on the flow's own loop, so on
/// several threads at once when the relay runs on a pool.
class MIDWIRE_API relay_observer {
 public:
  virtual ~relay_observer() = default;
  /// Both ends are up: the stages of this flow, in order. Called before opened().
  virtual std::vector<std::unique_ptr<stage>> build_stages(const flow_info&) { return {}; }
  virtual void opened(const flow_info&) {}
  /// Once for each connection that was taken on (max_flows), and last; not when the reactor goes while it lives.
  virtual void closed(const flow_info&, const flow_summary&) {}
};

struct relay_options {
  flow_limits limits{};
  connect_options connect{};
  /// What the client sees when dialling fails: a close, or a reset.
  bool reset_on_connect_error = false;
  reactor_pool::balance balance = reactor_pool::balance::kernel;
  /// Asked about each address before it is connected to: words refuse it, for example an own listener's. Called on
  /// several threads.
  std::function<std::optional<std::string>(const address&)> refuse_server;
  /// TLS with the clients, by tls_server(), and with the servers, by tls_client(), which checks the certificate for the
  /// host of the endpoint. Stages see plain octets. Null: plain. Handshakes end within limits.handshake.
  tls_ptr client_tls, server_tls;
  /// Connections at once; more are closed at once, which is logged once a second. 0: as many as descriptors allow.
  std::size_t max_flows = 0;
};

/// Listens here, connects there, with stages between. E25: dials when it accepts; what the client sends meanwhile
/// waits.
///
/// Lifetime  within that of its reactor or pool; destroyed on the loop, on a pool when no loop runs. Live flows go on,
///           without their observer; those still being dialled end when there was one, as nobody makes their stages.
class MIDWIRE_API relay {
 public:
  relay(reactor& r, std::string_view listen, std::string_view connect);
  relay(reactor_pool& p, std::string_view listen, std::string_view connect,
        reactor_pool::balance how = reactor_pool::balance::kernel);
  relay(const relay&) = delete;
  relay& operator=(const relay&) = delete;
  ~relay();

  /// One S(arguments...) for each flow, behind those added before. Before start().
  template <std::derived_from<stage> S, class... A>
  relay& add_stage(A... arguments) {
    return add_stage_maker([... a = std::move(arguments)] { return std::make_unique<S>(a...); });
  }
  /// A copy of the callable for each flow. On a pool copies and makers are used on several threads at once.
  relay& add_stage(std::function<verdict(stage_context&, direction, chunk)> f);
  relay& add_stage_maker(std::function<std::unique_ptr<stage>()> make);
  /// Another endpoint for each client; empty refuses it. Called on the accepting loop: on a pool that spreads by the
  /// kernel on several threads at once.
  relay& choose_server(callback<std::string(const address& client)> f);
  /// Must outlive the relay. Its stages come behind those of add_stage.
  relay& observe(relay_observer& o);
  relay& set_options(relay_options options);
  /// start() takes the open port of `predecessor` over instead of opening one: no connection is refused or reset on the
  /// way, and those that live stay with the predecessor, which is usually stopped next. Both run on the same reactor or
  /// pool, else start() throws; what this one was to listen at does not matter.
  relay& succeed(relay& predecessor);

  /// Opens the port. Throws std::system_error naming the endpoint. On a pool: before run(); a successor at any time.
  void start();
  /// The bound address, after start().
  const address& host() const noexcept;
  /// Stops listening and lets flows finish for `drain`; then resets what is left. `done` is called on loop 0 (or the
  /// one loop) when no flow is left. Called again it gives what is left the new `drain`, counted from now.
  void stop(duration drain = {}, callback<void()> done = {});
  /// Flows that are up or being dialled, over all loops.
  std::size_t flows() const noexcept;

 private:
  std::shared_ptr<detail::relay_core> core_;
};

}  // namespace midwire
