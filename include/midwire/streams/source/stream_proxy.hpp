#pragma once

#include <memory>
#include <string>
#include <vector>

#include <midwire/base/export.hpp>
#include <midwire/engine/core/flow.hpp>
#include <midwire/engine/pool.hpp>
#include <midwire/rules/rule.hpp>
#include <midwire/streams/sink/events.hpp>
#include <midwire/streams/source/mode.hpp>

namespace midwire::streams {

struct proxy_settings {
  std::vector<mode> modes;
  /// Octets a direction: `high` bounds what a flow holds. A window above `low` raises both marks with it.
  flow_limits limits{};
  duration connect_timeout = std::chrono::seconds{30};
  bool reset_on_connect_error = false;
  std::uint64_t seed = 0;
  /// What one rule may hold back of a direction, in octets, and for how long.
  std::size_t window = std::size_t{64} << 10;
  duration hold = std::chrono::milliseconds{50};
  bool hold_strict = false;  ///< hold until decided, whatever it takes
  /// The rules can be exchanged while it runs: each connection is ready for it, even without a rule.
  bool rules_can_change = false;
  bool answer = true;  ///< serve: send the edited octets back
};

/// All listeners of a process: relays and served ports, their rules, and what happens at them as events.
///
/// Threads   made, started and stopped on the pool's first loop, or before it runs; reload() from any thread.
/// Lifetime  the pool and the sink must outlive it.
class MIDWIRE_API stream_proxy {
 public:
  stream_proxy(reactor_pool& pool, proxy_settings settings, rules::rule_set_ptr rules, event_sink& sink);
  stream_proxy(const stream_proxy&) = delete;
  stream_proxy& operator=(const stream_proxy&) = delete;
  ~stream_proxy();

  /// Opens all ports and says so. Before pool.run().
  /// Throws std::system_error naming the address that could not be opened, and std::invalid_argument when a mode
  /// would forward to a listener of this process.
  void start();
  /// New connections take the new rules at once, live ones at their next unit.
  void reload(rules::rule_set_ptr rules);
  /// Accepts no more, lets connections finish for `drain`, resets what is left. `done` is called on the first loop.
  void stop(duration drain, callback<void()> done);
  /// After the pool has ended.
  summary_event totals() const;

 private:
  class impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace midwire::streams
