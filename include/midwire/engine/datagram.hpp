#pragma once

#include <cstdint>
#include <memory>
#include <system_error>

#include <midwire/base/address.hpp>
#include <midwire/base/chunk.hpp>
#include <midwire/base/export.hpp>
#include <midwire/engine/datagram_options.hpp>

namespace midwire {

class reactor;
class datagram_protocol;
namespace detail {
class datagram_port;
}

/// What is done with the datagrams of one socket: UDP (RFC 768) or a unix datagram socket. Made open by
/// reactor::listen_udp, connect_udp, listen_unix_datagram or connect_unix_datagram, which hold it until stopped() has
/// been called; then it may be opened again. One object, one socket at a time: opening it twice is an error (EISCONN).
///
/// Order       started(), then any of the others, then stopped(): each from the loop, never from inside a member.
/// Exceptions  one that leaves a callback is logged and counted; its datagram is lost, the socket goes on: else one
///             datagram of a stranger could close the port for all.
/// Sizes       0 octets are a datagram. Largest payload: largest_udp4, largest_udp6, largest_unix_datagram.
/// Threads     the loop's own.
class MIDWIRE_API datagram_protocol {
 public:
  datagram_protocol() noexcept = default;
  datagram_protocol(const datagram_protocol&) = delete;
  datagram_protocol& operator=(const datagram_protocol&) = delete;
  virtual ~datagram_protocol();

  /// The socket is open, and nothing has been received yet.
  virtual void started() {}
  /// One datagram, whole. Yours: edit it, keep it, send it on. `from` is empty when a unix sender has no name.
  virtual void datagram_received(chunk data, const address& from) = 0;
  /// Nobody listens at `by`: the answer (ICMP, RFC 1122 section 4.1.3.3) to a datagram that was sent there.
  virtual void connection_refused(const address& /*by*/) {}
  /// Anything else that kept a datagram from its way: too long, no route, not allowed, host unreachable.
  virtual void send_failed(const address& /*to*/, std::error_code) {}
  /// The socket is closed. Once, and last.
  virtual void stopped() {}

  /// One datagram of all these octets, whatever their number of chunks. Never blocks. All datagrams of a turn are
  /// offered to the kernel together, in order, at the latest when the turn ends. While it takes none,
  /// datagram_queue_octets and datagram_queue_length may wait, each for 5 s at most; the rest is dropped and counted.
  /// When the socket is not open nothing happens.
  void send_to(buffer octets, const address& to);
  /// The same to the peer of a connected socket.
  void send(buffer octets);
  /// Closes; what send_to was given goes out as far as the kernel takes it at once. stopped() follows, and nothing
  /// else.
  void stop();
  /// Between the two nothing is received; the kernel keeps as much as it likes and drops the rest.
  void pause_reading();
  void resume_reading();

  /// Membership in a multicast group (RFC 1112, RFC 4604), which the port in `group` means nothing to. `interface`: see
  /// datagram_settings; empty leaves it to the routing table. Only what is sent to joined groups is received.
  /// \return what the system refused with: no such device, already joined, too many groups, no multicast address; when
  /// the socket is not open, not_connected
  std::error_code join_group(const address& group, const address& interface = {});
  std::error_code leave_group(const address& group, const address& interface = {});
  std::error_code set_broadcast(bool allowed);
  std::error_code set_multicast_loopback(bool on);
  std::error_code set_multicast_ttl(int hops);
  std::error_code set_multicast_interface(const address& interface);
  /// In octets: against counts().overrun.
  std::error_code set_receive_buffer(std::size_t octets);

  /// Since it was opened; after its end, up to that.
  datagram_counts counts() const;
  bool is_open() const noexcept { return port_ != nullptr; }
  /// The bound address: tells which port 0 became. Empty when the socket is not open.
  const address& host() const noexcept;
  /// Of a connected socket.
  const address& peer() const noexcept;
  /// Only while it is open.
  midwire::reactor& reactor() const noexcept;

 private:
  friend class detail::datagram_port;
  std::error_code configure(const datagram_settings& settings);
  detail::datagram_port* port_ = nullptr;
  datagram_counts counted_;
};

}  // namespace midwire
