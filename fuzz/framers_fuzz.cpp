// Framers, the stage and the protocol on them, on any octets in any cuts: the answer for the whole input is the answer
// for its pieces; what only passes leaves as it came; what was cut out goes in again.
//
// Input: one octet picks the framer, one the cuts' seed, the rest is the stream.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <midwire/base/assert.hpp>
#include <midwire/base/chance.hpp>
#include <midwire/engine/core/flow.hpp>
#include <midwire/engine/core/message_stage.hpp>
#include <midwire/proto/framers.hpp>

namespace {

using namespace midwire;
using namespace midwire::proto;

struct framed {
  std::vector<std::string> messages;
  std::size_t used = 0;
  std::optional<parse_error> error;
  friend bool operator==(const framed&, const framed&) = default;
};

template <class F>
framed cut_up(F f, byte_view all, random_source* random) {
  framed got;
  for (std::size_t fed = random ? 0 : all.size();;) {
    if (random) fed += std::min<std::size_t>(1 + random->below(random->one_in(4) ? 40 : 3), all.size() - fed);
    while (true) {
      const step s = f.next(all.subspan(got.used, fed - got.used));
      if (s.what() == step::kind::need_more) {
        MIDWIRE_ASSERT(s.at_least() > 0);
        break;
      }
      if (s.what() == step::kind::error) {
        got.error = s.why();
        MIDWIRE_ASSERT(!text_of(s.why()).empty());
        return got;
      }
      MIDWIRE_ASSERT(s.size() > 0 && s.size() <= fed - got.used && s.payload_offset() <= s.size() &&
                     s.payload_size() <= s.size() - s.payload_offset());
      got.messages.emplace_back(as_text(all.subspan(got.used + s.payload_offset(), s.payload_size())));
      got.used += s.size();
    }
    if (fed == all.size()) return got;
  }
}

template <class F>
struct passing : message_stage<F> {
  using message_stage<F>::message_stage;
  verdict on_message(stage_context&, direction, chunk payload) override {
    seen.push_back(payload.detach());
    return verdict::pass(std::move(payload));
  }
  std::vector<std::string> seen;
};

template <class F>
void check(const F& f, byte_view all, std::uint64_t seed) {
  random_source random{seed};
  const framed whole = cut_up(f, all, nullptr);
  MIDWIRE_ASSERT(cut_up(f, all, &random) == whole);

  // What can be sent comes back as it was.
  F sender = f;
  buffer wire;
  std::vector<std::string> sent;
  for (const auto& m : whole.messages) {
    try {
      sender.encode(chunk{m}, wire);
      sent.push_back(m);
    } catch (const encode_error&) {}
  }
  const std::string again = wire.text();
  const framed back = cut_up(f, as_bytes(again), &random);
  MIDWIRE_ASSERT(back.messages == sent && back.used == again.size() && !back.error);

  // Through a flow nothing is lost, and nothing added.
  auto made = std::make_unique<passing<F>>(f);
  const auto& stage_in_flow = *made;
  std::vector<std::unique_ptr<stage>> stages;
  stages.push_back(std::move(made));
  flow through{std::move(stages)};
  const instant now{std::chrono::hours{1}};
  std::string got;
  const auto obey = [&] {
    side to{};
    command what = command::close();
    std::size_t taken = 0;
    while (through.next_command(to, what))
      if (what.what() == command::kind::send) got += what.octets().text(), taken += what.octets().size();
    if (taken > 0) through.handle(side::server, event::octets_sent(taken), now);
  };
  through.open(now);
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t n = std::min<std::size_t>(all.size() - at, 1 + random.below(50));
    through.handle(side::client, event::data_received(chunk{all.subspan(at, n)}), now);
    at += n;
    obey();
  }
  through.handle(side::client, event::end_received(), now);
  obey();
  MIDWIRE_ASSERT(got == as_text(all));
  MIDWIRE_ASSERT(stage_in_flow.seen == whole.messages);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || size > 4096) return 0;
  const byte_view all{data + 2, size - 2};
  const std::uint64_t seed = data[1];
  switch (data[0] % 16) {
    case 0: check(line_framer{50}, all, seed); break;
    case 1: check(line_framer{50, line_end::crlf}, all, seed); break;
    case 2: check(line_framer{50, line_end::lf}, all, seed); break;
    case 3: check(delimiter_framer{"a", 50}, all, seed); break;
    case 4: check(delimiter_framer{"aab", 50}, all, seed); break;
    case 5: check(delimiter_framer{std::string(3, '\0'), 50}, all, seed); break;
    case 6: check(fixed_framer{7}, all, seed); break;
    case 7: check(length_framer{{.width = 1}}, all, seed); break;
    case 8:
      check(length_framer{{.width = 2, .order = byte_order::little, .offset = 1, .adjust = -3}}, all, seed);
      break;
    case 9: check(length_framer{{.width = 8, .adjust = 2, .max = 1000}}, all, seed); break;
    case 10: check(length_framer{{.width = 2, .offset = 1, .with_header = true, .max = 600}}, all, seed); break;
    case 11: check(length_framer{{.width = 3, .adjust = std::numeric_limits<std::int64_t>::min()}}, all, seed); break;
    case 12: check(netstring_framer{200}, all, seed); break;
    case 13: check(varint_framer{200}, all, seed); break;
    case 14: check(varint_framer{200, varint_framer::padding::allowed}, all, seed); break;
    default: check(varint_framer{~std::size_t{0}}, all, seed); break;
  }
  return 0;
}
