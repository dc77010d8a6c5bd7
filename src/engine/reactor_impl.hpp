#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <midwire/base/chance.hpp>
#include <midwire/engine/names.hpp>
#include <midwire/engine/reactor.hpp>

namespace midwire::detail {

/// Whoever wants the events of a socket.
class socket_handler {
 public:
  virtual ~socket_handler() = default;
  virtual void on_event(socket_id s, event what) = 0;
};

/// Stands between a socket and its handler, for example TLS: takes the driver's events and the handler's commands.
/// Whoever puts one there (reactor_impl::put_between) owns it, and takes it away before it goes.
class socket_filter : public socket_handler {
 public:
  virtual void perform(command what) = 0;
  socket_handler* above = nullptr;  // null: nobody wants its events
};

/// Something with output to hand over, or work to do, once the callback that made it has returned (E16, E18).
class deferred_work {
 public:
  virtual ~deferred_work() = default;
  virtual void catch_up() = 0;
  bool queued = false;
};

/// Objects that die only after the batch of events they were in (E17).
class mortal {
 public:
  virtual ~mortal() = default;
  std::size_t place = 0;  // in reactor_impl::owned
};

void log(int level, std::string_view line);

class coroutine_loop;
class work_desk;

class reactor_impl {
 public:
  reactor_impl(reactor& self, std::unique_ptr<driver> kernel, reactor_options options);
  reactor_impl(const reactor_impl&) = delete;
  reactor_impl& operator=(const reactor_impl&) = delete;
  ~reactor_impl();

  void run();
  void turn(duration at_most);
  void post(callback<void()> f) { later.push_back(std::move(f)); }
  void post_from_thread(callback<void()> f);
  /// Whether the calling thread is in a turn of this loop.
  bool in_turn() const noexcept;
  void handle(socket_id s, socket_handler& h);
  void forget(socket_id s) noexcept;
  /// What shall be done with a socket, TLS on it or not: never ask the driver itself once a socket is connected.
  void perform(socket_id s, command what) {
    if (socket_filter* const f = filter_of(s))
      f->perform(std::move(what));
    else
      kernel->perform(s, std::move(what));
  }
  /// Null: plain. One that has a filter cannot be spliced, nor be written to behind the engine's back.
  socket_filter* filter_of(socket_id s) const noexcept {
    const std::size_t i = index_of(s);
    return i < handlers_.size() && handlers_[i].id == s ? handlers_[i].filter : nullptr;
  }
  /// The socket's handler becomes the one above `f`.
  void put_between(socket_id s, socket_filter& f);
  void take_away(socket_id s, const socket_filter& f) noexcept;
  void queue(deferred_work& w) {
    if (!std::exchange(w.queued, true)) dirty.push_back(&w);
  }
  void unqueue(deferred_work& w) noexcept;
  /// Runs a callback of the user's: what leaves it is logged and counted.
  template <class F>
  bool guard(F&& f) noexcept {
    try {
      f();
      return true;
    } catch (const std::exception& e) { failed(e.what()); } catch (...) {
      failed("unknown exception");
    }
    return false;
  }
  void failed(const char* what) noexcept;
  void bury(std::unique_ptr<mortal> m) { graveyard.push_back(std::move(m)); }
  resolver& names();

  reactor& self;
  reactor_options options;
  std::unique_ptr<driver> kernel;
  timer_wheel wheel;
  instant now;
  bool running = false, stopping = false;
  std::uint64_t failures = 0;
  random_source random;
  std::vector<std::pair<socket_id, event>> happened;
  std::vector<callback<void()>> later, when_running;
  std::vector<deferred_work*> dirty;
  std::vector<std::unique_ptr<mortal>> graveyard;
  std::vector<std::unique_ptr<mortal>> owned;  // transports, dialers: until buried
  std::vector<std::unique_ptr<listener>> listeners;
  std::unordered_map<int, std::pair<socket_id, std::unique_ptr<socket_handler>>> watches, signals;
  std::unique_ptr<resolver> resolver_;
  std::shared_ptr<coroutine_loop> coroutines;  // made when the first one comes
  std::shared_ptr<work_desk> desk;            // made with the first work for a thread

  void catch_up();
  void own(std::unique_ptr<mortal> m) {
    m->place = owned.size();
    owned.push_back(std::move(m));
  }
  /// Takes an object out of `owned` into the graveyard.
  void retire(mortal& m);
  /// Connections this loop has, those on their way to it included: other loops read it to share the load.
  std::atomic<std::size_t> load{0};

 private:
  struct entry {
    socket_id id;
    socket_handler* handler;
    socket_filter* filter = nullptr;  // then it is the handler
  };
  std::vector<entry> handlers_;
  std::mutex posted_lock_;
  std::vector<callback<void()>> posted_;
};

/// The reactor whose loop this thread is in; else the last one made on this thread that is still there; null when there
/// is none.
reactor_impl* here() noexcept;

}  // namespace midwire::detail
