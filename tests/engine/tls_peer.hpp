#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <midwire/testing/sim_network.hpp>

#include "engine/tls/tls_session.hpp"
#include "engine/tls_rules.hpp"

namespace midwire::tests {

/// A far end with TLS, moved by a test: what it says and how it ends is for the test to decide.
class tls_peer {
 public:
  tls_peer(testing::sim_network& network, const tls_ptr& context, const std::string& name = "localhost")
      : session_{std::make_unique<detail::tls_session>(context, name)}, peer{network} {
    peer.on_received([this](std::string_view octets) { got(octets); });
  }
  tls_peer(const tls_peer&) = delete;
  /// Connects, or listens, and shakes hands as soon as somebody answers.
  tls_peer& connect(const address& to) {
    peer.connect(to);
    start();
    return *this;
  }
  tls_peer& listen() {
    peer.listen();
    return *this;
  }
  /// A client that starts its handshake on a connection that is there already.
  void start() {
    in_the_clear = nullptr;
    session_->handshake();
    flush();
  }
  tls_peer& send(std::string_view text) {
    if (!session_->established()) {
      early_ += text;
      return *this;
    }
    std::vector<detail::tls_session::mark> marks;
    session_->write(buffer{chunk{text}}, marks);
    flush();
    return *this;
  }
  tls_peer& close_notify() {
    session_->end();
    flush();
    return *this;
  }
  /// From now on what arrives is not answered by TLS any more.
  detail::tls_session& session() { return *session_; }
  bool up() const { return session_->established(); }

  /// While set it gets what arrives, instead of TLS.
  std::function<void(std::string_view)> in_the_clear;
  std::string plain;
  bool saw_close_notify = false, broken = false;

 private:
  void flush() {
    std::string out = session_->output().text();
    session_->output().clear();
    if (!out.empty()) peer.send(out);
  }
  void got(std::string_view octets) {
    if (in_the_clear) {
      const auto then = in_the_clear;  // it may take itself away
      then(octets);
      return;
    }
    session_->feed(chunk{octets});
    if (!session_->established()) {
      const auto how = session_->handshake();
      broken |= how == detail::tls_session::status::failed;
      flush();
      if (!session_->established()) return;
      if (!early_.empty()) send(std::exchange(early_, {}));
    }
    for (;;) {
      chunk c;
      const auto how = session_->read(detail::tls_session::record_size, c);
      flush();
      if (how == detail::tls_session::status::ok) {
        plain += c.text();
        continue;
      }
      saw_close_notify |= how == detail::tls_session::status::ended;
      broken |= how == detail::tls_session::status::failed;
      return;
    }
  }
  std::unique_ptr<detail::tls_session> session_;
  std::string early_;

 public:
  testing::sim_peer peer;
};

}  // namespace midwire::tests
