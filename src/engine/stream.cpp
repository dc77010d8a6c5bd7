#include <midwire/engine/stream.hpp>

#include <algorithm>
#include <string_view>

#include <midwire/base/assert.hpp>
#include <midwire/engine/endpoint.hpp>
#include <midwire/engine/protocol.hpp>
#include <midwire/engine/reactor.hpp>

#include "engine/coroutine_loop.hpp"

namespace midwire {

namespace detail {

/// Puts what comes into the stream's state, and tells the transport when there is too much of it.
class stream_protocol final : public protocol, private producer {
 public:
  stream_protocol(std::shared_ptr<stream_state> s, callback<void(reactor&, std::shared_ptr<stream_state>)> made)
      : state_{std::move(s)}, made_{std::move(made)} {}
  ~stream_protocol() override { state_->lost(reason{ending::aborted, {}, "the reactor is gone"}); }

  void connection_made() override {
    state_->transport_ = &transport(), state_->protocol_ = this;
    state_->host = transport().host(), state_->peer = transport().peer();
    watch(producing::push);
    if (made_) made_(transport().reactor(), state_);
  }
  void data_received(chunk data) override { state_->received(std::move(data)); }
  void read_connection_lost() override { state_->ended(); }
  void write_connection_lost() override { state_->sent(); }
  void connection_lost(const reason& why) override { state_->lost(why); }
  /// A push producer hears of room, a pull producer that nothing is left.
  void watch(producing how) { transport().register_producer(*this, how); }

 private:
  void pause_producing() override {}
  void resume_producing() override { state_->sent(); }
  void stop_producing() override { state_->sent(); }

  std::shared_ptr<stream_state> state_;
  callback<void(reactor&, std::shared_ptr<stream_state>)> made_;
};

void stream_state::received(chunk octets) {
  if (closed_) return;
  rest_.append(std::move(octets));
  adjust();
  readers.wake_first();
}

void stream_state::ended() noexcept {
  ended_ = true;
  readers.wake_first();
}

void stream_state::sent() noexcept {
  writers.wake_first();
  drainers.wake_all();
}

void stream_state::lost(reason why) {
  transport_ = nullptr, protocol_ = nullptr;
  if (lost_) return;
  lost_ = std::move(why);
  readers.wake_first();
  sent();
}

void stream_state::throw_if_lost() const {
  if (lost_ && lost_->how() != ending::done && !ended_ && !closed_) throw reason_error{*lost_};
}

void stream_state::throw_if_unwritable() const {
  if (writable()) return;
  if (lost_ && lost_->how() != ending::done) throw reason_error{*lost_};
  throw reason_error{reason{ending::aborted, std::make_error_code(std::errc::broken_pipe),
                            closed_ || write_closed_ ? "written after close" : "the connection has ended"}};
}

void stream_state::throw_if_undrained() const {
  if (lost_ && lost_->how() != ending::done) throw reason_error{*lost_};
}

bool stream_state::room() const noexcept { return transport_ && transport_->buffered() < full; }
bool stream_state::drained() const noexcept { return !transport_ || (!closed_ && transport_->buffered() == 0); }

/// Whether the transport reads follows from what is unread and from what the reader whose turn it is needs.
void stream_state::adjust() {
  if (!transport_ || closed_) return;
  const std::size_t n = unread();
  if (!paused_ && n >= std::max(high, wanted_)) {
    paused_ = true;
    transport_->pause_reading();
  } else if (paused_ && (n < low || n < wanted_)) {
    paused_ = false;
    transport_->resume_reading();
  }
}

void stream_state::want(std::size_t octets) {
  wanted_ = octets;
  adjust();
}

void stream_state::consumed(std::size_t octets) noexcept {
  offset_ += octets;
  scanned_ = 0;
  wanted_ = 0;
}

void stream_state::read_on() {
  wanted_ = 0;
  adjust();
  if (unread() > 0 || over()) readers.wake_first();
}

bool stream_state::gather() {
  if (rest_.empty()) return false;
  front_.append(rest_.pop_front());
  return true;
}

chunk stream_state::take_some() {
  chunk some = !front_.empty() ? std::exchange(front_, {}) : !rest_.empty() ? rest_.pop_front() : chunk{};
  consumed(some.size());
  return some;
}

buffer stream_state::take(std::size_t octets) {
  buffer taken;
  const std::size_t contiguous = std::min(octets, front_.size());
  if (contiguous > 0) taken.append(front_.take_front(contiguous));
  if (octets > contiguous) taken.append(rest_.take_front(octets - contiguous));
  consumed(octets);
  return taken;
}

chunk stream_state::take_seen(std::size_t octets, std::size_t payload_offset, std::size_t payload_size) {
  chunk taken = front_.take_front(octets);
  consumed(octets);
  taken.drop_front(payload_offset);
  taken.truncate(payload_size);
  return taken;
}

std::optional<std::size_t> stream_state::find(const std::string& delimiter, std::size_t max) {
  if (scanned_for_ != delimiter) scanned_for_ = delimiter, scanned_ = 0;
  for (;;) {
    const std::string_view text = as_text(front_.bytes()).substr(0, max);
    // The delimiter may have begun at the end of what was searched.
    const std::size_t overlap = delimiter.size() - 1;
    const std::size_t from = scanned_ > overlap ? scanned_ - overlap : 0;
    if (const auto at = text.find(delimiter, from); at != text.npos) return at + delimiter.size();
    scanned_ = text.size();
    if (front_.size() >= max || !gather()) return std::nullopt;
  }
}

void stream_state::write(buffer octets) {
  if (transport_) transport_->write(std::move(octets));
}

void stream_state::watch_drain() {
  if (std::exchange(draining_, true) || !protocol_) return;
  protocol_->watch(producing::pull);
}

void stream_state::drain_left() noexcept {
  if (!drainers.empty() || !std::exchange(draining_, false) || !protocol_ || closed_ || write_closed_) return;
  protocol_->watch(producing::push);
}

void stream_state::close() noexcept {
  if (std::exchange(closed_, true)) return;
  if (transport_) transport_->lose_connection();
  readers.wake_first();
  sent();
}

void stream_state::close_write() noexcept {
  if (std::exchange(write_closed_, true)) return;
  if (transport_) transport_->lose_write_connection();
  sent();
}

void stream_state::abort() noexcept {
  if (transport_) transport_->abort_connection();
}

void throw_frame_error(const parse_error& why) {
  throw reason_error{reason{ending::failed, std::make_error_code(std::errc::bad_message), text_of(why)}};
}

namespace {

class read_some_operation final : public read_operation {
 public:
  using read_operation::read_operation;
  bool ready() const noexcept { return turn() && (state_->unread() > 0 || state_->over()); }
  chunk take() {
    chunk some = state_->take_some();
    done();
    if (some.empty()) state_->throw_if_lost();
    return some;
  }
};

class read_exactly_operation final : public read_operation {
 public:
  read_exactly_operation(std::shared_ptr<stream_state> s, std::size_t octets) noexcept
      : read_operation{std::move(s)}, octets_{octets} {}
  bool ready() {
    if (!turn()) return false;
    if (state_->unread() >= octets_ || state_->over()) return true;
    state_->want(octets_);
    return false;
  }
  buffer take() {
    buffer all;
    const bool enough = state_->unread() >= octets_;
    if (enough) all = state_->take(octets_);
    done();
    if (!enough) state_->throw_if_lost();
    return all;
  }

