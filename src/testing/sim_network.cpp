#include <midwire/testing/sim_network.hpp>

#include <system_error>
#include <utility>

#include "testing/network_impl.hpp"

namespace midwire::testing {

sim_network::sim_network(std::uint64_t seed, link_shape shape)
    : impl_{std::make_shared<detail::network_impl>(seed, shape)} {}
sim_network::~sim_network() = default;

instant sim_network::now() const noexcept { return impl_->now(); }

void sim_network::advance(duration d) {
  impl_->advance_to(impl_->now() + d);
  impl_->step();
}

void sim_network::set_shape(const link_shape& shape) { impl_->shape = shape; }

void sim_network::script(const address& to, const link_script& s, std::size_t times) { impl_->script(to, s, times); }

void sim_network::lose_datagrams(const address& to, std::size_t count) { impl_->datagrams.lose(to, count); }

bool sim_network::in_flight() const noexcept { return impl_->next(false).has_value(); }

namespace detail {

class peer_impl final : public socket_owner, public std::enable_shared_from_this<peer_impl> {
 public:
  explicit peer_impl(std::shared_ptr<network_impl> n) : net{std::move(n)} {}
  ~peer_impl() override {
    if (listener) {
      net->remove(*listener);
      for (const auto& s : listener->backlog) s->reset();
    }
    if (dialled) dialled->cancelled = true;
    if (!socket) return;
    socket->owner = nullptr;
    socket->close();
  }
  void changed(sim_socket&) override { look(); }
  void changed(sim_listener&) override { look(); }
  void look() {
    if (looking) return;
    looking = true;
    net->soon(shared_from_this(), [this] {
      const auto alive = shared_from_this();
      looking = false;
      work();
    });
  }
  void attach(std::shared_ptr<sim_socket> s) {
    socket = std::move(s);
    socket->owner = this;
    host = socket->local;
    for (auto& text : early) socket->send(std::move(text));
    early.clear();
    if (end_early) socket->send_end();
    look();
  }
  void work() {
    if (listener && !listener->backlog.empty()) {
      auto s = std::move(listener->backlog.front());
      listener->backlog.pop_front();
      net->remove(*listener);
      for (const auto& other : listener->backlog) other->reset();
      listener.reset();
      attach(std::move(s));
    }
    if (!socket || socket->closed) return;
    socket->newly_taken = 0;
    socket->push();
    while (reading && !socket->closed && !socket->in->arrived.empty()) {
      const item i = socket->take(~std::size_t{0});
      switch (i.what) {
        case item::kind::end: saw_end = true; break;
        case item::kind::reset: saw_reset = true; break;
        case item::kind::data:
          received += i.octets;
          if (on_received) on_received(i.octets);
      }
    }
    if (socket->broken) saw_reset = true;  // a reset is seen though nobody reads
  }

  std::shared_ptr<network_impl> net;
  std::shared_ptr<sim_listener> listener;
  std::shared_ptr<attempt> dialled;
  std::shared_ptr<sim_socket> socket;
  address host;
  std::deque<std::string> early;
  std::string received;
  std::function<void(std::string_view)> on_received;
  bool end_early = false, reading = true, saw_end = false, saw_reset = false, failed = false, looking = false;
};

}  // namespace detail

sim_peer::sim_peer(sim_network& network) : impl_{std::make_shared<detail::peer_impl>(network.impl())} {}
sim_peer::sim_peer(sim_peer&&) noexcept = default;
sim_peer& sim_peer::operator=(sim_peer&&) noexcept = default;
sim_peer::~sim_peer() = default;

sim_peer& sim_peer::listen(const address& at) {
  impl_->listener = std::make_shared<detail::sim_listener>();
  impl_->listener->owner = impl_.get();
  impl_->host = impl_->net->add(impl_->listener, at, false, true);
  if (impl_->host.empty()) throw std::system_error{std::make_error_code(std::errc::address_in_use), at.text()};
  return *this;
}

sim_peer& sim_peer::connect(const address& to, const address& from) {
  impl_->dialled = impl_->net->connect(
      to, from, [weak = std::weak_ptr{impl_}](std::shared_ptr<detail::sim_socket> s, std::error_code error) {
        const auto self = weak.lock();
        if (!self) {
          if (s) s->reset();
        } else if (error) {
          self->failed = true;
        } else {
          self->attach(std::move(s));
        }
      });
  return *this;
}

bool sim_peer::connected() const noexcept { return impl_->socket != nullptr; }
bool sim_peer::failed() const noexcept { return impl_->failed; }

sim_peer& sim_peer::send(std::string_view octets) {
  if (impl_->socket)
    impl_->socket->send(std::string{octets});
  else
    impl_->early.emplace_back(octets);
  return *this;
}

sim_peer& sim_peer::send_end() {
  if (impl_->socket)
    impl_->socket->send_end();
  else
    impl_->end_early = true;
  return *this;
}

sim_peer& sim_peer::reset() {
  if (impl_->socket) impl_->socket->reset();
  return *this;
}

sim_peer& sim_peer::close() {
  if (impl_->socket) impl_->socket->close();
  return *this;
}

sim_peer& sim_peer::stop_reading() {
  impl_->reading = false;
  return *this;
}

sim_peer& sim_peer::start_reading() {
  impl_->reading = true;
  impl_->look();
  return *this;
}

sim_peer& sim_peer::on_received(std::function<void(std::string_view)> then) {
  impl_->on_received = std::move(then);
  return *this;
}

const std::string& sim_peer::received() const noexcept { return impl_->received; }
void sim_peer::clear() { impl_->received.clear(); }
bool sim_peer::saw_end() const noexcept { return impl_->saw_end; }
bool sim_peer::saw_reset() const noexcept { return impl_->saw_reset; }
std::size_t sim_peer::unsent() const noexcept { return impl_->socket ? impl_->socket->pending_octets : 0; }
const address& sim_peer::host() const noexcept { return impl_->host; }

const address& sim_peer::peer() const noexcept {
  static const address none;
  return impl_->socket ? impl_->socket->peer : none;
}

}  // namespace midwire::testing
