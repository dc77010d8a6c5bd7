#include "testing/network_impl.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>

namespace midwire::testing::detail {

namespace {
constexpr std::array<std::size_t, 15> primes = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47};
constexpr std::array<std::uint64_t, 5> random_sizes = {1, 8, 64, 1460, 65536};
}  // namespace

// ---- sockets

void sim_socket::send(std::string octets) {
  if (closed || broken || end_wanted || octets.empty()) return;
  pending_octets += octets.size();
  pending.push_back(std::move(octets));
  // Octets behind others wait for their turn: a try that was short is not made up for by the next send.
  if (pending.size() == 1) push();
}

void sim_socket::send_end() {
  if (closed || broken || std::exchange(end_wanted, true)) return;
  if (pending.empty()) push();
}

std::size_t sim_socket::admit(std::size_t octets) {
  if (closed || broken || net.now() < blocked_until) return 0;
  const auto& faults = out->faults;
  std::uint64_t n = std::min(octets, out->room());
  if (faults.short_write > 0) n = std::min<std::uint64_t>(n, faults.short_write);
  if (faults.reset_at) n = std::min(n, *faults.reset_at - out->taken);
  if (!faults.blocked_at || blocked_once) return static_cast<std::size_t>(n);
  if (out->taken < *faults.blocked_at) return static_cast<std::size_t>(std::min(n, *faults.blocked_at - out->taken));
  blocked_once = true, blocked_until = net.now() + faults.blocked_for;
  net.at(blocked_until, true, [self = weak_from_this()] {
    if (const auto s = self.lock()) s->tell();
  });
  return 0;
}

bool sim_socket::writable_now() const { return !closed && !broken && net.now() >= blocked_until && out->room() > 0; }

void sim_socket::push() {
  const auto& faults = out->faults;
  std::size_t budget = faults.short_write > 0 ? faults.short_write : ~std::size_t{0};
  while (!pending.empty()) {
    std::string& front = pending.front();
    const std::size_t n = admit(std::min(front.size(), budget));
    if (n == 0) break;
    newly_taken += n;
    net.put_octets(out, std::string_view{front}.substr(0, n));
    if (broken) return tell();  // they met a closed end
    pending_octets -= n, budget -= n;
    if (n == front.size())
      pending.pop_front();
    else
      front.erase(0, n);
    if (faults.reset_at && out->taken == *faults.reset_at) {
      net.put(out, {item::kind::reset, {}, {}, {}});
      net.put(in, {item::kind::reset, {}, {}, {}});
      return tell();
    }
  }
  if (closed || broken) return;
  if (pending.empty() && end_wanted && !std::exchange(out->ended, true)) net.put(out, {item::kind::end, {}, {}, {}});
  if (newly_taken > 0 || (!pending.empty() && budget == 0)) tell();
}

item sim_socket::take(std::size_t octets) {
  item& front = in->arrived.front();
  item result;
  if (front.what == item::kind::data && front.octets.size() > octets) {
    result.octets = front.octets.substr(0, octets);
    front.octets.erase(0, octets);
  } else {
    result = std::move(front);
    in->arrived.pop_front();
    while (result.what == item::kind::data && in->shape.segments == cut::random && !in->arrived.empty() &&
           in->arrived.front().what == item::kind::data &&
           result.octets.size() + in->arrived.front().octets.size() <= octets && net.random.one_in(3)) {
      result.octets += in->arrived.front().octets;
      in->arrived.pop_front();
    }
  }
  in->unread -= result.octets.size();
  if (!result.octets.empty())
    if (const auto other = in->from.lock()) other->tell();  // there is room again
  return result;
}

void sim_socket::close() {
  if (closed) return;
  if (in->unread > 0) return reset();
  closed = true;
  if (broken) return;
  pending.clear(), pending_octets = 0;
  if (!std::exchange(out->ended, true)) net.put(out, {item::kind::end, {}, {}, {}});
}

