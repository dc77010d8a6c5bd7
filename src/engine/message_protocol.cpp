#include <midwire/engine/message_protocol.hpp>

#include "engine/transport_impl.hpp"

namespace midwire::detail {

using proto::step;

void message_protocol_base::frame_failed(const parse_error&) { transport().lose_connection(); }

void message_protocol_base::data_received(chunk data) {
  if (dead_) return;
  if (raw_) return raw_received(std::move(data));
  const void* const under = transport().impl_.tls();
  if (unfinished() > 0 && under != under_) {
    taken_rest();
    return transport().abort_connection();
  }
  under_ = under;
  if (unfinished() == 0) return look(std::move(data));
  const bool enough = unfinished() + data.size() >= worth_while_;
  if (enough && more_.empty()) {
    rest_.append(std::move(data));
  } else {
    more_.append(std::move(data));
  }
  if (enough) look(taken_rest());
}

/// Hands over one message. What lies behind it goes back to the transport first, which knows whether its protocol wants
/// more, whom else it may be for, and what comes behind it: pausing, closing and start_tls() act between two messages,
/// and there is nothing to recurse into.
void message_protocol_base::look(chunk seen) {
  worth_while_ = 1;
  const step s = next(seen.bytes());
  switch (s.what()) {
    case step::kind::need_more:
      worth_while_ = seen.size() + s.at_least();
      rest_ = std::move(seen);
      rest_.compact();
      break;
    case step::kind::frame: {
      chunk message = seen.take_front(s.size());
      if (!seen.empty()) give_back(std::move(seen));
      message.drop_front(s.payload_offset());
      message.truncate(s.payload_size());
      message_received(std::move(message));
      break;
    }
    case step::kind::error: failed(std::move(seen), s.why()); break;
  }
}

void message_protocol_base::failed(chunk bad, const parse_error& why) {
  dead_ = true;
  frame_failed(why);
  if (raw_) give_back(std::move(bad));
}

chunk message_protocol_base::taken_rest() {
  if (more_.empty()) return std::exchange(rest_, {});
  // In one piece at once: a long message is copied a single time.
  buffer all{std::exchange(rest_, {})};
  all.append(std::exchange(more_, {}));
  return std::move(all).join();
}

void message_protocol_base::set_raw() {
  raw_ = true, dead_ = false;
  reset_framer();
  if (unfinished() > 0) give_back(taken_rest());
}

void message_protocol_base::set_framed(chunk again) {
  raw_ = dead_ = false;
  reset_framer();
  again.append(taken_rest());
  if (!again.empty()) give_back(std::move(again));
}

void message_protocol_base::give_back(chunk octets) { transport().impl_.give_back(std::move(octets)); }

}  // namespace midwire::detail
