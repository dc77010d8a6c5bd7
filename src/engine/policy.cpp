#include <midwire/engine/policy.hpp>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <optional>

#include "engine/governor.hpp"
#include "engine/redialer.hpp"
#include "engine/transport_impl.hpp"

namespace midwire {

namespace detail {

namespace {

constexpr duration complaint_interval = std::chrono::seconds{1};
constexpr std::size_t shown_octets = 32;

/// Quoted when most of it can be read, else in hexadecimal. What a peer sends moves no terminal's cursor.
std::string shown(byte_view octets) {
  const byte_view front = octets.first(std::min(octets.size(), shown_octets));
  const auto plain = [](std::uint8_t c) { return c >= 0x20 && c < 0x7f; };
  const auto readable = std::count_if(front.begin(), front.end(),
                                      [&](std::uint8_t c) { return plain(c) || c == '\r' || c == '\n' || c == '\t'; });
  const bool as_text = readable * 4 >= static_cast<std::ptrdiff_t>(front.size()) * 3;
  std::string line = as_text ? "\"" : "";
  for (const std::uint8_t c : front) {
    char code[8];
    if (!as_text) {
      std::snprintf(code, sizeof code, "%s%02x", line.empty() ? "" : " ", c);
      line += code;
    } else if (c == '"' || c == '\\') {
      line += '\\', line += static_cast<char>(c);
    } else if (plain(c)) {
      line += static_cast<char>(c);
    } else if (c == '\r' || c == '\n' || c == '\t') {
      line += c == '\r' ? "\\r" : c == '\n' ? "\\n" : "\\t";
    } else {
      std::snprintf(code, sizeof code, "\\x%02x", c);
      line += code;
    }
  }
  if (as_text) line += '"';
  if (octets.size() > front.size()) line += "...";
  return line;
}

}  // namespace

policy_state::policy_state(policy p) : rules{std::move(p)}, counts{rules.counts} {
  if (!counts) counts = std::make_shared<policy_counts>();
}

governor::governor(std::shared_ptr<policy_state> state, transport_impl& t, std::unique_ptr<governor> next)
    : state_{std::move(state)},
      next_{std::move(next)},
      host_{t.peer.host()},
      name_{t.peer.text()},
      read_{state_->rules.read_rate, t.reactor.now},
      write_{state_->rules.write_rate, t.reactor.now},
      total_read_{state_->total_read, t.reactor, t},
      total_write_{state_->total_write, t.reactor, t},
      logs_{state_->rules.log || (next_ && next_->logs())} {
  if (!std::exchange(state_->started, true)) {
    state_->total_read.bucket = token_bucket{state_->rules.total_read_rate, t.reactor.now};
    state_->total_write.bucket = token_bucket{state_->rules.total_write_rate, t.reactor.now};
  }
  ++state_->open, ++state_->counts->open, ++state_->counts->accepted;
  if (state_->rules.max_per_peer > 0) ++state_->per_peer[host_];
  if (state_->rules.log) say("begins");
}

governor::~governor() {
  --state_->open, --state_->counts->open;
  if (const auto it = state_->per_peer.find(host_); it != state_->per_peer.end() && --it->second == 0)
    state_->per_peer.erase(it);
}

std::uint64_t governor::may_read(std::uint64_t wanted, instant now) {
  wanted = read_.available(wanted, now);
  if (wanted > 0)
    wanted = total_read_.may(wanted, now);
  else
    total_read_.leave();  // nobody waits behind one that its own rate stops
  return wanted > 0 && next_ ? next_->may_read(wanted, now) : wanted;
}

std::uint64_t governor::may_write(std::uint64_t wanted, instant now) {
  wanted = write_.available(wanted, now);
  if (wanted > 0)
    wanted = total_write_.may(wanted, now);
  else
    total_write_.leave();
  return wanted > 0 && next_ ? next_->may_write(wanted, now) : wanted;
}

void governor::was_read(std::uint64_t octets) {
  read_.take(octets), total_read_.moved(octets);
  if (next_) next_->was_read(octets);
}

void governor::was_written(std::uint64_t octets) {
  write_.take(octets), total_write_.moved(octets);
  if (next_) next_->was_written(octets);
}

instant governor::read_at(std::uint64_t wanted, instant now) {
  const instant own = std::max(read_.when(wanted, now), total_read_.when(wanted, now));
  return next_ ? std::max(own, next_->read_at(wanted, now)) : own;
}

instant governor::write_at(std::uint64_t wanted, instant now) {
  const instant own = std::max(write_.when(wanted, now), total_write_.when(wanted, now));
  return next_ ? std::max(own, next_->write_at(wanted, now)) : own;
}

void governor::rest() {
  total_read_.leave();
  if (next_) next_->rest();
}

std::uint64_t rate_share::may(std::uint64_t wanted, instant now) {
  if (!of_.bucket.limited()) return wanted;
  if (leave_to_move_ == 0) {
    if (of_.waiting.empty() || of_.waiting.front() == this) {
      leave_to_move_ = of_.bucket.available(wanted, now);
      const bool others = of_.waiting.size() > (waiting_ ? 1u : 0u);
      if (others) leave_to_move_ = std::min(leave_to_move_, of_.bucket.portion());
    }
    if (leave_to_move_ > 0) {
      leave();
    } else if (!std::exchange(waiting_, true)) {
      of_.waiting.push_back(this);
    }
  }
  return std::min(leave_to_move_, wanted);
}

void rate_share::moved(std::uint64_t octets) noexcept {
  of_.bucket.take(octets);
  leave_to_move_ -= std::min(leave_to_move_, octets);
}

instant rate_share::when(std::uint64_t wanted, instant now) {
  if (!of_.bucket.limited() || leave_to_move_ > 0 || !waiting_) return now;
  return of_.waiting.front() == this ? of_.bucket.when(wanted, now) : instant::max();
}

void rate_share::leave() {
  if (!std::exchange(waiting_, false)) return;
  const bool first = of_.waiting.front() == this;
  std::erase(of_.waiting, this);
  if (!first || of_.waiting.empty()) return;
  rate_share& next = *of_.waiting.front();
  next.loop_.queue(next.owner_);
}

void governor::say(const std::string& line) const {
  const std::string whole = name_ + ' ' + line;
  if (state_->rules.log_to)
    state_->rules.log_to(whole);
  else
    log(1, whole);
}

void governor::log_octets(const char* what, byte_view octets) const {
  if (state_->rules.log) say(std::string{what} + ' ' + std::to_string(octets.size()) + " octets: " + shown(octets));
  if (next_ && next_->logs()) next_->log_octets(what, octets);
}

void governor::log_file(std::uint64_t octets) const {
  if (state_->rules.log) say("writes " + std::to_string(octets) + " octets of a file");
  if (next_ && next_->logs()) next_->log_file(octets);
}

void governor::log_end(const reason& why) const {
  if (state_->rules.log)
    say("ends: " + std::string{name_of(why.how())} + (why.text().empty() ? "" : ", " + why.text()));
  if (next_ && next_->logs()) next_->log_end(why);
}

flow_limits combined(const flow_limits& outer, const flow_limits& inner) {
  const flow_limits fresh;
  flow_limits both = outer;
  const auto pick = [&](auto flow_limits::*member) {
    if (inner.*member != fresh.*member) both.*member = inner.*member;
  };
  pick(&flow_limits::high), pick(&flow_limits::low), pick(&flow_limits::idle), pick(&flow_limits::stuck);
  pick(&flow_limits::message), pick(&flow_limits::half_closed), pick(&flow_limits::handshake);
  pick(&flow_limits::linger);
  return both;
}

namespace {

class policy_factory final : public factory {
 public:
  policy_factory(factory_ptr wrapped, policy p)
      : wrapped_{std::move(wrapped)}, state_{std::make_shared<policy_state>(std::move(p))} {}