void sim_socket::reset() {
  if (closed) return;
  if ((local.is_unix() || peer.is_unix()) && in->unread == 0) return close();
  closed = true;
  if (broken) return;
  pending.clear(), pending_octets = 0;
  // What the wire has not begun to send is lost; what it has arrives before the reset.
  while (!out->flight.empty() && out->flight.back().departs > net.now()) {
    out->in_flight -= out->flight.back().octets.size();
    out->flight.pop_back();
  }
  out->free_at = net.now();
  net.put(out, {item::kind::reset, {}, {}, {}});
}

void sim_socket::set_faults(const direction_faults& f) {
  out->faults = f;
  blocked_once = false;
  if (closed || broken) return;
  if (f.reset_at && *f.reset_at <= out->taken) {
    for (const auto& p : {out, in}) net.put(p, {item::kind::reset, {}, {}, {}});
    tell();
  } else if (f.end_at && *f.end_at <= out->taken && !std::exchange(out->ended, true)) {
    net.put(out, {item::kind::end, {}, {}, {}});
  }
}

void live_faults::set(direction way, const direction_faults& f) {
  faults[index_of(way)] = f;
  if (const auto s = senders[index_of(way)].lock()) s->set_faults(f);
}

void sim_socket::break_off() {
  broken = true;
  pending.clear(), pending_octets = 0;
}

// ---- the wires

void network_impl::at(instant t, bool moves, std::function<void()> then) {
  const std::pair key{std::max(t, now_), ++order_};
  events_.emplace(key, happening{moves, std::move(then)});
  if (moves) moving_.insert(key);
}

std::optional<instant> network_impl::next(bool timers) const noexcept {
  if (!soon_.empty()) return now_;
  if (timers) return events_.empty() ? std::nullopt : std::optional{events_.begin()->first.first};
  return moving_.empty() ? std::nullopt : std::optional{moving_.begin()->first};
}

void network_impl::soon(const std::shared_ptr<void>& owner, std::function<void()> then) {
  soon_.emplace_back(owner, std::move(then));
}

void network_impl::step() {
  for (std::size_t rounds = 0;; ++rounds) {
    if (rounds > 10'000'000) throw std::runtime_error{"sim_network: peers answer each other for ever"};
    if (!soon_.empty()) {
      auto [owner, then] = std::move(soon_.front());
      soon_.pop_front();
      if (const auto alive = owner.lock()) then();
    } else if (!events_.empty() && events_.begin()->first.first <= now_) {
      auto event = events_.extract(events_.begin());
      if (event.mapped().moves) moving_.erase(event.key());
      event.mapped().then();
    } else {
      return;
    }
  }
}

void network_impl::advance_to(instant t) {
  step();
  while (!events_.empty() && events_.begin()->first.first <= t) {
    now_ = std::max(now_, events_.begin()->first.first);
    step();
  }
  now_ = std::max(now_, t);
}

std::size_t network_impl::next_cut(sim_pipe& p, std::size_t octets) {
  switch (p.shape.segments) {
    case cut::as_sent: break;
    case cut::one_octet: return 1;
    case cut::primes: {
      const std::size_t n = std::min(octets, primes[p.prime] - p.prime_used);
      p.prime_used += n;
      if (p.prime_used == primes[p.prime]) p.prime = (p.prime + 1) % primes.size(), p.prime_used = 0;
      return n;
    }
    case cut::every_position: {
      const std::uint64_t where = p.shape.position > 0 ? p.shape.position : p.number;
      if (p.taken < where) return static_cast<std::size_t>(std::min<std::uint64_t>(octets, where - p.taken));
      break;
    }
    case cut::random: {
      const std::uint64_t most = random_sizes[random.below(random_sizes.size())];
      return static_cast<std::size_t>(std::min<std::uint64_t>(octets, 1 + random.below(most)));
    }
  }
  return octets;
}

