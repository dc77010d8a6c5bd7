// Datagram sockets: UDP and unix.
#include <ctime>
// The kernel's header needs timespec.
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include "engine/driver/epoll_driver.hpp"
#include "engine/driver/socket_setup.hpp"

namespace midwire::detail {

namespace {

/// What one socket may receive in a turn (E23); octets are bounded by the driver's read budget.
constexpr std::size_t most_a_turn = 256;
constexpr std::size_t most_errors_a_turn = 64;
/// A pending error may be of a datagram that left before: so often a call is tried anew.
constexpr int most_retries = 8;
/// Nothing waits longer to be sent.
constexpr duration patience = std::chrono::seconds{5};
constexpr duration first_retry = std::chrono::milliseconds{1}, longest_retry = std::chrono::milliseconds{64};
/// Receivers without room that one look through the queue gets past.
constexpr std::size_t most_full_receivers = 32;

int open_socket(const kernel_address& at) noexcept {
  return ::socket(at.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

void set_datagram_options(int fd, int family) noexcept {
  if (family == AF_UNIX) return;
  // Without it a socket that is not connected never hears that a datagram was refused.
  set_option(fd, IPPROTO_IP, IP_RECVERR, 1);
  // Else what any program of the machine has joined comes to every socket at the port.
  set_option(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
  if (family != AF_INET6) return;
  set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
  set_option(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
}

std::string name_for_people(const address& a) { return (a.is_unix() ? "datagrams at " : "udp ") + a.text(); }

}  // namespace

socket_state& epoll_driver::make_datagram_socket(int fd, bool unix_socket) {
  if (!batch_) batch_ = std::make_unique<datagram_batch>();
  socket_state& s = make(role::datagram, fd);
  s.datagram = std::make_unique<datagram_state>();
  s.datagram->unix_socket = unix_socket;
  return s;
}

socket_id epoll_driver::bind_datagram(const address& where, const listen_options& options) {
  const std::string what = "listen " + name_for_people(where);
  if (where.empty()) refuse(EDESTADDRREQ, what);
  address at = where;
  const bool everywhere = where.family() == address::kind::ipv6 && where.is_any();
  for (;;) {
    const kernel_address name{at};
    guarded_fd fd{open_socket(name)};
    int error = fd.get() < 0 ? errno : 0;
    if (error == 0) {
      if (options.reuse_port && at.is_ip() &&
          (!set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1) || !set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1)))
        refuse(errno, what);
      if (everywhere && at.family() == address::kind::ipv6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
      set_datagram_options(fd.get(), name.family());
      error = ::bind(fd.get(), name.get(), name.size) == 0 ? 0 : errno;
      if (error == EADDRINUSE && is_file(at) && is_stale(at) && ::unlink(path_of(at).c_str()) == 0)
        error = ::bind(fd.get(), name.get(), name.size) == 0 ? 0 : errno;
    }
    // A machine without IPv6 has all its addresses in IPv4.
    if ((error == EAFNOSUPPORT || error == EADDRNOTAVAIL) && everywhere && at.family() == address::kind::ipv6) {
      at = address::any_ipv4(where.port());
      continue;
    }
    if (error != 0) refuse(error, what);
    // Only now, as for listeners: it is the first at its address.
    if (options.share_port && at.is_ip() && !set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1)) refuse(errno, what);
    socket_state& s = make_datagram_socket(fd.keep(), at.is_unix());
    struct stat status;
    if (is_file(at) && ::lstat(path_of(at).c_str(), &status) == 0)
      s.owns_path = true, s.path_device = status.st_dev, s.path_inode = status.st_ino;
    touch(s);
    return s.id;
  }
}

socket_id epoll_driver::connect_datagram(const address& to, const connect_options& options) {
  const std::string what = "connect " + name_for_people(to);
  if (to.empty()) refuse(EDESTADDRREQ, what);
  const kernel_address name{to};
  guarded_fd fd{open_socket(name)};
  if (fd.get() < 0) refuse(errno, what);
  set_datagram_options(fd.get(), name.family());
  if (!options.bind.empty()) {
    const kernel_address own{options.bind};
    if (::bind(fd.get(), own.get(), own.size) != 0) refuse(errno, what + " from " + options.bind.text());
  } else if (to.is_unix()) {
    // Without a path the kernel gives it an abstract name, to which answers can be sent.
    sa_family_t family = AF_UNIX;
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&family), sizeof family) != 0) refuse(errno, what);
  }
  if (::connect(fd.get(), name.get(), name.size) != 0) {
    const int error = errno;
    if (is_file(options.bind)) ::unlink(path_of(options.bind).c_str());
    refuse(error, what);
  }
  socket_state& s = make_datagram_socket(fd.keep(), to.is_unix());
  s.peer = to, s.datagram->connected = true;
  struct stat status;
  if (is_file(options.bind) && ::lstat(path_of(options.bind).c_str(), &status) == 0)
    s.owns_path = true, s.path_device = status.st_dev, s.path_inode = status.st_ino;
  touch(s);
  return s.id;
}

