#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <midwire/base/assert.hpp>

#include "engine/driver/epoll_driver.hpp"

namespace midwire::detail {

namespace {

constexpr int reads_a_turn = 16;
constexpr std::size_t chunks_a_write = 64;
constexpr duration first_look = std::chrono::microseconds{200};
constexpr std::size_t file_piece = 256 * 1024;
constexpr unsigned how_to_splice = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;

/// ENOBUFS and ENOMEM pass like a full socket does.
bool is_full(int error) noexcept {
  return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS || error == ENOMEM;
}

/// Of sendfile(2): all other errors are the file's.
bool is_of_socket(int error) noexcept {
  switch (error) {
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ECONNREFUSED:
    case ETIMEDOUT:
    case ENOTCONN:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN: return true;
    default: return false;
  }
}

bool cannot_splice(int error) noexcept { return error == EINVAL || error == ENOSYS || error == EPERM; }

}  // namespace

void epoll_driver::perform(socket_id id, command what) {
  socket_state* s = find(id);
  if (!s) return;
  if (s->is == role::datagram) return perform_datagram(*s, std::move(what));
  if (s->is != role::stream && s->is != role::connecting) {
    // Only endings mean something here.
    if (what.what() != command::kind::close && what.what() != command::kind::reset) return;
    if (s->is == role::listening) {
      close_listener(id);
    } else if (s->is == role::failed) {
      retire(*s);
    } else {
      unwatch(id);
    }
    return;
  }
  switch (what.what()) {
    case command::kind::start_reading: start_reading(*s, what.count()); break;
    case command::kind::stop_reading: start_reading(*s, 0); break;
    case command::kind::send: send(*s, std::move(what.octets())); break;
    case command::kind::send_end: send_end(*s); break;
    case command::kind::close: close(*s); break;
    case command::kind::reset: reset(*s), retire(*s); break;
    case command::kind::reset_after_drain: reset_after_drain(*s, what.at_most()); break;
    case command::kind::splice:   // needs the other side: splice()
    case command::kind::send_to:  // of datagram sockets alone
      MIDWIRE_ASSERT(what.what() != command::kind::splice && what.what() != command::kind::send_to);
  }
}

void epoll_driver::handle_stream(socket_state& s, std::uint32_t events) {
  if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && s.queued()) flush(s);
  const bool trouble = events & (EPOLLERR | EPOLLHUP);
  if (s.read_ended) {
    if (!trouble || s.write_dead) return;
    if (events & EPOLLERR) {
      // The read side has said its last word, so this takes the error away from nobody.
      int error = 0;
      socklen_t size = sizeof error;
      ::getsockopt(s.fd, SOL_SOCKET, SO_ERROR, &error, &size);
      write_failed(s, error != 0 ? error : ECONNRESET);
    } else {
      s.expelled = true;  // a unix peer has closed: what is sent next will meet it
      touch(s);
    }
  } else if (s.reading()) {
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) read(s, events);
  } else if (trouble) {
    s.expelled = true;
    // Both ends have sent their FIN: that is HUP too, but nothing broke.
    hung_up(s, (events & EPOLLERR) || !s.end_sent);
    touch(s);
  } else if (events & EPOLLRDHUP) {
    hung_up(s, false);
    touch(s);
  }
}

// ---- reading

void epoll_driver::start_reading(socket_state& s, std::uint64_t room) {
  stop_splice(s);
  s.room = room;
  touch(s);
}

void epoll_driver::read(socket_state& s, std::uint32_t events) {
  if (s.splice_to) {
    pump(s, events);
    return;
  }
  // When the end is near a short read is not the last one.
  const bool ending = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
  std::size_t budget = limits_.read_budget;
  for (int i = 0; i < reads_a_turn && s.room > 0 && budget > 0; ++i) {
    chunk data = segment_pool::receive(s.receive.current());
    const std::size_t asked = static_cast<std::size_t>(std::min<std::uint64_t>(std::min(data.size(), budget), s.room));
    const ssize_t n = ::recv(s.fd, data.writable().data(), asked, MSG_DONTWAIT);
    if (n <= 0) {
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && is_full(errno)) {
        s.expelled = false;
      } else {
        read_ended(s, n == 0 ? 0 : errno);
      }
      break;
    }
    const auto octets = static_cast<std::size_t>(n);
    data.truncate(octets);
    s.receive.saw(octets, asked);
    s.room -= octets, budget -= octets, read_now_ += octets;
    tell(s.id, event::data_received(std::move(data)));
    if (octets < asked && !ending) break;
  }
  touch(s);
}

