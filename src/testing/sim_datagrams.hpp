#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <midwire/engine/driver.hpp>
#include <midwire/testing/sim_network.hpp>

namespace midwire::testing::detail {

class network_impl;

/// A datagram that arrived.
struct sim_datagram {
  std::string octets;
  address from;
};

struct sim_datagram_socket {
  address local, peer;  // the peer of a connected one
  const void* machine = nullptr;
  bool shared = false, reading = false, closed = false, broadcast = false, multicast_loopback = true;
  int multicast_ttl = 1;
  std::vector<address> groups;  // without ports
  std::deque<sim_datagram> inbox;
  std::size_t unread = 0;   // octets
  std::size_t room = 0;     // for them; 0: as the link's shape says
  std::size_t waiting = 0;  // octets that the wire has not begun to send
  instant free_at{};        // when the wire has sent what it has
  std::deque<std::pair<std::error_code, address>> failures;
  datagram_counts counts;

  void fail(std::errc why, const address& to) {
    ++counts.failed;
    failures.emplace_back(std::make_error_code(why), to);
  }
};

/// Carries datagrams between simulated sockets: late, in another order, twice or not at all, by the network's seed.
class sim_datagram_net {
 public:
  explicit sim_datagram_net(network_impl& n) noexcept : net_{n} {}

  /// Throws std::system_error when the address is taken.
  void bind(const std::shared_ptr<sim_datagram_socket>& s, const address& at, bool shared);
  void connect(const std::shared_ptr<sim_datagram_socket>& s, const address& to, const address& from);
  void remove(const sim_datagram_socket& s);
  void send(const std::shared_ptr<sim_datagram_socket>& from, std::string octets, address to);
  void lose(const address& to, std::size_t count) { lost_[to.text()] += count; }

 private:
  using socket_ptr = std::shared_ptr<sim_datagram_socket>;
  void transmit(const socket_ptr& from, const std::string& octets, const address& source, const address& to);
  void arrive(const std::weak_ptr<sim_datagram_socket>& from, std::string octets, const address& source,
              const address& to);
  std::vector<socket_ptr> receivers(const sim_datagram_socket* from, const address& source, const address& to);
  void deliver(sim_datagram_socket& s, std::string octets, const address& source);

  network_impl& net_;
  std::vector<socket_ptr> sockets_;
  std::map<std::string, std::size_t> lost_;  // by destination: how many of the next ones vanish
  std::uint64_t names_ = 0, turn_ = 0;
};

/// The datagram sockets of one simulated driver.
class driver_datagrams {
 public:
  driver_datagrams(network_impl& n, const void* machine) noexcept : net_{n}, machine_{machine} {}
  ~driver_datagrams();
  driver_datagrams(const driver_datagrams&) = delete;
  driver_datagrams& operator=(const driver_datagrams&) = delete;

  void bind(std::uint32_t id, const address& where, const listen_options& options);
  void connect(std::uint32_t id, const address& to, const connect_options& options);
  sim_datagram_socket* find(std::uint32_t id) const;
  /// \return whether the socket is closed now
  bool perform(std::uint32_t id, command what);
  std::error_code configure(std::uint32_t id, const datagram_settings& settings);
  std::error_code change_group(std::uint32_t id, const address& group, bool join);
  datagram_counts counts(std::uint32_t id) const;
  void collect(std::vector<std::pair<socket_id, event>>& out);
  std::size_t size() const noexcept { return sockets_.size(); }

 private:
  network_impl& net_;
  const void* machine_;
  std::map<std::uint32_t, std::shared_ptr<sim_datagram_socket>> sockets_;
};

}  // namespace midwire::testing::detail
