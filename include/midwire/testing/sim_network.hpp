#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <midwire/base/address.hpp>
#include <midwire/base/export.hpp>
#include <midwire/base/views.hpp>

namespace midwire::testing {

/// How the octets of a direction are cut into what one read can give. Borders mean nothing to a stream: whatever runs
/// over it must give one result for all of them.
enum class cut : std::uint8_t {
  as_sent,         ///< a send, a read
  one_octet,       ///< each octet alone
  primes,          ///< 2, 3, 5, 7, ... 47 octets, and again
  every_position,  ///< two pieces: see link_shape::position
  random,          ///< 1 to 65,536 octets, some reads joined; from the network's seed
};

struct link_shape {
  cut segments = cut::as_sent;
  /// One way.
  duration latency{};
  /// Octets a second, each way; 0 is without limit.
  std::size_t rate = 0;
  /// Octets in flight and unread, each way, before a sender blocks.
  std::size_t window = 65536;
  /// Of datagrams: the share that vanishes; a stream loses nothing.
  double loss = 0;
  /// For cut::every_position, the octet behind which each direction is cut. 0: the number of the connection on its
  /// network, counted from 1, so that as many connections are cut at as many places.
  std::uint64_t position = 0;
  /// Of datagrams: the share that takes one to three latencies (of 1 ms at least) longer, so that others overtake it,
  /// and the share that arrives twice.
  double reordered = 0, duplicated = 0;
  /// Longer datagrams are refused, as by a network interface.
  std::size_t largest_datagram = 65527;
};

/// What goes wrong in one direction of a connection. Octets are counted from the direction's first.
struct direction_faults {
  /// One try to write takes at most so many octets; 0 is no limit.
  std::size_t short_write = 0;
  /// After so many octets writing blocks (EAGAIN) for `blocked_for`, once.
  std::optional<std::uint64_t> blocked_at{};
  duration blocked_for{};
  /// Behind so many octets both ends see a reset.
  std::optional<std::uint64_t> reset_at{};
  /// Behind so many octets the receiver sees the end; what is sent after them vanishes. 0 is an end before any data.
  std::optional<std::uint64_t> end_at{};
};

/// What becomes of a connection that somebody asks for.
struct link_script {
  /// In place of the network's own shape.
  std::optional<link_shape> shape{};
  bool refused = false;
  /// Nobody ever answers.
  bool silent = false;
  /// By direction: the client is the one who connects.
  std::array<direction_faults, 2> faults{};
};

namespace detail {
class network_impl;
class peer_impl;
}  // namespace detail

/// The wires between simulated drivers and peers, and their common clock. No sockets, no threads, no real time: the
/// same calls with the same seed give the same events.
class MIDWIRE_API sim_network {
 public:
  /// What the clock shows at first.
  static constexpr instant epoch{std::chrono::hours{1000}};

  explicit sim_network(std::uint64_t seed = 1, link_shape shape = {});
  sim_network(const sim_network&) = delete;
  sim_network& operator=(const sim_network&) = delete;
  ~sim_network();

  instant now() const noexcept;
  /// Moves the clock on; what is in flight arrives on the way. Drivers tell their news in their next wait().
  void advance(duration d);
  /// The shape of connections made from now on.
  void set_shape(const link_shape& shape);
  /// The script of the next `times` connections to `to`, after those that earlier calls gave.
  void script(const address& to, const link_script& s, std::size_t times = 1);
  /// The next `count` datagrams to `to` vanish, after those that earlier calls gave.
  void lose_datagrams(const address& to, std::size_t count);
  /// Whether octets, datagrams, ends or answers are on their way.
  bool in_flight() const noexcept;
  /// For the kit's own parts.
  const std::shared_ptr<detail::network_impl>& impl() const noexcept { return impl_; }

 private:
  std::shared_ptr<detail::network_impl> impl_;
};

/// The far end of a connection, moved by a test: it lives on the network and has no reactor. What arrives is read and
/// noted down as soon as the network's clock or a driver's wait() gets to it.
class MIDWIRE_API sim_peer {
 public:
  explicit sim_peer(sim_network& network);
  sim_peer(sim_peer&&) noexcept;
  sim_peer& operator=(sim_peer&&) noexcept;
  /// Closes.
  ~sim_peer();

  /// Takes the next connection to `at`; port 0 becomes a free one. Peers that listen at one address take one
  /// connection each, in the order in which they began.
  sim_peer& listen(const address& at = address::loopback(0));
  sim_peer& connect(const address& to, const address& from = {});
  bool connected() const noexcept;
  /// Refused, or reset before anybody accepted.
  bool failed() const noexcept;

  /// Before the connection is up, too: it is sent then.
  sim_peer& send(std::string_view octets);
  sim_peer& send_end();
  sim_peer& reset();
  /// With octets unread it resets, as kernels do.
  sim_peer& close();
  sim_peer& stop_reading();
  sim_peer& start_reading();
  /// Called with what was just read, which is in received() as well.
  sim_peer& on_received(std::function<void(std::string_view)> then);

  /// All octets so far, or since clear().
  const std::string& received() const noexcept;
  void clear();
  bool saw_end() const noexcept;
  bool saw_reset() const noexcept;
  /// Octets given to send() that the window has not let out yet.
  std::size_t unsent() const noexcept;
  /// Where it listens or connects from; where the other end is, once connected.
  const address& host() const noexcept;
  const address& peer() const noexcept;

 private:
  std::shared_ptr<detail::peer_impl> impl_;
};

}  // namespace midwire::testing
