#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <midwire/base/callback.hpp>
#include <midwire/base/export.hpp>
#include <midwire/engine/core/timer_wheel.hpp>
#include <midwire/engine/deferred.hpp>
#include <midwire/engine/driver.hpp>
#include <midwire/engine/protocol.hpp>
#include <midwire/engine/thread_work.hpp>

namespace midwire {

namespace detail {
class reactor_impl;
struct port_state;
}  // namespace detail
class datagram_protocol;
class process_protocol;
class resolver;
struct process_options;
class stream;

struct reactor_options {
  int accept_batch = 64;
  std::size_t read_budget = 256 * 1024;
  bool splice = true;
  /// Of what is random (the jitter of backoff): the same seed gives the same. 0: another one each time.
  std::uint64_t seed = 0;
  /// For what on_shutdown() asked for, all in all.
  duration shutdown = std::chrono::seconds{10};
};

/// An open port.
class MIDWIRE_API listener {
 public:
  explicit listener(std::shared_ptr<detail::port_state> port) noexcept : port_{std::move(port)} {}
  /// The bound address: tells which port 0 became.
  const address& host() const noexcept;
  /// Accepts what is queued, then closes. The reference stays valid for as long as the reactor lives.
  void stop_listening();

 private:
  std::shared_ptr<detail::port_state> port_;
};

/// Restarts in O(1); belongs to one reactor, which must outlive it. Its own callback must not destroy it.
class MIDWIRE_API timer : private timer_hook {
 public:
  timer(reactor& r, callback<void()> then);
  ~timer() override;
  timer(timer&&) = delete;
  void start(duration from_now);
  /// Starts it anew with the last duration.
  void touch() noexcept;
  void stop() noexcept;

 private:
  void fired() override { then_(); }
  reactor& reactor_;
  callback<void()> then_;
  duration last_{};
};

/// The event loop: one thread, one driver. Several may live in one process, each on its own thread.
///
/// Set-up that fails throws std::system_error with the endpoint in its text; later failures arrive as a reason.
/// An exception that leaves a callback is logged and counted; the loop goes on.
class MIDWIRE_API reactor {
 public:
  explicit reactor(reactor_options options = {});
  reactor(std::unique_ptr<driver> kernel, reactor_options options = {});
  reactor(const reactor&) = delete;
  reactor& operator=(const reactor&) = delete;
  ~reactor();

  /// Turns until stop(), and on until what on_shutdown() asked for is done, or its time is over, or stop() is called
  /// again. Can run again afterwards.
  void run();
  void stop();
  /// One turn: waits at most `at_most` for something to happen, then handles all of it.
  void turn(duration at_most);
  /// The clock, read once a turn.
  instant now() const noexcept;
  /// The reactor whose run() or turn() this thread is in; a bug when in none.
  static reactor& current();

  listener& listen_tcp(std::uint16_t port, factory_ptr f, listen_options options = {});
  /// connection_made comes when the handshake is done, within 10 s; build_protocol, too.
  listener& listen_tls(std::uint16_t port, factory_ptr f, tls_ptr tls, listen_options options = {});
  listener& listen_unix(std::string path, factory_ptr f);
  deferred<protocol*> connect_tcp(std::string host, std::uint16_t port, factory_ptr f, connect_options options = {});
  /// The certificate is checked for `host`, unless the context names another. Answers when the handshake is done, for
  /// which there are 10 s on top of options.timeout.
  deferred<protocol*> connect_tls(std::string host, std::uint16_t port, factory_ptr f, tls_ptr tls,
                                  connect_options options = {});
  deferred<protocol*> connect_unix(std::string path, factory_ptr f);
  /// A UDP port (engine/datagram.hpp). The protocol may send and join groups at once; its started() comes from the loop.
  listener& listen_udp(std::uint16_t port, std::shared_ptr<datagram_protocol> p, listen_options options = {});
  /// A UDP socket that hears from one peer alone. Of a name's addresses the first one with a route is taken, IPv4 before
  /// IPv6: nothing tells whether anybody is there. `options.timeout` is for the name.
  deferred<datagram_protocol*> connect_udp(std::string host, std::uint16_t port, std::shared_ptr<datagram_protocol> p,
                                           connect_options options = {});
  listener& listen_unix_datagram(std::string path, std::shared_ptr<datagram_protocol> p);
  /// `options.bind` is a path of its own; without one it gets an abstract name, so that it can be answered.
  deferred<datagram_protocol*> connect_unix_datagram(std::string path, std::shared_ptr<datagram_protocol> p,
                                                     connect_options options = {});
  /// A literal address answers at once; names ask the hosts file and DNS, and never block the loop.
  deferred<std::vector<address>> resolve(std::string host, duration at_most = std::chrono::seconds{5});