 private:
  std::size_t octets_;
};

class read_until_operation final : public read_operation {
 public:
  read_until_operation(std::shared_ptr<stream_state> s, std::string delimiter, std::size_t max) noexcept
      : read_operation{std::move(s)}, delimiter_{std::move(delimiter)}, max_{max} {}
  bool ready() {
    if (!turn()) return false;
    if (state_->find(delimiter_, max_) || state_->unread() >= max_ || state_->over()) return true;
    state_->want(max_);
    return false;
  }
  chunk take() {
    chunk found;
    const auto size = state_->find(delimiter_, max_);
    if (size) found = state_->take_seen(*size, 0, *size);
    const bool too_long = !size && state_->unread() >= max_;
    done();
    if (too_long)
      throw reason_error{reason{ending::over_limit, {}, "no delimiter in " + std::to_string(max_) + " octets"}};
    if (!size) state_->throw_if_lost();
    return found;
  }

 private:
  std::string delimiter_;
  std::size_t max_;
};

class write_operation final {
 public:
  write_operation(std::shared_ptr<stream_state> s, buffer octets) noexcept
      : state_{std::move(s)}, octets_{std::move(octets)} {}
  write_operation(write_operation&&) noexcept = default;
  ~write_operation() { leave(); }
  bool ready() const noexcept { return !state_->writable() || (state_->writers.turn_of(place_) && state_->room()); }
  void arm(runnable& who) noexcept { state_->writers.wait(place_, who); }
  void take() {
    if (state_->writable()) state_->write(std::exchange(octets_, {}));
    leave();
    state_->throw_if_unwritable();
  }

 private:
  void leave() noexcept {
    if (!place_.linked()) return;
    place_.unlink();
    state_->writers.wake_first();
  }
  std::shared_ptr<stream_state> state_;
  buffer octets_;
  wait_place place_;
};

class drain_operation final {
 public:
  explicit drain_operation(std::shared_ptr<stream_state> s) noexcept : state_{std::move(s)} {}
  drain_operation(drain_operation&&) noexcept = default;
  ~drain_operation() { leave(); }
  bool ready() const noexcept { return state_->drained(); }
  void arm(runnable& who) {
    state_->drainers.wait(place_, who);
    state_->watch_drain();
  }
  void take() {
    leave();
    state_->throw_if_undrained();
  }

