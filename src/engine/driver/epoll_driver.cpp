#include "engine/driver/epoll_driver.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>

#include <midwire/base/assert.hpp>

namespace midwire {

std::unique_ptr<driver> make_epoll_driver(driver_limits limits) {
  return std::make_unique<detail::epoll_driver>(limits);
}

namespace detail {

namespace {

/// Names of descriptors that are the driver's own: no place of the table has generation 0.
constexpr std::uint64_t wake_name = 0, signal_name = 1;
constexpr int unknown_to_epoll = -1;
// As what interest is kept in: epoll's own constants are unsigned.
constexpr int input = EPOLLIN, output = EPOLLOUT, peer_end = EPOLLRDHUP;

[[noreturn]] void refuse(const char* what) { throw std::system_error{errno, std::system_category(), what}; }

instant clock_now() noexcept { return std::chrono::steady_clock::now(); }

template <class T>
void forget(std::vector<T*>& list, T* one) noexcept {
  list.erase(std::remove(list.begin(), list.end(), one), list.end());
}

}  // namespace

epoll_driver::epoll_driver(driver_limits limits) : limits_{limits}, now_{clock_now()} {
  // splice(2) has no flag against SIGPIPE.
  std::signal(SIGPIPE, SIG_IGN);
  sigemptyset(&signal_set_);
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  wake_ = epoll_ < 0 ? -1 : ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  reserve_ = wake_ < 0 ? -1 : ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  epoll_event e{};
  e.events = EPOLLIN, e.data.u64 = wake_name;
  if (reserve_ < 0 || ::epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &e) != 0) {
    const int error = errno;
    for (const int fd : {epoll_, wake_, reserve_})
      if (fd >= 0) ::close(fd);
    errno = error;
    refuse("epoll");
  }
}

epoll_driver::~epoll_driver() {
  flush_datagrams();
  for (std::uint32_t i = 0; i < used_; ++i) {
    socket_state& s = (*blocks_[i / per_block])[i % per_block];
    switch (s.is) {
      case role::draining: reset(s); break;
      case role::datagram:
      case role::listening: remove_path(s); [[fallthrough]];
      case role::connecting:
      case role::stream:
      case role::failed: close_fd(s); break;
      default: break;
    }
  }
  for (const int fd : {epoll_, wake_, signals_, reserve_})
    if (fd >= 0) ::close(fd);
}

socket_state& epoll_driver::make(role is, int fd) {
  std::uint32_t index;
  if (!vacant_.empty()) {
    index = vacant_.back();
    vacant_.pop_back();
  } else {
    index = used_++;
    MIDWIRE_ASSERT(index < (1u << index_bits));
    if (index / per_block == blocks_.size()) blocks_.push_back(std::make_unique<std::array<socket_state, per_block>>());
  }
  socket_state& s = (*blocks_[index / per_block])[index % per_block];
  std::uint32_t generation = (static_cast<std::uint32_t>(s.id) >> index_bits) + 1;
  if (generation == 1u << (32 - index_bits)) generation = 1;
  s = socket_state{};
  s.id = socket_id{generation << index_bits | index};
  s.is = is, s.fd = fd;
  return s;
}

socket_state* epoll_driver::find(socket_id id) const noexcept {
  const auto index = static_cast<std::uint32_t>(id) & ((1u << index_bits) - 1);
  if (index >= used_) return nullptr;
  socket_state& s = (*blocks_[index / per_block])[index % per_block];
  return s.id == id && s.is != role::vacant && s.is != role::draining ? &s : nullptr;
}

/// Forgets a socket whose descriptor is closed or given away. Its place is free from the next turn on.
void epoll_driver::retire(socket_state& s) {
  if (s.is == role::stream || s.is == role::connecting || s.is == role::draining) leave_splices(s);
  if (s.dirty) forget(dirty_, &s);
  if (s.reported) forget(reports_, &s);
  if (s.direct) forget(direct_, &s);
  if (s.paused) forget(paused_, &s);
  if (s.always_ready) forget(always_ready_, &s);
  if (s.is == role::draining) forget(draining_, &s);
  if (s.datagram) forget_datagram(s);
  if (s.is == role::signalled) forget(signal_watches_, &s);
  s.is = role::vacant, s.fd = -1;
  s.dirty = s.reported = s.direct = s.paused = s.always_ready = false;
  s.queue = buffer{}, s.file = -1;
  retired_.push_back(static_cast<std::uint32_t>(s.id) & ((1u << index_bits) - 1));
}

void epoll_driver::close_fd(socket_state& s) noexcept {
  // The open file may live on in a duplicate, and epoll would go on telling of it.
  if ((s.is == role::listening || s.shared) && s.armed != unknown_to_epoll)
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, s.fd, nullptr);
  if (s.fd >= 0) ::close(s.fd);
  s.fd = -1;
}