/// The read side met the end (0) or an error. A write that failed before took the error from the read side, which then
/// sees a clean end: the truth is what the write saw.
void epoll_driver::read_ended(socket_state& s, int error) {
  if (s.write_error != 0) error = s.write_error;
  s.read_ended = true, s.room = 0;
  stop_splice(s);
  if (error == 0) {
    tell(s.id, event::end_received());
  } else {
    s.write_dead = true;
    s.queue = buffer{}, s.file = -1;
    pipes_.give_back(std::move(s.pipe));
    if (s.sent > 0) tell(s.id, event::octets_sent(std::exchange(s.sent, 0)));
    tell(s.id, event::reset_received({error, std::system_category()}));
    if (s.splice_from) touch(*s.splice_from);
  }
  touch(s);
}

void epoll_driver::hung_up(socket_state& s, bool broken) {
  bool& seen = broken ? s.broken_seen : s.hang_seen;
  if (seen || s.is != role::stream) return;
  s.hang_seen = true, seen = true;
  tell(s.id, event::hung_up(broken));
}

// ---- sending

void epoll_driver::send(socket_state& s, buffer octets) {
  if (octets.empty() || s.write_dead || s.end_wanted) return;
  MIDWIRE_ASSERT(s.file < 0);  // they would overtake it
  if (s.is == role::stream && !s.queued()) {
    if (!write_some(s, octets) || octets.empty()) return;
    s.queue = std::move(octets);
  } else {
    s.queue.append(std::move(octets));
  }
  touch(s);
  if (s.splice_from) touch(*s.splice_from);
}

void epoll_driver::send_end(socket_state& s) {
  s.end_wanted = true;
  if (s.is == role::stream && !s.write_dead) flush(s);
}

