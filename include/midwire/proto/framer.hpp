#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include <midwire/base/chunk.hpp>
#include <midwire/base/parse_error.hpp>
#include <midwire/base/views.hpp>

/// Formats inside byte streams. What is here does no I/O and reads no clock: octets in, what they mean out.
namespace midwire::proto {

/// What a framer found at the front of what it was shown.
class step {
 public:
  enum class kind : std::uint8_t { need_more, frame, error };

  /// No whole message yet: at least so many octets more before it is worth while to ask again (0 counts as 1). Never
  /// more than the message really needs.
  static constexpr step need_more(std::size_t at_least = 1) noexcept {
    step s{kind::need_more};
    s.size_ = std::max<std::size_t>(at_least, 1);
    return s;
  }
  /// The first `size` octets (1 or more) are a message with its framing; its payload are the `payload_size` octets at
  /// `payload_offset` in there.
  static constexpr step frame(std::size_t size, std::size_t payload_offset, std::size_t payload_size) noexcept {
    step s{kind::frame};
    s.size_ = size, s.offset_ = payload_offset, s.payload_ = payload_size;
    return s;
  }
  /// No message begins here, and none will, whatever comes.
  static constexpr step error(const parse_error& why) noexcept {
    step s{kind::error};
    s.why_ = why;
    return s;
  }

  constexpr kind what() const noexcept { return kind_; }
  /// Of need_more.
  constexpr std::size_t at_least() const noexcept { return size_; }
  /// Of frame.
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr std::size_t payload_offset() const noexcept { return offset_; }
  constexpr std::size_t payload_size() const noexcept { return payload_; }
  /// Of error.
  constexpr const parse_error& why() const noexcept { return why_; }

  /// Itself, or an error when a framer (of one's own) claims a message that is empty, or longer than the `seen` octets
  /// it was shown, or a payload that is not inside.
  constexpr step checked(std::size_t seen) const noexcept {
    if (kind_ != kind::frame) return *this;
    if (size_ > 0 && size_ <= seen && offset_ <= size_ && payload_ <= size_ - offset_) return *this;
    return error({parse_errc::bad_length, layer_id::framer, 0, 0, 0});
  }

 private:
  explicit constexpr step(kind k) noexcept : kind_{k} {}
  std::size_t size_ = 0, offset_ = 0, payload_ = 0;
  parse_error why_{};
  kind kind_;
};

/// Cuts a stream of octets into messages, and makes messages into octets.
///
/// next     is shown all octets from the start of the message that is not whole yet: after need_more the same ones
///          with more behind them, after a frame those behind it. It remembers where it stopped: all calls together
///          take time linear in the octets they see. After an error it stands at the start again.
/// encode   appends the payload with its framing to `out`, and does not copy the payload. Throws encode_error for a
///          payload that the far end could not tell apart (its delimiter inside, a length that does not fit); `out` is
///          as it was then. Limits are for what is read: what is sent may be longer. May be called between two next.
/// reset    forgets the message that is not whole: the next octets shown begin a new one.
template <class F>
concept framer = requires(F f, byte_view seen, chunk payload, buffer& out) {
  { f.next(seen) } -> std::same_as<step>;
  f.encode(std::move(payload), out);
  f.reset();
};

/// A framer that can frame a payload as another message was framed: with its line end, with the octets around its
/// length field. Edited messages leave so.
template <class F>
concept reframer = framer<F> && requires(F f, byte_view like, chunk payload, buffer& out) {
  f.encode_like(like, std::move(payload), out);
};

/// A payload that a framer cannot carry. The text says why.
class MIDWIRE_API encode_error : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// For the numbers of a parse_error.
constexpr std::uint32_t saturated(std::uint64_t n) noexcept {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(n, std::numeric_limits<std::uint32_t>::max()));
}

}  // namespace midwire::proto