void epoll_driver::wake() noexcept {
  if (woken_.exchange(true)) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(wake_, &one, sizeof one);
}

// ---- interest

int epoll_driver::interest(const socket_state& s) const noexcept {
  switch (s.is) {
    case role::listening: return s.batch > 0 && !s.paused ? input : unknown_to_epoll;
    case role::connecting: return output;
    case role::datagram: return (s.datagram->reading ? input : 0) | (s.datagram->wants_output() ? output : 0);
    case role::stream: {
      if (s.expelled) return unknown_to_epoll;
      const int out = s.queued() ? output : 0;
      // When both ways are over epoll would tell HUP for ever.
      if (s.read_ended) return s.end_sent || s.write_dead ? unknown_to_epoll : out;
      return out | (s.hang_seen ? 0 : peer_end) | (s.reading() ? input : 0);
    }
    default: return unknown_to_epoll;
  }
}

void epoll_driver::touch(socket_state& s) {
  if (s.dirty || (interest(s) == s.armed && !s.expelled)) return;
  s.dirty = true;
  dirty_.push_back(&s);
}

void epoll_driver::arm(socket_state& s) {
  if (s.expelled && !s.direct && s.reading()) {
    s.direct = true;
    direct_.push_back(&s);
  }
  const int wanted = interest(s);
  if (wanted == s.armed) return;
  epoll_event e{};
  e.events = static_cast<std::uint32_t>(wanted), e.data.u64 = static_cast<std::uint32_t>(s.id);
  const int how = wanted == unknown_to_epoll    ? EPOLL_CTL_DEL
                  : s.armed == unknown_to_epoll ? EPOLL_CTL_ADD
                                                : EPOLL_CTL_MOD;
  const bool refused = ::epoll_ctl(epoll_, how, s.fd, &e) != 0 && how != EPOLL_CTL_DEL;
  s.armed = refused ? unknown_to_epoll : wanted;
  if (!refused) return;
  // No memory, or no watches left: without epoll this socket would wait for ever.
  const int error = errno;
  if (s.is == role::connecting) {
    fail_connect(s, error);
  } else if (s.is == role::stream && !s.read_ended) {
    read_ended(s, error);
  } else if (s.is == role::datagram) {
    datagram_failed(s, error, {});
  }
}

void epoll_driver::arm_all() {
  for (std::size_t i = 0; i < dirty_.size(); ++i) {
    dirty_[i]->dirty = false;
    arm(*dirty_[i]);
  }
  dirty_.clear();
}

// ---- the turn

void epoll_driver::give_reports() {
  for (socket_state* s : reports_) {
    s->reported = false;
    if (s->sent > 0) tell(s->id, event::octets_sent(std::exchange(s->sent, 0)));
  }
  reports_.clear();
}

void epoll_driver::give_pending(happenings& happened) {
  told_ = &happened;
  give_reports();
  for (auto& [id, what] : pending_) {
    socket_state* s = find(id);
    if (!s) continue;  // closed in the meantime
    if (s->is == role::failed) retire(*s);
    happened.emplace_back(id, std::move(what));
  }
  pending_.clear();
}

instant epoll_driver::next_timer(instant until) const noexcept {
  for (const socket_state* s : draining_) until = std::min({until, s->look_at, s->give_up_at});
  for (const socket_state* s : paused_) until = std::min(until, s->resumes);
  for (const socket_state* s : retrying_) until = std::min(until, s->datagram->retry_at);
  return until;
}

