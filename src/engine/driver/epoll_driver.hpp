#pragma once

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <midwire/engine/driver.hpp>

#include "engine/driver/datagram_state.hpp"
#include "engine/driver/pipe_pool.hpp"
#include "engine/driver/sockaddr.hpp"

namespace midwire::detail {

/// What a place of the table stands for.
enum class role : std::uint8_t {
  vacant,
  connecting,
  stream,
  draining,  ///< a stream that its user has given up; waits for the peer to acknowledge, then resets
  failed,    ///< connect_failed is on its way
  listening,
  datagram,
  watched,
  signalled,
};

/// One socket, and all that the driver knows of it. Stays where it is for as long as the driver lives.
struct socket_state {
  socket_id id{};
  int fd = -1;
  role is = role::vacant;
  bool tcp = false;
  /// What epoll waits for now; -1: not known to epoll.
  int armed = -1;
  bool dirty = false;        ///< in the list of those whose interest may have changed
  bool hang_seen = false;    ///< RDHUP was told
  bool broken_seen = false;  ///< hung_up(true) was told
  /// ERR or HUP came while nobody read: epoll cannot mask those, so it no longer knows the descriptor, and reading
  /// happens without asking it.
  bool expelled = false;
  bool direct = false;      ///< in the list of those that are read without epoll
  bool read_ended = false;  ///< the end or the reset was told
  bool write_dead = false;  ///< a write failed, or the reset was told: what is sent is thrown away
  bool end_wanted = false;  ///< a FIN goes behind what is queued
  bool end_sent = false;
  bool reported = false;  ///< in the list of those that have octets_sent to tell
  bool copies = false;    ///< splice(2) does not work here: splicing copies
  bool shared = false;    ///< others may hold the same open file: epoll does not forget it when we close
  receive_size receive;
  /// What a write failed with: told instead of the end that the read side would see.
  int write_error = 0;
  std::uint64_t room = 0;
  /// Octets the kernel took, not told yet.
  std::uint64_t sent = 0;
  buffer queue;
  /// A file behind the queue: its descriptor, which is not ours, or -1.
  int file = -1;
  std::uint64_t file_offset = 0, file_left = 0;

  /// While octets of this socket are spliced: where to and how many more; and on the other one, where from, and the
  /// pipe in between. What is in the pipe always goes out before what is in the queue.
  socket_state* splice_to = nullptr;
  socket_state* splice_from = nullptr;
  std::uint64_t splice_left = 0;
  splice_pipe pipe;

  // Listeners.
  int batch = 0;
  bool paused = false;
  instant resumes{};
  instant complained{};
  bool owns_path = false;
  dev_t path_device{};
  ino_t path_inode{};

  std::unique_ptr<datagram_state> datagram;

  /// Of a draining one: the next look, and the last one.
  instant look_at{}, give_up_at{};
  duration look_again{};

  /// Of a watched one: what its owner asked for. Of a signal: its number.
  bool want_read = false, want_write = false, always_ready = false;
  int number = 0;

  address peer;

  bool queued() const noexcept { return pipe.held() > 0 || !queue.empty() || file >= 0; }
  bool may_splice() const noexcept {
    return splice_left > 0 && splice_to->is == role::stream && !splice_to->write_dead && !splice_to->end_wanted &&
           !splice_to->queued();
  }
  bool reading() const noexcept { return is == role::stream && !read_ended && (splice_to ? may_splice() : room > 0); }
};

/// The driver of the running kernel: level-triggered epoll. Interest is worked out once a turn, right before the wait,
/// so that changes that cancel each other cost no system call.
class epoll_driver final : public driver {
 public:
  explicit epoll_driver(driver_limits limits);
  ~epoll_driver() override;

  instant now() const noexcept override { return now_; }
  socket_id listen(const address& where, const listen_options& options) override;
  socket_id adopt_listener(int fd) override;
  int duplicate(socket_id listener) override;
  void accept(socket_id listener, int batch) override;
  void close_listener(socket_id listener) override;
  socket_id connect(const address& to, const connect_options& options) override;
  socket_id adopt(int fd) override;
  int release(socket_id s) override;
  socket_id bind_datagram(const address& where, const listen_options& options) override;
  socket_id connect_datagram(const address& to, const connect_options& options) override;
  std::error_code configure_datagram(socket_id s, const datagram_settings& settings) override;
  std::error_code change_group(socket_id s, const address& group, const address& interface, bool join) override;
  datagram_counts counts(socket_id s) const override;
  void flush_datagrams() override;
  socket_id watch(int fd, bool read, bool write) override;
  void change_watch(socket_id s, bool read, bool write) override;
  void unwatch(socket_id s) override;
  socket_id watch_signal(int number) override;
  address local(socket_id s) const override;
  address peer(socket_id s) const override;
  void set_no_delay(socket_id s, bool on) override;
  void set_keep_alive(socket_id s, bool on) override;
  bool can_splice(socket_id from, socket_id to) const override;
  void perform(socket_id s, command what) override;
  void splice(socket_id from, socket_id to, std::uint64_t octets) override;
  void wait(instant until, std::vector<std::pair<socket_id, event>>& happened) override;
  void wake() noexcept override;
  bool send_file(socket_id s, int fd, std::uint64_t offset, std::uint64_t octets) override;
  bool is_kernel() const noexcept override { return true; }

