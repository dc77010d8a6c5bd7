#include <midwire/engine/process.hpp>

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <exception>
#include <optional>
#include <system_error>

#include "engine/reactor_impl.hpp"
#include "engine/spawn_child.hpp"

namespace midwire {

namespace detail {

namespace {
// As for any flow (E23).
constexpr int calls_a_turn = 16;
constexpr std::size_t octets_a_turn = 256 * 1024;
constexpr std::size_t chunks_a_write = 64;
constexpr std::uint64_t no_end = ~std::uint64_t{0};
/// How long a child that was killed may take to be gone.
constexpr int last_wait_ms = 1000;
const flow_limits input_limits{};
}  // namespace

/// A child from its start until it has ended and its output has been told. The reactor owns it.
class child_process final : public socket_handler, public deferred_work, public mortal {
 public:
  child_process(reactor_impl& r, spawned_child c, std::shared_ptr<process_protocol> p, promise_of<int> promise,
                bool outlives_reactor)
      : reactor_{r},
        protocol_{std::move(p)},
        promise_{std::move(promise)},
        pid_{c.pid},
        handle_{std::move(c.handle)},
        input_{std::move(c.input)},
        outlives_reactor_{outlives_reactor} {
    for (auto& o : c.outputs) outputs_.push_back({o.number, std::move(o.fd), {}, {}, no_end, false});
  }

  /// Throws std::system_error; the child then goes with this object.
  void begin() {
    const auto watch = [this](int fd, bool read) {
      const socket_id s = reactor_.kernel->watch(fd, read, false);
      reactor_.handle(s, *this);
      return s;
    };
    exit_watch_ = watch(handle_.get(), true);
    if (input_) input_watch_ = watch(input_.get(), false);
    for (auto& o : outputs_) o.watch = watch(o.fd.get(), false);
    if (protocol_) protocol_->child_ = this;
    reactor_.queue(*this);  // started() comes from the loop
  }

  ~child_process() override {
    reactor_.unqueue(*this);
    if (handle_ && !outlives_reactor_) {
      send_signal(SIGKILL);
      // It dies at once, unless the kernel keeps it.
      pollfd gone{handle_.get(), POLLIN, 0};
      int n;
      do n = ::poll(&gone, 1, last_wait_ms);
      while (n < 0 && errno == EINTR);
      siginfo_t ignored{};
      ::waitid(P_PIDFD, static_cast<id_t>(handle_.get()), &ignored, WEXITED | WNOHANG);
    }
    unwatch(exit_watch_, handle_);
    unwatch(input_watch_, input_);
    for (auto& o : outputs_) unwatch(o.watch, o.fd);
    if (protocol_) protocol_->child_ = nullptr;
  }

  void on_event(socket_id s, event) override {
    if (done_) return;
    tell_start();
    if (handle_ && s == exit_watch_) {
      exited();
    } else if (input_ && s == input_watch_) {
      flush();
    } else {
      for (std::size_t i = 0; i < outputs_.size(); ++i)
        if (outputs_[i].fd && outputs_[i].watch == s) {
          read(outputs_[i]);
          break;
        }
    }
    after_callback();
  }

  void catch_up() override {
    if (done_) return;
    tell_start();
    after_callback();
  }

  void write(buffer octets) {
    if (!input_ || input_end_asked_ || octets.empty()) return;
    queue_.append(std::move(octets));
    reactor_.queue(*this);
  }
  void close_input() {
    input_end_asked_ = true;
    reactor_.queue(*this);
  }
  void send_signal(int number) noexcept {
    if (handle_) detail::send_signal(handle_, number);
  }
  void pause_output(bool yes) {
    paused_ = yes;
    reactor_.queue(*this);
  }
  void register_producer(producer* p, producing how) {
    producer_ = p, producing_ = how, producer_paused_ = false;
    reactor_.queue(*this);
  }
  std::size_t buffered() const noexcept { return queue_.size(); }
  int pid() const noexcept { return pid_; }

  std::shared_ptr<child_process*> self = std::make_shared<child_process*>(this);

 private:
  struct output {
    int number;
    owned_fd fd;
    socket_id watch;
    receive_size receive;
    std::uint64_t left;  // octets that are still told: finite once the child has ended
    bool armed;
  };

