#include <midwire/engine/pool.hpp>

#include <sched.h>

#include <exception>
#include <system_error>

#include <midwire/engine/endpoint.hpp>

#include "engine/listener_state.hpp"
#include "engine/reactor_impl.hpp"
#include "engine/transport_impl.hpp"

namespace midwire {

namespace {
unsigned usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int n = CPU_COUNT(&set);
  return n > 0 ? static_cast<unsigned>(n) : 1;
}
}  // namespace

reactor_pool::reactor_pool(unsigned loops, reactor_options options) {
  if (loops == 0) loops = usable_cores();
  // Made from the last to the first, so that loop 0 is this thread's own.
  loops_.resize(loops);
  for (unsigned i = loops; i-- > 0;) loops_[i] = std::make_unique<reactor>(options);
}

reactor_pool::~reactor_pool() {
  for (std::size_t i = 1; i < loops_.size(); ++i) loops_[i]->call_from_thread([r = loops_[i].get()] { r->stop(); });
  for (auto& t : threads_) t.join();
}

void reactor_pool::run() {
  for (std::size_t i = 1; i < loops_.size(); ++i) threads_.emplace_back([r = loops_[i].get()] { r->run(); });
  loops_[0]->run();
  for (std::size_t i = 1; i < loops_.size(); ++i) loops_[i]->call_from_thread([r = loops_[i].get()] { r->stop(); });
  for (auto& t : threads_) t.join();
  threads_.clear();
}

void reactor_pool::stop(duration drain) {
  post_to_all([drain](reactor& r) {
    if (drain.count() > 0)
      r.call_later(drain, [&r] { r.stop(); });
    else
      r.stop();
  });
}

void reactor_pool::post_to_all(const std::function<void(reactor&)>& f) {
  for (auto& r : loops_) r->call_from_thread([loop = r.get(), f] { f(*loop); });
}

std::size_t reactor_pool::least_loaded() const noexcept {
  std::size_t best = 0;
  for (std::size_t i = 1; i < loops_.size(); ++i)
    if (loops_[i]->impl().load < loops_[best]->impl().load) best = i;
  return best;
}

address reactor_pool::listen(std::string_view text, callback<factory_ptr(reactor&)> build, balance how) {
  const auto parsed = parse_endpoint(text);
  if (!parsed)
    throw std::system_error{std::make_error_code(std::errc::invalid_argument),
                            std::string{text} + ": " + parsed.error().what};
  const endpoint& e = *parsed;
  const bool is_unix = e.how == endpoint::scheme::unix_path;
  address where = is_unix ? address::unix_path(e.path) : detail::listen_address(e.host, e.port);
  const bool each = how == balance::kernel && !is_unix && loops_.size() > 1;
  std::vector<factory_ptr> factories;
  for (auto& r : loops_) factories.push_back(build(*r));
  const auto opened = [&] {
    for (const auto& f : factories)
      if (f->ports_++ == 0) f->started();
  };
  listen_options options;
  options.share_port = each;
  auto* const first = &loops_[0]->impl();
  if (each || loops_.size() == 1) {
    for (std::size_t i = 0; i < loops_.size(); ++i) {
      auto* const r = &loops_[i]->impl();
      auto state = detail::open_port(*r, where, options, [r, f = factories[i]](socket_id s, const address& peer) {
        detail::transport_impl::start(*r, s, peer, f, false);
      });
      where = state->host;
      options.reuse_port = each;
      r->listeners.push_back(std::make_unique<listener>(std::move(state)));
    }
    opened();
    return where;
  }
  // One loop accepts; each descriptor goes to the loop with the fewest connections.
  auto state = detail::open_port(*first, where, options, [this, first, factories](socket_id s, const address& peer) {
    const std::size_t i = least_loaded();
    auto* const r = &loops_[i]->impl();
    const auto begin = [r, peer, f = factories[i]](socket_id arrived) {
      detail::transport_impl::start(*r, arrived, peer, f, false);
    };
    if (i != 0 && detail::hand_over(*first, s, *r, begin)) return;
    detail::transport_impl::start(*first, s, peer, factories[0], false);
  });
  where = state->host;
  first->listeners.push_back(std::make_unique<listener>(std::move(state)));
  opened();
  return where;
}

}  // namespace midwire