int epoll_driver::poll(instant until) {
  duration left{};
  const bool forever = until == instant::max();
  if (!forever && until != instant::min()) {
    const instant started = clock_now();
    if (until > started) left = until - started;
  }
  int n = -1;
  if (nanoseconds_) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    timespec t{};
    t.tv_sec = seconds.count(), t.tv_nsec = (left - seconds).count();
    n = ::epoll_pwait2(epoll_, ready_.data(), static_cast<int>(ready_.size()), forever ? nullptr : &t, nullptr);
    // Older kernels do not have it, and sandboxes may refuse what they do not know.
    if (n < 0 && (errno == ENOSYS || errno == EPERM)) nanoseconds_ = false;
  }
  if (!nanoseconds_) {
    const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    const int timeout = forever ? -1 : static_cast<int>(std::min<std::int64_t>(milliseconds, 1 << 30));
    n = ::epoll_wait(epoll_, ready_.data(), static_cast<int>(ready_.size()), timeout);
  }
  return std::max(n, 0);  // a signal that is not ours ends the wait, and that is all
}

/// Handles what epoll told, but reads no more than one flow may in a turn: what was read is worked on while it is still in
/// the cache, and its segments serve the next sockets. The rest comes with the next wait().
void epoll_driver::handle_ready() {
  read_now_ = 0;
  while (ready_next_ < ready_count_ && read_now_ < limits_.read_budget) {
    const epoll_event& e = ready_[ready_next_++];
    if (e.data.u64 == wake_name) {
      std::uint64_t count;
      [[maybe_unused]] const auto read = ::read(wake_, &count, sizeof count);
      // After the read: a wake() in between finds its flag set and is seen by the caller's own look, after this turn.
      woken_.exchange(false);
    } else if (e.data.u64 == signal_name) {
      take_signals();
    } else if (socket_state* s = find(socket_id{static_cast<std::uint32_t>(e.data.u64)})) {
      handle(*s, e.events);
    }
  }
}

void epoll_driver::wait(instant until, happenings& happened) {
  if (!gathered_.empty()) flush_datagrams();
  vacant_.insert(vacant_.end(), retired_.begin(), retired_.end());
  retired_.clear();
  if (ready_next_ < ready_count_) {
    // The rest of what epoll told: no call is needed for it.
    now_ = clock_now();
    give_pending(happened);
    handle_ready();
    give_reports();
    told_ = &pending_;
    return;
  }
  if (pending() && !skipped_) {
    // The next turn asks epoll, so that nobody can shut it out by always having results.
    skipped_ = true;
    now_ = clock_now();
    give_pending(happened);
    told_ = &pending_;
    return;
  }
  skipped_ = false;
  arm_all();
  const bool at_once =
      pending() || !direct_.empty() ||
      std::any_of(always_ready_.begin(), always_ready_.end(), [](auto* s) { return s->want_read || s->want_write; });
  const int n = poll(at_once ? instant::min() : next_timer(until));
  now_ = clock_now();
  give_pending(happened);
  ready_next_ = 0, ready_count_ = n > 0 ? static_cast<std::size_t>(n) : 0;
  handle_ready();
  for (std::size_t i = 0; i < direct_.size();) {
    socket_state& s = *direct_[i];
    if (s.reading()) read(s, EPOLLERR);
    if (s.expelled && s.reading()) {
      ++i;
    } else {
      s.direct = false;
      direct_.erase(direct_.begin() + static_cast<std::ptrdiff_t>(i));
      touch(s);
    }
  }
  for (socket_state* s : always_ready_) handle_watched(*s, EPOLLIN | EPOLLOUT);
  if (!draining_.empty() || !paused_.empty()) run_timers();
  if (!retrying_.empty()) retry_datagrams();
  give_reports();
  told_ = &pending_;
}

void epoll_driver::handle(socket_state& s, std::uint32_t events) {
  switch (s.is) {
    case role::stream: handle_stream(s, events); break;
    case role::connecting: {
      int error = 0;
      socklen_t size = sizeof error;
      ::getsockopt(s.fd, SOL_SOCKET, SO_ERROR, &error, &size);
      finish_connect(s, error);
      break;
    }
    case role::listening: accept_some(s); break;
    case role::datagram: handle_datagram(s, events); break;
    case role::watched: handle_watched(s, events); break;
    default: break;
  }
}