  /// An exception ends the child, and this with ending::failed (E22).
  template <class F>
  void call(F&& f) {
    std::string text = "unknown exception";
    try {
      f();
      return;
    } catch (const std::exception& e) { text = e.what(); } catch (...) {
    }
    reactor_.failed(text.c_str());
    if (!failure_) failure_ = reason{ending::failed, {}, text};
    send_signal(SIGKILL);
  }

  void unwatch(socket_id watch, owned_fd& fd) noexcept {
    if (!fd) return;
    reactor_.forget(watch);
    reactor_.kernel->unwatch(watch);
    fd.reset();
  }

  void tell_start() {
    if (!std::exchange(started_, true) && protocol_) call([&] { protocol_->started(); });
  }

  void exited() {
    siginfo_t info{};
    const int rc = ::waitid(P_PIDFD, static_cast<id_t>(handle_.get()), &info, WEXITED | WNOHANG);
    if (rc == 0 && info.si_pid == 0) return;  // not yet
    if (rc != 0) {
      if (!failure_)
        failure_ = reason{ending::failed,
                          {errno, std::system_category()},
                          "somebody else took the exit status: SIGCHLD is ignored, or waited for"};
      status_ = 255;
    } else {
      status_ = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
    }
    unwatch(exit_watch_, handle_);
    close_input_now(false);
    // What it wrote is in the pipes. What others still write, who hold them too, is not waited for.
    for (auto& o : outputs_) {
      int waiting = 0;
      if (o.fd && ::ioctl(o.fd.get(), FIONREAD, &waiting) != 0) waiting = 0;
      o.left = static_cast<std::uint64_t>(waiting);
    }
  }

  void read(output& o) {
    std::size_t budget = octets_a_turn;
    for (int i = 0; i < calls_a_turn && o.fd && o.left > 0 && budget > 0 && !paused_ && !failure_; ++i) {
      chunk data = segment_pool::receive(o.receive.current());
      const auto asked = static_cast<std::size_t>(std::min<std::uint64_t>(std::min(data.size(), budget), o.left));
      const ssize_t n = ::read(o.fd.get(), data.writable().data(), asked);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) break;
      if (n <= 0) {
        o.left = 0;
        break;
      }
      const auto octets = static_cast<std::size_t>(n);
      data.truncate(octets);
      o.receive.saw(octets, asked);
      budget -= octets;
      if (o.left != no_end) o.left -= octets;
      if (protocol_) call([&] { protocol_->output_received(o.number, std::move(data)); });
      if (octets < asked) break;
    }
  }

  void after_callback() {
    flush();
    for (auto& o : outputs_) {
      if (!o.fd) continue;
      if (o.left == 0 || failure_) {
        unwatch(o.watch, o.fd);
        if (protocol_ && !failure_) call([&] { protocol_->output_ended(o.number); });
      } else if (o.armed == paused_) {
        o.armed = !paused_;
        reactor_.kernel->change_watch(o.watch, o.armed, false);
      }
    }
    const bool silent = std::none_of(outputs_.begin(), outputs_.end(), [](const output& o) { return bool(o.fd); });
    if (!status_ || !silent || std::exchange(done_, true)) return;
    stop_producer();
    if (protocol_) {
      call([&] { protocol_->ended(*status_); });
      protocol_->child_ = nullptr;
    }
    if (failure_)
      promise_.fail(std::move(*failure_));
    else
      promise_.succeed(*status_);
    reactor_.retire(*this);
  }

  void feed() {
    if (!producer_) return;
    if (!input_ || input_end_asked_) return stop_producer();
    if (producing_ == producing::push) {
      const bool full = queue_.size() >= input_limits.high;
      if (!producer_paused_ && full) {
        producer_paused_ = true;
        call([&] { producer_->pause_producing(); });
      } else if (producer_paused_ && queue_.size() <= input_limits.low) {
        producer_paused_ = false;
        call([&] { producer_->resume_producing(); });
      }
      return;
    }
    for (int i = 0; i < calls_a_turn && producer_ && input_ && !input_end_asked_ && queue_.size() < input_limits.low;
         ++i) {
      const std::size_t before = queue_.size();
      call([&] { producer_->resume_producing(); });
      if (queue_.size() == before) break;
    }
  }

