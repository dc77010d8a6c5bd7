#include "engine/listener_state.hpp"

#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "engine/dialer.hpp"
#include "engine/redialer.hpp"
#include "engine/tls/tls_link.hpp"
#include "engine/transport_impl.hpp"

namespace midwire {

namespace detail {

namespace {

/// A descriptor on its way from one loop to another.
class travelling_descriptor {
 public:
  explicit travelling_descriptor(int fd) noexcept : fd_{fd} {}
  travelling_descriptor(travelling_descriptor&& other) noexcept : fd_{other.arrive()} {}
  travelling_descriptor& operator=(travelling_descriptor&&) = delete;
  ~travelling_descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int arrive() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

}  // namespace

listener_state::~listener_state() {
  if (open) reactor.kernel->close_listener(socket);
  reactor.forget(socket);
}

bool hand_over(reactor_impl& from, socket_id s, reactor_impl& to, callback<void(socket_id)> arrived) {
  const int fd = from.kernel->release(s);
  if (fd < 0) return false;
  ++to.load;
  to.post_from_thread([&to, fd = travelling_descriptor{fd}, arrived = std::move(arrived)]() mutable {
    to.guard([&] { arrived(to.kernel->adopt(fd.arrive())); });
    --to.load;
  });
  return true;
}

void listener_state::on_event(socket_id s, event what) {
  if (what.what() == event::kind::accepted) {
    const auto now = accepted;
    (*now)(s, what.peer());
  } else if (what.what() == event::kind::connect_failed) {
    log(2, "cannot accept at " + host.text() + ": " + what.error().message() +
               "; new connections are closed, those that live go on");
  }
}

void listener_state::close() {
  if (!std::exchange(open, false)) return;
  reactor.kernel->close_listener(socket);
  if (closed) closed();
}

std::shared_ptr<listener_state> open_port(reactor_impl& r, const address& where, const listen_options& options,
                                          listener_state::accepted_fn accepted) {
  const socket_id s = r.kernel->listen(where, options);
  return std::make_shared<listener_state>(r, s, std::move(accepted));
}

std::shared_ptr<listener_state> adopt_port(reactor_impl& r, int fd, listener_state::accepted_fn accepted) {
  return std::make_shared<listener_state>(r, r.kernel->adopt_listener(fd), std::move(accepted));
}

address listen_address(std::string_view host, std::uint16_t port) {
  if (host.empty()) return address::any_ipv6(port);
  if (host == "localhost") return address::loopback(port);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (const auto literal = address::parse_ip(host, port)) return *literal;
  throw std::system_error{std::make_error_code(std::errc::invalid_argument),
                          "listen at '" + std::string{host} + "': an IPv4 or IPv6 address is needed"};
}

}  // namespace detail

const address& listener::host() const noexcept { return port_->host; }
void listener::stop_listening() { port_->close(); }

namespace {

listener& open_factory_port(detail::reactor_impl& r, const address& where, const listen_options& options,
                            const factory_ptr& f, const std::function<void()>& opened,
                            const std::function<void()>& closed, const tls_ptr& tls = {}) {
  auto state = detail::open_port(r, where, options, [&r, f, tls](socket_id s, const address& peer) {
    if (!tls) {
      detail::transport_impl::start(r, s, peer, f, false);
      return;
    }
    detail::tls_opening::start(r, s, tls, {}, 0, flow_limits{}.handshake, [&r, f, s, peer](std::optional<reason> why) {
      if (why)
        r.guard([&] { f->connection_failed(*why); });
      else
        detail::transport_impl::start(r, s, peer, f, false);
    });
  });
  state->closed = closed;
  opened();
  r.listeners.push_back(std::make_unique<listener>(std::move(state)));
  return *r.listeners.back();
}

deferred<protocol*> dial_once(detail::reactor_impl& r, endpoint to, const factory_ptr& f,
                              const connect_options& options, const tls_ptr& tls) {
  struct attempt final : detail::mortal {
    std::unique_ptr<detail::dialer> dialer;
    detail::tls_opening* opening = nullptr;  // the reactor's, until it has answered
    std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  };
  promise_of<protocol*> promise;
  auto owned = std::make_unique<attempt>();
  attempt* const a = owned.get();
  auto failed = [&r, f, promise, a](reason why) mutable {
    r.guard([&] { f->connection_failed(why); });
    promise.fail(std::move(why));
    r.retire(*a);
  };
  auto connected = [&r, f, promise, a](socket_id s) mutable {
    protocol* const p = detail::transport_impl::start(r, s, r.kernel->peer(s), f, true);
    if (p)
      promise.succeed(p);
    else
      promise.fail(detail::factory_access::refusal(*f));
    r.retire(*a);
  };
  auto dialled = [&r, a, tls, host = to.host, port = to.port, failed, connected](std::optional<socket_id> s,
                                                                                 reason why) mutable {
    if (!s) {
      failed(std::move(why));
    } else if (!tls) {
      connected(*s);
    } else {
      a->opening = detail::tls_opening::start(r, *s, tls, host, port, flow_limits{}.handshake,
                                              [failed, connected, s = *s](std::optional<reason> refused) mutable {
                                                if (refused)
                                                  failed(std::move(*refused));
                                                else
                                                  connected(s);
                                              });
    }
  };
  a->dialer = std::make_unique<detail::dialer>(r, std::move(to), options, nullptr, std::move(dialled));
  // Weak: who cancels after the reactor's end finds nothing to cancel.
  promise.on_cancel([&r, a, alive = std::weak_ptr<bool>{a->alive}] {
    if (alive.expired()) return;
    a->dialer->cancel();
    if (a->opening) a->opening->cancel();
    r.retire(*a);
  });
  r.own(std::move(owned));
  a->dialer->start();
  return promise.get();
}

deferred<protocol*> dial(detail::reactor_impl& r, const endpoint& to, const factory_ptr& f,
                         const connect_options& options, const tls_ptr& tls = {}) {
  return detail::dial_as_told(
      r, f, [&r, to, options, tls](const factory_ptr& each) { return dial_once(r, to, each, options, tls); });
}

/// Throws std::system_error: no context, or one of the other role.
void check_role(const tls_ptr& tls, bool server) {
  if (!tls || tls->is_server() != server)
    throw std::system_error{std::make_error_code(std::errc::invalid_argument),
                            server ? "listen_tls: a context of tls_server() is needed"
                                   : "connect_tls: a context of tls_client() is needed"};
}

}  // namespace

listener& reactor::open_ip_port(std::uint16_t port, const factory_ptr& f, const listen_options& options,
                                const tls_ptr& tls) {
  const address where = detail::listen_address(options.interface, port);
  return open_factory_port(
      *impl_, where, options, f,
      [f] {
        if (f->ports_++ == 0) f->started();
      },
      [f] {
        if (--f->ports_ == 0) f->stopped();
      },
      tls);
}

listener& reactor::listen_tcp(std::uint16_t port, factory_ptr f, listen_options options) {
  return open_ip_port(port, f, options, {});
}

listener& reactor::listen_tls(std::uint16_t port, factory_ptr f, tls_ptr tls, listen_options options) {
  check_role(tls, true);
  return open_ip_port(port, f, options, tls);
}

listener& reactor::listen_unix(std::string path, factory_ptr f) {
  const address where = address::unix_path(path);
  if (where.empty())
    throw std::system_error{std::make_error_code(std::errc::filename_too_long), "listen at unix:" + path};
  return open_factory_port(
      *impl_, where, {}, f,
      [f] {
        if (f->ports_++ == 0) f->started();
      },
      [f] {
        if (--f->ports_ == 0) f->stopped();
      });
}

deferred<protocol*> reactor::connect_tcp(std::string host, std::uint16_t port, factory_ptr f, connect_options options) {
  return dial(*impl_, endpoint{endpoint::scheme::tcp, std::move(host), port, {}}, f, options);
}

deferred<protocol*> reactor::connect_tls(std::string host, std::uint16_t port, factory_ptr f, tls_ptr tls,
                                         connect_options options) {
  check_role(tls, false);
  return dial(*impl_, endpoint{endpoint::scheme::tcp, std::move(host), port, {}}, f, options, tls);
}

deferred<protocol*> reactor::connect_unix(std::string path, factory_ptr f) {
  return dial(*impl_, endpoint{endpoint::scheme::unix_path, {}, 0, std::move(path)}, f, {});
}

deferred<std::vector<address>> reactor::resolve(std::string host, duration at_most) {
  struct lookup {
    promise_of<std::vector<address>> promise;
    std::vector<address> found;
    timer_ref deadline;
    std::uint64_t query = 0;
  };
  auto l = std::make_shared<lookup>();
  if (const auto literal = address::parse_ip(host, 0)) {
    l->promise.succeed({*literal});
    return l->promise.get();
  }
  detail::reactor_impl* const r = impl_.get();
  l->query = r->names().ask(host, [l, host](resolver::answer a) {
    l->found.insert(l->found.end(), a.addresses.begin(), a.addresses.end());
    if (!a.last) return;
    l->deadline.cancel();
    if (l->found.empty())
      l->promise.fail(a.error.text().empty() ? reason{ending::refused, {}, "no address for '" + host + "'"} : a.error);
    else
      l->promise.succeed(std::move(l->found));
  });
  const auto give_up = [r, l] {
    l->deadline.cancel();
    r->names().forget(l->query);
  };
  // Weak: what is never answered must not keep itself alive, and after the reactor's end there is nothing to forget.
  l->promise.on_cancel([weak = std::weak_ptr<lookup>{l}, r] {
    const auto still = weak.lock();
    if (!still) return;
    still->deadline.cancel();
    r->names().forget(still->query);
  });
  l->deadline = call_later(at_most, [l, give_up, host] {
    give_up();
    l->promise.fail(reason{ending::timed_out, {}, "no answer about '" + host + "' in time"});
  });
  return l->promise.get();
}

}  // namespace midwire
