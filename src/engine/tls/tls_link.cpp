#include "engine/tls/tls_link.hpp"

#include <algorithm>
#include <system_error>

#include <midwire/base/assert.hpp>

namespace midwire::detail {

namespace {
// A whole record must fit into what may be read, or it could never be decrypted (RFC 8446 section 5.2, RFC 5246
// section 6.2.3: 16,384 octets and up to 2,048 around them).
constexpr std::uint64_t whole_record = 16384 + 2048 + 5;
// A certificate chain, in one go or several.
constexpr std::uint64_t handshake_room = 64 * 1024;
// After the end of its data a peer may still send so much nonsense before we stop listening for its FIN.
constexpr std::size_t most_discarded = 64 * 1024;
// How long a socket that is done with waits: for the peer to have read why it was refused; and for the kernel to take
// the last few octets of an orderly end, counted from the last progress.
constexpr duration answer_wait = std::chrono::seconds{1};
constexpr std::uint64_t no_limit = ~std::uint64_t{0};
constexpr duration refusal_wait = std::chrono::seconds{1}, last_word_wait = std::chrono::seconds{5};
}  // namespace

tls_link& tls_link::attach(reactor_impl& r, socket_id s, tls_ptr context, std::string server_name, std::string where,
                           duration handshake) {
  return attach(r, s, std::make_unique<tls_session>(std::move(context), std::move(server_name), std::move(where)),
                handshake, {});
}

tls_link& tls_link::attach(reactor_impl& r, socket_id s, std::unique_ptr<tls_session> session, duration handshake,
                           history before) {
  auto owned = std::make_unique<tls_link>(r, s, std::move(session), std::move(before));
  tls_link& link = *owned;
  r.own(std::move(owned));
  r.put_between(s, link);
  if (handshake.count() > 0) r.wheel.start(link, add_time(r.now, handshake));
  r.queue(link);
  return link;
}

tls_link::tls_link(reactor_impl& r, socket_id s, std::unique_ptr<tls_session> session, history before)
    : r_{r},
      socket_{s},
      session_{std::move(session)},
      clear_ahead_{before.in_flight},
      room_{before.room},
      granted_{before.room},
      reading_{before.room > 0},
      fin_{before.ended} {
  while (!before.received.empty()) session_->feed(before.received.pop_front());
}

tls_link::~tls_link() {
  r_.unqueue(*this);
  r_.take_away(socket_, *this);
}

// ---- from above

void tls_link::perform(command what) {
  if (over_ || state_ == state::leaving) return;
  switch (what.what()) {
    case command::kind::start_reading:
      room_ = what.count();
      if (state_ != state::open || running_) break;
      if (session_->waiting() > 0 || session_->readable() > 0 || fin_ || reset_) r_.queue(*this);
      update_reading();
      await_answer();
      break;
    case command::kind::stop_reading:
      room_ = 0;
      if (state_ == state::open && !running_) update_reading();
      break;
    case command::kind::send:
      if (end_asked_) break;
      if (state_ == state::open)
        encrypt(std::move(what.octets()));
      else if (state_ == state::shaking)
        plain_.append(std::move(what.octets()));
      break;
    case command::kind::send_end:
      end_asked_ = true;
      if (state_ == state::open) say_end();
      break;
    case command::kind::close: close(); break;
    case command::kind::reset:
    case command::kind::reset_after_drain:
      r_.kernel->perform(socket_, std::move(what));
      gone();
      break;
    case command::kind::splice:
    case command::kind::send_to: MIDWIRE_ASSERT(!"a socket with TLS can neither be spliced nor send datagrams");
  }
}

void tls_link::encrypt(buffer octets) {
  if (session_->write(std::move(octets), marks_) != tls_session::status::ok) {
    // OpenSSL itself gave up (no memory): nothing can be said in order any more.
    send_output();
    fail(session_->failure(), true);
    return;
  }
  send_output();
}

void tls_link::say_end() {
  if (std::exchange(end_sent_, true)) return;
  session_->end();
  send_output();
  r_.kernel->perform(socket_, command::send_end());
  await_answer();
}

void tls_link::send_output() {
  buffer& out = session_->output();
  if (out.empty()) return;
  r_.kernel->perform(socket_, command::send(std::move(out)));
  out.clear();
}

/// The user above is done with the socket. What is encrypted and not sent goes out first, and a peer whose handshake or
/// record was refused gets the time to read the alert that says so: a plain close would overtake both with a reset.
void tls_link::close() {
  if (state_ == state::open && !end_sent_ && !broken_ && !reset_) say_end();
  refused_ = state_ != state::open;
  state_ = state::leaving;
  above = nullptr;
  plain_.clear();
  if (!end_sent_ && alert_sent_) {
    end_sent_ = true;
    r_.kernel->perform(socket_, command::send_end());
  }
  after(refused_ ? refusal_wait : last_word_wait);
  check_left();
  if (!over_) update_reading();
}

void tls_link::check_left() {
  const bool unsent = session_->output_total() > output_sent_;
  if (!reset_ && !broken_ && (unsent || (alert_sent_ && !fin_))) return;
  r_.kernel->perform(socket_, command::close());
  gone();
}

/// A peer owes a close_notify in answer to ours, and many never send it (lesson 15): whoever only waits for that, which
/// is who reads without limit, waits a second.
void tls_link::await_answer() {
  if (state_ != state::open || !end_sent_ || ended_ || active() || room_ < no_limit / 2) return;
  if (session_->output_total() == output_sent_) after(answer_wait);
}

void tls_link::after(duration d) {
  const instant due = add_time(r_.now, d);
  if (active())
    timer_hook::touch(due);
  else
    r_.wheel.start(*this, due);
}

void tls_link::gone() {
  if (std::exchange(over_, true)) return;
  state_ = state::leaving;
  above = nullptr;
  timer_hook::stop();
  r_.unqueue(*this);
  r_.take_away(socket_, *this);
  r_.retire(*this);
}

// ---- from below

void tls_link::on_event(socket_id, event what) {
  if (over_) return;
  switch (what.what()) {
    case event::kind::data_received:
      granted_ -= std::min<std::uint64_t>(granted_, what.data().size());
      if (state_ == state::leaving || state_ == state::failed || ended_)
        discarded_ += what.data().size();
      else
        session_->feed(std::move(what.data()));
      run();
      break;
    case event::kind::end_received:
      fin_ = true, reading_ = false;
      run();
      break;
    case event::kind::reset_received:
      reset_ = what.error(), reading_ = false;
      run();
      break;
    case event::kind::octets_sent: octets_taken(what.octets()); break;
    case event::kind::hung_up:
      broken_ |= what.broken();
      if (state_ == state::leaving)
        check_left();
      else if (state_ != state::shaking)
        tell(std::move(what));
      else if (what.broken() && !reading_)
        fail(reason{ending::reset, std::make_error_code(std::errc::connection_reset), "the peer left"}, false);
      break;
    default: break;
  }
}

void tls_link::octets_taken(std::uint64_t octets) {
  const std::uint64_t clear = std::min(octets, clear_ahead_);
  clear_ahead_ -= clear;
  output_sent_ += octets - clear;
  std::uint64_t plain = clear;
  while (marks_done_ < marks_.size() && marks_[marks_done_].output_end <= output_sent_)
    plain += marks_[marks_done_++].plain;
  if (marks_done_ == marks_.size() || marks_done_ >= 1024) {
    marks_.erase(marks_.begin(), marks_.begin() + static_cast<std::ptrdiff_t>(marks_done_));
    marks_done_ = 0;
  }
  if (state_ == state::leaving) {
    // Only those few octets: whoever was refused cannot put it off by taking one at a time.
    if (!refused_) after(last_word_wait);
    check_left();
  } else if (plain > 0 || state_ == state::open) {
    await_answer();
    tell(event::octets_sent(plain));
  }
}

void tls_link::catch_up() { run(); }

void tls_link::run() {
  if (over_ || running_) return;
  running_ = true;
  struct at_exit {
    bool& flag;
    ~at_exit() { flag = false; }
  } const done{running_};
  if (state_ == state::shaking) shake();
  if (state_ == state::open) deliver();
  if (state_ == state::leaving && !over_) check_left();
  if (over_) return;
  update_reading();
  await_answer();
  if (session_->waiting() > 0) session_->compact();  // E20
}

void tls_link::shake() {
  const auto how = session_->handshake();
  const bool said = !session_->output().empty();
  send_output();
  switch (how) {
    case tls_session::status::ok:
      state_ = state::open;
      timer_hook::stop();
      if (!plain_.empty()) encrypt(std::move(plain_));
      plain_.clear();
      if (state_ == state::open && end_asked_) say_end();
      tell(event::connected());
      return;
    case tls_session::status::want_input:
      if (reset_)
        fail(reason{ending::reset, *reset_, "reset during the TLS handshake: " + reset_->message()}, false);
      else if (fin_)
        fail(reason{ending::refused, tls_errc::closed_early, make_error_code(tls_errc::closed_early).message()}, false);
      return;
    case tls_session::status::ended:
      fail(reason{ending::refused, tls_errc::closed_early, make_error_code(tls_errc::closed_early).message()}, false);
      return;
    case tls_session::status::failed: alert_sent_ = said; fail(session_->failure(), false);
  }
}

void tls_link::deliver() {
  while (state_ == state::open && !over_ && above && !ended_ && room_ > 0) {
    chunk data;
    const auto how =
        session_->read(static_cast<std::size_t>(std::min<std::uint64_t>(room_, tls_session::record_size)), data);
    const bool said = !session_->output().empty();
    send_output();
    switch (how) {
      case tls_session::status::ok:
        room_ -= data.size();
        tell(event::data_received(std::move(data)));
        continue;
      case tls_session::status::ended:
        ended_ = true;
        tell(event::end_received());
        break;
      case tls_session::status::failed:
        alert_sent_ = said;
        fail(session_->failure(), true);
        return;
      case tls_session::status::want_input: break;
    }
    break;
  }
  if (state_ != state::open || over_) return;
  const bool all_given = room_ > 0 || ended_;  // the loop has stopped for want of octets
  if (reset_ && all_given) {
    const std::error_code error = *reset_;
    fail(reason{ending::reset, error, error.message()}, true);
  } else if (reset_ && !std::exchange(hinted_, true)) {
    tell(event::hung_up(true));  // as from a plain socket that is not read
  } else if (fin_ && !ended_ && all_given) {
    fail(reason{ending::tls_truncated, tls_errc::truncated, make_error_code(tls_errc::truncated).message()}, true);
  }
}

void tls_link::fail(reason why, bool told_as_reset) {
  if (state_ == state::failed || state_ == state::leaving) return;
  state_ = state::failed;
  timer_hook::stop();
  plain_.clear();
  failure_ = std::move(why);
  const std::error_code code = failure_.code();
  tell(told_as_reset ? event::reset_received(code) : event::connect_failed(code));
}

void tls_link::fired() {
  if (over_) return;
  if (state_ == state::leaving) {
    r_.kernel->perform(socket_, command::close());
    gone();
  } else if (state_ == state::shaking) {
    fail(reason{ending::timed_out, tls_errc::too_slow, make_error_code(tls_errc::too_slow).message()}, false);
  } else if (state_ == state::open && !std::exchange(ended_, true)) {
    tell(event::end_received());
  }
}

void tls_link::update_reading() {
  std::uint64_t want = 0;
  if (fin_ || reset_) {
  } else if (state_ == state::shaking) {
    want = handshake_room;
  } else if (state_ == state::leaving || state_ == state::failed || ended_) {
    // Nothing of it is wanted any more but its end; a peer that will not stop is not listened to.
    want = discarded_ < most_discarded ? most_discarded - discarded_ : 0;
  } else if (room_ > 0) {
    want = std::max(room_, whole_record);
  }
  if (want == 0) {
    if (std::exchange(reading_, false)) r_.kernel->perform(socket_, command::stop_reading());
    granted_ = 0;
  } else if (!reading_ || granted_ < want / 2 || granted_ > want) {
    reading_ = true, granted_ = want;
    r_.kernel->perform(socket_, command::start_reading(want));
  }
}

// ---- without a protocol

tls_opening* tls_opening::start(reactor_impl& r, socket_id s, tls_ptr context, const std::string& host,
                                std::uint16_t port, duration at_most, result_fn done) {
  auto owned = std::make_unique<tls_opening>(r, s, std::move(done));
  tls_opening* const opening = owned.get();
  r.own(std::move(owned));
  r.handle(s, *opening);
  try {
    tls_link::attach(r, s, std::move(context), host, host.empty() ? "" : host + ':' + std::to_string(port), at_most);
  } catch (const std::system_error& e) {
    opening->failed_at_once_ = reason{ending::refused, e.code(), e.what()};
    r.queue(*opening);
  }
  return opening;
}

tls_opening::~tls_opening() {
  r_.unqueue(*this);
  if (done_) r_.forget(socket_);
}

void tls_opening::on_event(socket_id, event what) {
  if (!done_) return;
  if (what.what() == event::kind::connected) {
    finish(std::nullopt);
  } else if (what.what() == event::kind::connect_failed) {
    finish(tls_link::on(r_, socket_)->failure());
  }
}

void tls_opening::finish(std::optional<reason> failed) {
  if (!done_) return;
  auto done = std::move(done_);
  r_.forget(socket_);
  if (failed) r_.perform(socket_, command::close());
  done(std::move(failed));
  r_.retire(*this);
}

void tls_opening::cancel() {
  if (!done_) return;
  done_.reset();
  r_.forget(socket_);
  r_.perform(socket_, command::close());
  r_.retire(*this);
}

}  // namespace midwire::detail