void epoll_driver::run_timers() {
  for (std::size_t i = 0; i < paused_.size();) {
    socket_state& s = *paused_[i];
    if (s.resumes > now_) {
      ++i;
      continue;
    }
    s.paused = false;
    paused_.erase(paused_.begin() + static_cast<std::ptrdiff_t>(i));
    touch(s);
  }
  for (std::size_t i = 0; i < draining_.size();) {
    socket_state& s = *draining_[i];
    if (s.look_at <= now_ || s.give_up_at <= now_) {
      if (drained(s) || s.give_up_at <= now_) {
        reset(s);
        retire(s);
        continue;
      }
      s.look_at = now_ + s.look_again;
      s.look_again = std::min<duration>(s.look_again * 2, std::chrono::milliseconds{10});
    }
    ++i;
  }
}

// ---- descriptors that stay the caller's, and signals

socket_id epoll_driver::watch(int fd, bool read, bool write) {
  socket_state& s = make(role::watched, fd);
  try {
    change_watch(s.id, read, write);
  } catch (...) {
    retire(s);
    throw;
  }
  return s.id;
}

void epoll_driver::change_watch(socket_id id, bool read, bool write) {
  socket_state* s = find(id);
  if (!s || s->is != role::watched) return;
  s->want_read = read, s->want_write = write;
  if (s->always_ready) return;
  // With neither wanted epoll must not know it at all: it would tell ERR and HUP unasked.
  const int wanted = read || write ? (read ? input | peer_end : 0) | (write ? output : 0) : unknown_to_epoll;
  if (wanted == s->armed) return;
  epoll_event e{};
  e.events = static_cast<std::uint32_t>(wanted), e.data.u64 = static_cast<std::uint32_t>(s->id);
  const int how = wanted == unknown_to_epoll     ? EPOLL_CTL_DEL
                  : s->armed == unknown_to_epoll ? EPOLL_CTL_ADD
                                                 : EPOLL_CTL_MOD;
  if (::epoll_ctl(epoll_, how, s->fd, &e) == 0) {
    s->armed = wanted;
  } else if (errno == EPERM) {  // a file, which never blocks
    s->always_ready = true;
    always_ready_.push_back(s);
  } else {
    const int error = errno;
    throw std::system_error{error, std::system_category(), "watch descriptor " + std::to_string(s->fd)};
  }
}

void epoll_driver::unwatch(socket_id id) {
  socket_state* s = find(id);
  if (!s) return;
  if (s->is == role::signalled) {
    change_signals(s->number, false);
  } else if (s->is == role::watched) {
    if (s->armed != unknown_to_epoll) ::epoll_ctl(epoll_, EPOLL_CTL_DEL, s->fd, nullptr);
  } else {
    return;
  }
  retire(*s);
}

void epoll_driver::handle_watched(socket_state& s, std::uint32_t events) {
  const bool read = s.want_read && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR));
  const bool write = s.want_write && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR));
  if (read || write) tell(s.id, event::became_ready(read, write));
}

bool epoll_driver::change_signals(int number, bool add) {
  if ((add ? sigaddset(&signal_set_, number) : sigdelset(&signal_set_, number)) != 0) return false;
  const int fd = ::signalfd(signals_, &signal_set_, SFD_NONBLOCK | SFD_CLOEXEC);
  if (fd < 0) return false;
  if (signals_ < 0) {
    signals_ = fd;
    epoll_event e{};
    e.events = EPOLLIN, e.data.u64 = signal_name;
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, signals_, &e) != 0) return false;
  }
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, number);
  return ::pthread_sigmask(add ? SIG_BLOCK : SIG_UNBLOCK, &one, nullptr) == 0;
}

socket_id epoll_driver::watch_signal(int number) {
  if (!change_signals(number, true)) {
    const int error = errno;
    throw std::system_error{error, std::system_category(), "watch signal " + std::to_string(number)};
  }
  socket_state& s = make(role::signalled, -1);
  s.number = number;
  signal_watches_.push_back(&s);
  return s.id;
}

void epoll_driver::take_signals() {
  signalfd_siginfo taken[16];
  const auto n = ::read(signals_, taken, sizeof taken);
  for (std::size_t i = 0; n > 0 && i < static_cast<std::size_t>(n) / sizeof taken[0]; ++i)
    for (const socket_state* s : signal_watches_)
      if (static_cast<std::uint32_t>(s->number) == taken[i].ssi_signo) tell(s->id, event::signalled(s->number));
}

}  // namespace detail
}  // namespace midwire
