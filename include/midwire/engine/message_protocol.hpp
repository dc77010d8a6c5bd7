#pragma once

#include <utility>

#include <midwire/engine/protocol.hpp>
#include <midwire/proto/framer.hpp>
#include <midwire/proto/line_framer.hpp>

namespace midwire {

namespace detail {

/// What of a message_protocol does not depend on its framer.
class MIDWIRE_API message_protocol_base : public protocol {
 public:
  void data_received(chunk data) final;

  /// One message, without its framing. Yours: edit it, keep it, pass it on.
  virtual void message_received(chunk payload) = 0;
  /// What came is no message: it and all behind it are dropped, unless set_raw() or set_framed() is called in here. By
  /// default the connection is closed in order.
  virtual void frame_failed(const parse_error& why);
  /// Octets, while raw; as they came, behind set_raw() first what was not a message yet.
  virtual void raw_received(chunk) {}

  /// From here on octets come as they are; in frame_failed, from the first one that is no message.
  void set_raw();
  /// From here on octets come as messages again, `again` first: for raw_received to give back what it did not use.
  void set_framed(chunk again = {});
  /// Octets of a message that is not whole yet: at the peer's end they are what it left unfinished.
  std::size_t unfinished() const noexcept { return rest_.size() + more_.size(); }

 private:
  virtual proto::step next(byte_view seen) = 0;
  virtual void reset_framer() = 0;
  void look(chunk seen);
  void failed(chunk bad, const parse_error& why);
  void give_back(chunk octets);
  chunk taken_rest();

  chunk rest_;                   // between two reads: what there is of a message that is not whole
  buffer more_;                  // behind it, too few to look again
  std::size_t worth_while_ = 1;  // octets of both before it is
  const void* under_ = nullptr;  // what they came through: TLS, or nothing
  bool raw_ = false, dead_ = false;
};

}  // namespace detail

/// A protocol that gets messages. See proto/ for the framers.
///
/// Nothing is delivered while the transport is paused, or once the connection is being closed, even when one read
/// brought more; resume_reading() goes on with what is there. No member calls another of yours before it returns:
/// set_raw() and set_framed() may take turns as often as they like.
/// start_tls() in message_received leaves what came behind that message to TLS. A message that was not whole when TLS
/// began is never completed by octets that TLS protects: the connection is aborted (CVE-2011-0411).
/// Memory: at most the framer's limit and one read, for a message that is not whole.
template <proto::framer F>
class message_protocol : public detail::message_protocol_base {
 public:
  explicit message_protocol(F framer = F{}) : framer_{std::move(framer)} {}

  /// Sends one message. Throws proto::encode_error for a payload that the framer cannot carry: nothing is sent then.
  void send_message(chunk payload) {
    buffer out;
    framer_.encode(std::move(payload), out);
    transport().write(std::move(out));
  }

 private:
  proto::step next(byte_view seen) final { return framer_.next(seen).checked(seen.size()); }
  void reset_framer() final { framer_.reset(); }

  F framer_;
};

/// Lines of at most 16,384 octets that end in CR LF or LF; sends CR LF.
using line_receiver = message_protocol<proto::line_framer>;

}  // namespace midwire
