#include "testing/sim_datagrams.hpp"

#include <algorithm>

#include "testing/network_impl.hpp"

namespace midwire::testing::detail {

namespace {

constexpr std::size_t most_a_turn = 256, read_budget = 256 * 1024;
/// A receiver keeps so many windows before what comes is lost.
constexpr std::size_t windows_kept = 4;

bool is_multicast(const address& a) {
  const auto first = a.is_ip() ? static_cast<unsigned char>(a.octets().front()) : 0;
  return a.family() == address::kind::ipv4 ? first >= 224 && first < 240 : first == 0xff;
}

bool is_broadcast(const address& a) {
  return a.family() == address::kind::ipv4 && a.octets() == std::string_view{"\xff\xff\xff\xff"};
}

/// Whether a socket that is bound to `own` hears what is sent to `to`.
bool bound_to(const address& own, const address& to) {
  if (own == to) return true;
  if (!own.is_ip() || !to.is_ip() || own.port() != to.port() || !own.is_any()) return false;
  return own.family() == to.family() || own.family() == address::kind::ipv6;
}

/// The address that a datagram to `to` bears as its sender's.
address source_of(const address& own, const address& to) {
  if (!own.is_any()) return own;
  return to.family() == address::kind::ipv4 ? address::loopback(own.port()) : *address::parse_ip("::1", own.port());
}

std::size_t largest(const address& to, const link_shape& shape) {
  switch (to.family()) {
    case address::kind::ipv4: return std::min(shape.largest_datagram, largest_udp4);
    case address::kind::ipv6: return std::min(shape.largest_datagram, largest_udp6);
    default:
      return shape.largest_datagram == link_shape{}.largest_datagram ? largest_unix_datagram : shape.largest_datagram;
  }
}

}  // namespace

// ---- the wires

void sim_datagram_net::bind(const socket_ptr& s, const address& at, bool shared) {
  if (at.empty()) throw std::system_error{std::make_error_code(std::errc::destination_address_required), "listen"};
  s->local = at.is_ip() && at.port() == 0 ? at.with_port(net_.free_port()) : at;
  s->shared = shared;
  for (const auto& other : sockets_)
    if ((bound_to(other->local, s->local) || bound_to(s->local, other->local)) && other->peer.empty() &&
        !(shared && other->shared))
      throw std::system_error{std::make_error_code(std::errc::address_in_use), "listen udp " + at.text()};
  sockets_.push_back(s);
}

void sim_datagram_net::connect(const socket_ptr& s, const address& to, const address& from) {
  if (to.empty()) throw std::system_error{std::make_error_code(std::errc::destination_address_required), "connect"};
  const auto heard = receivers(nullptr, {}, to);
  if (to.is_unix() && heard.empty())
    throw std::system_error{std::make_error_code(std::errc::connection_refused), "connect datagrams at " + to.text()};
  if (!from.empty() && from.is_ip() != to.is_ip())
    throw std::system_error{std::make_error_code(std::errc::invalid_argument), "connect from " + from.text()};
  if (!from.empty()) {
    s->local = from.is_ip() && from.port() == 0 ? from.with_port(net_.free_port()) : from;
  } else if (to.is_ip()) {
    const address any = to.family() == address::kind::ipv4 ? address::any_ipv4(0) : address::any_ipv6(0);
    s->local = source_of(any, to).with_port(net_.free_port());
  } else {
    s->local = address::unix_path(std::string{'\0'} + "sim" + std::to_string(++names_));
  }
  s->peer = to;
  sockets_.push_back(s);
}

void sim_datagram_net::remove(const sim_datagram_socket& s) {
  std::erase_if(sockets_, [&](const auto& other) { return other.get() == &s; });
}

void sim_datagram_net::send(const socket_ptr& from, std::string octets, address to) {
  const link_shape& shape = net_.shape;
  if (to.empty()) to = from->peer;
  if (to.empty()) return from->fail(std::errc::destination_address_required, to);
  if (to.is_ip() && to.port() == 0) return from->fail(std::errc::invalid_argument, to);
  const bool six_from_four = to.family() == address::kind::ipv6 && from->local.family() == address::kind::ipv4;
  if (to.is_ip() != from->local.is_ip() || six_from_four)
    return from->fail(std::errc::address_family_not_supported, to);
  if (octets.size() > largest(to, shape)) return from->fail(std::errc::message_size, to);
  if (is_broadcast(to) && !from->broadcast) return from->fail(std::errc::permission_denied, to);
  if (from->waiting > 0 && from->waiting + octets.size() > datagram_queue_octets) {
    ++from->counts.dropped;
    return;
  }
  ++from->counts.sent;
  const address source = source_of(from->local, to);
  if (auto& vanish = lost_[to.text()]; vanish > 0) {
    --vanish;
    return;
  }
  if (shape.loss > 0 && net_.random.unit() < shape.loss) return;
  transmit(from, octets, source, to);
  if (shape.duplicated > 0 && net_.random.unit() < shape.duplicated) transmit(from, octets, source, to);
}

void sim_datagram_net::transmit(const socket_ptr& from, const std::string& octets, const address& source,
                                const address& to) {
  const link_shape& shape = net_.shape;
  const instant departs = std::max(net_.now(), from->free_at);
  from->free_at = departs;
  if (shape.rate > 0)
    from->free_at +=
        duration{static_cast<std::int64_t>(static_cast<double>(octets.size()) * 1e9 / static_cast<double>(shape.rate))};
  duration takes = shape.latency;
  if (shape.reordered > 0 && net_.random.unit() < shape.reordered)
    takes += std::max<duration>(shape.latency, std::chrono::milliseconds{1}) *
             static_cast<duration::rep>(1 + net_.random.below(3));
  if (departs > net_.now()) {
    from->waiting += octets.size();
    net_.at(departs, true, [s = from, n = octets.size()] { s->waiting -= n; });
  }
  const instant arrives = from->free_at + takes;
  // In the order of sending, so never from inside a call.
  net_.at(arrives, true, [this, weak = std::weak_ptr{from}, octets, source, to]() mutable {
    arrive(weak, std::move(octets), source, to);
  });
}

std::vector<std::shared_ptr<sim_datagram_socket>> sim_datagram_net::receivers(const sim_datagram_socket* from,
                                                                              const address& source,
                                                                              const address& to) {
  std::vector<socket_ptr> found;
  const bool many = is_multicast(to) || is_broadcast(to);
  for (const auto& s : sockets_) {
    const bool everywhere = s->local.is_any() && bound_to(s->local, to);
    if (!(many ? (everywhere || s->local == to) : bound_to(s->local, to))) continue;
    if (!s->peer.empty() && !(s->peer == source)) continue;
    if (is_multicast(to)) {
      if (std::find(s->groups.begin(), s->groups.end(), to.with_port(0)) == s->groups.end()) continue;
      const bool here = from && s->machine == from->machine;
      if (from && (here ? !from->multicast_loopback : from->multicast_ttl == 0)) continue;
    }
    found.push_back(s);
  }
  if (many || found.size() < 2) return found;
  // One gets it: whoever is connected to the sender, else whoever is bound to this very address, else they take turns.
  const auto take = [&](auto fits) {
    std::vector<socket_ptr> those;
    std::copy_if(found.begin(), found.end(), std::back_inserter(those), fits);
    if (!those.empty()) found = {those[turn_++ % those.size()]};
    return !those.empty();
  };
  if (!take([](const auto& s) { return !s->peer.empty(); }) && !take([&](const auto& s) { return s->local == to; }))
    take([](const auto&) { return true; });
  return found;
}

void sim_datagram_net::arrive(const std::weak_ptr<sim_datagram_socket>& from, std::string octets, const address& source,
                              const address& to) {
  const auto sender = from.lock();
  const auto found = receivers(sender.get(), source, to);
  if (found.empty() && !is_multicast(to) && !is_broadcast(to)) {
    net_.at(net_.now() + net_.shape.latency, true, [from, to] {
      if (const auto s = from.lock(); s && !s->closed) s->fail(std::errc::connection_refused, to);
    });
  }
  for (const auto& s : found) deliver(*s, octets, source);
}

void sim_datagram_net::deliver(sim_datagram_socket& s, std::string octets, const address& source) {
  const std::size_t room = s.room > 0 ? s.room : windows_kept * net_.shape.window;
  if (s.unread > 0 && s.unread + octets.size() > room) {
    ++s.counts.overrun;
    return;
  }
  s.unread += octets.size();
  s.inbox.push_back({std::move(octets), source});
}

// ---- a driver's sockets

driver_datagrams::~driver_datagrams() {
  for (auto& [id, s] : sockets_) s->closed = true, net_.datagrams.remove(*s);
}

void driver_datagrams::bind(std::uint32_t id, const address& where, const listen_options& options) {
  auto s = std::make_shared<sim_datagram_socket>();
  s->machine = machine_;
  net_.datagrams.bind(s, where, options.reuse_port || options.share_port);
  sockets_[id] = std::move(s);
}

void driver_datagrams::connect(std::uint32_t id, const address& to, const connect_options& options) {
  auto s = std::make_shared<sim_datagram_socket>();
  s->machine = machine_;
  net_.datagrams.connect(s, to, options.bind);
  sockets_[id] = std::move(s);
}

sim_datagram_socket* driver_datagrams::find(std::uint32_t id) const {
  const auto it = sockets_.find(id);
  return it == sockets_.end() ? nullptr : it->second.get();
}

bool driver_datagrams::perform(std::uint32_t id, command what) {
  const auto it = sockets_.find(id);
  if (it == sockets_.end()) return false;
  const auto s = it->second;
  switch (what.what()) {
    case command::kind::start_reading: s->reading = what.count() > 0; break;
    case command::kind::stop_reading: s->reading = false; break;
    case command::kind::send:
    case command::kind::send_to: net_.datagrams.send(s, what.octets().text(), what.to()); break;
    case command::kind::close:
    case command::kind::reset:
    case command::kind::reset_after_drain:
      s->closed = true;
      net_.datagrams.remove(*s);
      sockets_.erase(it);
      return true;
    case command::kind::send_end:
    case command::kind::splice: break;
  }
  return false;
}

std::error_code driver_datagrams::configure(std::uint32_t id, const datagram_settings& settings) {
  sim_datagram_socket* const s = find(id);
  if (!s) return std::make_error_code(std::errc::bad_file_descriptor);
  s->room = settings.receive_buffer.value_or(s->room);
  const bool more =
      settings.broadcast || settings.multicast_loopback || settings.multicast_ttl || settings.multicast_interface;
  if (s->local.is_unix() && more) return std::make_error_code(std::errc::operation_not_supported);
  if (settings.multicast_ttl && (*settings.multicast_ttl < 0 || *settings.multicast_ttl > 255))
    return std::make_error_code(std::errc::invalid_argument);
  s->broadcast = settings.broadcast.value_or(s->broadcast);
  s->multicast_loopback = settings.multicast_loopback.value_or(s->multicast_loopback);
  s->multicast_ttl = settings.multicast_ttl.value_or(s->multicast_ttl);
  return {};  // there is one interface
}

std::error_code driver_datagrams::change_group(std::uint32_t id, const address& group, bool join) {
  sim_datagram_socket* const s = find(id);
  if (!s) return std::make_error_code(std::errc::bad_file_descriptor);
  if (s->local.is_unix()) return std::make_error_code(std::errc::operation_not_supported);
  if (!is_multicast(group)) return std::make_error_code(std::errc::invalid_argument);
  const auto it = std::find(s->groups.begin(), s->groups.end(), group.with_port(0));
  if (join == (it != s->groups.end()))
    return std::make_error_code(join ? std::errc::address_in_use : std::errc::address_not_available);
  if (join)
    s->groups.push_back(group.with_port(0));
  else
    s->groups.erase(it);
  return {};
}

datagram_counts driver_datagrams::counts(std::uint32_t id) const {
  const auto* s = find(id);
  return s ? s->counts : datagram_counts{};
}

void driver_datagrams::collect(std::vector<std::pair<socket_id, event>>& out) {
  for (auto& [id, s] : sockets_) {
    for (auto& [why, to] : std::exchange(s->failures, {}))
      out.emplace_back(socket_id{id}, event::datagram_failed(why, to));
    std::size_t octets = 0;
    for (std::size_t n = 0; s->reading && !s->inbox.empty() && n < most_a_turn && octets < read_budget; ++n) {
      sim_datagram d = std::move(s->inbox.front());
      s->inbox.pop_front();
      s->unread -= d.octets.size(), octets += d.octets.size();
      ++s->counts.received;
      out.emplace_back(socket_id{id}, event::datagram_received(chunk{std::move(d.octets)}, d.from));
    }
  }
}

}  // namespace midwire::testing::detail
