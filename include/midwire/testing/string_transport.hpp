#pragma once

#include <memory>
#include <string>

#include <midwire/base/export.hpp>
#include <midwire/engine/protocol.hpp>
#include <midwire/testing/sim_reactor.hpp>

namespace midwire::testing {

/// A protocol's real transport, on a reactor of its own, with a peer that only writes things down. Each call is done
/// with when it returns: all callbacks it causes have run.
class MIDWIRE_API string_transport {
 public:
  /// `tested` stays the caller's, and outlives this; connection_made is called from here. `peer` is where the peer
  /// connects from.
  explicit string_transport(protocol& tested, const address& peer = {});
  string_transport(const string_transport&) = delete;
  string_transport& operator=(const string_transport&) = delete;
  /// Ends the connection when it is still up.
  ~string_transport();

  void deliver(buffer octets);
  void deliver_end();
  void deliver_reset();
  /// Time goes by.
  void advance(duration d);
  /// What the protocol wrote since the start or the last clear(), as far as it has left.
  std::string written();
  void clear();
  /// Whether the transport reads.
  bool reading();
  /// Our end (FIN) has left, or a reset, and the connection is not closed yet.
  bool disconnecting();
  /// connection_lost was called; why.
  bool closed();
  const reason& why() const noexcept;
  sim_reactor& reactor() noexcept;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace midwire::testing
