#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include <midwire/base/address.hpp>

namespace midwire {

/// What a datagram socket may be told. What is left empty stays as it is.
struct datagram_settings {
  /// Sending to a broadcast address is allowed (SO_BROADCAST). At first it is not.
  std::optional<bool> broadcast{};
  /// What is sent to a group comes back to members on this machine, this socket among them. At first it does.
  std::optional<bool> multicast_loopback{};
  /// How many hops what is sent to a group may go, 0 to 255: 0 stays on this machine, 1, as at first, in its network.
  std::optional<int> multicast_ttl{};
  /// The interface that what is sent to a group leaves by. IPv4: its own address. IPv6: an address whose scope() is
  /// the interface's number. At first the routing table says.
  std::optional<address> multicast_interface{};
  /// Octets of memory for what has come and was not read yet; the kernel counts its own overhead in, and has a limit
  /// (net.core.rmem_max). At first net.core.rmem_default, which holds some hundred datagrams.
  std::optional<std::size_t> receive_buffer{};
};

/// What a datagram socket has counted since it was opened. Numbers of datagrams.
struct datagram_counts {
  std::uint64_t received = 0;
  std::uint64_t sent = 0;
  /// Received and thrown away: longer than 65,535 octets over IP, or 256 KiB over a unix socket.
  std::uint64_t truncated = 0;
  /// Thrown away by the kernel because nobody read them in time.
  std::uint64_t overrun = 0;
  /// Not sent: the queue was full or they waited in it for too long.
  std::uint64_t dropped = 0;
  /// Could not be sent, or the network said that they could not arrive.
  std::uint64_t failed = 0;
};

/// What waits in the queue of one datagram socket while the kernel takes no more, at most; what goes beyond is dropped.
/// The first one always fits.
constexpr std::size_t datagram_queue_octets = 256 * 1024, datagram_queue_length = 1024;
/// The largest payload of a UDP datagram over IPv4, over IPv6 (without jumbograms) and the largest datagram that is
/// taken from a unix socket.
constexpr std::size_t largest_udp4 = 65507, largest_udp6 = 65527, largest_unix_datagram = 256 * 1024;

}  // namespace midwire
