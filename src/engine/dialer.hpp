#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <midwire/engine/endpoint.hpp>

#include "engine/reactor_impl.hpp"

namespace midwire::detail {

/// Connects to an endpoint: asks for its addresses, tries them one after the other, the next one when an attempt fails
/// or after 250 ms (RFC 8305 section 5), and keeps the first that answers. One result, from the loop.
class dialer final : public socket_handler, private timer_hook {
 public:
  /// The connected socket, or why there is none. The dialer is done with when it is called.
  using result_fn = callback<void(std::optional<socket_id>, reason)>;
  using refuse_fn = std::function<std::optional<std::string>(const address&)>;

  dialer(reactor_impl& r, endpoint to, connect_options options, refuse_fn refuse, result_fn done);
  ~dialer() override;
  dialer(const dialer&) = delete;
  dialer& operator=(const dialer&) = delete;
  /// The result is called from the loop, never from here.
  void start();
  /// No result will come; sockets are closed.
  void cancel() noexcept;

  void on_event(socket_id s, event what) override;

 private:
  void fired() override;
  void got(resolver::answer a);
  void try_next();
  void plan();
  void finish(std::optional<socket_id> s, reason why);

  reactor_impl& reactor_;
  endpoint to_;
  connect_options options_;
  refuse_fn refuse_;
  result_fn done_;
  std::vector<address> waiting_;
  std::vector<socket_id> trying_;
  reason last_{ending::refused};
  std::uint64_t query_ = 0;
  bool asking_ = false, finished_ = false;
  instant deadline_ = instant::max(), next_try_ = instant::max();
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace midwire::detail
