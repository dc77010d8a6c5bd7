#include <midwire/testing/sim_reactor.hpp>

#include <stdexcept>
#include <utility>

namespace midwire::testing {

scripted_resolver& scripted_resolver::add(const std::string& host, std::vector<address> addresses, duration after) {
  table_[host].push_back({after, std::move(addresses), {}});
  return *this;
}

scripted_resolver& scripted_resolver::fail(const std::string& host, reason why, duration after) {
  table_[host].push_back({after, {}, std::move(why)});
  return *this;
}

scripted_resolver& scripted_resolver::never(const std::string& host) {
  table_[host].clear();
  return *this;
}

std::uint64_t scripted_resolver::ask(const std::string& host, callback<void(answer)> got) {
  asked_.push_back(host);
  const std::uint64_t number = ++last_query_;
  auto& q = queries_[number] = std::make_shared<query>();
  q->got = std::move(got);
  const auto it = table_.find(host);
  std::vector<line> lines;
  if (it != table_.end())
    lines = it->second;
  else
    lines.push_back({{}, {}, reason{ending::refused, {}, host + ": not in the script"}});
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const bool last = i + 1 == lines.size();
    const duration after = lines[i].after;
    q->timers.push_back(
        reactor_.call_later(after, [this, number, last, l = std::move(lines[i])] { tell(number, l, last); }));
  }
  return number;
}

void scripted_resolver::tell(std::uint64_t number, const line& l, bool last) {
  const auto it = queries_.find(number);
  if (it == queries_.end()) return;
  const auto q = it->second;  // forgotten from inside, it goes after the call
  if (last) queries_.erase(it);
  resolver::answer a;
  a.addresses = l.addresses, a.error = l.error, a.last = last;
  q->got(std::move(a));
}

void scripted_resolver::forget(std::uint64_t number) noexcept {
  const auto it = queries_.find(number);
  if (it == queries_.end()) return;
  const auto q = it->second;
  queries_.erase(it);
  for (auto& t : q->timers) t.cancel();
}

namespace {
detail::sim_reactor_parts parts_of(std::unique_ptr<sim_driver> d) {
  auto* const kernel = d.get();
  return {std::move(d), kernel};
}
}  // namespace

sim_reactor::sim_reactor(std::uint64_t seed, const link_shape& shape)
    : sim_reactor{std::make_shared<sim_network>(seed, shape), reactor_options{.seed = seed}} {}

sim_reactor::sim_reactor(std::shared_ptr<sim_network> network, reactor_options options)
    : sim_reactor_parts{parts_of(std::make_unique<sim_driver>(std::move(network)))},
      reactor{std::move(owned), options} {
  auto names = std::make_unique<scripted_resolver>(*this);
  names_ = names.get();
  set_resolver(std::move(names));
}

void sim_reactor::advance(duration d) {
  const instant until = kernel->now() + d;
  // Each turn moves the clock to something that happens; as many as there are.
  do turn(until - kernel->now());
  while (kernel->now() < until);
  pump();
}

void sim_reactor::pump() {
  struct settling {
    explicit settling(sim_driver& d) : driver{d} { driver.settle_only(true); }
    ~settling() { driver.settle_only(false); }
    sim_driver& driver;
  } const on{*kernel};
  int here = 0;
  for (int rounds = 0; rounds < 200'000 && here < 1000; ++rounds) {
    const instant before = kernel->now();
    turn(std::chrono::hours{1});
    if (kernel->quiet()) return;
    here = kernel->now() == before ? here + 1 : 0;
  }
  throw std::runtime_error{"sim_reactor: it does not come to rest"};
}

}  // namespace midwire::testing
