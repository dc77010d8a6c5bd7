#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <midwire/base/export.hpp>
#include <midwire/engine/core/event.hpp>
#include <midwire/engine/core/stage.hpp>

namespace midwire {

/// Limits of one flow or one transport. Sizes are octets a direction; a time of zero means never.
struct flow_limits {
  /// At `high` octets held for a direction its source is not read any more; at `low` it is again.
  std::size_t high = 256 * 1024, low = 128 * 1024;
  /// No octet either way for so long ends it; full for so long ends it. Of a relay: a stage keeps an
  /// unfinished message for at most `message`; of a transport: the first octet comes within `message`.
  duration idle{}, stuck{}, message{};
  /// One direction has ended and the other has been silent for so long.
  duration half_closed = std::chrono::minutes{5};
  duration handshake = std::chrono::seconds{10};
  /// How long an orderly close waits for the peer while nothing moves.
  duration linger = std::chrono::seconds{5};
};

/// Who ended a flow.
enum class ended_by : std::uint8_t { client, server, stage, engine };
MIDWIRE_API std::string_view name_of(ended_by who) noexcept;

/// Octets of one direction of a flow. in == out + dropped + waiting - added, at every moment.
struct flow_count {
  std::uint64_t in = 0;        ///< came from the source
  std::uint64_t out = 0;       ///< went to the sink (the kernel took them)
  std::uint64_t dropped = 0;   ///< by stages, and at a reset
  std::uint64_t injected = 0;  ///< put in by stages
};

/// What one stage saw and did in one direction: in + replaced_added == passed + dropped + held + kept.
struct stage_count {
  std::uint64_t in = 0, out = 0, dropped = 0, held = 0, kept = 0, injected = 0, bypassed = 0;
};

/// A relay without its sockets: two sides and the stages between. It reads no clock: each call brings `now`, and
/// next_deadline() says when to call advance() at the latest. Driven by events, it answers with commands.
///
/// Both sides are up when it is made; the caller starts it with open().
class MIDWIRE_API flow {
 public:
  explicit flow(std::vector<std::unique_ptr<stage>> stages, flow_limits limits = {});
  flow(flow&&) noexcept;
  flow& operator=(flow&&) noexcept;
  ~flow();

  /// What stages see of the flow, and whether the two sockets can be spliced; before open().
  void set_identity(std::uint64_t id, address client, address server);
  void allow_splice(bool yes);
  /// Both ends are up: stages open, reading starts.
  void open(instant now);
  void handle(side from, event what, instant now);
  void advance(instant now);
  std::optional<instant> next_deadline() const;
  /// The next command, in order. False: none.
  bool next_command(side& to, command& what);

  /// Ends both directions in order, or resets both sides, from outside of all stages.
  void close(reason why, instant now);
  void abort(reason why, instant now);
  /// Both sides are done with; no command follows once next_command() has given the last.
  bool closed() const noexcept;
  /// Why, and who began it; meaningful once closed().
  const reason& why() const noexcept;
  ended_by by() const noexcept;
  flow_count count(direction d) const noexcept;
  stage_count count_of_stage(std::size_t index, direction d) const noexcept;
  /// Named counters of stages (drops and count()), in order of first use.
  const std::vector<std::pair<const char*, std::uint64_t>>& counters() const noexcept;
  /// Octets held for a direction now.
  std::size_t waiting(direction d) const noexcept;
  /// Called when work appeared outside of handle() and advance() (a token answered, a context used from elsewhere):
  /// call advance() soon.
  void on_work(callback<void()> notify);

 private:
  std::unique_ptr<detail::flow_impl> impl_;
};

}  // namespace midwire
