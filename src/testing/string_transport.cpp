#include <midwire/testing/string_transport.hpp>

#include <utility>

#include "testing/borrowed_protocol.hpp"

namespace midwire::testing {

struct string_transport::impl {
  std::shared_ptr<detail::borrowed_protocol::seen> seen = std::make_shared<detail::borrowed_protocol::seen>();
  sim_reactor reactor;
  sim_peer peer{reactor.network()};
  reason still_up;
};

string_transport::string_transport(protocol& tested, const address& peer) : impl_{std::make_unique<impl>()} {
  auto& listener = impl_->reactor.listen_tcp(0, std::make_shared<detail::borrowing_factory>(tested, impl_->seen));
  impl_->peer.connect(address::loopback(listener.host().port()), peer);
  impl_->reactor.pump();
}

string_transport::~string_transport() {
  if (closed()) return;
  impl_->peer.reset();
  impl_->reactor.pump();
}

void string_transport::deliver(buffer octets) {
  impl_->peer.send(octets.text());
  impl_->reactor.pump();
}

void string_transport::deliver_end() {
  impl_->peer.send_end();
  impl_->reactor.pump();
}

void string_transport::deliver_reset() {
  impl_->peer.reset();
  impl_->reactor.pump();
}

void string_transport::advance(duration d) { impl_->reactor.advance(d); }

std::string string_transport::written() {
  impl_->reactor.pump();
  return impl_->peer.received();
}

void string_transport::clear() {
  impl_->reactor.pump();
  impl_->peer.clear();
}

bool string_transport::reading() {
  impl_->reactor.pump();
  return impl_->reactor.simulated().reads_from(impl_->peer.host());
}

bool string_transport::disconnecting() {
  impl_->reactor.pump();
  return !impl_->seen->closed && (impl_->peer.saw_end() || impl_->peer.saw_reset());
}

bool string_transport::closed() {
  impl_->reactor.pump();
  return impl_->seen->closed;
}

const reason& string_transport::why() const noexcept { return impl_->seen->why ? *impl_->seen->why : impl_->still_up; }
sim_reactor& string_transport::reactor() noexcept { return impl_->reactor; }

}  // namespace midwire::testing
