#include <midwire/engine/relay.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <system_error>

#include "engine/dialer.hpp"
#include "engine/listener_state.hpp"
#include "engine/reactor_impl.hpp"
#include "engine/tls/tls_link.hpp"

namespace midwire {

namespace detail {

namespace {

// Descriptors that are not flows: listeners, epoll, signals, files, and some to spare.
constexpr std::size_t spare_descriptors = 40;
// How long a refused client may take to read our FIN.
constexpr duration refusal_linger = std::chrono::seconds{1};

std::size_t flows_that_fit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return ~std::size_t{0};
  const auto all = static_cast<std::size_t>(limit.rlim_cur);
  return all > spare_descriptors + 2 ? (all - spare_descriptors) / 2 : 1;
}

/// A callable as a stage.
class function_stage final : public stage {
 public:
  explicit function_stage(std::function<verdict(stage_context&, direction, chunk)> f) : f_{std::move(f)} {}
  verdict on_data(stage_context& c, direction d, chunk data) override { return f_(c, d, std::move(data)); }

 private:
  std::function<verdict(stage_context&, direction, chunk)> f_;
};

endpoint parsed(std::string_view text) {
  auto e = parse_endpoint(text);
  if (!e)
    throw std::system_error{std::make_error_code(std::errc::invalid_argument),
                            std::string{text} + ": " + e.error().what};
  return std::move(*e);
}

}  // namespace

class relay_flow;

class relay_core : public std::enable_shared_from_this<relay_core> {
 public:
  struct loop_state {
    reactor_impl* r = nullptr;
    std::shared_ptr<listener_state> port;
    std::vector<relay_flow*> flows;
    std::atomic<std::size_t> count{0};  // with those on their way from another loop
    bool stopping = false, aborting = false, told = false;
    timer_ref drain;
    instant said{};
  };

  void start();
  void take_over();
  void accepted(loop_state& at, socket_id s, const address& client);
  void begin(loop_state& on, socket_id s, const address& client, std::uint64_t id);
  void stop(duration drain, callback<void()> done);
  void stop_loop(loop_state& l, duration drain);
  void check_stopped(loop_state& l);
  void tell_stopped();
  std::size_t flows() const noexcept {
    std::size_t n = 0;
    for (const auto& l : loops) n += l->count;
    return n;
  }

  endpoint listen_at, connect_to;
  relay_options options;
  std::vector<std::unique_ptr<loop_state>> loops;
  std::vector<std::function<std::unique_ptr<stage>()>> makers;
  callback<std::string(const address&)> choose;
  relay_observer* observer = nullptr;
  std::atomic<std::uint64_t> ids{0};
  std::size_t most_flows = 0;
  address host;
  std::atomic<std::size_t> stopped{0};
  std::vector<callback<void()>> done;       // loop 0's
  std::shared_ptr<relay_core> predecessor;  // until start()
  std::atomic<bool> orphaned{false};        // the relay is gone, and so is who made the stages
};

/// One relayed connection: the core's flow, its two sockets, and the dialling before.
class relay_flow final : public mortal, public deferred_work, private timer_hook {
 public:
  relay_flow(std::shared_ptr<relay_core> core, relay_core::loop_state& loop, socket_id client, const address& peer,
             std::uint64_t id)
      : core_{std::move(core)}, loop_{loop}, r_{*loop.r}, born_{loop.r->now} {
    ids_[index_of(side::client)] = client;
    info_.id = id, info_.client = peer, info_.loop = &r_.self;
    r_.handle(client, ends_[index_of(side::client)]);
    at_ = loop_.flows.size();
    loop_.flows.push_back(this);
    ++r_.load;
  }
  ~relay_flow() override {
    --r_.load;
    r_.unqueue(*this);
    for (const side s : {side::client, side::server}) forget(s);
  }

  void dial(endpoint to) {
    server_host_ = to.host, server_port_ = to.port;
    auto done = [this](std::optional<socket_id> s, reason why) { dialled(s, std::move(why)); };
    dialer_ = std::make_unique<dialer>(r_, std::move(to), core_->options.connect, core_->options.refuse_server,
                                       std::move(done));
    dialer_->start();
  }
  /// TLS with the client begins at once, beside the dialling.
  void secure_client() { secure(side::client, core_->options.client_tls, {}, 0); }
  void refuse(reason why);
  void abort(reason why);
  void catch_up() override {
    if (!flow_ || over_) return;
    flow_->advance(r_.now);
    pump();
  }

