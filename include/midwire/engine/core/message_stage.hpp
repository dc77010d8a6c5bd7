#pragma once

#include <array>
#include <utility>

#include <midwire/engine/core/stage.hpp>
#include <midwire/proto/framer.hpp>

namespace midwire {

namespace detail {

/// What of a message_stage does not depend on its framer.
class MIDWIRE_API message_stage_base : public stage {
 public:
  verdict on_data(stage_context& context, direction d, chunk data) final;
  verdict on_expired(stage_context& context, direction d, chunk kept) final;
  verdict on_end(stage_context& context, direction d, chunk kept) final;
  bool at_boundary(direction d) const noexcept final { return !lanes_[index_of(d)].failed; }

  /// One message, without its framing; yours: edit it, keep it, pass it on. See message_stage for the verdicts.
  virtual verdict on_message(stage_context& context, direction d, chunk payload) = 0;
  /// A message that on_message kept, when its at_most was over or when the direction ends before another one came. To
  /// keep here is to pass.
  virtual verdict on_message_expired(stage_context&, direction, chunk payload) {
    return verdict::pass(std::move(payload));
  }
  /// Octets that are no message, from the first one that belongs to none on: there are no messages in this direction
  /// any more, and whatever comes behind them is shown here as well. With parse_errc::truncated: the direction ends
  /// inside a message. By default they are counted as "passed unframed", pass as they came, and what follows is not
  /// looked at.
  virtual verdict on_frame_error(stage_context& context, direction d, chunk rest, const parse_error& why);

  /// For hold_token::replace().
  buffer reframe(direction d, byte_view like, buffer payload);

 private:
  enum class occasion : std::uint8_t { data, expiry, end };
  // Octets in front of what we are shown next that a verdict on a message kept: `whole`, the message with its framing.
  struct kept_message {
    std::size_t size = 0, front = 0, payload = 0;
    bool present = false, whole = false;
    instant until = instant::max();
  };
  struct lane {
    kept_message kept;
    bool failed = false;
    parse_error why{};
  };
  // A message with the framing it has, or its payload alone when `like` is empty.
  struct message {
    chunk octets;
    std::size_t front = 0, payload = 0;
    bool whole = true;
  };

  virtual proto::step next(direction d, byte_view seen) = 0;
  virtual void encode(direction d, byte_view like, chunk payload, buffer& out) = 0;
  virtual void reset(direction d) = 0;

  verdict look(stage_context& context, direction d, chunk data, occasion when);
  verdict decided(stage_context& context, direction d, verdict said, message about, chunk behind, bool last);
  buffer leaving(direction d, const message& about, buffer payload);
  void hold(direction d, verdict& said, const message& about);
  void keep(stage_context& context, direction d, verdict& said, const message& about);

  std::array<lane, 2> lanes_;
};

}  // namespace detail

/// A stage that is shown messages: one verdict a message, whatever the cuts of the stream.
///
///   pass   a message that nobody edited leaves with the very octets of its own framing; an edited or replaced one is
///          framed anew, like the one in whose place it goes. An empty payload is a message, too. What cannot be framed
///          (proto::encode_error) ends the flow with ending::failed.
///   drop   with its framing; all its octets are counted
///   hold   the messages behind it wait. Released it leaves with its own framing; its token shows the payload, and what
///          replaces it is framed.
///   keep   `out` leaves as a message of its own unless it is empty; `rest` is shown again in front of the payload of
///          the next message, as one, or to on_message_expired. `at_least` counts for nothing.
/// Octets injected from on_message go between the message before and this one, from elsewhere between two messages;
/// they are sent as they are, so they bring their framing along. place::first_stage puts them behind what has come,
/// even inside a message of an earlier stage. An unfinished message waits in the flow and counts for flow_limits::low
/// and flow_limits::message: a framer's limit above `low` does not help. Octets that never became a message leave as they came,
/// unless on_frame_error says otherwise.
template <proto::framer F>
class message_stage : public detail::message_stage_base {
 public:
  /// One framing for both directions, each with its own state.
  explicit message_stage(F both = F{}) : framers_{both, both} {}
  message_stage(F to_server, F to_client) : framers_{std::move(to_server), std::move(to_client)} {}

 private:
  proto::step next(direction d, byte_view seen) final { return framers_[index_of(d)].next(seen).checked(seen.size()); }
  void encode(direction d, byte_view like, chunk payload, buffer& out) final {
    F& f = framers_[index_of(d)];
    if constexpr (proto::reframer<F>) {
      if (!like.empty()) return f.encode_like(like, std::move(payload), out);
    }
    f.encode(std::move(payload), out);
  }
  void reset(direction d) final { framers_[index_of(d)].reset(); }

  std::array<F, 2> framers_;
};

}  // namespace midwire