std::error_code epoll_driver::configure_datagram(socket_id id, const datagram_settings& settings) {
  const socket_state* s = find(id);
  if (!s || s->is != role::datagram) return system_code(EBADF);
  if (settings.receive_buffer) {
    const int octets = static_cast<int>(std::min<std::size_t>(*settings.receive_buffer, 1 << 30));
    if (!set_option(s->fd, SOL_SOCKET, SO_RCVBUF, octets)) return system_code(errno);
  }
  const bool more =
      settings.broadcast || settings.multicast_loopback || settings.multicast_ttl || settings.multicast_interface;
  if (s->datagram->unix_socket) return more ? system_code(EOPNOTSUPP) : std::error_code{};
  const bool six = local(id).family() == address::kind::ipv6;
  int failed = 0;
  const auto set = [&](int level, int name, int value) {
    if (!set_option(s->fd, level, name, value)) failed = errno;
  };
  // A socket of both families sends to groups of both.
  const auto both = [&](int name4, int name6, int value) {
    set(IPPROTO_IP, name4, value);
    if (six) set(IPPROTO_IPV6, name6, value);
  };
  if (settings.broadcast) set(SOL_SOCKET, SO_BROADCAST, *settings.broadcast);
  if (settings.multicast_loopback) both(IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, *settings.multicast_loopback);
  if (settings.multicast_ttl) {
    if (*settings.multicast_ttl < 0 || *settings.multicast_ttl > 255) return system_code(EINVAL);
    both(IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, *settings.multicast_ttl);
  }
  if (settings.multicast_interface) {
    const address& by = *settings.multicast_interface;
    if (by.family() == address::kind::ipv6) {
      set(IPPROTO_IPV6, IPV6_MULTICAST_IF, static_cast<int>(by.scope()));
    } else {
      ip_mreqn which{};
      if (by.family() == address::kind::ipv4) std::memcpy(&which.imr_address, by.octets().data(), 4);
      if (::setsockopt(s->fd, IPPROTO_IP, IP_MULTICAST_IF, &which, sizeof which) != 0) failed = errno;
    }
  }
  return failed == 0 ? std::error_code{} : system_code(failed);
}

std::error_code epoll_driver::change_group(socket_id id, const address& group, const address& interface, bool join) {
  const socket_state* s = find(id);
  if (!s || s->is != role::datagram) return system_code(EBADF);
  int done = -1;
  errno = EINVAL;
  if (s->datagram->unix_socket) {
    errno = EOPNOTSUPP;
  } else if (group.family() == address::kind::ipv4) {
    ip_mreqn which{};
    std::memcpy(&which.imr_multiaddr, group.octets().data(), 4);
    if (interface.family() == address::kind::ipv4) std::memcpy(&which.imr_address, interface.octets().data(), 4);
    done = ::setsockopt(s->fd, IPPROTO_IP, join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, &which, sizeof which);
  } else if (group.family() == address::kind::ipv6) {
    ipv6_mreq which{};
    std::memcpy(&which.ipv6mr_multiaddr, group.octets().data(), 16);
    which.ipv6mr_interface = interface.scope() != 0 ? interface.scope() : group.scope();
    done = ::setsockopt(s->fd, IPPROTO_IPV6, join ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &which, sizeof which);
  }
  return done == 0 ? std::error_code{} : system_code(errno);
}

