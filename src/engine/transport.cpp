#include <midwire/engine/transport.hpp>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <system_error>

#include "engine/redialer.hpp"
#include "engine/tls/tls_link.hpp"
#include "engine/transport_impl.hpp"

namespace midwire {

namespace detail {

protocol* transport_impl::start(reactor_impl& r, socket_id s, const address& peer, const factory_ptr& f, bool client) {
  std::unique_ptr<protocol> p;
  r.guard([&] { p = f->build_protocol(peer); });
  if (!p) {
    r.perform(s, command::close());
    return nullptr;
  }
  protocol* const made = p.get();
  auto t = std::make_unique<transport_impl>(r, s, peer, f, std::move(p), client);
  auto* const impl = t.get();
  r.own(std::move(t));
  r.guard([&] { factory_access::begin(*f, *impl); });
  impl->begin();
  return made;
}

transport_impl::transport_impl(reactor_impl& r, socket_id s, const address& p, factory_ptr f,
                               std::unique_ptr<protocol> proto, bool client)
    : reactor{r},
      socket{s},
      host{r.kernel->local(s)},
      peer{p},
      factory_{std::move(f)},
      protocol_{std::move(proto)},
      client_{client} {
  self = std::make_shared<transport*>(&face_);
  protocol_->transport_ = &face_;
  reactor.handle(socket, *this);
  link_ = tls_link::on(reactor, socket);
  last_activity_ = made_at_ = reactor.now;
  ++reactor.load;
}

transport_impl::~transport_impl() {
  // A reactor that goes takes connections along that are still open: what a protocol asks for as it goes comes to
  // nothing.
  gone_ = true, link_ = nullptr;
  protocol_.reset();
  --reactor.load;
  self.reset();
  reactor.unqueue(*this);
  reactor.forget(socket);
}

/// Runs a callback of the protocol; an exception ends the connection with ending::failed (E22).
template <class F>
void transport_impl::call(F&& f) {
  const char* what = "unknown exception";
  std::string text;
  try {
    f();
    return;
  } catch (const std::exception& e) {
    text = e.what();
    what = text.c_str();
  } catch (...) {}
  reactor.failed(what);
  if (gone_) return;
  aborting_ = true;
  ending_ = reason{ending::failed, {}, what};
}

void transport_impl::log_chunks(const buffer& octets) {
  for (const chunk& c : octets) call([&] { governor_->log_octets("writes", c.bytes()); });
}

void transport_impl::begin() {
  call([&] { protocol_->connection_made(); });
  after_callback();
}

void transport_impl::on_event(socket_id, event what) {
  if (gone_) return;
  switch (what.what()) {
    case event::kind::data_received:
      last_activity_ = reactor.now, heard_ = true;
      granted_ -= std::min<std::uint64_t>(granted_, what.data().size());
      if (governor_) governor_->was_read(what.data().size());
      if (!losing_) in_.append(std::move(what.data()));
      break;
    case event::kind::octets_sent: {
      octets_taken(what.octets());
      last_activity_ = reactor.now;
      if (losing_ && limits_.linger.count() > 0) linger_until_ = add_time(reactor.now, limits_.linger);
      break;
    }
    case event::kind::end_received: heard_ = end_received_ = true, reading_ = false; break;
    case event::kind::reset_received:
      reading_ = false;
      if (losing_ && what.error() == tls_errc::truncated) {  // what it cut short nobody waits for
        end_received_ = true;
        break;
      }
      broken_ = true;
      if (!ending_) ending_ = why_ended(what.error());
      break;
    case event::kind::connected:  // of start_tls()
      call([&] { protocol_->handshake_completed(); });
      break;
    case event::kind::connect_failed:
      reading_ = false, broken_ = true;
      if (!ending_) ending_ = link_->failure();
      break;
    case event::kind::hung_up: hung_up_ |= what.broken(); break;
    case event::kind::file_failed: file_failed(what.error()); break;
    default: break;
  }
  deliver();
  after_callback();
}

reason transport_impl::why_ended(std::error_code error) const {
  if (link_ && error.category() == tls_category()) return link_->failure();
  const bool network =
      error == std::errc::timed_out || error == std::errc::host_unreachable || error == std::errc::network_unreachable;
  return reason{network ? ending::lost : ending::reset, error, error.message()};
}

/// The connection is dead, but the read, which says so behind the last octet, waits for a protocol that is paused:
/// nothing else would tell it (twisted #11168).
void transport_impl::end_if_deaf() {
  if (!hung_up_ || !paused_ || losing_ || ending_) return;
  broken_ = true;
  ending_ = reason{ending::reset, std::make_error_code(std::errc::connection_reset)};
  in_.clear();
}

/// What has come, in order, as far as the protocol wants it now.
void transport_impl::deliver() {
  delivering_ = true;
  while (!gone_ && !paused_ && !losing_ && !aborting_ && !in_.empty()) {
    chunk next = in_.pop_front();
    if (governor_ && governor_->logs()) call([&] { governor_->log_octets("reads", next.bytes()); });
    call([&] { protocol_->data_received(std::move(next)); });
  }
  delivering_ = false;
  if (losing_) in_.clear();
  if (end_received_ && !end_told_ && in_.empty() && (!paused_ || losing_) && !aborting_) {
    end_told_ = true;
    if (!losing_) call([&] { protocol_->read_connection_lost(); });
  }
}

void transport_impl::after_callback() {
  pump();
  if (gone_) return;
  end_if_deaf();
  // A reset is told once what came before it has been.
  if (ending_ && (in_.empty() || aborting_ || losing_)) {
    lost(std::move(*ending_));
    return;
  }
  if (end_sent_ && !end_sent_told_ && in_flight_ == 0) {
    end_sent_told_ = true;
    if (!losing_) {
      call([&] { protocol_->write_connection_lost(); });
      pump();
      if (gone_) return;
    }
  }
  if (end_sent_ && in_flight_ == 0 && end_received_ && end_told_) {
    lost(reason{ending::done});
    return;
  }
  plan();
}

/// Hands over what was written and asked for (E18: one call for all writes of a callback).
void transport_impl::pump() {
  if (gone_) return;
  if (aborting_) {
    lost(ending_ ? std::move(*ending_) : reason{ending::aborted});
    return;
  }
  if (end_asked_) stop_producer();  // what it would write is not taken any more
  if (producer_) {
    const std::size_t held = buffered();
    if (producing_ == producing::push) {
      if (!producer_paused_ && held >= limits_.high) {
        producer_paused_ = true;
        call([&] { producer_->pause_producing(); });
      } else if (producer_paused_ && held <= limits_.low) {
        producer_paused_ = false;
        call([&] { producer_->resume_producing(); });
      }
    } else {
      // A pull producer writes once for each call; enough of them to keep the kernel busy, not more.
      for (int i = 0; i < 16 && producer_ && !end_asked_ && buffered() < limits_.low && in_flight_ == 0; ++i) {
        const std::size_t before = buffered();
        call([&] { producer_->resume_producing(); });
        if (buffered() == before) break;
      }
    }
  }
  if (aborting_) return pump();
  if (end_asked_) stop_producer();
  hand_over();
  if (aborting_) return pump();
  if (end_asked_ && !end_sent_ && out_.empty() && files_.empty()) {
    end_sent_ = true;
    reactor.perform(socket, command::send_end());
  }
  // What a rate of ours holds back is not the peer's doing; a file keeps its socket full.
  if (!held_back_ && full_since_ == instant::max() && (buffered() >= limits_.high || !files_.empty()))
    full_since_ = reactor.now;
  else if (held_back_ || (buffered() <= limits_.low && files_.empty()))
    full_since_ = instant::max();
  reading();
}

void transport_impl::reading() {
  read_at_ = instant::max();
  // When losing, what the peer still sends is drained: unread, it would turn our close into a reset.
  const bool want = !end_received_ && !broken_ && (losing_ || (!paused_ && in_.size() < limits_.high));
  if (governor_ && (!want || losing_)) governor_->rest();
  if (!want) {
    if (std::exchange(reading_, false)) reactor.perform(socket, command::stop_reading());
    return;
  }
  // Without limit TLS knows that the octets do not matter, and awaits the peer's farewell no longer than it must.
  std::uint64_t room =
      losing_ ? (link_ ? ~std::uint64_t{0} : limits_.high) : limits_.high - std::min(in_.size(), limits_.high);
  if (governor_ && !losing_) {
    const std::uint64_t allowed = governor_->may_read(room, reactor.now);
    if (allowed == 0) {
      // Until the rate lets more through the socket is not read.
      if (granted_ == 0 || !reading_) {
        read_at_ = governor_->read_at(room, reactor.now);
        granted_ = 0;
        if (std::exchange(reading_, false)) reactor.perform(socket, command::stop_reading());
      }
      return;
    }
    room = allowed;
  }
  if (!reading_ || granted_ < room / 2) {
    reading_ = true, granted_ = room;
    reactor.perform(socket, command::start_reading(room));
  }
}

void transport_impl::plan() {
  if (gone_) return;
  instant due = instant::max();
  const auto consider = [&](instant at) { due = std::min(due, at); };
  if (limits_.idle.count() > 0) consider(add_time(last_activity_, limits_.idle));
  consider(read_at_), consider(write_at_), consider(first_by());
  if (losing_ && !held_back_) consider(linger_until_);
  if (limits_.stuck.count() > 0 && full_since_ != instant::max()) consider(add_time(full_since_, limits_.stuck));
  if (limits_.half_closed.count() > 0 && !losing_ && end_sent_ != end_received_) {
    half_since_ = last_activity_;
    consider(add_time(half_since_, limits_.half_closed));
  } else {
    half_since_ = instant::max();
  }
  if (due == instant::max())
    timer_hook::stop();
  else if (active())
    timer_hook::touch(std::max(due, reactor.now));
  else
    reactor.wheel.start(*this, std::max(due, reactor.now));
}

void transport_impl::fired() {
  if (gone_) return;
  const instant now = reactor.now;
  if (losing_ && !held_back_ && linger_until_ <= now) {
    const bool flushed = buffered() == 0 && files_.empty();
    if (!flushed) aborting_ = true;
    lost(flushed ? reason{ending::done} : reason{ending::timed_out, {}, "the peer took nothing while we closed"});
  } else if (limits_.stuck.count() > 0 && full_since_ != instant::max() &&
             add_time(full_since_, limits_.stuck) <= now) {
    aborting_ = true;
    lost(reason{ending::timed_out, {}, "the peer took nothing"});
  } else if ((limits_.idle.count() > 0 && add_time(last_activity_, limits_.idle) <= now) ||
             (half_since_ != instant::max() && add_time(half_since_, limits_.half_closed) <= now)) {
    aborting_ = true;
    lost(reason{ending::timed_out, {}, "idle"});
  } else if (first_by() <= now) {
    aborting_ = true;
    lost(reason{ending::timed_out, {}, "nothing came in time"});
  } else if (read_at_ <= now || write_at_ <= now) {
    after_callback();
  } else {
    plan();
  }
}

void transport_impl::catch_up() {
  if (gone_) return;
  deliver();
  after_callback();
}

void transport_impl::lost(reason why) {
  if (std::exchange(gone_, true)) return;
  timer_hook::stop();
  reactor.unqueue(*this);
  reactor.perform(socket, aborting_ && !broken_ ? command::reset() : command::close());
  reactor.forget(socket);
  stop_producer();
  out_.clear(), in_.clear(), files_.clear();
  if (governor_ && governor_->logs()) reactor.guard([&] { governor_->log_end(why); });
  governor_.reset();
  reactor.guard([&] { protocol_->connection_lost(why); });
  self.reset();
  if (client_) reactor.guard([&] { factory_->connection_lost(why); });
  link_ = nullptr;
  reactor.retire(*this);
}

void transport_impl::stop_producer() {
  if (producer* p = std::exchange(producer_, nullptr)) reactor.guard([&] { p->stop_producing(); });
}

void transport_impl::write(buffer octets) {
  if (gone_ || end_asked_ || aborting_ || octets.empty()) return;
  if (files_.empty()) {
    out_.append(std::move(octets));
  } else {
    behind_files_ += octets.size();
    files_.back().behind.append(std::move(octets));
  }
  reactor.queue(*this);
}

void transport_impl::give_back(chunk octets) {
  if (gone_ || losing_ || aborting_) return;
  in_.prepend(std::move(octets));
  if (!delivering_) reactor.queue(*this);
}

void transport_impl::lose_connection() {
  if (gone_ || losing_) return;
  losing_ = true, end_asked_ = true;
  if (limits_.linger.count() > 0) linger_until_ = add_time(reactor.now, limits_.linger);
  reactor.queue(*this);
}

void transport_impl::lose_write_connection() {
  if (gone_) return;
  end_asked_ = true;
  reactor.queue(*this);
}

void transport_impl::abort_connection() {
  if (gone_) return;
  aborting_ = true;
  reactor.queue(*this);
}

void transport_impl::pause_reading() {
  paused_ = true;
  reactor.queue(*this);
}

void transport_impl::resume_reading() {
  paused_ = false;
  reactor.queue(*this);
}

void transport_impl::register_producer(producer& p, producing how) {
  producer_ = &p, producing_ = how, producer_paused_ = false;
  reactor.queue(*this);
}

void transport_impl::unregister_producer() {
  producer_ = nullptr;
  reactor.queue(*this);
}

void transport_impl::set_limits(flow_limits l) {
  limits_ = l;
  reactor.queue(*this);
}

/// What was written so far goes out in the clear; what has come and was not shown belongs to TLS. So octets that an
/// attacker puts behind the last plain message can never pass for octets that TLS protects (CVE-2011-0411).
void transport_impl::start_tls(tls_ptr tls, std::string server_name) {
  if (gone_ || aborting_ || end_asked_) return;
  if (link_) throw std::system_error{std::make_error_code(std::errc::already_connected), "TLS is on already"};
  if (!files_.empty())
    throw std::system_error{std::make_error_code(std::errc::operation_in_progress), "a file is still being sent"};
  auto session = std::make_unique<tls_session>(std::move(tls), std::move(server_name));
  if (!out_.empty()) {
    in_flight_ += out_.size();
    if (governor_) governor_->was_written(out_.size());  // a rate is made up for behind it
    reactor.perform(socket, command::send(std::move(out_)));
    out_.clear();
  }
  tls_link::history before{in_flight_, reading_ ? granted_ : 0, std::move(in_), end_received_ && !end_told_};
  in_.clear();
  if (!end_told_) end_received_ = false;
  link_ = &tls_link::attach(reactor, socket, std::move(session), limits_.handshake, std::move(before));
  reactor.queue(*this);
}

}  // namespace detail

void transport::write(buffer octets) { impl_.write(std::move(octets)); }
void transport::lose_connection() { impl_.lose_connection(); }
void transport::lose_write_connection() { impl_.lose_write_connection(); }
void transport::abort_connection() { impl_.abort_connection(); }
void transport::pause_reading() { impl_.pause_reading(); }
void transport::resume_reading() { impl_.resume_reading(); }
void transport::register_producer(producer& p, producing how) { impl_.register_producer(p, how); }
void transport::unregister_producer() { impl_.unregister_producer(); }
void transport::set_limits(flow_limits limits) { impl_.set_limits(limits); }
void transport::start_tls(tls_ptr tls, std::string server_name) {
  impl_.start_tls(std::move(tls), std::move(server_name));
}
std::string_view transport::alpn() const noexcept {
  return impl_.tls() ? impl_.tls()->session().alpn() : std::string_view{};
}
tls_info transport::tls() const { return impl_.tls() ? impl_.tls()->session().info() : tls_info{}; }
void transport::send_file(int fd, std::uint64_t offset, std::uint64_t octets) { impl_.send_file(fd, offset, octets); }
void transport::set_no_delay(bool on) { impl_.reactor.kernel->set_no_delay(impl_.socket, on); }
void transport::set_keep_alive(bool on) { impl_.reactor.kernel->set_keep_alive(impl_.socket, on); }
std::size_t transport::buffered() const noexcept { return impl_.buffered(); }
transport_ref transport::ref() const { return transport_ref{impl_.self}; }
const address& transport::host() const noexcept { return impl_.host; }
const address& transport::peer() const noexcept { return impl_.peer; }
midwire::reactor& transport::reactor() const noexcept { return impl_.reactor.self; }

void reading_producer::pause_producing() {
  if (auto* const t = from_.get()) t->pause_reading();
}
void reading_producer::resume_producing() {
  if (auto* const t = from_.get()) t->resume_reading();
}
void reading_producer::stop_producing() { resume_producing(); }

reason factory::refusal() const { return reason{ending::refused, {}, "the factory refused the connection"}; }

void protocol::read_connection_lost() { transport().lose_connection(); }

}  // namespace midwire
