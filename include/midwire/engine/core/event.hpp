#pragma once

#include <cstdint>
#include <new>
#include <system_error>
#include <type_traits>
#include <utility>

#include <midwire/base/address.hpp>
#include <midwire/base/chunk.hpp>
#include <midwire/base/views.hpp>

namespace midwire {

/// A driver's name for a socket: an index in the low 20 bits, small and used again, and a generation above it, which
/// tells a new socket from an old one whose events are still on their way.
enum class socket_id : std::uint32_t {};
constexpr std::size_t index_of(socket_id s) noexcept { return static_cast<std::uint32_t>(s) & 0xfffff; }

/// What happened to a socket, in the past tense: what a driver's wait() yields and what the core takes.
class event {
 public:
  enum class kind : std::uint8_t {
    accepted, connected, connect_failed, became_ready, data_received, end_received, reset_received, hung_up,
    datagram_received, datagram_failed, octets_sent, octets_spliced, signalled, file_failed,
  };
  event(event&& other) noexcept { take(other); }
  event& operator=(event&& other) noexcept {
    take(other);
    return *this;
  }
  ~event() = default;

  /// A listener took a connection; the event's own socket is the new one.
  static event accepted(socket_id listener, address peer) {
    event e{kind::accepted};
    e.count_ = static_cast<std::uint32_t>(listener), e.set_peer(peer);
    return e;
  }
  static event connected() { return event{kind::connected}; }
  static event connect_failed(std::error_code error) { return event{kind::connect_failed, error}; }
  /// A watched descriptor can be read, written, or both.
  static event became_ready(bool readable, bool writable) {
    event e{kind::became_ready};
    e.count_ = (readable ? 1u : 0u) | (writable ? 2u : 0u);
    return e;
  }
  static event data_received(chunk data) {
    event e{kind::data_received};
    e.data_ = std::move(data);
    return e;
  }
  /// The peer's FIN, after its last octet.
  static event end_received() { return event{kind::end_received}; }
  /// The peer's RST, or another error that ended both directions; after the last octet that could be read.
  static event reset_received(std::error_code error) { return event{kind::reset_received, error}; }
  /// A hint that the peer is going, which comes even while reading is stopped. The read says what really happened.
  /// `broken`: the connection is dead both ways, though octets may still wait to be read.
  static event hung_up(bool broken = false) {
    event e{kind::hung_up};
    e.count_ = broken;
    return e;
  }
  static event datagram_received(chunk data, address from) {
    event e{kind::datagram_received};
    e.data_ = std::move(data), e.set_peer(from);
    return e;
  }
  /// A datagram to `to` could not be sent, or the network says that it did not arrive.
  static event datagram_failed(std::error_code error, address to) {
    event e{kind::datagram_failed, error};
    e.set_peer(to);
    return e;
  }
  /// The kernel took so many octets of what was sent since the last such event.
  static event octets_sent(std::uint64_t octets) { return event{kind::octets_sent, octets}; }
  /// So many octets left this socket for the one that splice() named, in one read. octets_sent of that one tells when
  /// its kernel has taken them; until then the driver holds them.
  static event octets_spliced(std::uint64_t octets) { return event{kind::octets_spliced, octets}; }
  /// A file that driver::send_file() began cannot be read on; without an error it is shorter than it was said to be.
  /// What was sent of it has been told.
  static event file_failed(std::error_code error) { return event{kind::file_failed, error}; }
  /// A signal that watch_signal() asked for.
  static event signalled(int number) { return event{kind::signalled, static_cast<std::uint64_t>(number)}; }

  kind what() const noexcept { return kind_; }
  chunk& data() noexcept { return data_; }
  /// Of accepted, datagram_received and datagram_failed alone.
  const address& peer() const noexcept { return peer_; }
  std::error_code error() const noexcept { return error_; }
  std::uint64_t octets() const noexcept { return count_; }
  socket_id listener() const noexcept { return socket_id{static_cast<std::uint32_t>(count_)}; }
  bool readable() const noexcept { return count_ & 1; }
  bool writable() const noexcept { return count_ & 2; }
  bool broken() const noexcept { return count_ != 0; }
  int signal() const noexcept { return static_cast<int>(count_); }