datagram_counts epoll_driver::counts(socket_id id) const {
  const socket_state* s = find(id);
  if (!s || s->is != role::datagram) return {};
  datagram_counts c = s->datagram->counts;
  // The kernel's own count of what found no room, at its place in this array (SK_MEMINFO_DROPS).
  std::array<std::uint32_t, 9> memory{};
  socklen_t size = sizeof memory;
  if (::getsockopt(s->fd, SOL_SOCKET, SO_MEMINFO, memory.data(), &size) == 0 && size == sizeof memory)
    c.overrun = memory[8];
  return c;
}

void epoll_driver::perform_datagram(socket_state& s, command what) {
  switch (what.what()) {
    case command::kind::start_reading:
    case command::kind::stop_reading:
      s.datagram->reading = what.what() == command::kind::start_reading && what.count() > 0;
      touch(s);
      break;
    case command::kind::send:
    case command::kind::send_to: send_datagram(s, std::move(what.octets()), what.to()); break;
    case command::kind::close:
    case command::kind::reset:
    case command::kind::reset_after_drain: close_datagram(s); break;
    case command::kind::send_end:
    case command::kind::splice: break;
  }
}

// ---- receiving

void epoll_driver::handle_datagram(socket_state& s, std::uint32_t events) {
  if (events & (EPOLLERR | EPOLLHUP)) take_network_errors(s, true);
  if (s.datagram->blocked && (events & EPOLLOUT)) flush_datagrams(s);
  if (s.datagram->reading && (events & EPOLLIN)) receive_datagrams(s);
  touch(s);
}

