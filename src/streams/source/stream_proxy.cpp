#include <midwire/streams/source/stream_proxy.hpp>

#include <netdb.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <unordered_map>
#include <utility>

#include <midwire/engine/relay.hpp>
#include <midwire/streams/source/own_listeners.hpp>

#include "streams/source/pipeline_builder.hpp"
#include "streams/source/serve.hpp"

namespace midwire::streams {
namespace {

// Listening wants an address. Asking may block: nothing runs yet.
std::string literal(const std::string& host) {
  if (host.empty() || address::parse_ip(host, 0)) return host;
  addrinfo hints{}, *list = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  const int code = getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (code != 0) throw std::runtime_error{"cannot listen on " + host + ": " + gai_strerror(code)};
  char text[NI_MAXHOST] = "";
  const auto* best = list;
  for (const auto* i = list; i != nullptr; i = i->ai_next)
    if (i->ai_family == AF_INET) {
      best = i;
      break;
    }
  getnameinfo(best->ai_addr, best->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST);
  freeaddrinfo(list);
  return text;
}

endpoint resolved(endpoint e) {
  if (e.how == endpoint::scheme::tcp) e.host = literal(e.host);
  return e;
}

std::string shown(const endpoint& e) {
  if (e.how == endpoint::scheme::unix_path) return "unix:" + e.path;
  return (e.host.find(':') == e.host.npos ? e.host : "[" + e.host + "]") + ":" + std::to_string(e.port);
}

}  // namespace

class stream_proxy::impl {
 public:
  impl(reactor_pool& pool, proxy_settings settings, rules::rule_set_ptr rules, event_sink& sink);
  void start();
  void reload(rules::rule_set_ptr rules);
  void stop(duration drain, callback<void()> done);
  summary_event totals() const;

  detail::loop_state& on(const reactor& loop) noexcept {
    return **std::find_if(loops_.begin(), loops_.end(), [&](const auto& l) { return l->loop == &loop; });
  }
  const proxy_settings& settings() const noexcept { return settings_; }
  event_sink& sink() noexcept { return sink_; }
  const own_listeners& own() const noexcept { return own_; }

 private:
  class relayed_port;
  void refuse_own(const endpoint& server) const;

  reactor_pool& pool_;
  proxy_settings settings_;
  event_sink& sink_;
  bool chance_ = false;
  own_listeners own_;
  std::vector<std::unique_ptr<detail::loop_state>> loops_;
  std::vector<std::unique_ptr<relayed_port>> relayed_;
  std::vector<std::unique_ptr<detail::served_port>> served_;
  std::size_t stopping_ = 0;
  callback<void()> stopped_;
};

/// A relay and the connections it has, by loop.
class stream_proxy::impl::relayed_port final : public relay_observer {
 public:
  relayed_port(impl& owner, const mode& m, bool in_order) : owner_{owner}, mode_{m} {
    const auto how = in_order ? reactor_pool::balance::least_loaded : reactor_pool::balance::kernel;
    relay_.emplace(owner.pool_, resolved(m.listen).text(), m.server.text(), how);
    relay_options options;
    options.limits = owner.settings_.limits;
    options.connect.timeout = owner.settings_.connect_timeout;
    options.reset_on_connect_error = owner.settings_.reset_on_connect_error;
    options.balance = how;
    options.refuse_server = [&owner](const address& to) { return owner.own_.reached_by(to); };
    relay_->set_options(std::move(options));
    relay_->observe(*this);
    for (const auto& l : owner.loops_) up_.try_emplace(l->loop);
  }
  relay& port() noexcept { return *relay_; }
  const mode& about() const noexcept { return mode_; }

  std::vector<std::unique_ptr<stage>> build_stages(const flow_info& info) override {
    auto made = make(info);
    auto stages = made->build(owner_.settings_, info.client, info.server);
    up_.find(info.loop)->second.insert_or_assign(info.id, std::move(made));
    return stages;
  }
  void opened(const flow_info& info) override {
    auto& here = up_.find(info.loop)->second;
    auto found = here.find(info.id);
    if (found == here.end()) found = here.emplace(info.id, make(info)).first;
    found->second->opened(info.client, info.server);
  }
  void closed(const flow_info& info, const flow_summary& summary) override {
    auto& here = up_.find(info.loop)->second;
    const auto found = here.find(info.id);
    auto about = found != here.end() ? std::move(found->second) : make(info);
    if (found != here.end()) here.erase(found);
    about->closed(summary, info.client, shown(mode_.server));
  }

