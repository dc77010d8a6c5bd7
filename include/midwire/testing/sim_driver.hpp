#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <midwire/base/export.hpp>
#include <midwire/engine/driver.hpp>
#include <midwire/testing/sim_network.hpp>

namespace midwire::testing {

/// A driver without a kernel: its sockets live on a sim_network, and its clock is the network's.
///
/// Clock      wait() moves it to the next thing that happens, at the latest to `until`; else only advance() does. Of
///            several drivers on one network, each moves the common clock.
/// Reads      a turn gives a socket at most 256 KiB in 1,024 reads, one piece of link_shape::segments each.
/// Splice     octets go straight from one socket's window to the other's; octets_spliced tells of them, and the sink's
///            octets_sent does not. One event for each wait().
/// Datagrams  link_shape::latency, rate, loss, reordered, duplicated and largest_datagram; a receiver keeps four windows
///            and loses the rest (datagram_counts::overrun). One driver is one machine to multicast_loopback and ttl 0.
/// Stillness  a wait() without end in which nothing can ever happen waits for wake() for 10 s of real time, then throws
///            std::runtime_error.
/// Not here   adopt() and adopt_listener() throw std::system_error; release() and duplicate() give -1.
class MIDWIRE_API sim_driver final : public driver {
 public:
  explicit sim_driver(std::shared_ptr<sim_network> network);
  explicit sim_driver(std::uint64_t seed = 1, const link_shape& shape = {});
  ~sim_driver() override;

  sim_network& network() noexcept { return *network_; }
  /// What is in flight moves on as well; the events come out of the next wait().
  void advance(duration d) { network_->advance(d); }
  /// The next `count` connections at any listener meet EMFILE: each is closed at once, and its listener gets
  /// connect_failed.
  void fail_accepts(int count);
  /// A signal that watch_signal() asked for; else nothing.
  void raise_signal(int number);
  /// The state of a watched descriptor (any number: none is real) until it is set anew.
  void set_ready(int fd, bool readable, bool writable);
  void allow_splice(bool yes);
  /// Whether start_reading or splice wants more from this socket.
  bool reading(socket_id s) const;
  /// The same of the socket whose peer is at this address.
  bool reads_from(const address& peer) const;
  /// The octets that were sent to this socket and not taken by its window.
  std::size_t unsent(socket_id s) const;
  /// Sockets, listeners and watches that are open.
  std::size_t open_sockets() const noexcept;
  /// While on, wait() moves the clock no further than octets and answers in flight make it, or timers before them; and
  /// tells by quiet() that the last one had nothing to do.
  void settle_only(bool on);
  bool quiet() const noexcept;

  instant now() const noexcept override;
  socket_id listen(const address& where, const listen_options& options) override;
  socket_id adopt_listener(int fd) override;
  int duplicate(socket_id listener) override;
  void accept(socket_id listener, int batch) override;
  void close_listener(socket_id listener) override;
  socket_id connect(const address& to, const connect_options& options) override;
  socket_id adopt(int fd) override;
  int release(socket_id s) override;
  socket_id bind_datagram(const address& where, const listen_options& options) override;
  socket_id connect_datagram(const address& to, const connect_options& options) override;
  std::error_code configure_datagram(socket_id s, const datagram_settings& settings) override;
  std::error_code change_group(socket_id s, const address& group, const address& interface, bool join) override;
  datagram_counts counts(socket_id s) const override;
  void flush_datagrams() override {}
  socket_id watch(int fd, bool read, bool write) override;
  void change_watch(socket_id s, bool read, bool write) override;
  void unwatch(socket_id s) override;
  socket_id watch_signal(int number) override;
  address local(socket_id s) const override;
  address peer(socket_id s) const override;
  void set_no_delay(socket_id s, bool on) override;
  void set_keep_alive(socket_id s, bool on) override;
  bool can_splice(socket_id from, socket_id to) const override;
  void perform(socket_id s, command what) override;
  void splice(socket_id from, socket_id to, std::uint64_t octets) override;
  void wait(instant until, std::vector<std::pair<socket_id, event>>& happened) override;
  void wake() noexcept override;

 private:
  struct impl;
  std::shared_ptr<sim_network> network_;
  std::unique_ptr<impl> impl_;
};

}  // namespace midwire::testing
