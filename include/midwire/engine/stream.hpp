#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <midwire/base/address.hpp>
#include <midwire/base/chunk.hpp>
#include <midwire/base/export.hpp>
#include <midwire/base/reason.hpp>
#include <midwire/engine/awaiter.hpp>
#include <midwire/proto/framer.hpp>

namespace midwire {

class transport;

namespace detail {

/// What a stream and its protocol share: octets that were received and not read, and who waits. Outlives either.
class MIDWIRE_API stream_state {
 public:
  /// Unread octets at which the transport stops reading, and at which it goes on.
  static constexpr std::size_t high = 128 * 1024, low = 64 * 1024;
  /// Unsent octets at which a write waits for room.
  static constexpr std::size_t full = 256 * 1024;

  stream_state() noexcept = default;
  stream_state(const stream_state&) = delete;
  stream_state& operator=(const stream_state&) = delete;

  // What the protocol tells.
  void received(chunk octets);
  void ended() noexcept;
  void lost(reason why);
  void sent() noexcept;

  // What operations ask.
  std::size_t unread() const noexcept { return front_.size() + rest_.size(); }
  /// Nothing more will come.
  bool over() const noexcept { return ended_ || closed_ || lost_; }
  /// Throws when the connection is gone, and not in order.
  void throw_if_lost() const;
  /// Throws when nothing can be written any more.
  void throw_if_unwritable() const;
  /// Throws when the connection was lost before it had taken everything.
  void throw_if_undrained() const;
  bool gone() const noexcept { return lost_.has_value(); }
  midwire::transport* transport() const noexcept { return transport_; }
  bool writable() const noexcept { return transport_ && !closed_ && !write_closed_; }
  bool room() const noexcept;
  bool drained() const noexcept;
  /// What is contiguous of the unread octets; more of them with gather().
  byte_view seen() const noexcept { return front_.bytes(); }
  /// Makes the next chunk contiguous with what is seen. False: everything is.
  bool gather();
  /// Reads on, even beyond the mark, until there are so many octets unread.
  void want(std::size_t octets);
  chunk take_some();
  buffer take(std::size_t octets);
  chunk take_seen(std::size_t octets, std::size_t payload_offset, std::size_t payload_size);
  /// Behind the delimiter, when it is within the first `max` octets.
  std::optional<std::size_t> find(const std::string& delimiter, std::size_t max);
  /// A framer that was stopped inside a message goes on there, unless somebody else has read since: then it begins
  /// anew.
  bool goes_on(const void* framer) const noexcept { return framer_ == framer && framer_at_ == offset_; }
  void stopped(const void* framer) noexcept { framer_ = framer, framer_at_ = offset_; }
  /// Whoever reads next may have its turn.
  void read_on();
  void write(buffer octets);
  void watch_drain();
  void drain_left() noexcept;

  void close() noexcept;
  void close_write() noexcept;
  void abort() noexcept;

  wait_list readers, writers, drainers;
  address host, peer;

 private:
  friend class stream_protocol;
  void adjust();
  void consumed(std::size_t octets) noexcept;

  midwire::transport* transport_ = nullptr;
  class stream_protocol* protocol_ = nullptr;
  chunk front_;
  buffer rest_;
  std::size_t wanted_ = 0, scanned_ = 0;
  std::string scanned_for_;
  std::uint64_t offset_ = 0, framer_at_ = 0;
  const void* framer_ = nullptr;
  std::optional<reason> lost_;
  bool ended_ = false, closed_ = false, write_closed_ = false, paused_ = false, draining_ = false;
};

/// What all reads have in common: a place in the queue, and nothing of what they read.
class read_operation {
 public:
  explicit read_operation(std::shared_ptr<stream_state> s) noexcept : state_{std::move(s)} {}
  read_operation(read_operation&&) noexcept = default;
  ~read_operation() {
    if (place_.linked()) done();
  }
  void arm(runnable& who) noexcept { state_->readers.wait(place_, who); }

 protected:
  bool turn() const noexcept { return state_->readers.turn_of(place_); }
  void done() {
    place_.unlink();
    state_->read_on();
  }
  std::shared_ptr<stream_state> state_;

