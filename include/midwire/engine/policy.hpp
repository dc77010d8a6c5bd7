#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include <midwire/base/export.hpp>
#include <midwire/engine/core/flow.hpp>
#include <midwire/engine/protocol.hpp>

namespace midwire {

/// What a policy has seen. Plain numbers: read them on the loop.
struct policy_counts {
  std::size_t open = 0;             ///< connections now
  std::uint64_t accepted = 0;       ///< so far
  std::uint64_t over_total = 0;     ///< refused by max_connections
  std::uint64_t over_per_peer = 0;  ///< refused by max_per_peer
};

/// Limits of a factory's connections. Zero is without limit.
struct policy {
  /// Of each connection. What differs from a fresh flow_limits counts; of policies around each other the innermost.
  flow_limits limits{};
  /// At once; of one host (an address without its port).
  std::size_t max_connections = 0, max_per_peer = 0;
  /// Octets a second of each connection, as its protocol sees them. Smoothly: a tenth of a second's worth at once at
  /// most. While it has read its share a connection is not read, and its peer feels that.
  std::size_t read_rate = 0, write_rate = 0;
  /// A line for each chunk, to log_to or as information to the engine's log.
  bool log{};
  /// The same of all connections together. Each takes its turn; for a moment they may have a hundredth of a second's
  /// worth each.
  std::size_t total_read_rate = 0, total_write_rate = 0;
  /// Called for each connection that is refused, with ending::over_limit and the limit in words.
  std::function<void(const address& peer, const reason& why)> over_limit{};
  std::function<void(std::string_view line)> log_to{};
  std::shared_ptr<policy_counts> counts{};
};

/// A factory within limits. Policies may be put around each other and around reconnecting(): the strictest holds.
///
/// Refused   a connection over a limit is closed, counted, told to over_limit and, once a second, as a warning to the
///           engine's log. For connect_* the deferred fails with ending::over_limit.
/// Threads   one loop: counts, rates and limits are those of this factory.
MIDWIRE_API factory_ptr with_policy(factory_ptr wrapped, policy limits);

}  // namespace midwire
