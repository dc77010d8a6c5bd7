#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <midwire/base/export.hpp>
#include <midwire/engine/names.hpp>
#include <midwire/engine/reactor.hpp>
#include <midwire/testing/sim_driver.hpp>

namespace midwire::testing {

/// Answers by a table. What is not in it fails at once.
class MIDWIRE_API scripted_resolver final : public resolver {
 public:
  explicit scripted_resolver(reactor& r) noexcept : reactor_{r} {}
  /// Called twice for a name, the second comes as an answer of its own: the other family.
  scripted_resolver& add(const std::string& host, std::vector<address> addresses, duration after = {});
  scripted_resolver& fail(const std::string& host, reason why, duration after = {});
  scripted_resolver& never(const std::string& host);
  /// Every name asked for, in order.
  const std::vector<std::string>& asked() const noexcept { return asked_; }
  /// Queries without their last answer, and not forgotten.
  std::size_t waiting() const noexcept { return queries_.size(); }

  std::uint64_t ask(const std::string& host, callback<void(answer)> got) override;
  void forget(std::uint64_t number) noexcept override;

 private:
  struct line {
    duration after{};
    std::vector<address> addresses;
    reason error;
  };
  struct query {
    callback<void(answer)> got;
    std::vector<timer_ref> timers;
  };
  void tell(std::uint64_t number, const line& l, bool last);

  reactor& reactor_;
  std::map<std::string, std::vector<line>> table_;
  std::map<std::uint64_t, std::shared_ptr<query>> queries_;
  std::vector<std::string> asked_;
  std::uint64_t last_query_ = 0;
};

namespace detail {
struct sim_reactor_parts {
  std::unique_ptr<sim_driver> owned;
  sim_driver* kernel;
};
}  // namespace detail

/// The reactor on a simulated driver. Its clock moves only in advance(), pump() and the like.
class MIDWIRE_API sim_reactor : private detail::sim_reactor_parts, public reactor {
 public:
  explicit sim_reactor(std::uint64_t seed = 1, const link_shape& shape = {});
  /// One of several on a network; they share its clock.
  explicit sim_reactor(std::shared_ptr<sim_network> network, reactor_options options = {});

  /// Lets `d` go by: deadlines in order, those made on the way included, and all that comes of them; then pump().
  void advance(duration d);
  /// Turns until all is quiet: nothing posted, nothing to read, nothing in flight. The clock moves only as far as what
  /// is in flight needs. Throws std::runtime_error after 1,000 rounds at one moment, or 200,000 in all.
  void pump();
  sim_network& network() noexcept { return kernel->network(); }
  sim_driver& simulated() noexcept { return *kernel; }
  scripted_resolver& names() noexcept { return *names_; }

 private:
  scripted_resolver* names_;
};

}  // namespace midwire::testing
