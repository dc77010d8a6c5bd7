#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>

#include <midwire/base/export.hpp>
#include <midwire/engine/core/flow.hpp>

namespace midwire::testing {

/// For messages of tests: `data_received "GET"`, `octets_sent 3`; `send "GET"`, `start_reading 65536`.
MIDWIRE_API std::string describe(event& e);
MIDWIRE_API std::string describe(const command& c);

/// Tells a flow what happens and checks what it answers, command by command, under a clock of its own. Opens the flow.
///
/// A step that does not hold throws std::runtime_error, which names the step, what was expected and what came.
/// start_reading and stop_reading are noise: they are passed over unless then() asks for them. A send is compared by
/// its octets, however they lie in chunks; two sends are two commands.
class MIDWIRE_API playbook {
 public:
  explicit playbook(flow& tested, instant start = instant{std::chrono::hours{1000}});

  /// Lets `what` happen; nothing must be left to be answered from before.
  playbook& when(side from, event what);
  /// The next command is this one.
  playbook& then(side to, command expected);
  /// Time goes by, stopping at every deadline of the flow; nothing must be left from before.
  playbook& after(duration d);
  /// Tells the flow that the kernel took all that it sent to this side so far: one octets_sent.
  playbook& taken(side to);
  /// No more commands.
  playbook& quiet();
  instant now() const noexcept { return now_; }

 private:
  void collect();
  void skip_noise();
  [[noreturn]] void fail(const std::string& expected, const std::string& got) const;

  flow& flow_;
  instant now_;
  int step_ = 0;
  std::deque<std::pair<side, command>> commands_;
  std::array<std::uint64_t, 2> sent_{};
};

}  // namespace midwire::testing