void epoll_driver::receive_datagrams(socket_state& s) {
  datagram_state& d = *s.datagram;
  datagram_batch& b = *batch_;
  const std::size_t slot = d.unix_socket ? largest_unix_datagram : 65536;
  const std::size_t at_once = std::min(datagram_batch::most, datagram_batch::octets / slot);
  std::size_t octets = 0, taken = 0;
  int retries = 0;
  while (taken < most_a_turn && octets < limits_.read_budget) {
    for (std::size_t i = 0; i < at_once; ++i) {
      b.pieces[i] = {b.room.get() + i * slot, slot};
      b.messages[i] = {};
      b.messages[i].msg_hdr.msg_name = &b.names[i];
      b.messages[i].msg_hdr.msg_namelen = sizeof b.names[i];
      b.messages[i].msg_hdr.msg_iov = &b.pieces[i];
      b.messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int n = ::recvmmsg(s.fd, b.messages.data(), static_cast<unsigned>(at_once), MSG_DONTWAIT, nullptr);
    if (n < 0) {
      const int error = errno;
      if (error == EAGAIN) break;
      if (++retries > most_retries) break;
      if (error == EINTR) continue;
      // Of something sent before. Over IP it stands in the error queue as well, with the address it is about.
      if (d.unix_socket) {
        datagram_failed(s, error, s.peer);
      } else {
        take_network_errors(s, false);
      }
      continue;
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
      const msghdr& m = b.messages[i].msg_hdr;
      if (m.msg_flags & MSG_TRUNC) {
        ++d.counts.truncated;  // half a datagram is none
        continue;
      }
      kernel_address from;
      from.size = m.msg_namelen;
      std::memcpy(&from.storage, &b.names[i], std::min<std::size_t>(m.msg_namelen, sizeof from.storage));
      const std::size_t size = b.messages[i].msg_len;
      octets += size;
      ++d.counts.received;
      tell(s.id, event::datagram_received(chunk{byte_view{b.room.get() + i * slot, size}}, from.value()));
    }
    taken += static_cast<std::size_t>(n);
    if (static_cast<std::size_t>(n) < at_once) break;
  }
  // Small ones cost, too.
  read_now_ += octets + 64 * taken;
}

/// What the network had to say about datagrams that left (IP_RECVERR). Reading it takes the socket's pending error away
/// as well. `all`: an error that stands nowhere else, too.
void epoll_driver::take_network_errors(socket_state& s, bool all) {
  datagram_state& d = *s.datagram;
  std::size_t taken = 0;
  for (; !d.unix_socket && taken < most_errors_a_turn; ++taken) {
    kernel_address about;
    about.prepare();
    alignas(cmsghdr) char control[512];
    msghdr m{};
    m.msg_name = about.get(), m.msg_namelen = about.size;
    m.msg_control = control, m.msg_controllen = sizeof control;
    if (::recvmsg(s.fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) break;
    about.size = m.msg_namelen;
    for (cmsghdr* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
      const bool is_error = (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
                            (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR);
      if (!is_error) continue;
      sock_extended_err e;
      std::memcpy(&e, CMSG_DATA(c), sizeof e);
      // What this machine refused to send has been told by the call that sent it.
      if (e.ee_origin == SO_EE_ORIGIN_ICMP || e.ee_origin == SO_EE_ORIGIN_ICMP6)
        datagram_failed(s, static_cast<int>(e.ee_errno), about.value());
    }
  }
  if (!all || taken == most_errors_a_turn) return;
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(s.fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0) datagram_failed(s, error, s.peer);
}

void epoll_driver::datagram_failed(socket_state& s, int error, const address& to) {
  ++s.datagram->counts.failed;
  tell(s.id, event::datagram_failed(system_code(error), to.empty() ? s.peer : to));
}

// ---- sending

void epoll_driver::send_datagram(socket_state& s, buffer octets, const address& to) {
  datagram_state& d = *s.datagram;
  if (octets.chunks() > datagram_batch::most_pieces) octets = buffer{std::move(octets).join()};
  if (d.blocked) {
    if (!d.queue.empty() &&
        (d.queue.octets() + octets.size() > datagram_queue_octets || d.queue.size() >= datagram_queue_length)) {
      ++d.counts.dropped;
      return;
    }
    for (auto& piece : octets) piece.compact();  // it may wait: what it does not need it must not keep
  }
  d.queue.push(std::move(octets), to, add_time(now_, patience));
  if (d.blocked) return;
  if (d.queue.size() >= datagram_batch::most || d.queue.octets() >= datagram_queue_octets) {
    flush_datagrams(s);
  } else if (!std::exchange(d.gathered, true)) {
    gathered_.push_back(&s);
  }
}

void epoll_driver::flush_datagrams() {
  // A list of its own: nothing is gathered while it is handed over, but a socket may go.
  for (std::size_t i = 0; i < gathered_.size(); ++i) {
    gathered_[i]->datagram->gathered = false;
    flush_datagrams(*gathered_[i]);
  }
  gathered_.clear();
}

void epoll_driver::flush_datagrams(socket_state& s) {
  datagram_state& d = *s.datagram;
  if (d.unix_socket && !d.connected) return flush_one_by_one(s);
  datagram_batch& b = *batch_;
  int retries = 0;
  while (!d.queue.empty()) {
    unsigned count = 0;
    std::size_t pieces = 0;
    for (; count < datagram_batch::most && count < d.queue.size(); ++count) {
      outgoing_datagram& out = d.queue[count];
      if (out.until <= now_) break;
      if (pieces + out.octets.chunks() > datagram_batch::most_pieces) break;
      msghdr& m = b.messages[count].msg_hdr;
      m = {};
      m.msg_iov = &b.pieces[pieces], m.msg_iovlen = out.octets.chunks();
      for (const chunk& piece : out.octets)
        b.pieces[pieces++] = {const_cast<std::uint8_t*>(piece.bytes().data()), piece.size()};
      if (out.to.empty()) continue;
      const kernel_address to{out.to};
      std::memcpy(&b.names[count], &to.storage, sizeof to.storage);
      m.msg_name = &b.names[count], m.msg_namelen = to.size;
    }
    if (count == 0) {  // it has waited for too long
      ++d.counts.dropped;
      d.queue.drop_front(1);
      continue;
    }
    const int n = ::sendmmsg(s.fd, b.messages.data(), count, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
      d.counts.sent += static_cast<unsigned>(n);
      d.queue.drop_front(static_cast<std::size_t>(n));
      retries = 0;
      continue;
    }
    const int error = n < 0 ? errno : EAGAIN;
    if (error == EAGAIN) {
      block(s);
      return;
    }
    if (error == EINTR) continue;
    // The socket's pending error may be of a datagram that left before, which is no reason not to send this one.
    if (!d.unix_socket && ++retries <= (error == ECONNREFUSED ? most_retries : 1)) {
      take_network_errors(s, false);
      continue;
    }
    if (!d.unix_socket && error == ECONNREFUSED) {  // it never is of this one: refusals come faster than we send
      block(s);
      return;
    }
    retries = 0;
    refuse_front(s, error);
  }
  d.blocked = false;
  touch(s);
}

/// The first in the queue cannot be sent, whatever is tried.
void epoll_driver::refuse_front(socket_state& s, int error) {
  datagram_state& d = *s.datagram;
  if (error == ENOBUFS) {
    ++d.counts.dropped;  // an interface's queue is full: that is what a network does
  } else {
    datagram_failed(s, error, d.queue[0].to);
  }
  d.queue.drop_front(1);
}

/// A unix receiver without room holds up what goes to it, and nothing else. Of its room epoll tells nothing: it is
/// tried again by the clock.
void epoll_driver::flush_one_by_one(socket_state& s) {
  datagram_state& d = *s.datagram;
  std::vector<address> full;
  bool moved = false;
  d.queue.drop_if([&](outgoing_datagram& out) {
    if (out.until <= now_) {
      ++d.counts.dropped;
      return true;
    }
    if (full.size() > most_full_receivers || std::find(full.begin(), full.end(), out.to) != full.end()) return false;
    const kernel_address to{out.to};
    msghdr m{};
    std::size_t pieces = 0;
    for (const chunk& piece : out.octets)
      batch_->pieces[pieces++] = {const_cast<std::uint8_t*>(piece.bytes().data()), piece.size()};
    m.msg_iov = batch_->pieces.data(), m.msg_iovlen = pieces;
    m.msg_name = const_cast<sockaddr*>(to.get()), m.msg_namelen = to.size;
    if (out.to.empty()) m.msg_name = nullptr, m.msg_namelen = 0;
    int error = 0;
    do error = ::sendmsg(s.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
    while (error == EINTR);
    if (error == EAGAIN) {
      full.push_back(out.to);
      return false;
    }
    moved = true;
    if (error == 0) {
      ++d.counts.sent;
    } else if (error == ENOBUFS) {
      ++d.counts.dropped;
    } else {
      datagram_failed(s, error, out.to);
    }
    return true;
  });
  if (d.queue.empty()) {
    d.blocked = false;
    if (std::exchange(d.retrying, false)) std::erase(retrying_, &s);
    return;
  }
  d.retry_after = moved || !d.retrying ? first_retry : std::min(d.retry_after * 2, longest_retry);
  d.retry_at = add_time(now_, d.retry_after);
  if (!std::exchange(d.retrying, true)) retrying_.push_back(&s);
  block(s);
}

/// The kernel takes no more for now: what waits keeps no more memory than it needs.
void epoll_driver::block(socket_state& s) {
  datagram_state& d = *s.datagram;
  if (!std::exchange(d.blocked, true))
    for (std::size_t i = 0; i < d.queue.size(); ++i)
      for (auto& piece : d.queue[i].octets) piece.compact();
  touch(s);
}

void epoll_driver::retry_datagrams() {
  // By a copy: whoever gets rid of all it has leaves the list.
  const auto now_retrying = retrying_;
  for (socket_state* s : now_retrying)
    if (s->datagram->retry_at <= now_) flush_datagrams(*s);
}

void epoll_driver::close_datagram(socket_state& s) {
  // What the kernel takes still goes out.
  if (!s.datagram->blocked) flush_datagrams(s);
  remove_path(s);
  close_fd(s);
  retire(s);
}

void epoll_driver::forget_datagram(socket_state& s) noexcept {
  if (s.datagram->gathered) std::erase(gathered_, &s);
  if (s.datagram->retrying) std::erase(retrying_, &s);
  s.datagram.reset();
}

}  // namespace midwire::detail
