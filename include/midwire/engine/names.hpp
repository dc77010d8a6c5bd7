#pragma once

#include <memory>
#include <string>
#include <vector>

#include <midwire/base/address.hpp>
#include <midwire/base/callback.hpp>
#include <midwire/base/export.hpp>
#include <midwire/base/reason.hpp>
#include <midwire/base/views.hpp>

namespace midwire {

class reactor;

/// Turns names into addresses without blocking the loop. The deadline is the caller's.
class MIDWIRE_API resolver {
 public:
  /// What came: addresses of one family (maybe none), and whether more may follow.
  struct answer {
    std::vector<address> addresses;
    reason error;
    bool last = false;
  };
  virtual ~resolver() = default;
  /// Asks for both families. `got` is called once or twice, from the loop and never from here; after the one with
  /// `last` no more. Addresses have port 0.
  /// \return a number for forget().
  virtual std::uint64_t ask(const std::string& host, callback<void(answer)> got) = 0;
  /// The answer is not wanted any more: `got` is not called again.
  virtual void forget(std::uint64_t query) noexcept = 0;
};

/// The hosts file and DNS, by c-ares on the loop: cached (the TTL, at most 30 s; failures 5 s).
MIDWIRE_API std::unique_ptr<resolver> make_cares_resolver(reactor& r);

}  // namespace midwire