  /// Starts a program, looked for in PATH unless its name has a slash, and answers with its exit status: 0 to 255, or
  /// 128 + n when signal n ended it. By then all that it wrote has been told. A program that does not start fails with
  /// ending::failed and the system's error. The loop waits for the start, about a millisecond. cancel() kills it
  /// (SIGKILL). Without a protocol it reads nothing, and writes where this process writes.
  deferred<int> spawn_process(std::vector<std::string> arguments, std::shared_ptr<process_protocol> protocol = {});
  deferred<int> spawn_process(std::vector<std::string> arguments, std::shared_ptr<process_protocol> protocol,
                              const process_options& options);

  timer_ref call_later(duration from_now, callback<void()> then);
  /// Again and again; a late one skips rounds. `then` may cancel it. A period of zero or less is a bug.
  timer_ref every(duration period, callback<void()> then);
  /// At the start of the next run(), or in the next turn when running.
  void call_when_running(callback<void()> then);
  /// Instead of the signal's own action. Blocks the signal for this thread and those it makes.
  void on_signal(int number, callback<void()> then);
  /// Runs work(arguments...) on one of four threads, which the process makes at first use, and gives what it returns or
  /// throws to this loop. Callable and arguments are moved to the thread and end there. Cancelled, or when the reactor
  /// goes, it is not begun, or its result is dropped; nothing waits for it.
  ///
  /// g++ 12: a closure with captures that have destructors needs a name (`co_await r.defer_to_thread(work)`).
  template <named_or_trivial F, await_safe... A>
  auto defer_to_thread(F&& work, A&&... arguments)
      -> deferred<std::invoke_result_t<std::decay_t<F>&, std::decay_t<A>...>> {
    return detail::work_on_thread<std::invoke_result_t<std::decay_t<F>&, std::decay_t<A>...>>(
        *impl_, std::forward<F>(work), std::forward<A>(arguments)...);
  }
  /// The one member that other threads may call.
  void call_from_thread(callback<void()> then);
  void watch(int fd, bool read, bool write, callback<void(bool readable, bool writable)> ready);
  void unwatch(int fd);

  /// Connects, for coroutines: see parse_endpoint(). A text that is none throws std::system_error.
  deferred<stream> open(std::string_view endpoint);
  /// Serves each connection by a coroutine of its own. One that an exception leaves resets its connection; when the
  /// connection is gone and this is what it was told, that is no failure.
  listener& listen(std::string_view endpoint, task<> (*serve)(stream));
  /// Awaited by a coroutine on this loop; zero or less gives the others a turn.
  awaiter<void> sleep(duration from_now);
  /// Owns the coroutine from now on and begins it in the next turn. What leaves it by exception is logged and counted;
  /// when the reactor goes, it is destroyed where it stands.
  void spawn(task<> body);
  /// When run() is about to end, all of these at the same time, for at most reactor_options::shutdown; each once. The
  /// callback stays until the coroutine is gone, so it may capture.
  void on_shutdown(callback<task<>()> make);

  const reactor_options& options() const noexcept;
  /// Exceptions that left callbacks, since the start.
  std::uint64_t failures() const noexcept;
  /// Replaces the resolver; for simulations.
  void set_resolver(std::unique_ptr<resolver> r);
  /// For the engine's own parts.
  detail::reactor_impl& impl() noexcept { return *impl_; }

 private:
  listener& open_ip_port(std::uint16_t port, const factory_ptr& f, const listen_options& options, const tls_ptr& tls);
  std::unique_ptr<detail::reactor_impl> impl_;
};

/// Where log lines of the engine go: level 0 debug, 1 info, 2 warning, 3 error. Default: warnings and errors to stderr.
/// Set before the first reactor runs. Loops on several threads call it at the same time.
MIDWIRE_API void set_log(callback<void(int level, std::string_view line)> sink);

}  // namespace midwire
