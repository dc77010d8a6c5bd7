#pragma once

#include <memory>
#include <string>
#include <unordered_set>

#include <midwire/base/callback.hpp>
#include <midwire/engine/reactor.hpp>

#include "streams/source/pipeline_builder.hpp"

namespace midwire::streams::detail {

class served_connection;

/// A port whose connections end here: rules edit what clients send, and they get it back. On one loop.
class served_port {
 public:
  served_port(const mode& m, const proxy_settings& settings, loop_state& loop, event_sink& sink);
  served_port(const served_port&) = delete;
  served_port& operator=(const served_port&) = delete;
  ~served_port();

  /// Throws std::system_error.
  void start(const endpoint& at);
  address host() const { return port_->host(); }
  void stop(duration drain, callback<void()> done);

 private:
  friend class served_connection;
  class maker;
  void gone(served_connection* c);

  const mode& mode_;
  const proxy_settings& settings_;
  loop_state& loop_;
  event_sink& sink_;
  listener* port_ = nullptr;
  std::uint64_t numbered_ = 0;
  std::unordered_set<served_connection*> up_;
  timer_ref reset_later_;
  callback<void()> done_;
};

}  // namespace midwire::streams::detail
