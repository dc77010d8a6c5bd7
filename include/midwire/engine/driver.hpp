#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include <midwire/base/address.hpp>
#include <midwire/base/export.hpp>
#include <midwire/base/views.hpp>
#include <midwire/engine/core/event.hpp>
#include <midwire/engine/datagram_options.hpp>

namespace midwire {

struct listen_options {
  /// The address to listen at: a literal; empty is every address of IPv4 and IPv6.
  std::string_view interface = {};
  int backlog = 4096;
  /// Joins a listener of this user at the same address that shares its port: the kernel spreads connections over them
  /// (SO_REUSEPORT).
  bool reuse_port = false;
  /// Lets later listeners join. By itself it is the first at its address: one that is there already is an error.
  bool share_port = false;
};

struct connect_options {
  duration timeout = std::chrono::seconds{30};
  /// The address to connect from; empty leaves it to the kernel.
  address bind{};
};

/// A kernel, real or simulated: the only code that holds descriptors. One thread, the loop's, calls all members but
/// wake().
///
/// Results    nothing is told from inside a call: what happened comes out of wait(), also when perform() acted at once.
/// Failures   listen(), bind_datagram(), connect_datagram() and watch() throw std::system_error; connect() reports connect_failed.
/// Names      after close, reset, reset_after_drain or connect_failed no event comes for that socket_id.
class MIDWIRE_API driver {
 public:
  virtual ~driver() = default;
  /// The steady clock, read once a turn (by wait()).
  virtual instant now() const noexcept = 0;
  /// A listener at `where` (a bound address with port; empty unix sockets are made, a stale socket file is replaced).
  /// Accepted sockets read nothing until start_reading.
  virtual socket_id listen(const address& where, const listen_options& options) = 0;
  /// A listener on a descriptor that listens already. Takes the descriptor over.
  virtual socket_id adopt_listener(int fd) = 0;
  /// A copy of the listener's descriptor, for a successor at the same address. -1 where there is none.
  virtual int duplicate(socket_id listener) = 0;
  /// Accepts at most `batch` connections a turn; 0 stops accepting, without closing.
  virtual void accept(socket_id listener, int batch) = 0;
  /// Takes what is queued at the listener, reports it as accepted, and closes the listener.
  virtual void close_listener(socket_id listener) = 0;
  /// Connects; `connected` or `connect_failed` follows. `options.timeout` is the caller's: the driver has none.
  virtual socket_id connect(const address& to, const connect_options& options) = 0;
  /// A connected stream socket made elsewhere, for example accepted on another loop. Takes the descriptor over.
  virtual socket_id adopt(int fd) = 0;
  /// Gives an accepted socket's descriptor away and forgets it; -1 where there is none (a simulated one).
  virtual int release(socket_id s) = 0;
  /// A datagram socket at `where`, over UDP or a unix path (stale files are replaced). Reads nothing until
  /// start_reading, whatever its room; `datagram_received` then comes for each datagram, those of 0 octets included.
  /// `datagram_failed` tells what could not be sent or arrive. `options.backlog` means nothing here.
  virtual socket_id bind_datagram(const address& where, const listen_options& options) = 0;
  /// One that hears from `to` alone, and sends there what is sent to no address. Over a unix socket it has a name of
  /// its own, so that it can be answered. Throws std::system_error.
  virtual socket_id connect_datagram(const address& to, const connect_options& options) = 0;
  virtual std::error_code configure_datagram(socket_id s, const datagram_settings& settings) = 0;
  /// Joins or leaves a multicast group, on one interface (see datagram_settings) or the one that the kernel chooses.
  virtual std::error_code change_group(socket_id s, const address& group, const address& interface, bool join) = 0;
  virtual datagram_counts counts(socket_id s) const = 0;
  /// Hands the kernel what send_to gathered. wait() does so, too.
  virtual void flush_datagrams() = 0;
  /// Readiness of a descriptor that stays the caller's; `became_ready` comes each turn while it lasts (level).
  virtual socket_id watch(int fd, bool read, bool write) = 0;
  virtual void change_watch(socket_id s, bool read, bool write) = 0;
  virtual void unwatch(socket_id s) = 0;
  /// `signalled(number)` instead of the signal's own action. Blocks it for the calling thread and those it makes.
  virtual socket_id watch_signal(int number) = 0;
  /// The addresses of both ends; of a listener, local only.
  virtual address local(socket_id s) const = 0;
  virtual address peer(socket_id s) const = 0;
  virtual void set_no_delay(socket_id s, bool on) = 0;
  virtual void set_keep_alive(socket_id s, bool on) = 0;
  /// Whether splice() can work between these two.
  virtual bool can_splice(socket_id from, socket_id to) const = 0;

  virtual void perform(socket_id s, command what) = 0;
  /// Moves at most `octets` from one socket to another without showing them; 0 stops (see command::splice).
  virtual void splice(socket_id from, socket_id to, std::uint64_t octets) = 0;
  /// Octets of a file (a descriptor that stays the caller's), behind what was sent: octets_sent tells of them. Until all
  /// are told, or file_failed came, or the socket is closed, the descriptor stays open and nothing else is sent.
  /// \return false: not this driver, or not this socket
  virtual bool send_file(socket_id /*s*/, int /*fd*/, std::uint64_t /*offset*/, std::uint64_t /*octets*/) {
    return false;
  }
  /// Waits until something happened, at the latest until `until`, and appends it in order. Results that wait already
  /// are given without waiting.
  virtual void wait(instant until, std::vector<std::pair<socket_id, event>>& happened) = 0;
  /// Whether descriptors given to watch() are the running kernel's: child processes need it.
  virtual bool is_kernel() const noexcept { return false; }
  /// Ends a wait() from another thread, now or the next one. The one member that other threads may call.
  virtual void wake() noexcept = 0;
};

struct driver_limits {
  int accept_batch = 64;
  std::size_t read_budget = 256 * 1024;
};

/// The driver of the running kernel: level-triggered epoll.
MIDWIRE_API std::unique_ptr<driver> make_epoll_driver(driver_limits limits = {});

}  // namespace midwire
