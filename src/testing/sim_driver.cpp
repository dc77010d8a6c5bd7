#include <midwire/testing/sim_driver.hpp>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "testing/network_impl.hpp"

namespace midwire::testing {

namespace {
constexpr std::size_t read_budget = 256 * 1024, reads_a_turn = 1024;
constexpr unsigned index_bits = 20;
constexpr auto patience = std::chrono::seconds{10};
}  // namespace

using detail::item, detail::sim_listener, detail::sim_socket;
using happenings = std::vector<std::pair<socket_id, event>>;

struct sim_driver::impl final : detail::socket_owner {
  explicit impl(std::shared_ptr<detail::network_impl> n) : net{std::move(n)} {}

  struct stream {
    std::shared_ptr<sim_socket> socket;  // none while connecting
    std::shared_ptr<detail::attempt> dialled;
    std::uint64_t room = 0, splice_left = 0;
    std::uint32_t splice_to = 0, spliced_from = 0;
    bool end_told = false, reset_told = false, end_hinted = false, break_hinted = false, dirty = false;
    bool reading() const noexcept { return room > 0 || splice_left > 0; }
  };
  struct port {
    std::shared_ptr<sim_listener> listener;
    int batch = 0;
  };
  struct fd_watch {
    int fd;
    bool read, write;
  };

  /// An index that nobody has, under a generation that it did not have lately.
  std::uint32_t new_name() {
    if (free.empty()) return ++last_index;
    const std::uint32_t id = free.front() + (1u << index_bits);
    free.pop_front();
    return id;
  }
  void changed(sim_socket& s) override { mark(static_cast<std::uint32_t>(s.name)); }
  void changed(sim_listener&) override {}
  void mark(std::uint32_t id) {
    const auto it = streams.find(id);
    if (it == streams.end() || std::exchange(it->second.dirty, true)) return;
    dirty.push_back(id);
  }
  stream* find(socket_id s) {
    const auto it = streams.find(static_cast<std::uint32_t>(s));
    return it == streams.end() ? nullptr : &it->second;
  }
  std::uint32_t attach(std::shared_ptr<sim_socket> s, std::uint32_t id) {
    stream& st = streams[id];
    s->owner = this, s->name = id;
    st.socket = std::move(s);
    mark(id);
    return id;
  }
  /// The socket is no more the driver's. Whoever spliced to it stops.
  std::shared_ptr<sim_socket> forget(std::uint32_t id) {
    const auto it = streams.find(id);
    auto socket = std::move(it->second.socket);
    if (it->second.dialled) it->second.dialled->cancelled = true;
    if (const auto from = streams.find(it->second.spliced_from); from != streams.end() && from->second.splice_to == id)
      from->second.splice_left = 0, from->second.splice_to = 0;
    streams.erase(it);
    retired.push_back(id);
    std::erase_if(ready, [id](const auto& r) { return r.first == socket_id{id}; });
    if (socket) socket->owner = nullptr;
    return socket;
  }

  void collect_ports(happenings& out);
  void collect(std::uint32_t id, happenings& out);
  void read(std::uint32_t id, stream& s, happenings& out);
  void collect_all(happenings& out);
  void take_queued(std::uint32_t id, port& p, std::size_t most, happenings& out);

  std::shared_ptr<detail::network_impl> net;
  std::uint32_t last_index = 0;
  std::deque<std::uint32_t> free,
      retired;  // names: those that may come again, and those whose events may be on their way
  std::map<std::uint32_t, stream> streams;
  std::map<std::uint32_t, port> ports;
  detail::driver_datagrams datagrams{*net, this};
  std::map<std::uint32_t, fd_watch> watches;
  std::map<std::uint32_t, int> signals;
  std::map<int, std::pair<bool, bool>> readiness;
  std::vector<std::uint32_t> dirty;
  happenings ready;  // results that wait
  int failing_accepts = 0;
  bool splicing = true, settling = false, was_quiet = false;