 private:
  using happenings = std::vector<std::pair<socket_id, event>>;

  // The table (epoll_driver.cpp).
  socket_state& make(role is, int fd);
  socket_state* find(socket_id id) const noexcept;
  void retire(socket_state& s);
  void close_fd(socket_state& s) noexcept;

  // The turn (epoll_driver.cpp).
  template <class... A>
  void tell(A&&... a) {
    told_->emplace_back(std::forward<A>(a)...);
  }
  bool pending() const noexcept { return !pending_.empty() || !reports_.empty(); }
  void give_pending(happenings& happened);
  void handle_ready();
  void give_reports();
  void touch(socket_state& s);
  int interest(const socket_state& s) const noexcept;
  void arm(socket_state& s);
  void arm_all();
  instant next_timer(instant until) const noexcept;
  int poll(instant until);
  void handle(socket_state& s, std::uint32_t events);
  void handle_stream(socket_state& s, std::uint32_t events);
  void handle_watched(socket_state& s, std::uint32_t events);
  void take_signals();
  void run_timers();
  bool change_signals(int number, bool add);

  // Listeners and connecting (epoll_sockets.cpp).
  socket_state& add_listener(int fd, bool tcp);
  void accept_some(socket_state& listener);
  void out_of_descriptors(socket_state& listener);
  bool accept_one(socket_state& listener, int& error);
  void pause(socket_state& listener);
  void remove_path(const socket_state& listener) noexcept;
  void finish_connect(socket_state& s, int error);
  void fail_connect(socket_state& s, int error);

  // Datagrams (epoll_datagrams.cpp).
  socket_state& make_datagram_socket(int fd, bool unix_socket);
  void perform_datagram(socket_state& s, command what);
  void handle_datagram(socket_state& s, std::uint32_t events);
  void receive_datagrams(socket_state& s);
  void take_network_errors(socket_state& s, bool all);
  void datagram_failed(socket_state& s, int error, const address& to);
  void send_datagram(socket_state& s, buffer octets, const address& to);
  void flush_datagrams(socket_state& s);
  void flush_one_by_one(socket_state& s);
  void refuse_front(socket_state& s, int error);
  void block(socket_state& s);
  void retry_datagrams();
  void close_datagram(socket_state& s);
  void forget_datagram(socket_state& s) noexcept;

  // Streams (epoll_streams.cpp).
  void read(socket_state& s, std::uint32_t events);
  void read_ended(socket_state& s, int error);
  void hung_up(socket_state& s, bool broken);
  void send(socket_state& s, buffer octets);
  void send_end(socket_state& s);
  bool write_some(socket_state& s, buffer& octets);
  bool write_file(socket_state& s);
  void write_failed(socket_state& s, int error);
  void count_sent(socket_state& s, std::size_t octets);
  void flush(socket_state& s);
  void start_reading(socket_state& s, std::uint64_t room);
  void stop_splice(socket_state& from);
  void leave_splices(socket_state& s);
  void pump(socket_state& from, std::uint32_t events);
  void copy_some(socket_state& from, std::uint32_t events);
  bool drain_pipe(socket_state& to);
  void empty_pipe_into_queue(socket_state& to);
  void close(socket_state& s);
  void reset(socket_state& s);
  void reset_after_drain(socket_state& s, duration at_most);
  bool drained(socket_state& s);

  static constexpr std::size_t per_block = 64;
  static constexpr unsigned index_bits = 20;

  driver_limits limits_;
  int epoll_ = -1, wake_ = -1, signals_ = -1, reserve_ = -1;
  bool nanoseconds_ = true;
  /// The last wait() gave pending results without asking epoll: the next one asks, whatever is pending.
  bool skipped_ = false;
  std::size_t ready_next_ = 0, ready_count_ = 0;  // of ready_: what is not handled yet
  std::size_t read_now_ = 0;                      // octets read in this wait()
  std::atomic<bool> woken_{false};
  instant now_;
  sigset_t signal_set_;

  std::vector<std::unique_ptr<std::array<socket_state, per_block>>> blocks_;
  std::uint32_t used_ = 0;
  std::vector<std::uint32_t> vacant_;
  /// Places given up in this turn: they are not used again while the turn's events are on their way.
  std::vector<std::uint32_t> retired_;
  std::vector<socket_state*> dirty_, reports_, direct_, draining_, paused_, always_ready_, signal_watches_;
  std::vector<socket_state*> gathered_, retrying_;  // datagram sockets with something to send, now and by the clock
  std::unique_ptr<datagram_batch> batch_;
  happenings pending_;
  happenings* told_ = &pending_;
  pipe_pool pipes_;
  std::array<epoll_event, 256> ready_;
};

}  // namespace midwire::detail
