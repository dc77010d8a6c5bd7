#include <midwire/engine/datagram.hpp>

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include <midwire/base/assert.hpp>

#include "engine/listener_state.hpp"
#include "engine/reactor_impl.hpp"

namespace midwire {

namespace detail {

/// An open datagram socket and its protocol. The reactor owns it until it has stopped.
class datagram_port final : public socket_handler, public mortal {
 public:
  using protocol_ptr = std::shared_ptr<datagram_protocol>;

  static void check_free(const protocol_ptr& p, const std::string& what) {
    if (!p) throw std::system_error{std::make_error_code(std::errc::invalid_argument), what + ": no protocol"};
    if (p->port_)
      throw std::system_error{std::make_error_code(std::errc::already_connected),
                              what + ": its protocol is open at " + p->host().text()};
  }

  /// started() comes from the loop, and reading begins behind it.
  static datagram_port& open(reactor_impl& r, socket_id s, protocol_ptr p) {
    auto owned = std::make_unique<datagram_port>(r, s, std::move(p));
    datagram_port& port = *owned;
    r.own(std::move(owned));
    r.post([weak = std::weak_ptr{port.self}] {
      if (const auto alive = weak.lock()) (*alive)->begin();
    });
    return port;
  }

  datagram_port(reactor_impl& r, socket_id s, protocol_ptr p)
      : reactor{r}, socket{s}, host{r.kernel->local(s)}, peer{r.kernel->peer(s)}, protocol_{std::move(p)} {
    protocol_->port_ = this;
    protocol_->counted_ = {};
    reactor.handle(socket, *this);
  }

  ~datagram_port() override {
    reactor.forget(socket);
    self.reset();
    detach();
  }

  void on_event(socket_id, event what) override {
    if (stopping_) return;
    if (what.what() == event::kind::datagram_received) {
      if (paused_ || !held_.empty())
        held_.emplace_back(std::move(what.data()), what.peer());
      else
        protocol_->datagram_received(std::move(what.data()), what.peer());
    } else if (what.what() == event::kind::datagram_failed) {
      if (what.error() == std::errc::connection_refused ||
          (what.peer().is_unix() && what.error() == std::errc::no_such_file_or_directory))
        protocol_->connection_refused(what.peer());
      else
        protocol_->send_failed(what.peer(), what.error());
    }
  }

  void send(buffer octets, const address& to) {
    if (!stopping_) reactor.kernel->perform(socket, command::send_to(std::move(octets), to));
  }

  void stop() {
    if (std::exchange(stopping_, true)) return;
    reactor.forget(socket);
    reactor.kernel->flush_datagrams();
    protocol_->counted_ = reactor.kernel->counts(socket);
    reactor.kernel->perform(socket, command::close());
    reactor.post([weak = std::weak_ptr{self}] {
      if (const auto alive = weak.lock()) (*alive)->finish();
    });
  }

  void pause() {
    if (!std::exchange(paused_, true) && begun_ && !stopping_) reactor.kernel->perform(socket, command::stop_reading());
  }

  void resume() {
    if (!std::exchange(paused_, false) || !begun_ || stopping_) return;
    if (held_.empty()) return reactor.kernel->perform(socket, command::start_reading());
    reactor.post([weak = std::weak_ptr{self}] {
      if (const auto alive = weak.lock()) (*alive)->catch_up();
    });
  }

  datagram_counts counts() const { return stopping_ ? protocol_->counted_ : reactor.kernel->counts(socket); }

  /// The protocol goes though it was to be kept.
  void abandon() {
    stop();
    reactor.post([weak = std::weak_ptr{self}] {
      if (const auto alive = weak.lock()) (*alive)->reactor.retire(**alive);
    });
    begun_ = false;
    orphaned_ = true;
  }

  reactor_impl& reactor;
  socket_id socket;
  address host, peer;
  std::shared_ptr<datagram_port*> self = std::make_shared<datagram_port*>(this);

 private:
  void begin() {
    if (orphaned_) return;
    reactor.guard([this] { protocol_->started(); });
    begun_ = true;
    if (!paused_ && !stopping_) reactor.kernel->perform(socket, command::start_reading());
  }

  /// What had been read before the pause.
  void catch_up() {
    while (!held_.empty() && !paused_ && !stopping_) {
      auto [data, from] = std::move(held_.front());
      held_.pop_front();
      reactor.guard([&, &d = data, &f = from] { protocol_->datagram_received(std::move(d), f); });
    }
    if (!paused_ && !stopping_) reactor.kernel->perform(socket, command::start_reading());
  }

  void finish() {
    if (orphaned_) return;
    reactor.guard([this] { protocol_->stopped(); });
    detach();
    reactor.retire(*this);
  }

  void detach() noexcept {
    if (!protocol_ || orphaned_) return;
    if (protocol_->port_ == this) protocol_->port_ = nullptr;
  }

  protocol_ptr protocol_;
  std::deque<std::pair<chunk, address>> held_;  // read in the turn in which it was paused
  bool paused_ = false, begun_ = false, stopping_ = false, orphaned_ = false;
};

namespace {

/// The port may go before the listener that names it.
struct datagram_listener final : port_state {
  explicit datagram_listener(const datagram_port& p) : port{p.self} { host = p.host; }
  void close() override {
    if (const auto alive = port.lock()) (*alive)->stop();
  }
  std::weak_ptr<datagram_port*> port;
};

listener& listen_datagrams(reactor_impl& r, const address& where, std::shared_ptr<datagram_protocol> p,
                           const listen_options& options) {
  datagram_port::check_free(p, "listen " + where.text());
  const socket_id s = r.kernel->bind_datagram(where, options);
  datagram_port& port = datagram_port::open(r, s, std::move(p));
  r.listeners.push_back(std::make_unique<listener>(std::make_shared<datagram_listener>(port)));
  return *r.listeners.back();
}

/// Somebody wants a connected socket; its addresses are on their way.
struct connecting {
  reactor_impl& reactor;
  std::shared_ptr<datagram_protocol> protocol;
  connect_options options;
  promise_of<datagram_protocol*> promise;
  bool cancelled = false;