 private:
  explicit event(kind k, std::uint64_t count = 0) : count_{count}, kind_{k} {}
  event(kind k, std::error_code error) : error_{error}, kind_{k} {}
  void set_peer(const address& peer) noexcept { ::new (static_cast<void*>(&peer_)) address{peer}; }
  void take(event& other) noexcept {
    data_ = std::move(other.data_), count_ = other.count_, error_ = other.error_, kind_ = other.kind_;
    if (has_peer()) set_peer(other.peer_);
  }
  bool has_peer() const noexcept {
    return kind_ == kind::accepted || kind_ == kind::datagram_received || kind_ == kind::datagram_failed;
  }
  chunk data_;
  std::uint64_t count_ = 0;
  std::error_code error_;
  kind kind_;
  // Few have one: the others do not pay for its 120 octets.
  static_assert(std::is_trivially_copyable_v<address>);
  union {
    address peer_;
  };
};

/// What shall be done with a socket, in the imperative: what the core answers with and what a driver performs.
class command {
 public:
  enum class kind : std::uint8_t {
    start_reading, stop_reading, splice, send, send_to, send_end, close, reset, reset_after_drain,
  };
  command(command&& other) noexcept { take(other); }
  command& operator=(command&& other) noexcept {
    take(other);
    return *this;
  }
  ~command() = default;

  /// Read, but no more than `room` octets until the next start_reading. A new room replaces what is left of the old.
  static command start_reading(std::uint64_t room = ~std::uint64_t{0}) { return command{kind::start_reading, room}; }
  static command stop_reading() { return command{kind::stop_reading}; }
  /// Move what comes next, at most `octets`, to the flow's other side without showing it. 0: read no more in this
  /// way; what is in the pipe already still goes out, before anything that is sent later.
  static command splice(std::uint64_t octets) { return command{kind::splice, octets}; }
  static command send(buffer octets) {
    command c{kind::send};
    c.octets_ = std::move(octets);
    return c;
  }
  /// One datagram of all these octets (none: of 0 octets); `to` empty: to the peer of a connected socket.
  static command send_to(buffer octets, address to) {
    command c{kind::send_to};
    c.octets_ = std::move(octets);
    c.set_to(to);
    return c;
  }
  /// A FIN behind what was sent.
  static command send_end() { return command{kind::send_end}; }
  /// Close now. What the kernel has taken still goes out; what was read by nobody makes the kernel send a RST.
  static command close() { return command{kind::close}; }
  /// RST now (a unix socket closes).
  static command reset() { return command{kind::reset}; }
  /// RST when the peer has acknowledged all that was sent, at the latest after `at_most`.
  static command reset_after_drain(duration at_most) {
    return command{kind::reset_after_drain, static_cast<std::uint64_t>(at_most.count())};
  }

  kind what() const noexcept { return kind_; }
  buffer& octets() noexcept { return octets_; }
  const buffer& octets() const noexcept { return octets_; }
  /// Of send_to alone.
  const address& to() const noexcept { return to_; }
  std::uint64_t count() const noexcept { return count_; }
  duration at_most() const noexcept { return duration{static_cast<duration::rep>(count_)}; }

 private:
  explicit command(kind k, std::uint64_t count = 0) : count_{count}, kind_{k} {}
  void set_to(const address& to) noexcept { ::new (static_cast<void*>(&to_)) address{to}; }
  void take(command& other) noexcept {
    count_ = other.count_, kind_ = other.kind_;
    octets_ = std::move(other.octets_);
    if (kind_ == kind::send_to) set_to(other.to_);
  }
  buffer octets_;
  std::uint64_t count_ = 0;
  kind kind_;
  union {
    address to_;
  };
};

}  // namespace midwire
