#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include <midwire/base/assert.hpp>

#include "engine/driver/epoll_driver.hpp"
#include "engine/driver/socket_setup.hpp"

namespace midwire::detail {

namespace {

constexpr duration accept_pause = std::chrono::milliseconds{100};
constexpr duration complaint_interval = std::chrono::seconds{1};
/// What a closing listener takes at most.
constexpr int last_batch = 4096;

/// Writes are joined above; and an urgent octet is one of the stream, else it would vanish from it. Sockets that a
/// listener accepts inherit both.
void set_tcp_options(int fd) noexcept {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
}

/// Makes a descriptor from elsewhere what ours are. \return whether it is TCP
bool prepare_adopted(int fd, const char* what) {
  int family = AF_UNSPEC;
  socklen_t size = sizeof family;
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
      ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) != 0)
    refuse(errno, what);
  const bool tcp = family == AF_INET || family == AF_INET6;
  if (tcp) set_tcp_options(fd);
  return tcp;
}

}  // namespace

// ---- listeners

socket_state& epoll_driver::add_listener(int fd, bool tcp) {
  socket_state& s = make(role::listening, fd);
  s.tcp = tcp, s.batch = limits_.accept_batch;
  touch(s);
  return s;
}

socket_id epoll_driver::listen(const address& where, const listen_options& options) {
  const std::string what = "listen " + where.text();
  if (where.empty()) refuse(EDESTADDRREQ, what);
  const kernel_address name{where};
  guarded_fd fd{::socket(name.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (fd.get() < 0) refuse(errno, what);
  if (where.is_ip()) {
    set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (options.reuse_port && !set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1)) refuse(errno, what);
    if (where.family() == address::kind::ipv6 && where.is_any()) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
    set_tcp_options(fd.get());
  }
  if (::bind(fd.get(), name.get(), name.size) != 0) {
    int error = errno;
    if (error == EADDRINUSE && is_file(where) && is_stale(where) && ::unlink(path_of(where).c_str()) == 0)
      error = ::bind(fd.get(), name.get(), name.size) == 0 ? 0 : errno;
    if (error != 0) refuse(error, what);
  }
  // Only now: had it been set before, another process's listener at this address would have been joined, not met.
  if (options.share_port && where.is_ip() && !set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1)) refuse(errno, what);
  if (::listen(fd.get(), options.backlog) != 0) refuse(errno, what);
  socket_state& s = add_listener(fd.keep(), where.is_ip());
  struct stat status;
  if (is_file(where) && ::lstat(path_of(where).c_str(), &status) == 0)
    s.owns_path = true, s.path_device = status.st_dev, s.path_inode = status.st_ino;
  return s.id;
}

socket_id epoll_driver::adopt_listener(int fd) {
  guarded_fd guard{fd};
  const bool tcp = prepare_adopted(fd, "adopt listener");
  return add_listener(guard.keep(), tcp).id;
}

int epoll_driver::duplicate(socket_id listener) {
  socket_state* s = find(listener);
  if (!s || s->is != role::listening) return -1;
  const int copy = ::fcntl(s->fd, F_DUPFD_CLOEXEC, 0);
  // The successor listens at the same path: it must outlive this listener.
  if (copy >= 0) s->owns_path = false;
  return copy;
}

void epoll_driver::accept(socket_id listener, int batch) {
  socket_state* s = find(listener);
  if (!s || s->is != role::listening) return;
  s->batch = batch;
  touch(*s);
}

void epoll_driver::close_listener(socket_id listener) {
  socket_state* s = find(listener);
  if (!s || s->is != role::listening) return;
  int error = 0;
  for (int i = 0; i < last_batch; ++i)
    if (!accept_one(*s, error) && error != ECONNABORTED) break;
  remove_path(*s);
  close_fd(*s);
  retire(*s);
}

/// Only while the file is the one that this listener made: a successor may have put its own there.
void epoll_driver::remove_path(const socket_state& listener) noexcept {
  if (!listener.owns_path) return;
  kernel_address bound;
  bound.prepare();
  if (::getsockname(listener.fd, bound.get(), &bound.size) != 0) return;
  const char* path = reinterpret_cast<const sockaddr_un&>(bound.storage).sun_path;
  struct stat status;
  if (::lstat(path, &status) == 0 && status.st_dev == listener.path_device && status.st_ino == listener.path_inode)
    ::unlink(path);
}

bool epoll_driver::accept_one(socket_state& listener, int& error) {
  kernel_address from;
  from.prepare();
  const int fd = ::accept4(listener.fd, from.get(), &from.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    error = errno;
    return false;
  }
  socket_state& s = make(role::stream, fd);
  s.tcp = listener.tcp, s.peer = from.value();
  tell(s.id, event::accepted(listener.id, s.peer));
  touch(s);
  return true;
}

void epoll_driver::accept_some(socket_state& listener) {
  int error = 0;
  for (int i = 0; i < listener.batch; ++i) {
    if (accept_one(listener, error)) continue;
    switch (error) {
      case EAGAIN: return;
      case EMFILE:
      case ENFILE: out_of_descriptors(listener); return;
      // The connection was gone before it was accepted: accept(2) passes the network's errors on.
      case ECONNABORTED:
      case EINTR:
      case EPROTO:
      case EPERM:
      case ENOPROTOOPT:
      case EOPNOTSUPP:
      case ENETDOWN:
      case ENETUNREACH:
      case EHOSTDOWN:
      case EHOSTUNREACH:
      case ENONET: break;
      default: pause(listener); return;
    }
  }
}