  void found(const std::vector<address>& addresses) {
    if (cancelled) return;
    reason last{ending::refused, {}, "no address to connect to"};
    for (const address& to : addresses) {
      try {
        datagram_port::check_free(protocol, "connect " + to.text());
        const socket_id s = reactor.kernel->connect_datagram(to, options);
        datagram_port::open(reactor, s, protocol);
        promise.succeed(protocol.get());
        protocol.reset();
        return;
      } catch (const std::system_error& e) { last = reason{ending::refused, e.code(), e.what()}; }
    }
    promise.fail(std::move(last));
  }
};

std::shared_ptr<connecting> start_connecting(reactor_impl& r, std::shared_ptr<datagram_protocol> p,
                                             const connect_options& options, const std::string& what) {
  datagram_port::check_free(p, "connect " + what);
  auto c = std::make_shared<connecting>(connecting{r, std::move(p), options, {}, false});
  c->promise.on_cancel([weak = std::weak_ptr{c}] {
    if (const auto still = weak.lock()) still->cancelled = true, still->protocol.reset();
  });
  return c;
}

}  // namespace

}  // namespace detail

// ---- datagram_protocol

datagram_protocol::~datagram_protocol() {
  if (port_) port_->abandon();
}

void datagram_protocol::send_to(buffer octets, const address& to) {
  if (port_) port_->send(std::move(octets), to);
}

void datagram_protocol::send(buffer octets) {
  if (port_) port_->send(std::move(octets), {});
}

void datagram_protocol::stop() {
  if (port_) port_->stop();
}

void datagram_protocol::pause_reading() {
  if (port_) port_->pause();
}

void datagram_protocol::resume_reading() {
  if (port_) port_->resume();
}

std::error_code datagram_protocol::join_group(const address& group, const address& interface) {
  if (!port_) return std::make_error_code(std::errc::not_connected);
  return port_->reactor.kernel->change_group(port_->socket, group, interface, true);
}

std::error_code datagram_protocol::leave_group(const address& group, const address& interface) {
  if (!port_) return std::make_error_code(std::errc::not_connected);
  return port_->reactor.kernel->change_group(port_->socket, group, interface, false);
}

std::error_code datagram_protocol::configure(const datagram_settings& settings) {
  if (!port_) return std::make_error_code(std::errc::not_connected);
  return port_->reactor.kernel->configure_datagram(port_->socket, settings);
}

std::error_code datagram_protocol::set_broadcast(bool allowed) { return configure({.broadcast = allowed}); }
std::error_code datagram_protocol::set_multicast_loopback(bool on) { return configure({.multicast_loopback = on}); }
std::error_code datagram_protocol::set_multicast_ttl(int hops) { return configure({.multicast_ttl = hops}); }
std::error_code datagram_protocol::set_multicast_interface(const address& interface) {
  return configure({.multicast_interface = interface});
}

std::error_code datagram_protocol::set_receive_buffer(std::size_t octets) {
  return configure({.receive_buffer = octets});
}

datagram_counts datagram_protocol::counts() const { return port_ ? port_->counts() : counted_; }

namespace {
const address nowhere;
}

const address& datagram_protocol::host() const noexcept { return port_ ? port_->host : nowhere; }
const address& datagram_protocol::peer() const noexcept { return port_ ? port_->peer : nowhere; }

reactor& datagram_protocol::reactor() const noexcept {
  MIDWIRE_ASSERT(port_ != nullptr);
  return port_->reactor.self;
}

// ---- reactor

listener& reactor::listen_udp(std::uint16_t port, std::shared_ptr<datagram_protocol> p, listen_options options) {
  return detail::listen_datagrams(*impl_, detail::listen_address(options.interface, port), std::move(p), options);
}

listener& reactor::listen_unix_datagram(std::string path, std::shared_ptr<datagram_protocol> p) {
  const address where = address::unix_path(path);
  if (where.empty())
    throw std::system_error{std::make_error_code(std::errc::filename_too_long), "listen at unix:" + path};
  return detail::listen_datagrams(*impl_, where, std::move(p), {});
}

deferred<datagram_protocol*> reactor::connect_udp(std::string host, std::uint16_t port,
                                                  std::shared_ptr<datagram_protocol> p, connect_options options) {
  const auto c = detail::start_connecting(*impl_, std::move(p), options, host + ':' + std::to_string(port));
  auto result = c->promise.get();
  if (const auto literal = address::parse_ip(host, port)) {
    impl_->post([c, to = *literal] { c->found({to}); });
    return result;
  }
  resolve(std::move(host), options.timeout)
      .then(
          [c, port](std::vector<address> addresses) {
            for (auto& a : addresses) a = a.with_port(port);
            std::stable_sort(addresses.begin(), addresses.end(), [](const address& a, const address& b) {
              return a.family() == address::kind::ipv4 && b.family() == address::kind::ipv6;
            });
            c->found(addresses);
          },
          [c](const reason& why) { c->promise.fail(why); });
  return result;
}

deferred<datagram_protocol*> reactor::connect_unix_datagram(std::string path, std::shared_ptr<datagram_protocol> p,
                                                            connect_options options) {
  const auto c = detail::start_connecting(*impl_, std::move(p), options, "unix:" + path);
  impl_->post([c, to = address::unix_path(path)] { c->found({to}); });
  return c->promise.get();
}

}  // namespace midwire
