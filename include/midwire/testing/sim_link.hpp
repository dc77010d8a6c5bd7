#pragma once

#include <cstdint>
#include <memory>

#include <midwire/base/export.hpp>
#include <midwire/engine/protocol.hpp>
#include <midwire/testing/sim_reactor.hpp>

namespace midwire::testing {

/// Two protocols joined by a simulated link, each on a real transport of the same reactor. `a` is the client: what it
/// sends goes to_server.
///
/// Lifetime  the protocols and the reactor stay the caller's, and outlive this.
class MIDWIRE_API sim_link {
 public:
  /// Both connection_made come in the reactor's next pump() or advance(): what is asked of the link before holds from
  /// the first octet.
  sim_link(sim_reactor& r, protocol& a, protocol& b, const link_shape& shape = {});
  sim_link(const sim_link&) = delete;
  sim_link& operator=(const sim_link&) = delete;
  /// Resets what is still up: pumps the reactor, so not from inside a callback. The protocols hear nothing afterwards.
  ~sim_link();

  /// Both see a reset behind the first `octet` octets that `a` sends; at once when they have been sent already.
  void reset_at(std::uint64_t octet);
  /// All that can go wrong in one direction, in place of what was to go wrong before. Octets are counted from the first
  /// one of the connection.
  void set_faults(direction way, const direction_faults& faults);
  /// Both are connected, and neither has lost its connection.
  bool up() const noexcept;
  /// Both have lost it.
  bool closed() const noexcept;
  /// How the connection of `whose` ended; `done` while it is up.
  const reason& why(side whose) const noexcept;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace midwire::testing