 private:
  wait_place place_;
};

/// Throws that no message begins here.
[[noreturn]] MIDWIRE_API void throw_frame_error(const parse_error& why);

template <proto::framer F>
class next_operation final : public read_operation {
 public:
  next_operation(std::shared_ptr<stream_state> s, F& framer) noexcept : read_operation{std::move(s)}, framer_{framer} {}
  bool ready() {
    if (!turn()) return false;
    if (!state_->goes_on(&framer_)) framer_.reset();
    for (;;) {
      const byte_view seen = state_->seen();
      if (!seen.empty()) {
        found_ = framer_.next(seen).checked(seen.size());
        state_->stopped(&framer_);
        if (found_.what() != proto::step::kind::need_more) return true;
      }
      if (state_->gather()) continue;
      if (state_->over()) return true;
      state_->want(add_octets(state_->unread(), seen.empty() ? 1 : found_.at_least()));
      return false;
    }
  }
  std::optional<chunk> take() {
    std::optional<chunk> message;
    const auto what = found_.what();
    if (what == proto::step::kind::frame) {
      message.emplace(state_->take_seen(found_.size(), found_.payload_offset(), found_.payload_size()));
      state_->stopped(&framer_);  // at the start of the next
    }
    done();
    if (what == proto::step::kind::error) throw_frame_error(found_.why());
    if (!message) state_->throw_if_lost();
    return message;
  }

 private:
  static std::size_t add_octets(std::size_t a, std::size_t b) noexcept {
    return b > std::size_t(-1) - a ? std::size_t(-1) : a + b;
  }
  F& framer_;
  proto::step found_ = proto::step::need_more();
};

}  // namespace detail

/// A connection, for coroutines. What was not read stays in it: a read that is cancelled loses nothing.
///
/// Reading   several coroutines may wait; first come, first served. 128 KiB unread stop the peer, or as many as one
/// read
///           asks for.
/// Writing   one coroutine or several; each write goes out whole.
/// Ends      the peer's FIN is an empty chunk, buffer or optional, however often asked; what then is left unread can
///           still be read by read_some(). A connection that is gone otherwise throws a reason_error, from every member
///           that is awaited, after what came before it was read.
/// Lifetime  dropping it closes as close() does. The connection may go before it.
class MIDWIRE_API stream {
 public:
  explicit stream(std::shared_ptr<detail::stream_state> state) noexcept : state_{std::move(state)} {}
  stream(stream&&) noexcept = default;
  stream& operator=(stream&& other) noexcept;
  ~stream();

  /// What there is, as soon as there is something.
  awaiter<chunk> read_some();
  /// Up to the delimiter and including it, at most `max` octets in all; more without a delimiter throw
  /// ending::over_limit and stay unread.
  awaiter<chunk> read_until(std::string delimiter, std::size_t max);
  /// So many octets; empty when the peer ended before them.
  awaiter<buffer> read_exactly(std::size_t octets);

  /// The payload of the next message, as the framer cuts them; the framer keeps where it stopped, so it must stay, and
  /// belongs to one stream. Empty when the peer ended, in the middle of a message too: then unread() is not 0. What
  /// the framer refuses throws ending::failed and stays unread. The framer's limit bounds the memory.
  template <proto::framer F>
  awaiter<std::optional<chunk>> next(F& framer) {
    return awaiter<std::optional<chunk>>{std::in_place_type<detail::next_operation<F>>, state_, framer};
  }

  /// Waits while 256 KiB or more are unsent, then queues the octets, whole. Cancelled before that, none of them.
  /// Throws when nothing can be sent any more.
  awaiter<void> write(buffer octets);
  /// Waits until the kernel has taken all that was written; after close(), for the end of the connection.
  awaiter<void> drain();
  /// Flush, FIN, then close. Unread octets can still be read.
  void close();
  /// Flush, FIN; what the peer sends can still be read.
  void close_write();
  /// RST, now.
  void abort();

  /// Octets received and not read.
  std::size_t unread() const noexcept { return state_->unread(); }
  const address& host() const noexcept { return state_->host; }
  const address& peer() const noexcept { return state_->peer; }
  /// For what a stream has no word for; null when the connection is gone. Its reading is the stream's own to pause.
  midwire::transport* transport() const noexcept;

 private:
  std::shared_ptr<detail::stream_state> state_;
};

static_assert(await_safe<stream> && await_safe<chunk> && await_safe<buffer>);

}  // namespace midwire