  std::mutex mutex;
  std::condition_variable woken_up;
  bool woken = false;
};

sim_driver::sim_driver(std::shared_ptr<sim_network> network)
    : network_{std::move(network)}, impl_{std::make_unique<impl>(network_->impl())} {}
sim_driver::sim_driver(std::uint64_t seed, const link_shape& shape)
    : sim_driver{std::make_shared<sim_network>(seed, shape)} {}

sim_driver::~sim_driver() {
  while (!impl_->streams.empty())
    if (const auto s = impl_->forget(impl_->streams.begin()->first)) s->close();
  for (auto& [id, p] : impl_->ports) {
    impl_->net->remove(*p.listener);
    for (const auto& s : p.listener->backlog) s->reset();
  }
}

void sim_driver::fail_accepts(int count) { impl_->failing_accepts = count; }

void sim_driver::raise_signal(int number) {
  for (const auto& [id, watched] : impl_->signals)
    if (watched == number) impl_->ready.emplace_back(socket_id{id}, event::signalled(number));
}

void sim_driver::set_ready(int fd, bool readable, bool writable) { impl_->readiness[fd] = {readable, writable}; }
void sim_driver::allow_splice(bool yes) { impl_->splicing = yes; }

bool sim_driver::reading(socket_id s) const {
  const auto* st = impl_->find(s);
  return st && st->reading();
}

bool sim_driver::reads_from(const address& peer) const {
  return std::any_of(impl_->streams.begin(), impl_->streams.end(), [&](const auto& s) {
    return s.second.socket && s.second.socket->peer == peer && s.second.reading();
  });
}

std::size_t sim_driver::unsent(socket_id s) const {
  const auto* st = impl_->find(s);
  return st && st->socket ? st->socket->pending_octets : 0;
}

std::size_t sim_driver::open_sockets() const noexcept {
  return impl_->streams.size() + impl_->ports.size() + impl_->watches.size() + impl_->datagrams.size();
}

void sim_driver::settle_only(bool on) { impl_->settling = on; }
bool sim_driver::quiet() const noexcept { return impl_->was_quiet; }
instant sim_driver::now() const noexcept { return impl_->net->now(); }

socket_id sim_driver::listen(const address& where, const listen_options& options) {
  auto l = std::make_shared<sim_listener>();
  if (impl_->net->add(l, where, options.reuse_port).empty())
    throw std::system_error{std::make_error_code(std::errc::address_in_use), where.text()};
  const std::uint32_t id = impl_->new_name();
  l->owner = impl_.get(), l->name = id;
  impl_->ports[id] = {std::move(l), 64};
  return socket_id{id};
}

socket_id sim_driver::adopt_listener(int) {
  throw std::system_error{std::make_error_code(std::errc::not_supported), "a simulated driver has no descriptors"};
}
socket_id sim_driver::adopt(int fd) { return adopt_listener(fd); }
int sim_driver::duplicate(socket_id) { return -1; }
int sim_driver::release(socket_id) { return -1; }

void sim_driver::accept(socket_id listener, int batch) {
  if (const auto it = impl_->ports.find(static_cast<std::uint32_t>(listener)); it != impl_->ports.end())
    it->second.batch = batch;
}

void sim_driver::close_listener(socket_id listener) {
  const auto it = impl_->ports.find(static_cast<std::uint32_t>(listener));
  if (it == impl_->ports.end()) return;
  impl_->net->remove(*it->second.listener);
  impl_->take_queued(it->first, it->second, ~std::size_t{0}, impl_->ready);
  impl_->ports.erase(it);
  impl_->retired.push_back(static_cast<std::uint32_t>(listener));
}

socket_id sim_driver::connect(const address& to, const connect_options& options) {
  const std::uint32_t id = impl_->new_name();
  impl_->streams[id].dialled =
      impl_->net->connect(to, options.bind, [this, id](std::shared_ptr<sim_socket> s, std::error_code error) {
        const auto st = impl_->streams.find(id);
        st->second.dialled.reset();
        if (error) {
          impl_->forget(id);
          impl_->ready.emplace_back(socket_id{id}, event::connect_failed(error));
        } else {
          impl_->ready.emplace_back(socket_id{id}, event::connected());
          impl_->attach(std::move(s), id);
        }
      });
  return socket_id{id};
}

socket_id sim_driver::bind_datagram(const address& where, const listen_options& options) {
  const std::uint32_t id = impl_->new_name();
  impl_->datagrams.bind(id, where, options);
  return socket_id{id};
}

socket_id sim_driver::connect_datagram(const address& to, const connect_options& options) {
  const std::uint32_t id = impl_->new_name();
  impl_->datagrams.connect(id, to, options);
  return socket_id{id};
}

std::error_code sim_driver::configure_datagram(socket_id s, const datagram_settings& settings) {
  return impl_->datagrams.configure(static_cast<std::uint32_t>(s), settings);
}

std::error_code sim_driver::change_group(socket_id s, const address& group, const address&, bool join) {
  return impl_->datagrams.change_group(static_cast<std::uint32_t>(s), group, join);
}

datagram_counts sim_driver::counts(socket_id s) const { return impl_->datagrams.counts(static_cast<std::uint32_t>(s)); }

socket_id sim_driver::watch(int fd, bool read, bool write) {
  const std::uint32_t id = impl_->new_name();
  impl_->watches[id] = {fd, read, write};
  return socket_id{id};
}

void sim_driver::change_watch(socket_id s, bool read, bool write) {
  if (const auto it = impl_->watches.find(static_cast<std::uint32_t>(s)); it != impl_->watches.end())
    it->second.read = read, it->second.write = write;
}

void sim_driver::unwatch(socket_id s) {
  const auto id = static_cast<std::uint32_t>(s);
  if (impl_->watches.erase(id) > 0) impl_->retired.push_back(id);
}

socket_id sim_driver::watch_signal(int number) {
  const std::uint32_t id = impl_->new_name();
  impl_->signals[id] = number;
  return socket_id{id};
}

address sim_driver::local(socket_id s) const {
  if (const auto* d = impl_->datagrams.find(static_cast<std::uint32_t>(s))) return d->local;
  if (const auto* st = impl_->find(s)) return st->socket ? st->socket->local : address{};
  const auto it = impl_->ports.find(static_cast<std::uint32_t>(s));
  return it == impl_->ports.end() ? address{} : it->second.listener->local;
}

address sim_driver::peer(socket_id s) const {
  if (const auto* d = impl_->datagrams.find(static_cast<std::uint32_t>(s))) return d->peer;
  const auto* st = impl_->find(s);
  return st && st->socket ? st->socket->peer : address{};
}

void sim_driver::set_no_delay(socket_id, bool) {}
void sim_driver::set_keep_alive(socket_id, bool) {}

bool sim_driver::can_splice(socket_id from, socket_id to) const {
  const auto *a = impl_->find(from), *b = impl_->find(to);
  return impl_->splicing && a && b && a->socket && b->socket;
}

void sim_driver::perform(socket_id s, command what) {
  auto* st = impl_->find(s);
  const auto id = static_cast<std::uint32_t>(s);
  if (impl_->datagrams.find(id)) {
    if (impl_->datagrams.perform(id, std::move(what))) impl_->retired.push_back(id);
    return;
  }
  if (!st) return;
  if (!st->socket) {
    // Still connecting: it can only be given up.
    switch (what.what()) {
      case command::kind::close:
      case command::kind::reset:
      case command::kind::reset_after_drain: impl_->forget(id); break;
      default: break;
    }
    return;
  }
  switch (what.what()) {
    case command::kind::start_reading:
      st->room = what.count();
      impl_->mark(id);
      break;
    case command::kind::stop_reading:
      st->room = 0;
      impl_->mark(id);
      break;
    case command::kind::send: st->socket->send(what.octets().text()); break;
    case command::kind::send_end: st->socket->send_end(); break;
    case command::kind::close: impl_->forget(id)->close(); break;
    case command::kind::reset: impl_->forget(id)->reset(); break;
    case command::kind::reset_after_drain: {
      auto socket = impl_->forget(id);
      impl_->net->drain(std::move(socket), impl_->net->now() + what.at_most());
      break;
    }
    case command::kind::splice:  // the reactor knows the other side, and calls splice()
    case command::kind::send_to: break;
  }
}

void sim_driver::splice(socket_id from, socket_id to, std::uint64_t octets) {
  auto *source = impl_->find(from), *sink = impl_->find(to);
  if (!source) return;
  source->splice_left = sink ? octets : 0;
  source->splice_to = octets > 0 ? static_cast<std::uint32_t>(to) : 0;
  if (sink && octets > 0) sink->spliced_from = static_cast<std::uint32_t>(from);
  impl_->mark(static_cast<std::uint32_t>(from));
}

void sim_driver::wait(instant until, std::vector<std::pair<socket_id, event>>& happened) {
  auto& net = *impl_->net;
  const std::size_t before = happened.size();
  const auto woken = [this] {
    const std::lock_guard lock{impl_->mutex};
    return std::exchange(impl_->woken, false);
  };
  impl_->was_quiet = false;
  // What the last turn told has been dealt with.
  if (impl_->ready.empty()) {
    for (const std::uint32_t id : impl_->retired) impl_->free.push_back(id);
    impl_->retired.clear();
  }
  for (;;) {
    net.step();
    impl_->collect_all(happened);
    if (woken() || happened.size() > before) return;
    if (!impl_->dirty.empty()) continue;
    if (until <= net.now()) return;
    const auto next = net.next(true);
    if (impl_->settling && !net.next(false)) {
      impl_->was_quiet = true;
      return;
    }
    if (next && *next <= until) {
      net.advance_to(*next);
    } else if (until != instant::max()) {
      net.advance_to(until);
      net.step();
      impl_->collect_all(happened);
      return;
    } else {
      std::unique_lock lock{impl_->mutex};
      if (!impl_->woken_up.wait_for(lock, patience, [this] { return impl_->woken; }))
        throw std::runtime_error{"sim_driver: nothing can ever happen any more"};
    }
  }
}

void sim_driver::wake() noexcept {
  const std::lock_guard lock{impl_->mutex};
  impl_->woken = true;
  impl_->woken_up.notify_all();
}

// ---- what happened

void sim_driver::impl::take_queued(std::uint32_t id, port& p, std::size_t most, happenings& out) {
  for (; most > 0 && !p.listener->backlog.empty(); --most) {
    auto s = std::move(p.listener->backlog.front());
    p.listener->backlog.pop_front();
    if (failing_accepts > 0) {
      --failing_accepts;
      s->close();
      out.emplace_back(socket_id{id}, event::connect_failed(std::make_error_code(std::errc::too_many_files_open)));
      continue;
    }
    const address peer = s->peer;
    const std::uint32_t name = attach(std::move(s), new_name());
    out.emplace_back(socket_id{name}, event::accepted(socket_id{id}, peer));
  }
}

void sim_driver::impl::collect_all(happenings& out) {
  for (auto& r : std::exchange(ready, {})) out.push_back(std::move(r));
  for (auto& [id, p] : ports) take_queued(id, p, static_cast<std::size_t>(std::max(p.batch, 0)), out);
  datagrams.collect(out);
  // What is marked meanwhile, and what is left over, waits for the next turn.
  for (const std::uint32_t id : std::exchange(dirty, {})) collect(id, out);
  for (const auto& [id, w] : watches) {
    const auto state = readiness.find(w.fd);
    if (state == readiness.end()) continue;
    const bool r = w.read && state->second.first, wr = w.write && state->second.second;
    if (r || wr) out.emplace_back(socket_id{id}, event::became_ready(r, wr));
  }
}

void sim_driver::impl::collect(std::uint32_t id, happenings& out) {
  const auto it = streams.find(id);
  if (it == streams.end()) return;
  stream& s = it->second;
  s.dirty = false;
  if (!s.socket) return;
  s.socket->push();
  if (s.socket->newly_taken > 0)
    out.emplace_back(socket_id{id}, event::octets_sent(std::exchange(s.socket->newly_taken, 0)));
  // The source goes on when there is something to move and room for it: else two that splice into each other would
  // wake each other for ever.
  if (const auto source = streams.find(s.spliced_from); source != streams.end() && source->second.socket &&
                                                        !source->second.socket->in->arrived.empty() &&
                                                        s.socket->pending_octets == 0 && s.socket->writable_now())
    mark(s.spliced_from);
  read(id, s, out);
  // A hint for those who do not read on to what it tells of. Nothing but another ending comes behind one.
  bool ended = false, broken = false;
  const auto& arrived = s.socket->in->arrived;
  for (auto last = arrived.rbegin(); last != arrived.rend() && last->what != item::kind::data; ++last) {
    ended |= last->what == item::kind::end;
    broken |= last->what == item::kind::reset;
  }
  if (ended && !std::exchange(s.end_hinted, true)) out.emplace_back(socket_id{id}, event::hung_up());
  if (broken && !std::exchange(s.break_hinted, true)) out.emplace_back(socket_id{id}, event::hung_up(true));
}

void sim_driver::impl::read(std::uint32_t id, stream& s, happenings& out) {
  std::size_t octets = 0, reads = 0;
  std::uint64_t spliced = 0;
  auto& arrived = s.socket->in->arrived;
  bool stopped = false;
  // Behind the end nothing is left to be read, so a reset can be told to whoever does not read, too.
  while (!stopped && !arrived.empty() && (s.reading() || s.end_told)) {
    if (arrived.front().what == item::kind::data) {
      if (octets >= read_budget || reads >= reads_a_turn) {
        mark(id);
        break;
      }
      std::uint64_t most = std::min<std::uint64_t>(s.splice_left > 0 ? s.splice_left : s.room, read_budget - octets);
      if (s.splice_left > 0) {
        const auto sink = streams.find(s.splice_to);
        if (sink == streams.end() || !sink->second.socket || sink->second.socket->pending_octets > 0) break;
        if ((most = sink->second.socket->admit(static_cast<std::size_t>(most))) == 0) break;
        const item i = s.socket->take(static_cast<std::size_t>(most));
        octets += i.octets.size(), spliced += i.octets.size(), ++reads;
        s.splice_left -= i.octets.size();
        sink->second.socket->send(i.octets);
      } else {
        item i = s.socket->take(static_cast<std::size_t>(most));
        octets += i.octets.size(), ++reads;
        s.room -= i.octets.size();
        out.emplace_back(socket_id{id}, event::data_received(chunk{std::move(i.octets)}));
      }
    } else {
      // What was spliced comes before what ends it.
      if (spliced > 0) out.emplace_back(socket_id{id}, event::octets_spliced(std::exchange(spliced, 0)));
      const item i = s.socket->take(0);
      if (i.what == item::kind::end) {
        s.end_told = true;
        out.emplace_back(socket_id{id}, event::end_received());
      } else {
        s.reset_told = stopped = true;
        s.room = s.splice_left = 0;
        out.emplace_back(socket_id{id}, event::reset_received(std::make_error_code(std::errc::connection_reset)));
      }
    }
  }
  if (spliced > 0) out.emplace_back(socket_id{id}, event::octets_spliced(spliced));
}

}  // namespace midwire::testing
