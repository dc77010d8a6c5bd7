#include "streams/source/serve.hpp"

#include <utility>

#include <midwire/engine/core/flow.hpp>
#include <midwire/engine/protocol.hpp>

namespace midwire::streams::detail {

/// A flow whose client is the transport and whose server is this object: what the flow sends to the server is what the
/// rules left of the client's octets, and goes back on the transport, where no stage sees it.
class served_connection final : public protocol, private producer {
 public:
  explicit served_connection(served_port& port) : port_{&port} {}
  ~served_connection() override {
    if (port_) port_->gone(this);
  }
  /// The port is destroyed; nothing runs any more.
  void forget_port() noexcept { port_ = nullptr; }

  void connection_made() override {
    start_ = reactor().now();
    peer_ = transport().peer();
    const auto host = transport().host();
    about_ = std::make_shared<connection>(port_->loop_, port_->sink_, conn_name{++port_->numbered_, port_->mode_.spec});
    port_->up_.insert(this);
    about_->opened(peer_, host);
    flow_ = std::make_unique<flow>(about_->build(port_->settings_, peer_, host, true), port_->settings_.limits);
    flow_->set_identity(port_->numbered_, peer_, host);
    flow_->allow_splice(false);
    flow_->on_work([this] { wake(); });
    deadline_.emplace(reactor(), [this] {
      flow_->advance(reactor().now());
      obey();
    });
    transport().register_producer(*this, producing::push);
    transport().pause_reading();
    flow_->open(reactor().now());
    obey();
  }
  void data_received(chunk data) override { tell(side::client, event::data_received(std::move(data))); }
  void read_connection_lost() override { tell(side::client, event::end_received()); }
  void connection_lost(const reason& why) override {
    lost_ = true;
    if (!flow_->closed()) {
      const bool broken = why.how() != ending::done;
      tell(side::client, broken ? event::reset_received(why.code()) : event::end_received());
      if (!flow_->closed()) flow_->abort(why, reactor().now());
      obey();
    }
    deadline_.reset();
    flow_summary summary;
    summary.why = flow_->why(), summary.by = flow_->by(), summary.opened = true, summary.age = reactor().now() - start_;
    summary.counts[index_of(direction::to_server)] = flow_->count(direction::to_server);
    summary.counts[index_of(direction::to_client)] = {answered_, answered_, 0, 0};
    about_->closed(summary, peer_);
    flow_.reset();
  }
  void abort() {
    if (lost_) return;
    flow_->abort(reason{ending::aborted, {}, "still open when the time to drain was over"}, reactor().now());
    obey();
  }

 private:
  midwire::reactor& reactor() const { return *port_->loop_.loop; }

  void tell(side from, event what) {
    flow_->handle(from, std::move(what), reactor().now());
    obey();
  }

  void wake() {
    if (std::exchange(woken_, true)) return;
    deadline_->start({});
  }

  // Commands may make events (the answer was taken), which make commands: one loop does them all, in order.
  void obey() {
    if (std::exchange(obeying_, true)) return;
    woken_ = false;
    side to{};
    command what = command::close();
    while (flow_->next_command(to, what)) {
      if (to == side::client)
        command_to_client(what);
      else
        command_to_server(what);
    }
    obeying_ = false;
    if (lost_ || !deadline_) return;
    if (const auto due = flow_->next_deadline())
      deadline_->start(std::max(duration{}, *due - reactor().now()));
    else
      deadline_->stop();
  }

  void command_to_client(command& what) {
    const auto now = reactor().now();
    if (what.what() == command::kind::send) {
      // Rules may send to the client themselves; the transport keeps the order with the answers.
      const auto octets = what.octets().size();
      if (!lost_) transport().write(std::move(what.octets()));
      flow_->handle(side::client, event::octets_sent(octets), now);
      return;
    }
    if (lost_) return;
    switch (what.what()) {
      case command::kind::start_reading: transport().resume_reading(); break;
      case command::kind::stop_reading: transport().pause_reading(); break;
      case command::kind::send_end: unregister(), transport().lose_write_connection(); break;
      case command::kind::close: unregister(), transport().lose_connection(); break;
      case command::kind::reset:
      case command::kind::reset_after_drain: unregister(), transport().abort_connection(); break;
      default: break;
    }
  }

  void command_to_server(command& what) {
    const auto now = reactor().now();
    switch (what.what()) {
      case command::kind::send: {
        const auto octets = what.octets().size();
        if (port_->settings_.answer && !lost_) answered_ += octets, transport().write(std::move(what.octets()));
        // The flow hears that the octets are gone when the client takes its answers: who does not read is not read.
        if (paused_)
          owed_ += octets;
        else
          flow_->handle(side::server, event::octets_sent(octets), now);
        break;
      }
      case command::kind::send_end: flow_->handle(side::server, event::end_received(), now); break;
      default: break;
    }
  }

  void unregister() {
    if (std::exchange(registered_, false)) transport().unregister_producer();
    resume_producing();
  }
  void pause_producing() override { paused_ = true; }
  void resume_producing() override {
    paused_ = false;
    if (const auto octets = std::exchange(owed_, 0); octets != 0 && flow_)
      tell(side::server, event::octets_sent(octets));
  }
  void stop_producing() override { registered_ = false, paused_ = false; }

  served_port* port_;
  std::shared_ptr<connection> about_;
  std::unique_ptr<flow> flow_;
  std::optional<timer> deadline_;
  address peer_;
  instant start_{};
  std::uint64_t answered_ = 0, owed_ = 0;
  bool obeying_ = false, woken_ = false, lost_ = false, paused_ = false, registered_ = true;
};

class served_port::maker final : public factory {
 public:
  explicit maker(served_port& port) : port_{port} {}
  std::unique_ptr<protocol> build_protocol(const address&) override {
    return std::make_unique<served_connection>(port_);
  }

 private:
  served_port& port_;
};

served_port::served_port(const mode& m, const proxy_settings& settings, loop_state& loop, event_sink& sink)
    : mode_{m}, settings_{settings}, loop_{loop}, sink_{sink} {}
served_port::~served_port() {
  reset_later_.cancel();
  for (auto* c : up_) c->forget_port();
}

void served_port::start(const endpoint& at) {
  auto make = std::make_shared<maker>(*this);
  if (at.how == endpoint::scheme::unix_path) {
    port_ = &loop_.loop->listen_unix(at.path, std::move(make));
  } else {
    listen_options how;
    how.interface = at.host;
    port_ = &loop_.loop->listen_tcp(at.port, std::move(make), how);
  }
}

void served_port::stop(duration drain, callback<void()> done) {
  port_->stop_listening();
  done_ = std::move(done);
  if (up_.empty()) return gone(nullptr);
  reset_later_ = loop_.loop->call_later(drain, [this] {
    const std::vector<served_connection*> all{up_.begin(), up_.end()};
    for (auto* c : all)
      if (up_.contains(c)) c->abort();
  });
}

void served_port::gone(served_connection* c) {
  up_.erase(c);
  if (!up_.empty() || !done_) return;
  reset_later_.cancel();
  // From the loop, not from inside a destructor.
  loop_.loop->call_later({}, [done = std::exchange(done_, {})]() mutable { done(); });
}

}  // namespace midwire::streams::detail
