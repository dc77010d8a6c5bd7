#pragma once

#include <optional>
#include <string>
#include <vector>

#include <midwire/base/address.hpp>
#include <midwire/base/export.hpp>

namespace midwire::streams {

/// The addresses at which this process listens: a proxy that connects to one of them would talk to itself until the
/// descriptors end.
///
/// Threads  add() before the loops run; reached_by() from any of them.
class MIDWIRE_API own_listeners {
 public:
  void add(const address& at) { listening_.push_back(at); }
  /// Why a connection to `to` is refused: it would arrive at one of our own listeners (directly, by a wildcard, by
  /// another name of the same socket file). Nothing: it would not.
  std::optional<std::string> reached_by(const address& to) const;

 private:
  std::vector<address> listening_;
};

}  // namespace midwire::streams
