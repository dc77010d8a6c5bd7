#include <midwire/testing/sim_link.hpp>

#include <array>
#include <exception>
#include <utility>

#include "testing/borrowed_protocol.hpp"
#include "testing/network_impl.hpp"

namespace midwire::testing {

struct sim_link::impl {
  explicit impl(sim_reactor& r) noexcept : reactor{r} {}
  sim_reactor& reactor;
  std::array<std::shared_ptr<detail::borrowed_protocol::seen>, 2> seen{
      std::make_shared<detail::borrowed_protocol::seen>(), std::make_shared<detail::borrowed_protocol::seen>()};
  std::array<protocol*, 2> protocols{};
  std::shared_ptr<detail::live_faults> faults = std::make_shared<detail::live_faults>();
  listener* port = nullptr;
  deferred<protocol*> connected;
  reason still_up;
};

sim_link::sim_link(sim_reactor& r, protocol& a, protocol& b, const link_shape& shape)
    : impl_{std::make_unique<impl>(r)} {
  impl_->protocols = {&a, &b};
  impl_->port = &r.listen_tcp(0, std::make_shared<detail::borrowing_factory>(b, impl_->seen[1]));
  const address where = address::loopback(impl_->port->host().port());
  link_script script;
  script.shape = shape;
  r.network().impl()->script(where, script, 1, impl_->faults);
  impl_->connected = r.connect_tcp(where.host(), where.port(),
                                   std::make_shared<detail::borrowing_factory>(a, impl_->seen[0]), {.timeout = {}});
}

sim_link::~sim_link() {
  impl_->connected.cancel();
  impl_->port->stop_listening();
  for (std::size_t i = 0; i < 2; ++i)
    if (impl_->seen[i]->made && !impl_->seen[i]->closed) impl_->protocols[i]->transport().abort_connection();
  try {
    impl_->reactor.pump();
  } catch (const std::exception&) {}  // it does not come to rest: the protocols are given back all the same
  for (const auto& s : impl_->seen) s->given_back = true;
}

void sim_link::reset_at(std::uint64_t octet) {
  direction_faults f = impl_->faults->faults[index_of(direction::to_server)];
  f.reset_at = octet;
  set_faults(direction::to_server, f);
}

void sim_link::set_faults(direction way, const direction_faults& faults) { impl_->faults->set(way, faults); }

bool sim_link::up() const noexcept {
  return impl_->seen[0]->made && impl_->seen[1]->made && !impl_->seen[0]->closed && !impl_->seen[1]->closed;
}

bool sim_link::closed() const noexcept { return impl_->seen[0]->closed && impl_->seen[1]->closed; }

const reason& sim_link::why(side whose) const noexcept {
  const auto& seen = *impl_->seen[whose == side::client ? 0 : 1];
  return seen.why ? *seen.why : impl_->still_up;
}

}  // namespace midwire::testing