/// Offers octets to the kernel, and takes those away that it took. \return false when the write side is dead
bool epoll_driver::write_some(socket_state& s, buffer& octets) {
  while (!octets.empty()) {
    std::size_t asked = 0;
    ssize_t n;
    if (octets.chunks() == 1) {
      const byte_view one = octets.begin()->bytes();
      asked = one.size();
      n = ::send(s.fd, one.data(), one.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    } else {
      iovec parts[chunks_a_write];
      msghdr message{};
      message.msg_iov = parts;
      for (const chunk& c : octets) {
        if (message.msg_iovlen == chunks_a_write) break;
        parts[message.msg_iovlen++] = {const_cast<std::uint8_t*>(c.bytes().data()), c.size()};
        asked += c.size();
      }
      n = ::sendmsg(s.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (n < 0) {
      if (errno == EINTR) continue;
      if (is_full(errno)) return true;
      write_failed(s, errno);
      return false;
    }
    const auto taken = static_cast<std::size_t>(n);
    octets.drop_front(taken);
    count_sent(s, taken);
    if (taken < asked) return true;
  }
  return true;
}

void epoll_driver::count_sent(socket_state& s, std::size_t octets) {
  if (s.is != role::stream) return;
  s.sent += octets;
  if (s.reported) return;
  s.reported = true;
  reports_.push_back(&s);
}

void epoll_driver::write_failed(socket_state& s, int error) {
  s.write_dead = true, s.write_error = error;
  s.queue = buffer{}, s.file = -1;
  pipes_.give_back(std::move(s.pipe));
  if (s.is != role::stream) return;
  if (s.read_ended) {
    if (s.sent > 0) tell(s.id, event::octets_sent(std::exchange(s.sent, 0)));
    tell(s.id, event::reset_received({error, std::system_category()}));
  } else if (!s.reading() || !s.tcp) {
    // The read will not tell soon. (A unix peer may have given up reading alone, and go on writing.)
    hung_up(s, true);
  }
  touch(s);
  if (s.splice_from) touch(*s.splice_from);
}

bool epoll_driver::send_file(socket_id id, int fd, std::uint64_t offset, std::uint64_t octets) {
  socket_state* const s = find(id);
  if (!s || s->is != role::stream || s->end_wanted || s->file >= 0) return false;
  // To a dead socket nothing is sent, and that is told another way.
  if (s->write_dead || octets == 0) return true;
  s->file = fd, s->file_offset = offset, s->file_left = octets;
  flush(*s);
  if (s->splice_from) touch(*s->splice_from);
  return true;
}

/// One piece a turn: what is not in memory blocks us. \return false when the write side is dead
bool epoll_driver::write_file(socket_state& s) {
  auto at = static_cast<off_t>(s.file_offset);
  ssize_t n;
  do n = ::sendfile(s.fd, s.file, &at, static_cast<std::size_t>(std::min<std::uint64_t>(s.file_left, file_piece)));
  while (n < 0 && errno == EINTR);
  if (n > 0) {
    s.file_offset += static_cast<std::uint64_t>(n), s.file_left -= static_cast<std::uint64_t>(n);
    count_sent(s, static_cast<std::size_t>(n));
    if (s.file_left == 0) s.file = -1;
    return true;
  }
  const int error = n == 0 ? 0 : errno;
  if (n < 0 && is_full(error)) return true;
  if (n < 0 && is_of_socket(error)) {
    write_failed(s, error);
    return false;
  }
  s.file = -1;
  if (s.is != role::stream) return true;
  if (s.sent > 0) tell(s.id, event::octets_sent(std::exchange(s.sent, 0)));
  tell(s.id, event::file_failed({error, std::system_category()}));
  return true;
}

void epoll_driver::flush(socket_state& s) {
  if (s.pipe.held() > 0 && !drain_pipe(s)) return;
  if (s.pipe.held() == 0 && !write_some(s, s.queue)) return;
  if (s.file >= 0 && s.pipe.held() == 0 && s.queue.empty() && !write_file(s)) return;
  if (s.end_wanted && !s.end_sent && !s.queued()) {
    s.end_sent = true;
    ::shutdown(s.fd, SHUT_WR);
  }
  touch(s);
  if (s.splice_from) touch(*s.splice_from);
}

// ---- splicing

bool epoll_driver::can_splice(socket_id from, socket_id to) const {
  const socket_state* a = find(from);
  const socket_state* b = find(to);
  return a && b && a != b && a->is == role::stream && b->is == role::stream;
}

void epoll_driver::splice(socket_id from_id, socket_id to_id, std::uint64_t octets) {
  socket_state* from = find(from_id);
  socket_state* to = find(to_id);
  if (!from || from->is != role::stream) return;
  stop_splice(*from);
  from->room = 0;
  if (octets > 0 && to && to->is == role::stream && to != from) {
    MIDWIRE_ASSERT(!to->splice_from);  // two sources would mix their octets
    from->splice_to = to, to->splice_from = from, from->splice_left = octets;
  }
  touch(*from);
}

/// What is in the pipe stays there, and goes out.
void epoll_driver::stop_splice(socket_state& from) {
  if (!from.splice_to) return;
  from.splice_to->splice_from = nullptr;
  from.splice_to = nullptr, from.splice_left = 0;
}

void epoll_driver::leave_splices(socket_state& s) {
  stop_splice(s);
  if (socket_state* from = s.splice_from) {
    stop_splice(*from);
    touch(*from);
  }
  pipes_.give_back(std::move(s.pipe));
}

/// Reads into an empty pipe only: so EAGAIN can mean but one thing, and when the end or an error is met, all that came
/// before is out.
void epoll_driver::pump(socket_state& from, std::uint32_t events) {
  socket_state& to = *from.splice_to;
  if (!to.pipe && !from.copies) to.pipe = pipes_.take();
  if (!to.pipe || from.copies) {
    copy_some(from, events);
    return;
  }
  // A whole pipe: with 64 connections in bulk, 256 KiB at a time costs twice the CPU of the limit.
  const auto asked = static_cast<std::size_t>(std::min<std::uint64_t>(from.splice_left, to.pipe.capacity()));
  ssize_t n;
  do n = ::splice(from.fd, nullptr, to.pipe.write_end(), nullptr, asked, how_to_splice);
  while (n < 0 && errno == EINTR);
  if (n > 0) {
    const auto octets = static_cast<std::size_t>(n);
    to.pipe.came(octets);
    from.splice_left -= octets;
    tell(from.id, event::octets_spliced(octets));
    if (drain_pipe(to)) touch(to);
    touch(from);
    return;
  }
  const int error = n == 0 ? 0 : errno;
  pipes_.give_back(std::move(to.pipe));
  if (n < 0 && cannot_splice(error)) {
    from.copies = true;
    copy_some(from, events);
  } else if (n < 0 && is_full(error)) {
    from.expelled = false;
    touch(from);
  } else {
    read_ended(from, error);
  }
}

/// Splicing without splice(2): the same octets, the same events.
void epoll_driver::copy_some(socket_state& from, std::uint32_t events) {
  socket_state& to = *from.splice_to;
  const bool ending = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
  std::size_t budget = limits_.read_budget;
  for (int i = 0; i < reads_a_turn && from.reading() && budget > 0; ++i) {
    chunk data = segment_pool::receive(from.receive.current());
    const std::size_t asked =
        static_cast<std::size_t>(std::min<std::uint64_t>(std::min(data.size(), budget), from.splice_left));
    const ssize_t n = ::recv(from.fd, data.writable().data(), asked, MSG_DONTWAIT);
    if (n <= 0) {
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && is_full(errno)) {
        from.expelled = false;
      } else {
        read_ended(from, n == 0 ? 0 : errno);
      }
      break;
    }
    const auto octets = static_cast<std::size_t>(n);
    data.truncate(octets);
    from.receive.saw(octets, asked);
    from.splice_left -= octets, budget -= octets;
    tell(from.id, event::octets_spliced(octets));
    send(to, buffer{std::move(data)});
    if (octets < asked && !ending) break;
  }
  touch(from);
}

/// \return false when the write side is dead
bool epoll_driver::drain_pipe(socket_state& to) {
  while (to.pipe.held() > 0) {
    const ssize_t n = ::splice(to.pipe.read_end(), nullptr, to.fd, nullptr, to.pipe.held(), how_to_splice);
    if (n > 0) {
      to.pipe.left(static_cast<std::size_t>(n));
      count_sent(to, static_cast<std::size_t>(n));
    } else if (n < 0 && errno == EINTR) {
      continue;
    } else if (n == 0 || is_full(errno)) {
      return true;
    } else if (cannot_splice(errno)) {
      empty_pipe_into_queue(to);
    } else {
      write_failed(to, errno);
      return false;
    }
  }
  pipes_.give_back(std::move(to.pipe));
  return true;
}

void epoll_driver::empty_pipe_into_queue(socket_state& to) {
  if (to.splice_from) to.splice_from->copies = true;
  buffer content;
  while (to.pipe.held() > 0) {
    chunk data = chunk::uninitialized(std::min(to.pipe.held(), segment_pool::size_of_class(2)));
    const ssize_t n = ::read(to.pipe.read_end(), data.writable().data(), data.size());
    if (n <= 0) {
      MIDWIRE_ASSERT(n < 0 && errno == EINTR);  // what is held is there
      continue;
    }
    data.truncate(static_cast<std::size_t>(n));
    to.pipe.left(data.size());
    content.append(std::move(data));
  }
  content.append(std::move(to.queue));
  to.queue = std::move(content);
}

// ---- endings

void epoll_driver::close(socket_state& s) {
  close_fd(s);
  retire(s);
}

void epoll_driver::reset(socket_state& s) {
  constexpr linger at_once{1, 0};
  if (s.tcp) ::setsockopt(s.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close_fd(s);
}

void epoll_driver::reset_after_drain(socket_state& s, duration at_most) {
  if (s.is == role::connecting || drained(s)) {
    reset(s);
    retire(s);
    return;
  }
  stop_splice(s);
  if (socket_state* from = s.splice_from) {
    stop_splice(*from);
    touch(*from);
  }
  if (s.armed >= 0) ::epoll_ctl(epoll_, EPOLL_CTL_DEL, s.fd, nullptr);
  s.armed = -1;
  s.is = role::draining;
  s.file = -1;  // its owner may close it now
  s.sent = 0;   // nobody is told any more
  s.look_again = first_look, s.look_at = now_ + first_look;
  s.give_up_at = at_most < instant::max() - now_ ? now_ + at_most : instant::max();
  draining_.push_back(&s);
}

/// Whether the peer has acknowledged all that was sent, or will never do it.
bool epoll_driver::drained(socket_state& s) {
  if (!s.write_dead && s.queued()) flush(s);
  if (s.write_dead) return true;
  if (s.queued()) return false;
  if (!s.tcp) return true;  // what a unix socket took is the peer's already
  tcp_info info{};
  socklen_t size = sizeof info.tcpi_state;
  if (::getsockopt(s.fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || info.tcpi_state == TCP_CLOSE) return true;
  int waiting = 0;
  return ::ioctl(s.fd, SIOCOUTQ, &waiting) != 0 || waiting == 0;
}

}  // namespace midwire::detail
