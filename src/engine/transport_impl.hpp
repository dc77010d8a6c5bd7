#pragma once

#include <memory>
#include <optional>

#include <midwire/engine/protocol.hpp>

#include "engine/reactor_impl.hpp"

namespace midwire::detail {

class tls_link;

/// What stands between a protocol and its socket: the send account, the reasons not to read, the way to close.
class transport_impl final : public socket_handler, public deferred_work, public mortal, private timer_hook {
 public:
  /// A connected socket becomes a transport that the reactor owns. Null: the factory refused, the socket is closed.
  static protocol* start(reactor_impl& r, socket_id s, const address& peer, const factory_ptr& f, bool client);
  transport_impl(reactor_impl& r, socket_id s, const address& peer, factory_ptr f, std::unique_ptr<protocol> p,
                 bool client);
  ~transport_impl() override;

  void on_event(socket_id s, event what) override;
  void catch_up() override;

  // The members of transport.
  void write(buffer octets);
  void lose_connection();
  void lose_write_connection();
  void abort_connection();
  void pause_reading();
  void resume_reading();
  void register_producer(producer& p, producing how);
  void unregister_producer();
  void set_limits(flow_limits l);
  void start_tls(tls_ptr tls, std::string server_name);
  const tls_link* tls() const noexcept { return link_; }

  reactor_impl& reactor;
  socket_id socket;
  address host, peer;
  std::shared_ptr<transport*> self;
  std::size_t buffered() const noexcept { return out_.size() + in_flight_; }

 private:
  void fired() override;
  void begin();
  void deliver();
  void after_callback();
  void pump();
  void plan();
  void lost(reason why);
  template <class F>
  void call(F&& f);
  void stop_producer();
  void end_if_deaf();
  void reading();
  reason why_ended(std::error_code error) const;

  tls_link* link_ = nullptr;  // the reactor's; lives until this has told connection_lost
  instant answer_until_ = instant::max();  // of a peer with TLS, once our close_notify has left
  factory_ptr factory_;
  std::unique_ptr<protocol> protocol_;
  transport face_{*this};
  flow_limits limits_;
  buffer out_, in_;  // not handed over yet; came while paused
  std::size_t in_flight_ = 0;
  producer* producer_ = nullptr;
  producing producing_ = producing::push;
  instant last_activity_{}, linger_until_ = instant::max(), half_since_ = instant::max(), full_since_ = instant::max();
  bool client_, paused_ = false, reading_ = false, producer_paused_ = false;
  bool end_received_ = false, end_told_ = false, end_asked_ = false, end_sent_ = false, end_sent_told_ = false;
  bool losing_ = false, aborting_ = false, gone_ = false, broken_ = false, hung_up_ = false;
  std::uint64_t granted_ = 0;
  std::optional<reason> ending_;  // to be told when everything before it has been
};

}  // namespace midwire::detail