/// The queue cannot be left alone, or it would wake the loop for ever: the one descriptor kept in reserve serves to
/// take what waits and close it.
void epoll_driver::out_of_descriptors(socket_state& listener) {
  if (reserve_ >= 0) ::close(reserve_);
  for (int i = 0; i < listener.batch; ++i) {
    const int fd = ::accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) break;
    ::close(fd);
  }
  reserve_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (listener.complained == instant{} || now_ - listener.complained >= complaint_interval) {
    listener.complained = now_;
    tell(listener.id, event::connect_failed(system_code(EMFILE)));
  }
  pause(listener);
}

void epoll_driver::pause(socket_state& listener) {
  listener.paused = true, listener.resumes = now_ + accept_pause;
  paused_.push_back(&listener);
  touch(listener);
}

// ---- connecting

namespace {
/// The socket's pending error, which it then has no more.
int take_error(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}
}  // namespace

socket_id epoll_driver::connect(const address& to, const connect_options& options) {
  const kernel_address name{to};
  socket_state& s = make(role::connecting, -1);
  s.peer = to, s.tcp = to.is_ip();
  if (to.empty()) {
    fail_connect(s, EDESTADDRREQ);
    return s.id;
  }
  s.fd = ::socket(name.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (s.fd < 0) {
    fail_connect(s, errno);
    return s.id;
  }
  if (s.tcp) set_tcp_options(s.fd);
  if (!options.bind.empty()) {
    const kernel_address own{options.bind};
    // Without a port the kernel chooses one at connect(), when it knows both ends: more of them can be used.
    if (s.tcp)
      set_option(s.fd, options.bind.port() == 0 ? IPPROTO_IP : SOL_SOCKET,
                 options.bind.port() == 0 ? IP_BIND_ADDRESS_NO_PORT : SO_REUSEADDR, 1);
    if (::bind(s.fd, own.get(), own.size) != 0) {
      fail_connect(s, errno);
      return s.id;
    }
  }
  int error = ::connect(s.fd, name.get(), name.size) == 0 ? 0 : errno;
  // Over the loopback the answer is there before connect() returns: to ask is cheaper than a turn of waiting. Not by a
  // second connect(): where a reset has come already, that one throws away what came before it.
  if (error == EINPROGRESS && to.is_loopback()) {
    pollfd probe{s.fd, POLLOUT, 0};
    if (::poll(&probe, 1, 0) == 1) error = probe.revents & (POLLERR | POLLHUP) ? take_error(s.fd) : 0;
  }
  if (error == EINPROGRESS || error == EALREADY) {
    touch(s);
  } else {
    finish_connect(s, error);
  }
  return s.id;
}

void epoll_driver::finish_connect(socket_state& s, int error) {
  // When it dials a free port of its own range the kernel may choose that very port: TCP then connects to itself.
  if (error == 0 && s.tcp && local(s.id) == s.peer) error = ECONNREFUSED;
  // A refusal is ECONNREFUSED: this peer has accepted, maybe sent, and reset, all before we looked. What it sent can
  // still be read; that the end behind it is a reset has to be remembered, because asking has taken the error away.
  const bool was_reset = error == ECONNRESET || error == EPIPE;
  if (error != 0 && !was_reset) {
    fail_connect(s, error);
    return;
  }
  s.is = role::stream;
  if (was_reset) s.write_error = ECONNRESET, s.write_dead = true;
  tell(s.id, event::connected());
  flush(s);
}

void epoll_driver::fail_connect(socket_state& s, int error) {
  close_fd(s);
  s.armed = -1;
  tell(s.id, event::connect_failed(system_code(error)));
  if (told_ == &pending_) {
    s.is = role::failed;
  } else {
    retire(s);
  }
}

// ---- descriptors from elsewhere, and what is asked of sockets

socket_id epoll_driver::adopt(int fd) {
  guarded_fd guard{fd};
  const bool tcp = prepare_adopted(fd, "adopt socket");
  socket_state& s = make(role::stream, guard.keep());
  s.tcp = tcp, s.shared = true;
  kernel_address name;
  name.prepare();
  if (::getpeername(fd, name.get(), &name.size) == 0) s.peer = name.value();
  touch(s);
  return s.id;
}

int epoll_driver::release(socket_id id) {
  socket_state* s = find(id);
  if (!s || s->is != role::stream) return -1;
  if (s->armed >= 0) ::epoll_ctl(epoll_, EPOLL_CTL_DEL, s->fd, nullptr);
  const int fd = s->fd;
  retire(*s);
  return fd;
}

address epoll_driver::local(socket_id id) const {
  const socket_state* s = find(id);
  if (!s || s->fd < 0 || s->is == role::watched) return {};
  // Asked for once, if at all: whoever wants it more often keeps it, and an idle flow does not.
  kernel_address name;
  name.prepare();
  return ::getsockname(s->fd, name.get(), &name.size) == 0 ? name.value() : address{};
}

address epoll_driver::peer(socket_id id) const {
  const socket_state* s = find(id);
  return s ? s->peer : address{};
}

void epoll_driver::set_no_delay(socket_id id, bool on) {
  if (const socket_state* s = find(id); s && s->tcp && s->fd >= 0) set_option(s->fd, IPPROTO_TCP, TCP_NODELAY, on);
}

void epoll_driver::set_keep_alive(socket_id id, bool on) {
  if (const socket_state* s = find(id); s && s->tcp && s->fd >= 0) set_option(s->fd, SOL_SOCKET, SO_KEEPALIVE, on);
}

}  // namespace midwire::detail