 private:
  void leave() noexcept {
    if (!place_.linked()) return;
    place_.unlink();
    state_->drain_left();
  }
  std::shared_ptr<stream_state> state_;
  wait_place place_;
};

endpoint parsed(std::string_view text) {
  auto e = parse_endpoint(text);
  if (!e)
    throw std::system_error{std::make_error_code(std::errc::invalid_argument),
                            std::string{text} + ": " + e.error().what};
  return *std::move(e);
}

/// Serves each connection by a coroutine.
class serving_factory final : public factory {
 public:
  explicit serving_factory(task<> (*serve)(stream)) noexcept : serve_{serve} {}
  std::unique_ptr<protocol> build_protocol(const address&) override {
    return std::make_unique<stream_protocol>(
        std::make_shared<stream_state>(), [serve = serve_](reactor& r, std::shared_ptr<stream_state> s) {
          task<> body = serve(stream{s});
          coroutine_loop::of(r.impl()).spawn(std::move(body), [s](const std::exception_ptr& error) {
            if (!error) return;
            // That the connection is gone is no failure of the one who hears of it.
            if (s->gone()) {
              try {
                std::rethrow_exception(error);
              } catch (const reason_error& e) {
                log(0, s->peer.text() + ": " + e.what());
                return;
              }
            }
            s->abort();
            std::rethrow_exception(error);
          });
        });
  }

 private:
  task<> (*serve_)(stream);
};

/// Remembers the one connection it was made for.
class opening_factory final : public factory {
 public:
  std::unique_ptr<protocol> build_protocol(const address&) override {
    made = std::make_shared<stream_state>();
    return std::make_unique<stream_protocol>(made, nullptr);
  }
  std::shared_ptr<stream_state> made;
};

listener& listen_at(reactor& r, std::string_view text, factory_ptr f) {
  const endpoint e = parsed(text);
  if (e.how == endpoint::scheme::unix_path) return r.listen_unix(e.path, std::move(f));
  return r.listen_tcp(e.port, std::move(f), {.interface = e.host});
}

deferred<protocol*> connect_to(reactor& r, std::string_view text, factory_ptr f) {
  const endpoint e = parsed(text);
  if (e.how == endpoint::scheme::unix_path) return r.connect_unix(e.path, std::move(f));
  return r.connect_tcp(e.host, e.port, std::move(f));
}

}  // namespace

}  // namespace detail

stream& stream::operator=(stream&& other) noexcept {
  if (this != &other) {
    if (state_) state_->close();
    state_ = std::move(other.state_);
  }
  return *this;
}

stream::~stream() {
  if (state_) state_->close();
}

awaiter<chunk> stream::read_some() { return awaiter<chunk>{std::in_place_type<detail::read_some_operation>, state_}; }

awaiter<chunk> stream::read_until(std::string delimiter, std::size_t max) {
  MIDWIRE_ASSERT(!delimiter.empty() && max >= delimiter.size());
  return awaiter<chunk>{std::in_place_type<detail::read_until_operation>, state_, std::move(delimiter), max};
}

awaiter<buffer> stream::read_exactly(std::size_t octets) {
  return awaiter<buffer>{std::in_place_type<detail::read_exactly_operation>, state_, octets};
}

awaiter<void> stream::write(buffer octets) {
  return awaiter<void>{std::in_place_type<detail::write_operation>, state_, std::move(octets)};
}

awaiter<void> stream::drain() { return awaiter<void>{std::in_place_type<detail::drain_operation>, state_}; }
void stream::close() { state_->close(); }
void stream::close_write() { state_->close_write(); }
void stream::abort() { state_->abort(); }
transport* stream::transport() const noexcept { return state_->transport(); }

listener& reactor::listen(std::string_view endpoint, task<> (*serve)(stream)) {
  return detail::listen_at(*this, endpoint, std::make_shared<detail::serving_factory>(serve));
}

deferred<stream> reactor::open(std::string_view endpoint) {
  auto f = std::make_shared<detail::opening_factory>();
  promise_of<stream> promise;
  const cancel_ref connecting =
      detail::connect_to(*this, endpoint, f)
          .then([f, promise](protocol*) mutable { promise.succeed(stream{std::move(f->made)}); },
                [promise](const reason& why) mutable { promise.fail(why); });
  promise.on_cancel([connecting] { connecting.cancel(); });
  return promise.get();
}

}  // namespace midwire