void network_impl::put_octets(const std::shared_ptr<sim_pipe>& p, std::string_view octets) {
  while (!octets.empty()) {
    const std::size_t n = next_cut(*p, octets.size());
    std::uint64_t carried = n;
    if (p->faults.end_at) {
      carried = p->taken < *p->faults.end_at ? std::min<std::uint64_t>(n, *p->faults.end_at - p->taken) : 0;
      if (p->taken + n >= *p->faults.end_at && !std::exchange(p->ended, true)) {
        if (carried > 0)
          put(p, {item::kind::data, std::string{octets.substr(0, static_cast<std::size_t>(carried))}, {}, {}});
        put(p, {item::kind::end, {}, {}, {}});
        carried = 0;
      }
    }
    if (carried > 0)
      put(p, {item::kind::data, std::string{octets.substr(0, static_cast<std::size_t>(carried))}, {}, {}});
    p->taken += n;
    octets.remove_prefix(n);
  }
}

void network_impl::put(const std::shared_ptr<sim_pipe>& p, item i) {
  if (p->broken) return;
  i.departs = std::max(now_, p->free_at);
  p->free_at = i.departs;
  if (p->shape.rate > 0 && !i.octets.empty())
    p->free_at += duration{
        static_cast<std::int64_t>(static_cast<double>(i.octets.size()) * 1e9 / static_cast<double>(p->shape.rate))};
  i.arrives = p->free_at + p->shape.latency;
  if (!p->flight.empty()) i.arrives = std::max(i.arrives, p->flight.back().arrives);
  if (i.arrives <= now_ && p->flight.empty()) return arrive(p, std::move(i));
  p->in_flight += i.octets.size();
  p->flight.push_back(std::move(i));
  arrivals(p);
}

void network_impl::arrivals(const std::shared_ptr<sim_pipe>& p) {
  while (!p->flight.empty() && p->flight.front().arrives <= now_) {
    item i = std::move(p->flight.front());
    p->flight.pop_front();
    p->in_flight -= i.octets.size();
    arrive(p, std::move(i));
  }
  if (p->flight.empty() || std::exchange(p->scheduled, true)) return;
  at(p->flight.front().arrives, true, [this, p] {
    p->scheduled = false;
    arrivals(p);
  });
}

void network_impl::arrive(const std::shared_ptr<sim_pipe>& p, item i) {
  const auto to = p->to.lock();
  if (!to || to->closed) {
    // Octets for nobody are answered by a reset.
    if (i.what != item::kind::data) return;
    p->flight.clear(), p->in_flight = 0, p->broken = true;
    if (const auto back = p->back.lock()) put(back, {item::kind::reset, {}, {}, {}});
    return;
  }
  if (to->broken) return;
  if (i.what == item::kind::reset) to->break_off();
  p->unread += i.octets.size();
  p->arrived.push_back(std::move(i));
  to->tell();
  if (const auto from = p->from.lock(); from && from->draining) from->tell();
}

void network_impl::drain(std::shared_ptr<sim_socket> s, instant deadline) {
  s->owner = this, s->draining = true;
  draining_[s.get()] = s;
  s->tell();
  at(deadline, false, [this, weak = std::weak_ptr{s}] {
    if (const auto late = weak.lock()) {
      late->reset();
      draining_.erase(late.get());
    }
  });
}

void network_impl::changed(sim_socket& s) {
  // Not from here: whoever calls is in the middle of something.
  soon(s.shared_from_this(), [this, weak = s.weak_from_this()] {
    const auto it = draining_.find(weak.lock().get());
    if (it == draining_.end()) return;
    const auto drained = it->second;
    drained->newly_taken = 0;
    drained->push();
    drained->newly_taken = 0;
    if (!drained->broken && (!drained->pending.empty() || drained->out->in_flight > 0)) return;
    drained->reset();
    draining_.erase(drained.get());
  });
}

// ---- connecting

std::uint16_t network_impl::free_port() { return ++last_port_ < 40000 ? (last_port_ = 40000) : last_port_; }