  std::unique_ptr<protocol> build_protocol(const address& peer) override {
    refused_.reset();
    const policy& rules = state_->rules;
    if (rules.max_connections > 0 && state_->open >= rules.max_connections) {
      ++state_->counts->over_total;
      return refuse(peer, std::to_string(rules.max_connections) + " connections are open");
    }
    if (rules.max_per_peer > 0) {
      const auto it = state_->per_peer.find(peer.host());
      if (it != state_->per_peer.end() && it->second >= rules.max_per_peer) {
        ++state_->counts->over_per_peer;
        return refuse(peer, "this peer has " + std::to_string(rules.max_per_peer) + " connections");
      }
    }
    return wrapped_->build_protocol(peer);
  }
  void started() override { wrapped_->started(); }
  void stopped() override { wrapped_->stopped(); }
  void connection_failed(const reason& why) override { wrapped_->connection_failed(why); }
  void connection_lost(const reason& why) override { wrapped_->connection_lost(why); }

 private:
  retry_rules* retries() noexcept override { return factory_access::retries(*wrapped_); }
  void begin(transport_impl& t) override {
    t.govern(state_);
    factory_access::begin(*wrapped_, t);
  }
  reason refusal() const override { return refused_ ? *refused_ : factory_access::refusal(*wrapped_); }

  std::unique_ptr<protocol> refuse(const address& peer, std::string words) {
    refused_ = reason{ending::over_limit, {}, std::move(words)};
    complain(peer);
    if (state_->rules.over_limit) state_->rules.over_limit(peer, *refused_);
    return nullptr;
  }
  /// Once a second: who opens many connections shall not fill a disk as well.
  void complain(const address& peer) {
    const auto* const loop = here();
    const instant now = loop ? loop->now : instant{};
    if (state_->complained != instant{} && now - state_->complained < complaint_interval) {
      ++state_->unsaid;
      return;
    }
    std::string line = "refused " + peer.text() + ": " + refused_->text();
    if (state_->unsaid > 0) line += "; and " + std::to_string(state_->unsaid) + " more before";
    state_->complained = now, state_->unsaid = 0;
    log(2, line);
  }

  factory_ptr wrapped_;
  std::shared_ptr<policy_state> state_;
  std::optional<reason> refused_;
};

}  // namespace

}  // namespace detail

factory_ptr with_policy(factory_ptr wrapped, policy limits) {
  return std::make_shared<detail::policy_factory>(std::move(wrapped), std::move(limits));
}

}  // namespace midwire
