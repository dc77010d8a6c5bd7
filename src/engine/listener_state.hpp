#pragma once

#include <functional>

#include "engine/reactor_impl.hpp"

namespace midwire::detail {

/// What a `listener` names.
struct port_state {
  virtual ~port_state() = default;
  virtual void close() = 0;
  address host;
};

/// An open port and what is done with each connection it takes.
struct listener_state final : socket_handler, port_state {
  using accepted_fn = callback<void(socket_id, const address& peer)>;

  listener_state(reactor_impl& r, socket_id s, accepted_fn f) : reactor{r}, socket{s} {
    give_to(std::move(f));
    reactor.handle(s, *this);
    host = reactor.kernel->local(s);
  }
  /// A port that nobody closed is closed without a word.
  ~listener_state() override;
  void on_event(socket_id s, event what) override;
  /// From the next connection on `f` gets them: a successor takes the port over without closing it.
  void give_to(accepted_fn f) { accepted = std::make_shared<accepted_fn>(std::move(f)); }
  /// Takes what is queued, then closes.
  void close() override;

  reactor_impl& reactor;
  socket_id socket;
  std::shared_ptr<accepted_fn> accepted;  // shared: it may be replaced while it is called
  callback<void()> closed;
  bool open = true;
};

/// Opens a port. Throws std::system_error.
std::shared_ptr<listener_state> open_port(reactor_impl& r, const address& where, const listen_options& options,
                                          listener_state::accepted_fn accepted);
/// The same on a descriptor that listens already.
std::shared_ptr<listener_state> adopt_port(reactor_impl& r, int fd, listener_state::accepted_fn accepted);

/// Gives a connection that `from` accepted to another loop, whose load counts it from now on; `arrived` is called
/// there. False: the socket cannot leave (a simulated one), and stays. One that never arrives, because its loop has
/// ended, is closed with that loop.
bool hand_over(reactor_impl& from, socket_id s, reactor_impl& to, callback<void(socket_id)> arrived);

/// The address that `host` and `port` mean for a listener: empty is every address. Throws std::system_error when it is
/// no literal; "localhost" is 127.0.0.1.
address listen_address(std::string_view host, std::uint16_t port);

}  // namespace midwire::detail