  void flush() {
    std::size_t written = 0;
    for (int i = 0; i < calls_a_turn && input_ && written < octets_a_turn; ++i) {
      feed();
      if (queue_.empty()) break;
      iovec parts[chunks_a_write];
      int count = 0;
      std::size_t asked = 0;
      for (const chunk& c : queue_) {
        if (count == static_cast<int>(chunks_a_write)) break;
        parts[count++] = {const_cast<std::uint8_t*>(c.bytes().data()), c.size()};
        asked += c.size();
      }
      const ssize_t n = ::writev(input_.get(), parts, count);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) break;
      if (n < 0) {
        close_input_now(true);
        break;
      }
      queue_.drop_front(static_cast<std::size_t>(n));
      written += static_cast<std::size_t>(n);
      if (static_cast<std::size_t>(n) < asked) break;
    }
    feed();
    if (!input_) return;
    if (queue_.empty() && input_end_asked_) return close_input_now(false);
    if (input_armed_ != !queue_.empty()) {
      input_armed_ = !queue_.empty();
      reactor_.kernel->change_watch(input_watch_, false, input_armed_);
    }
  }

  void close_input_now(bool by_child) {
    if (!input_) return;
    unwatch(input_watch_, input_);
    queue_.clear();
    stop_producer();
    if (by_child && protocol_) call([&] { protocol_->input_ended(); });
  }

  void stop_producer() {
    if (producer* const p = std::exchange(producer_, nullptr)) call([&] { p->stop_producing(); });
  }

  reactor_impl& reactor_;
  std::shared_ptr<process_protocol> protocol_;
  promise_of<int> promise_;
  int pid_;
  owned_fd handle_, input_;
  socket_id exit_watch_{}, input_watch_{};
  std::vector<output> outputs_;
  buffer queue_;
  producer* producer_ = nullptr;
  producing producing_ = producing::push;
  std::optional<int> status_;
  std::optional<reason> failure_;
  bool outlives_reactor_, started_ = false, done_ = false, paused_ = false;
  bool input_end_asked_ = false, input_armed_ = false, producer_paused_ = false;
};

}  // namespace detail

void process_protocol::output_received(int, chunk) {}

void process_protocol::write(buffer octets) {
  if (child_) child_->write(std::move(octets));
}
void process_protocol::close_input() {
  if (child_) child_->close_input();
}
void process_protocol::send_signal(int number) {
  if (child_) child_->send_signal(number);
}
void process_protocol::pause_output() {
  if (child_) child_->pause_output(true);
}
void process_protocol::resume_output() {
  if (child_) child_->pause_output(false);
}
void process_protocol::register_producer(producer& p, producing how) {
  if (child_) child_->register_producer(&p, how);
}
void process_protocol::unregister_producer() {
  if (child_) child_->register_producer(nullptr, producing::push);
}
std::size_t process_protocol::buffered() const noexcept { return child_ ? child_->buffered() : 0; }
int process_protocol::pid() const noexcept { return child_ ? child_->pid() : 0; }

deferred<int> reactor::spawn_process(std::vector<std::string> arguments, std::shared_ptr<process_protocol> protocol) {
  return spawn_process(std::move(arguments), std::move(protocol), process_options{});
}

deferred<int> reactor::spawn_process(std::vector<std::string> arguments, std::shared_ptr<process_protocol> protocol,
                                     const process_options& options) {
  promise_of<int> promise;
  const auto fail = [&](std::error_code code, std::string text) {
    promise.fail(reason{ending::failed, code, std::move(text)});
    return promise.get();
  };
  const std::string name = arguments.empty() ? std::string{} : arguments.front();
  if (!impl_->kernel->is_kernel())
    return fail(std::make_error_code(std::errc::function_not_supported), "start '" + name + "': a simulation has none");
  if (protocol && protocol->pid() != 0)
    return fail(std::make_error_code(std::errc::device_or_resource_busy),
                "start '" + name + "': its protocol has a child already");
  try {
    auto spawned = detail::spawn_child(arguments, options, protocol != nullptr);
    auto owned = std::make_unique<detail::child_process>(*impl_, std::move(spawned), std::move(protocol), promise,
                                                         options.outlives_reactor);
    owned->begin();
    // Weak: who cancels after the end finds nobody.
    promise.on_cancel([weak = std::weak_ptr<detail::child_process*>{owned->self}] {
      if (const auto child = weak.lock()) (*child)->send_signal(SIGKILL);
    });
    impl_->own(std::move(owned));
  } catch (const std::system_error& e) { return fail(e.code(), e.what()); }
  return promise.get();
}

}  // namespace midwire
