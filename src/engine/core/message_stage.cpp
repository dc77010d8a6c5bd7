#include <midwire/engine/core/message_stage.hpp>

#include <algorithm>

namespace midwire::detail {

using proto::step;

verdict message_stage_base::on_data(stage_context& context, direction d, chunk data) {
  return look(context, d, std::move(data), occasion::data);
}
verdict message_stage_base::on_expired(stage_context& context, direction d, chunk kept) {
  return look(context, d, std::move(kept), occasion::expiry);
}
verdict message_stage_base::on_end(stage_context& context, direction d, chunk kept) {
  return look(context, d, std::move(kept), occasion::end);
}

verdict message_stage_base::on_frame_error(stage_context& context, direction d, chunk rest, const parse_error&) {
  context.count("passed unframed");
  context.bypass(d);
  return verdict::pass(std::move(rest));
}

/// Decides about one message, and leaves what lies behind it to the flow, which shows it again: so each message has a
/// place in the order of all that the flow does, a hold stops exactly there, and cuts mean nothing.
verdict message_stage_base::look(stage_context& context, direction d, chunk data, occasion when) {
  lane& l = lanes_[index_of(d)];
  if (l.failed) {
    if (data.empty()) return verdict::pass({});
    return on_frame_error(context, d, std::move(data), l.why);
  }
  message before{data.take_front(l.kept.size), l.kept.front, l.kept.payload, l.kept.whole};
  const auto without_next = [&](chunk behind) {
    l.kept = {};
    chunk payload = before.octets.slice(before.front, before.payload);
    auto said = on_message_expired(context, d, std::move(payload));
    return decided(context, d, std::move(said), std::move(before), std::move(behind), true);
  };

  const step s = data.empty() ? step::need_more() : next(d, data.bytes());
  switch (s.what()) {
    case step::kind::frame: {
      chunk octets = data.take_front(s.size());
      chunk payload = octets.slice(s.payload_offset(), s.payload_size());
      if (std::exchange(l.kept, {}).present) {
        chunk both = before.octets.slice(before.front, before.payload);
        both.append(std::move(payload));
        payload = std::move(both);
      }
      before = {};
      auto said = on_message(context, d, std::move(payload));
      message about{std::move(octets), s.payload_offset(), s.payload_size(), true};
      const bool last = when == occasion::end && data.empty();
      return decided(context, d, std::move(said), std::move(about), std::move(data), last);
    }
    case step::kind::error:
      // What was kept has no next message: it comes first, and the octets are looked at again.
      if (l.kept.present) return without_next(std::move(data));
      l.failed = true, l.why = s.why();
      return on_frame_error(context, d, std::move(data), l.why);
    case step::kind::need_more: break;
  }
  if (l.kept.present && when != occasion::data) {
    reset(d);
    return without_next(std::move(data));
  }
  if (when == occasion::end) {
    if (data.empty()) return verdict::pass({});
    const auto have = proto::saturated(data.size());
    l.failed = true;
    l.why = {parse_errc::truncated, layer_id::framer, have, proto::saturated(data.size() + s.at_least()), have};
    return on_frame_error(context, d, std::move(data), l.why);
  }
  // An unfinished message waits as long as it likes; one that was kept for what is left of its time (E10).
  duration left{};
  if (l.kept.until != instant::max()) left = std::max(l.kept.until - context.now(), duration{1});
  chunk rest = std::move(before.octets);
  rest.append(std::move(data));
  return verdict::keep({}, std::move(rest), s.at_least(), left);
}

namespace {
bool is_slice(const chunk& c, const chunk& of, std::size_t front, std::size_t size) {
  return c.size() == size && c.bytes().data() == of.bytes().data() + front;
}
}  // namespace

/// Turns what was decided about a payload into a verdict on octets. `behind` was not looked at. `last`: no message can
/// join this one.
verdict message_stage_base::decided(stage_context& context, direction d, verdict said, message about, chunk behind,
                                    bool last) {
  if (said.kind_ == verdict::kind::keep && (last || said.after_ != verdict::after::nothing)) {
    buffer out;
    if (!said.out_.empty()) out = leaving(d, about, std::move(said.out_));
    out.append(leaving(d, about, std::move(said.rest_)));
    said.kind_ = verdict::kind::pass;
    said.out_ = std::move(out);
  } else {
    switch (said.kind_) {
      case verdict::kind::pass: said.out_ = leaving(d, about, std::move(said.out_)); break;
      case verdict::kind::drop: said.rest_ = std::move(about.octets); break;
      case verdict::kind::hold: hold(d, said, about); break;
      case verdict::kind::keep: keep(context, d, said, about); break;
    }
  }
  said.unseen_ = std::move(behind);
  return said;
}

/// The octets of a message: its own when the payload is what we showed. Our share of them made sure that an edit took a
/// copy.
buffer message_stage_base::leaving(direction d, const message& about, buffer payload) {
  const bool same = payload.empty()
                        ? about.payload == 0
                        : payload.chunks() == 1 && is_slice(*payload.begin(), about.octets, about.front, about.payload);
  if (about.whole && same) return buffer{about.octets.share()};
  return reframe(d, about.whole ? about.octets.bytes() : byte_view{}, std::move(payload));
}

buffer message_stage_base::reframe(direction d, byte_view like, buffer payload) {
  buffer out;
  encode(d, like, std::move(payload).join(), out);
  return out;
}

void message_stage_base::hold(direction d, verdict& said, const message& about) {
  said.rest_ = leaving(d, about, std::move(said.rest_)).join();
  auto framing = std::make_unique<held_framing>(held_framing{this, about.front, 0});
  if (about.whole && is_slice(said.rest_, about.octets, 0, about.octets.size())) {
    framing->back = about.octets.size() - about.front - about.payload;
  } else {
    // Framed anew: the framer, which stands between two messages, knows where the payload lies.
    const step s = next(d, said.rest_.bytes());
    const bool known = s.what() == step::kind::frame && s.size() == said.rest_.size();
    framing->front = known ? s.payload_offset() : 0;
    framing->back = known ? s.size() - s.payload_offset() - s.payload_size() : 0;
    if (!known) reset(d);
  }
  said.framing_ = std::move(framing);
}

void message_stage_base::keep(stage_context& context, direction d, verdict& said, const message& about) {
  kept_message& kept = lanes_[index_of(d)].kept;
  if (!said.out_.empty()) {
    said.out_ = leaving(d, about, std::move(said.out_));
    if (said.rest_.empty()) return;  // all of it was sent
  }
  kept = {};
  kept.present = true;
  if (said.at_most_.count() > 0) kept.until = add_time(context.now(), said.at_most_);
  const bool same =
      said.rest_.empty() ? about.payload == 0 : is_slice(said.rest_, about.octets, about.front, about.payload);
  if (about.whole && same && said.out_.empty()) {
    said.rest_ = about.octets.share();
    kept.size = about.octets.size(), kept.front = about.front, kept.payload = about.payload, kept.whole = true;
  } else {
    kept.size = kept.payload = said.rest_.size();
    if (said.rest_.empty()) kept = {};  // nothing is left of it
  }
  said.at_least_ = 1;
}

}  // namespace midwire::detail