 private:
  std::shared_ptr<detail::connection> make(const flow_info& info) {
    return std::make_shared<detail::connection>(owner_.on(*info.loop), owner_.sink_, conn_name{info.id, mode_.spec});
  }

  impl& owner_;
  const mode& mode_;
  // One entry a loop, made before the loops run; each loop touches its own only.
  std::unordered_map<const reactor*, std::unordered_map<std::uint64_t, std::shared_ptr<detail::connection>>> up_;
  std::optional<relay> relay_;
};

stream_proxy::impl::impl(reactor_pool& pool, proxy_settings settings, rules::rule_set_ptr rules, event_sink& sink)
    : pool_{pool}, settings_{std::move(settings)}, sink_{sink}, chance_{rules->uses_chance()} {
  auto& limits = settings_.limits;
  if (settings_.window > limits.low) limits.low = settings_.window, limits.high = std::max(limits.high, 2 * limits.low);
  for (std::size_t i = 0; i < pool.size(); ++i) {
    auto l = std::make_unique<detail::loop_state>();
    l->loop = &pool.loop(i), l->rules = rules;
    loops_.push_back(std::move(l));
  }
}

void stream_proxy::impl::start() {
  // Connections are numbered in the kernel's order when a decision may hang on their number.
  const bool in_order = settings_.rules_can_change || chance_;
  std::vector<listening_event> open;
  for (const auto& m : settings_.modes) {
    try {
      if (m.how == mode::kind::serve) {
        served_.push_back(std::make_unique<detail::served_port>(m, settings_, *loops_.front(), sink_));
        served_.back()->start(resolved(m.listen));
        open.push_back({m.spec, served_.back()->host()});
      } else {
        relayed_.push_back(std::make_unique<relayed_port>(*this, m, in_order));
        relayed_.back()->port().start();
        open.push_back({m.spec, relayed_.back()->port().host()});
      }
    } catch (const std::system_error& e) { throw std::system_error{e.code(), "cannot listen on " + shown(m.listen)}; }
    own_.add(open.back().at);
  }
  for (const auto& m : settings_.modes)
    if (m.how == mode::kind::reverse) refuse_own(m.server);
  for (const auto& e : open) sink_.take(e);
}

// What is certain before the first connection; names are looked at when they are resolved.
void stream_proxy::impl::refuse_own(const endpoint& server) const {
  std::optional<address> to;
  if (server.how == endpoint::scheme::unix_path)
    to = address::unix_path(server.path);
  else
    to = address::parse_ip(server.host == "localhost" ? "127.0.0.1" : server.host, server.port);
  if (!to) return;
  if (const auto why = own_.reached_by(*to)) throw std::invalid_argument{*why};
}

void stream_proxy::impl::reload(rules::rule_set_ptr rules) {
  pool_.post_to_all([this, rules](reactor& loop) {
    auto& here = on(loop);
    here.rules = rules;
    for (auto* stage = here.live; stage != nullptr; stage = stage->next()) stage->reload(rules);
  });
}

void stream_proxy::impl::stop(duration drain, callback<void()> done) {
  stopped_ = std::move(done);
  stopping_ = relayed_.size() + served_.size();
  const auto one = [this] {
    if (--stopping_ == 0 && stopped_) std::exchange(stopped_, {})();
  };
  if (stopping_ == 0) {
    stopping_ = 1;
    one();
    return;
  }
  for (const auto& r : relayed_) r->port().stop(drain, one);
  for (const auto& s : served_) s->stop(drain, one);
}

summary_event stream_proxy::impl::totals() const {
  summary_event sum;
  sum.seed = settings_.seed;
  for (const auto& l : loops_) {
    sum.connections += l->connections;
    for (std::size_t d = 0; d < 2; ++d) sum.totals[d] += l->totals[d];
    for (const auto& [rule, number] : l->edits) sum.edits[rule] += number;
  }
  return sum;
}

stream_proxy::stream_proxy(reactor_pool& pool, proxy_settings settings, rules::rule_set_ptr rules, event_sink& sink)
    : impl_{std::make_unique<impl>(pool, std::move(settings), std::move(rules), sink)} {}
stream_proxy::~stream_proxy() = default;
void stream_proxy::start() { impl_->start(); }
void stream_proxy::reload(rules::rule_set_ptr rules) { impl_->reload(std::move(rules)); }
void stream_proxy::stop(duration drain, callback<void()> done) { impl_->stop(drain, std::move(done)); }
summary_event stream_proxy::totals() const { return impl_->totals(); }

}  // namespace midwire::streams