 private:
  struct end final : socket_handler {
    end(relay_flow& f, side s) : owner{f}, which{s} {}
    void on_event(socket_id, event what) override { owner.on_event(which, std::move(what)); }
    relay_flow& owner;
    side which;
  };
  void on_event(side s, event what);
  bool secure(side s, const tls_ptr& tls, const std::string& host, std::uint16_t port);
  void open_when_up();
  void end_early(reason why, ended_by who);
  void dialled(std::optional<socket_id> s, reason why);
  void pump(bool new_deadline = true);
  void plan();
  void fired() override;
  void finished(flow_summary summary);
  void forget(side s) noexcept {
    if (std::exchange(bound_[index_of(s)], false)) r_.forget(ids_[index_of(s)]);
  }

  std::shared_ptr<relay_core> core_;
  relay_core::loop_state& loop_;
  reactor_impl& r_;
  std::array<end, 2> ends_{end{*this, side::client}, end{*this, side::server}};
  std::array<socket_id, 2> ids_{};
  std::array<bool, 2> bound_{true, false}, up_{true, false};
  std::string server_host_;
  std::uint16_t server_port_ = 0;
  std::unique_ptr<dialer> dialer_;
  std::optional<flow> flow_;
  flow_info info_;
  instant born_;
  std::optional<reason> refused_;
  bool over_ = false;
  std::size_t at_ = 0;
};

void relay_flow::on_event(side s, event what) {
  if (over_) return;
  const auto kind = what.what();
  if (flow_) {
    flow_->handle(s, std::move(what), r_.now);
    // What was sent moves deadlines on, never closer: the timer finds out when it fires.
    pump(kind != event::kind::octets_sent);
    return;
  }
  const bool gone = kind == event::kind::reset_received || (kind == event::kind::hung_up && what.broken());
  if (refused_) {
    // Our FIN is out: until the peer has seen it, what it sends is read and thrown away.
    if (gone || kind == event::kind::end_received || kind == event::kind::connect_failed)
      end_early(std::move(*refused_), ended_by::engine);
  } else if (kind == event::kind::connected) {
    up_[index_of(s)] = true;
    open_when_up();
  } else if (kind == event::kind::connect_failed) {
    const reason& why = tls_link::on(r_, ids_[index_of(s)])->failure();
    reason named{why.how(), why.code(), std::string{name_of(s)} + ": " + why.text()};
    if (s == side::client)
      end_early(std::move(named), ended_by::client);
    else
      refuse(std::move(named));
  } else if (gone && s == side::client) {
    end_early(reason{ending::reset, {}, "the client left while the server was being dialled"}, ended_by::client);
  } else if (gone) {
    refuse(reason{ending::reset, what.error(), "the server left before the client was there"});
  }
}

/// \return false when it cannot begin: then the flow has been refused.
bool relay_flow::secure(side s, const tls_ptr& tls, const std::string& host, std::uint16_t port) {
  up_[index_of(s)] = false;
  try {
    tls_link::attach(r_, ids_[index_of(s)], tls, host, host.empty() ? "" : host + ':' + std::to_string(port),
                     core_->options.limits.handshake);
    return true;
  } catch (const std::system_error& e) {
    refuse(reason{ending::refused, e.code(), std::string{name_of(s)} + ": " + e.what()});
    return false;
  }
}

/// Before there was a flow: both sockets are closed.
void relay_flow::end_early(reason why, ended_by who) {
  for (const side s : {side::client, side::server}) {
    const bool open = bound_[index_of(s)];
    forget(s);
    if (open) r_.perform(ids_[index_of(s)], command::close());
  }
  finished({std::move(why), who, r_.now - born_, false, {}});
}

void relay_flow::dialled(std::optional<socket_id> s, reason why) {
  const auto done_with = std::move(dialer_);
  if (!s) {
    refuse(std::move(why));
    return;
  }
  ids_[index_of(side::server)] = *s;
  bound_[index_of(side::server)] = true;
  r_.handle(*s, ends_[index_of(side::server)]);
  info_.server = r_.kernel->peer(*s);
  if (core_->options.server_tls) {
    secure(side::server, core_->options.server_tls, server_host_, server_port_);
    return;
  }
  up_[index_of(side::server)] = true;
  open_when_up();
}

void relay_flow::open_when_up() {
  if (!up_[0] || !up_[1]) return;
  std::vector<std::unique_ptr<stage>> stages;
  const bool built = !core_->orphaned && r_.guard([&] {
    for (const auto& make : core_->makers) stages.push_back(make());
    if (core_->observer)
      for (auto& st : core_->observer->build_stages(info_)) stages.push_back(std::move(st));
    std::erase(stages, nullptr);
  });
  if (!built) {
    refuse(reason{ending::failed, {}, core_->orphaned ? "the relay is gone" : "the stages could not be made"});
    return;
  }
  flow_.emplace(std::move(stages), core_->options.limits);
  flow_->set_identity(info_.id, info_.client, info_.server);
  flow_->allow_splice(r_.options.splice && !r_.filter_of(ids_[0]) && !r_.filter_of(ids_[1]) &&
                      r_.kernel->can_splice(ids_[0], ids_[1]) && r_.kernel->can_splice(ids_[1], ids_[0]));
  flow_->on_work([this] { r_.queue(*this); });
  if (core_->observer) r_.guard([&] { core_->observer->opened(info_); });
  flow_->open(r_.now);
  if (loop_.aborting) flow_->abort(reason{ending::aborted, {}, "midwire is stopping"}, r_.now);
  pump();
}

void relay_flow::refuse(reason why) {
  const socket_id client = ids_[index_of(side::client)];
  if (bound_[index_of(side::server)]) {
    const bool tls = r_.filter_of(ids_[index_of(side::server)]);
    forget(side::server);
    r_.perform(ids_[index_of(side::server)],
               tls ? command::close() : command::reset());  // TLS may have an alert to say
  }
  if (core_->options.reset_on_connect_error || loop_.aborting) {
    forget(side::client);
    r_.perform(client, command::reset());
    end_early(std::move(why), ended_by::engine);
    return;
  }
  // What the client has sent lies unread: a plain close would answer it with a reset.
  refused_ = std::move(why);
  r_.perform(client, command::send_end());
  r_.perform(client, command::start_reading());
  r_.wheel.start(*this, r_.now + refusal_linger);
}

void relay_flow::abort(reason why) {
  if (over_) return;
  if (flow_) {
    flow_->abort(std::move(why), r_.now);
    pump();
    return;
  }
  forget(side::client);
  r_.perform(ids_[index_of(side::client)], command::reset());
  end_early(std::move(why), ended_by::engine);
}

void relay_flow::pump(bool new_deadline) {
  side to{};
  command what = command::close();
  while (flow_->next_command(to, what)) {
    new_deadline = true;
    const socket_id id = ids_[index_of(to)];
    switch (what.what()) {
      case command::kind::splice: r_.kernel->splice(id, ids_[1 - index_of(to)], what.count()); break;
      case command::kind::close:
      case command::kind::reset:
      case command::kind::reset_after_drain: forget(to); [[fallthrough]];
      default: r_.perform(id, std::move(what));
    }
  }
  if (flow_->closed()) {
    if (flow_->why().how() == ending::failed) r_.failed(flow_->why().text().c_str());  // E22
    finished({flow_->why(),
              flow_->by(),
              r_.now - born_,
              true,
              {flow_->count(direction::to_server), flow_->count(direction::to_client)}});
    return;
  }
  if (new_deadline) plan();
}

void relay_flow::plan() {
  const auto due = flow_->next_deadline();
  if (!due)
    timer_hook::stop();
  else if (active())
    timer_hook::touch(std::max(*due, r_.now));
  else
    r_.wheel.start(*this, std::max(*due, r_.now));
}

void relay_flow::fired() {
  if (over_) return;
  if (refused_) {
    end_early(std::move(*refused_), ended_by::engine);
    return;
  }
  if (!flow_) return;
  flow_->advance(r_.now);
  pump();
}

void relay_flow::finished(flow_summary summary) {
  over_ = true;
  timer_hook::stop();
  r_.unqueue(*this);
  if (dialer_) dialer_->cancel();
  for (const side s : {side::client, side::server}) forget(s);
  loop_.flows[at_] = loop_.flows.back();
  loop_.flows[at_]->at_ = at_;
  loop_.flows.pop_back();
  if (core_->observer) r_.guard([&] { core_->observer->closed(info_, summary); });
  --loop_.count;
  const auto core = core_;
  auto& loop = loop_;
  r_.retire(*this);
  core->check_stopped(loop);
}

/// Each loop's port changes hands on its own thread. What follows, a stop of the predecessor for example, comes to that
/// loop behind it.
void relay_core::take_over() {
  const auto before = std::move(predecessor);
  const auto same = [](const auto& a, const auto& b) { return a->r == b->r; };
  if (!std::equal(loops.begin(), loops.end(), before->loops.begin(), before->loops.end(), same) || before->host.empty())
    throw std::system_error{std::make_error_code(std::errc::invalid_argument),
                            "a relay can only succeed one that has started on the same reactor or pool"};
  host = before->host, listen_at = before->listen_at;
  // From within one loop the others are reached by posting; from outside of all, none runs yet.
  const bool live = std::any_of(loops.begin(), loops.end(), [](const auto& l) { return l->r->in_turn(); });
  for (std::size_t i = 0; i < loops.size(); ++i) {
    auto work = [self = shared_from_this(), before, i] {
      auto& l = *self->loops[i];
      l.port = std::move(before->loops[i]->port);
      if (l.port) l.port->give_to([core = self.get(), &l](socket_id s, const address& c) { core->accepted(l, s, c); });
    };
    if (!live || loops[i]->r->in_turn())
      work();
    else
      loops[i]->r->post_from_thread(std::move(work));
  }
}

void relay_core::start() {
  most_flows = options.max_flows > 0 ? options.max_flows : flows_that_fit();
  if (predecessor) return take_over();
  const bool is_unix = listen_at.how == endpoint::scheme::unix_path;
  address where = is_unix ? address::unix_path(listen_at.path) : listen_address(listen_at.host, listen_at.port);
  const bool each = options.balance == reactor_pool::balance::kernel && !is_unix && loops.size() > 1;
  listen_options how;
  how.share_port = each;
  for (std::size_t i = 0; i < (each ? loops.size() : 1); ++i) {
    auto& l = *loops[i];
    try {
      l.port = open_port(*l.r, where, how, [this, &l](socket_id s, const address& client) { accepted(l, s, client); });
    } catch (...) {
      for (auto& other : loops) other->port.reset();
      throw;
    }
    where = l.port->host;
    how.reuse_port = each;
  }
  host = where;
}

void relay_core::accepted(loop_state& at, socket_id s, const address& client) {
  if (flows() >= most_flows) {
    at.r->kernel->perform(s, command::close());
    if (at.said == instant{} || at.r->now - at.said > std::chrono::seconds{1}) {
      at.said = at.r->now;
      log(2, "over " + std::to_string(most_flows) + " connections at " + host.text() +
                 ": new ones are closed; a higher limit of descriptors (ulimit -n) allows more");
    }
    return;
  }
  const std::uint64_t id = ++ids;
  loop_state* to = &at;
  if (options.balance == reactor_pool::balance::least_loaded || listen_at.how == endpoint::scheme::unix_path)
    for (auto& l : loops)
      if (l->r->load < to->r->load) to = l.get();
  ++to->count;
  const auto begin_there = [self = shared_from_this(), to, client, id](socket_id arrived) {
    self->begin(*to, arrived, client, id);
  };
  if (to != &at && hand_over(*at.r, s, *to->r, begin_there)) return;
  if (to != &at) --to->count, ++at.count;
  begin(at, s, client, id);
}

void relay_core::begin(loop_state& on, socket_id s, const address& client, std::uint64_t id) {
  auto owned = std::make_unique<relay_flow>(shared_from_this(), on, s, client, id);
  relay_flow* const f = owned.get();
  on.r->own(std::move(owned));
  if (on.aborting || on.told) {  // told: it was on its way here while this loop stopped
    f->abort(reason{ending::aborted, {}, "midwire is stopping"});
    return;
  }
  if (options.client_tls) f->secure_client();
  if (!choose) {
    f->dial(connect_to);
    return;
  }
  std::string chosen;
  on.r->guard([&] { chosen = choose(client); });
  auto e = parse_endpoint(chosen);
  if (chosen.empty() || !e)
    f->refuse(reason{ending::refused, {}, chosen.empty() ? "no server for this client" : e.error().what});
  else
    f->dial(std::move(*e));
}

void relay_core::stop(duration drain, callback<void()> then) {
  for (std::size_t i = 0; i < loops.size(); ++i) {
    auto* const l = loops[i].get();
    auto work = [self = shared_from_this(), l, drain, told = std::exchange(then, {})]() mutable {  // loop 0 tells
      if (told) self->done.push_back(std::move(told));
      self->stop_loop(*l, drain);
    };
    if (l->r->in_turn())
      work();
    else
      l->r->post_from_thread(std::move(work));
  }
}

void relay_core::stop_loop(loop_state& l, duration drain) {
  if (l.told) {
    if (stopped == loops.size()) tell_stopped();
    return;
  }
  l.stopping = true;
  l.drain.cancel();
  if (l.port) l.port->close();
  const auto reset_rest = [self = shared_from_this(), &l] {
    l.aborting = true;
    auto all = l.flows;
    for (relay_flow* f : all) f->abort(reason{ending::aborted, {}, "midwire is stopping"});
    self->check_stopped(l);
  };
  // The queue of the closed listener comes with the next events: look again after them.
  if (drain.count() > 0)
    l.drain = l.r->self.call_later(drain, reset_rest);
  else
    l.r->post(reset_rest);
  l.r->post([self = shared_from_this(), &l] { l.r->post([self, &l] { self->check_stopped(l); }); });
}

void relay_core::check_stopped(loop_state& l) {
  if (!l.stopping || l.told || l.count > 0) return;
  l.told = true;
  l.drain.cancel();
  // It may be the port's own event that brought us here.
  l.r->post([port = std::move(l.port)] {});
  if (++stopped == loops.size()) tell_stopped();
}

void relay_core::tell_stopped() {
  loops[0]->r->post_from_thread([self = shared_from_this()] {
    for (auto all = std::exchange(self->done, {}); auto& tell : all) self->loops[0]->r->guard(tell);
  });
}

}  // namespace detail

