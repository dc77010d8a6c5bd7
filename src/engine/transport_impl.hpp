#pragma once

#include <memory>
#include <optional>

#include <midwire/engine/protocol.hpp>

#include "engine/file_part.hpp"
#include "engine/governor.hpp"
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
  void send_file(int fd, std::uint64_t offset, std::uint64_t octets);
  /// Puts this connection under one more policy, before its protocol hears of it.
  void govern(const std::shared_ptr<policy_state>& policy);
  /// Octets that the protocol was shown and does not want yet: they come again, before all others.
  void give_back(chunk octets);

  reactor_impl& reactor;
  socket_id socket;
  address host, peer;
  std::shared_ptr<transport*> self;
  std::size_t buffered() const noexcept { return out_.size() + in_flight_ + behind_files_; }

 private:
  void fired() override;
  void begin();
  void deliver();
  void after_callback();
  void pump();
  void hand_over();
  bool send_some_of_file();
  void octets_taken(std::uint64_t octets);
  /// When a peer that has not sent anything yet has to have begun.
  instant first_by() const noexcept {
    return heard_ || limits_.message.count() == 0 ? instant::max() : add_time(made_at_, limits_.message);
  }
  void file_failed(std::error_code error);
  void spoil(std::string why, std::error_code code);
  void log_chunks(const buffer& octets);
  void plan();
  void lost(reason why);
  template <class F>
  void call(F&& f);
  void stop_producer();
  void end_if_deaf();
  void reading();
  reason why_ended(std::error_code error) const;

  tls_link* link_ = nullptr;  // the reactor's; lives until this has told connection_lost
  factory_ptr factory_;
  std::unique_ptr<protocol> protocol_;
  transport face_{*this};
  flow_limits limits_;
  buffer out_, in_;  // not handed over yet; came while paused
  std::size_t in_flight_ = 0;
  std::vector<file_part> files_;  // what goes next, behind out_; what was written behind each is in it
  std::size_t behind_files_ = 0;
  std::unique_ptr<governor> governor_;
  instant made_at_{};
  // When a rate lets more through; max while it does, and while others come first: then those wake us.
  instant read_at_ = instant::max(), write_at_ = instant::max();
  bool held_back_ = false;  // by the rate of writing
  producer* producer_ = nullptr;
  producing producing_ = producing::push;
  instant last_activity_{}, linger_until_ = instant::max(), half_since_ = instant::max(), full_since_ = instant::max();
  bool client_, heard_ = false, paused_ = false, reading_ = false, producer_paused_ = false;
  bool end_received_ = false, end_told_ = false, end_asked_ = false, end_sent_ = false, end_sent_told_ = false;
  bool delivering_ = false;
  bool losing_ = false, aborting_ = false, gone_ = false, broken_ = false, hung_up_ = false;
  std::uint64_t granted_ = 0;
  std::optional<reason> ending_;  // to be told when everything before it has been
};

}  // namespace midwire::detail