address network_impl::add(const std::shared_ptr<sim_listener>& l, const address& at, bool shared, bool once) {
  l->local = at.is_ip() && at.port() == 0 ? at.with_port(free_port()) : at;
  l->shared = shared, l->once = once;
  for (const auto& other : listeners_)
    if (other->local == l->local && !(shared && other->shared) && !(once && other->once)) return {};
  listeners_.push_back(l);
  return l->local;
}

void network_impl::remove(const sim_listener& l) {
  std::erase_if(listeners_, [&](const auto& other) { return other.get() == &l; });
}

std::shared_ptr<sim_listener> network_impl::find(const address& to) {
  std::vector<std::shared_ptr<sim_listener>> matching;
  const auto matches = [&](const address& a) {
    if (a == to) return true;
    if (!a.is_ip() || !to.is_ip() || a.port() != to.port() || !a.is_any()) return false;
    return a.family() == to.family() || a.family() == address::kind::ipv6;
  };
  for (const auto& l : listeners_)
    if (matches(l->local) && !(l->once && !l->backlog.empty())) matching.push_back(l);
  if (matching.empty()) return nullptr;
  return matching[matching.front()->shared ? turn_++ % matching.size() : 0];
}

void network_impl::script(const address& to, const link_script& s, std::size_t times,
                          std::shared_ptr<live_faults> live) {
  scripts_[to.text()].push_back({s, times, std::move(live)});
}

std::shared_ptr<attempt> network_impl::connect(const address& to, const address& from,
                                               std::function<void(std::shared_ptr<sim_socket>, std::error_code)> done) {
  auto who = std::make_shared<attempt>();
  who->done = std::move(done);
  link_script s;
  std::shared_ptr<live_faults> live;
  if (const auto it = scripts_.find(to.text()); it != scripts_.end() && !it->second.empty()) {
    auto& [script, left, changing] = it->second.front();
    s = script, live = changing;
    if (left != ~std::size_t{0} && --left == 0) it->second.pop_front();
  }
  if (!s.shape) s.shape = shape;
  if (s.silent) return who;
  at(now_ + s.shape->latency, true, [this, who, to, from, s, live] { answer(who, to, from, s, live); });
  return who;
}

void network_impl::answer(const std::shared_ptr<attempt>& who, const address& to, const address& from,
                          const link_script& s, const std::shared_ptr<live_faults>& live) {
  if (who->cancelled) return;
  const auto listener = s.refused ? nullptr : find(to);
  const instant told = now_ + s.shape->latency;
  if (!listener) {
    at(told, true, [who] {
      if (!who->cancelled) who->done(nullptr, std::make_error_code(std::errc::connection_refused));
    });
    return;
  }
  const auto client = std::make_shared<sim_socket>(*this), server = std::make_shared<sim_socket>(*this);
  const auto up = std::make_shared<sim_pipe>(), down = std::make_shared<sim_pipe>();
  ++links_;
  for (const auto& p : {up, down}) p->shape = *s.shape, p->number = links_, p->free_at = now_;
  up->back = down, down->back = up;
  up->from = client, up->to = server, down->from = server, down->to = client;
  client->out = up, client->in = down, server->out = down, server->in = up;
  server->local = client->peer = to;
  if (to.is_ip()) {
    const auto any = to.family() == address::kind::ipv4 ? address::loopback(0) : *address::parse_ip("::1", 0);
    const address mine = from.is_ip() ? from : any;
    client->local = mine.port() == 0 ? mine.with_port(free_port()) : mine;
  } else {
    client->local = from.is_unix() ? from : address::unix_path("");
  }
  server->peer = client->local;
  if (live) live->senders = {client, server};
  const auto& faults = live ? live->faults : s.faults;
  client->set_faults(faults[index_of(direction::to_server)]);
  server->set_faults(faults[index_of(direction::to_client)]);
  listener->backlog.push_back(server);
  if (listener->owner) listener->owner->changed(*listener);
  at(told, true, [who, client] {
    if (who->cancelled)
      client->reset();
    else
      who->done(client, {});
  });
}

}  // namespace midwire::testing::detail