relay::relay(reactor& r, std::string_view listen, std::string_view connect)
    : core_{std::make_shared<detail::relay_core>()} {
  core_->listen_at = detail::parsed(listen);
  if (!connect.empty()) core_->connect_to = detail::parsed(connect);
  core_->loops.push_back(std::make_unique<detail::relay_core::loop_state>());
  core_->loops.back()->r = &r.impl();
}

relay::relay(reactor_pool& p, std::string_view listen, std::string_view connect, reactor_pool::balance how)
    : core_{std::make_shared<detail::relay_core>()} {
  core_->listen_at = detail::parsed(listen);
  if (!connect.empty()) core_->connect_to = detail::parsed(connect);
  core_->options.balance = how;
  for (std::size_t i = 0; i < p.size(); ++i) {
    core_->loops.push_back(std::make_unique<detail::relay_core::loop_state>());
    core_->loops.back()->r = &p.loop(i).impl();
  }
}

relay::~relay() {
  if (core_->observer) core_->orphaned = true;
  core_->observer = nullptr;
  for (auto& l : core_->loops)
    if (l->port) {
      l->port->close();
      l->port.reset();
    }
}

relay& relay::add_stage(std::function<verdict(stage_context&, direction, chunk)> f) {
  return add_stage_maker([f] { return std::make_unique<detail::function_stage>(f); });
}
relay& relay::add_stage_maker(std::function<std::unique_ptr<stage>()> make) {
  core_->makers.push_back(std::move(make));
  return *this;
}
relay& relay::choose_server(callback<std::string(const address& client)> f) {
  core_->choose = std::move(f);
  return *this;
}
relay& relay::observe(relay_observer& o) {
  core_->observer = &o;
  return *this;
}
relay& relay::set_options(relay_options options) {
  if ((options.client_tls && !options.client_tls->is_server()) ||
      (options.server_tls && options.server_tls->is_server()))
    throw std::system_error{std::make_error_code(std::errc::invalid_argument),
                            "a relay is a TLS server to its clients and a TLS client to its servers"};
  const auto balance = core_->options.balance;
  core_->options = std::move(options);
  if (balance != reactor_pool::balance::kernel) core_->options.balance = balance;
  return *this;
}
relay& relay::succeed(relay& predecessor) {
  core_->predecessor = predecessor.core_;
  return *this;
}
void relay::start() { core_->start(); }
const address& relay::host() const noexcept { return core_->host; }
void relay::stop(duration drain, callback<void()> done) { core_->stop(drain, std::move(done)); }
std::size_t relay::flows() const noexcept { return core_->flows(); }

}  // namespace midwire
