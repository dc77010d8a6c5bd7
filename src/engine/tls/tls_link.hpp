#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/reactor_impl.hpp"
#include "engine/tls/tls_session.hpp"

namespace midwire::detail {

/// TLS on a socket, between its handler and the driver. Above it all is as on a plain socket, in plain octets:
///
/// send, send_end  records, then close_notify and a FIN; octets_sent tells of plain octets, when the kernel has taken
///                 the last record they are in (octets_sent(0): it takes some)
/// start_reading   room for plain octets; what is decrypted beyond it waits here and is given first (E15)
/// end_received    the peer's close_notify; its bare FIN is reset_received(tls_errc::truncated)
///                 (it comes as well when we have ended, what is read is not wanted, and a second has gone by)
/// connected       the handshake is done; connect_failed: it is not, failure() says why, and close is to be performed
/// close           what is encrypted already, an alert too, still goes out: the socket closes a little later
///
/// Holds at most what was granted above, and a record more; no more of what is sent than is counted above.
class tls_link final : public socket_filter, public deferred_work, public mortal, private timer_hook {
 public:
  /// What a socket that was plain until now has done already.
  struct history {
    std::uint64_t in_flight = 0;  // octets sent, not told of as taken
    std::uint64_t room = 0;       // octets that may still be read
    buffer received;              // came, and shown to nobody: TLS, then
    bool ended = false;           // the peer's FIN has come
  };
  /// Puts TLS on a connected socket, in the context's role, and starts the handshake in this turn. The reactor owns
  /// the link. Throws std::system_error when a client has no name to check; then nothing has changed.
  static tls_link& attach(reactor_impl& r, socket_id s, tls_ptr context, std::string server_name, std::string where,
                          duration handshake);
  static tls_link& attach(reactor_impl& r, socket_id s, std::unique_ptr<tls_session> session, duration handshake,
                          history before);
  /// Null: the socket is plain.
  static tls_link* on(reactor_impl& r, socket_id s) noexcept { return static_cast<tls_link*>(r.filter_of(s)); }

  tls_link(reactor_impl& r, socket_id s, std::unique_ptr<tls_session> session, history before);
  ~tls_link() override;
  void perform(command what) override;
  void on_event(socket_id s, event what) override;
  void catch_up() override;

  const tls_session& session() const noexcept { return *session_; }
  const reason& failure() const noexcept { return failure_; }
  /// Octets in here, both ways: plain that waits for the handshake, and what came and was not given.
  std::size_t held() const noexcept { return plain_.size() + session_->waiting() + session_->readable(); }

 private:
  enum class state : std::uint8_t { shaking, open, failed, leaving };
  void fired() override;
  void run();
  void shake();
  void deliver();
  void encrypt(buffer octets);
  void send_output();
  void say_end();
  void octets_taken(std::uint64_t octets);
  void update_reading();
  void fail(reason why, bool told_as_reset);
  void close();
  void check_left();
  void gone();
  void after(duration d);
  void await_answer();
  void tell(event what) {
    if (above && state_ != state::leaving) above->on_event(socket_, std::move(what));
  }

  reactor_impl& r_;
  socket_id socket_;
  std::unique_ptr<tls_session> session_;
  buffer plain_;  // to be sent once the handshake is done
  std::vector<tls_session::mark> marks_;
  std::size_t marks_done_ = 0;
  std::uint64_t output_sent_ = 0, clear_ahead_ = 0;
  std::uint64_t room_ = 0, granted_ = 0;
  std::size_t discarded_ = 0;
  reason failure_;
  std::optional<std::error_code> reset_;
  state state_ = state::shaking;
  bool reading_ = false, running_ = false, over_ = false;
  bool fin_ = false, ended_ = false, hinted_ = false, broken_ = false;
  bool end_asked_ = false, end_sent_ = false, alert_sent_ = false, refused_ = false;
};

/// The handshake on a socket that has no protocol yet. Owned by the reactor; one result, from the loop.
class tls_opening final : public socket_handler, public deferred_work, public mortal {
 public:
  /// Empty: TLS is up, and the socket waits for its handler. Else it is closed.
  using result_fn = callback<void(std::optional<reason>)>;
  static tls_opening* start(reactor_impl& r, socket_id s, tls_ptr context, const std::string& host, std::uint16_t port,
                            duration at_most, result_fn done);
  tls_opening(reactor_impl& r, socket_id s, result_fn done) : r_{r}, socket_{s}, done_{std::move(done)} {}
  ~tls_opening() override;
  void on_event(socket_id s, event what) override;
  void catch_up() override { finish(std::move(failed_at_once_)); }
  /// No result will come; the socket is closed.
  void cancel();

 private:
  void finish(std::optional<reason> failed);
  reactor_impl& r_;
  socket_id socket_;
  result_fn done_;
  std::optional<reason> failed_at_once_;
};

}  // namespace midwire::detail
