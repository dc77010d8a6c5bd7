#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include <midwire/base/address.hpp>
#include <midwire/base/callback.hpp>
#include <midwire/base/chunk.hpp>
#include <midwire/base/export.hpp>
#include <midwire/base/reason.hpp>
#include <midwire/base/views.hpp>
#include <midwire/engine/core/timer_wheel.hpp>

namespace midwire {

class flow;
class stage_context;
namespace detail {
struct held_octets;
class flow_impl;
class message_stage_base;
struct stage_slot;

/// How the octets of a held message lie around its payload, and who can frame another payload in its place.
struct held_framing {
  message_stage_base* by;
  std::size_t front, back;  // octets around the payload
};
}  // namespace detail

/// What a hold's deadline does with what is held.
enum class on_expiry : std::uint8_t { pass, drop, close };
/// Where injected octets enter: behind this stage, before the first one, or on the wire (no stage sees them).
enum class place : std::uint8_t { after_me, first_stage, wire };

/// One reason not to read a direction; reading goes on when the last one is gone.
class MIDWIRE_API pause_token {
 public:
  pause_token() noexcept = default;
  pause_token(pause_token&& other) noexcept;
  pause_token& operator=(pause_token&& other) noexcept;
  ~pause_token();

 private:
  friend class detail::flow_impl;
  std::weak_ptr<detail::flow_impl*> flow_;
  direction direction_{};
};

/// Names octets that a stage holds; the flow owns them. Destroyed unanswered it does what its on_expiry says, once.
/// The token of an ended flow is empty, and answering it does nothing. What a message_stage holds is a message: the
/// token shows and replaces its payload, and proto::encode_error from replace() leaves it held.
class MIDWIRE_API hold_token {
 public:
  hold_token() noexcept;
  hold_token(hold_token&& other) noexcept;
  hold_token& operator=(hold_token&& other) noexcept;
  ~hold_token();
  explicit operator bool() const noexcept;
  /// Valid until the next call on the token or the flow.
  byte_view bytes() const;
  void release();
  void replace(buffer instead);
  void drop();

 private:
  friend class detail::flow_impl;
  std::shared_ptr<detail::held_octets> held_;
};

/// What a stage decides about the octets it was shown. It carries them: each maker takes all that the stage was shown.
class [[nodiscard]] verdict {
 public:
  verdict(verdict&&) noexcept = default;
  verdict& operator=(verdict&&) noexcept = default;
  ~verdict() = default;

  /// As they came, edited, or others in their place.
  static verdict pass(buffer out) {
    verdict v;
    v.out_ = std::move(out);
    return v;
  }
  /// `why` is a literal: it names the counter.
  static verdict drop(chunk gone, const char* why) {
    verdict v;
    v.kind_ = kind::drop, v.rest_ = std::move(gone), v.why_ = why;
    return v;
  }
  /// Send `out`; show `rest` again in front of at least `at_least` new octets. After `at_most` without them (never
  /// when zero) on_expired gets it.
  static verdict keep(buffer out, chunk rest, std::size_t at_least = 1, duration at_most = {}) {
    verdict v;
    v.kind_ = kind::keep, v.out_ = std::move(out), v.rest_ = std::move(rest);
    v.at_least_ = at_least, v.at_most_ = at_most;
    return v;
  }
  /// Stop this direction here until the token is answered or `at_most` is over.
  static verdict hold(chunk held, hold_token& token, duration at_most, on_expiry then) {
    verdict v;
    v.kind_ = kind::hold, v.rest_ = std::move(held), v.token_ = &token, v.at_most_ = at_most, v.then_ = then;
    return v;
  }
  /// Behind these octets the flow ends in order, in both directions.
  verdict then_close(reason why = {}) && {
    after_ = after::close, why_ended_ = std::make_unique<reason>(std::move(why));
    return std::move(*this);
  }
  /// Behind these octets both sides are reset.
  verdict then_reset() && {
    after_ = after::reset;
    return std::move(*this);
  }
  /// In on_end at a FIN only: no FIN follows.
  verdict without_end() && {
    without_end_ = true;
    return std::move(*this);
  }

 private:
  friend class detail::flow_impl;
  friend class detail::message_stage_base;
  enum class kind : std::uint8_t { pass, drop, keep, hold };
  enum class after : std::uint8_t { nothing, close, reset };
  verdict() = default;
  buffer out_;
  chunk rest_;
  // What lies behind the message that this is about: not decided yet, shown again when this has been carried out.
  chunk unseen_;
  std::unique_ptr<detail::held_framing> framing_;  // of a hold
  std::size_t at_least_ = 1;
  duration at_most_{};
  const char* why_ = nullptr;
  hold_token* token_ = nullptr;
  std::unique_ptr<reason> why_ended_;
  kind kind_ = kind::pass;
  after after_ = after::nothing;
  on_expiry then_ = on_expiry::pass;
  bool without_end_ = false;
};

/// What a stage may ask of its flow. Lives as long as its stage, which may keep the reference. No member calls a stage
/// before it returns.
class MIDWIRE_API stage_context {
 public:
  /// False: over the limit (four times the high water mark), dropped and counted.
  bool inject(direction d, buffer octets, place where = place::after_me);
  /// Do not show me the next `octets` octets: splice may move them. 0 asks to see the next octet again.
  void bypass(direction d, std::uint64_t octets = ~std::uint64_t{0});
  [[nodiscard]] pause_token pause(direction d);
  /// Never fires after on_close.
  timer_ref call_later(duration from_now, callback<void()> then);
  /// Ends the flow in order, behind what the stages have let go.
  void close(reason why = {});
  /// Resets both sides, now.
  void reset();
  /// `why` is a literal.
  void count(const char* why);
  const address& peer(side s) const noexcept;
  std::uint64_t flow_id() const noexcept;
  /// Octets this stage was shown, or bypassed, in this direction before the chunk it is shown now.
  std::uint64_t offset(direction d) const noexcept;
  /// In on_end: whether the direction ends by a reset, not by a FIN.
  bool ended_by_reset(direction d) const noexcept;
  instant now() const noexcept;

 private:
  friend class detail::flow_impl;
  friend struct detail::stage_slot;
  stage_context(detail::flow_impl& flow, std::size_t index) noexcept : flow_{flow}, index_{index} {}
  detail::flow_impl& flow_;
  std::size_t index_;
};

/// One step of a flow's pipeline. Shown octets, it answers with a verdict that carries them.
class MIDWIRE_API stage {
 public:
  virtual ~stage() = default;
  virtual void on_open(stage_context&) {}
  virtual verdict on_data(stage_context&, direction, chunk data) { return verdict::pass(std::move(data)); }
  /// What was kept, when its at_most was over.
  virtual verdict on_expired(stage_context&, direction, chunk kept) { return verdict::pass(std::move(kept)); }
  /// What was kept (maybe nothing), when the direction ends; then the FIN or RST follows. To keep here is to pass.
  virtual verdict on_end(stage_context&, direction, chunk kept) { return verdict::pass(std::move(kept)); }
  /// Asked after on_end when a TLS source ended without close_notify: whether all that came was complete messages. Then
  /// the other side sees an end instead of a reset. Not asked of a stage that bypasses.
  virtual bool at_boundary(direction) const noexcept { return false; }
  virtual void on_close(stage_context&, const reason&) noexcept {}
};

}  // namespace midwire
