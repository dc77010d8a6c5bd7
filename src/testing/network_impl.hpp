#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <midwire/base/chance.hpp>
#include <midwire/testing/sim_network.hpp>

#include "testing/sim_datagrams.hpp"

namespace midwire::testing::detail {

class network_impl;
struct sim_socket;
struct sim_listener;

/// Whoever holds sockets. Both calls only note that there is something to look at.
class socket_owner {
 public:
  virtual ~socket_owner() = default;
  virtual void changed(sim_socket& s) = 0;
  virtual void changed(sim_listener& l) = 0;
};

/// A run of octets, the end or a reset, on its way or unread.
struct item {
  enum class kind : std::uint8_t { data, end, reset };
  kind what = kind::data;
  std::string octets;
  instant departs{}, arrives{};
};

/// One direction of a connection. Each end holds it; what is in it outlives the sender.
struct sim_pipe {
  link_shape shape;
  direction_faults faults;
  std::weak_ptr<sim_socket> from, to;
  std::weak_ptr<sim_pipe> back;
  std::deque<item> flight, arrived;
  std::size_t in_flight = 0, unread = 0;  // octets
  std::uint64_t taken = 0;                // octets from the sender, since the start
  std::uint64_t number = 0;               // of the connection
  std::size_t prime = 0, prime_used = 0;
  instant free_at{};  // when the wire has sent what it has
  bool scheduled = false, ended = false, broken = false;

  std::size_t room() const noexcept {
    const std::size_t used = in_flight + unread;
    return used < shape.window ? shape.window - used : 0;
  }
};

/// One end of a connection.
struct sim_socket : std::enable_shared_from_this<sim_socket> {
  explicit sim_socket(network_impl& n) : net{n} {}
  network_impl& net;
  socket_owner* owner = nullptr;
  std::uint64_t name = 0;  // the owner's
  address local, peer;
  std::shared_ptr<sim_pipe> in, out;
  std::deque<std::string> pending;  // sent, and not taken by the pipe
  std::size_t pending_octets = 0;
  std::uint64_t newly_taken = 0;  // octets, which the owner sets back
  instant blocked_until{};
  bool end_wanted = false, closed = false, broken = false, draining = false, blocked_once = false;

  void send(std::string octets);
  void send_end();
  /// How many of `octets` one try to write would get rid of now.
  std::size_t admit(std::size_t octets);
  /// Offers the pipe what is pending: one try to write.
  void push();
  /// Whether a write would be taken, in part at least.
  bool writable_now() const;
  /// Takes what arrived first, at most `octets` of it. Only when something arrived.
  item take(std::size_t octets);
  void close();
  void reset();
  /// From now on; what they say of octets that have been sent already happens at once.
  void set_faults(const direction_faults& f);
  /// The other end has reset, or the network did.
  void break_off();
  void tell() {
    if (owner) owner->changed(*this);
  }
};

struct sim_listener {
  address local;
  socket_owner* owner = nullptr;
  std::uint64_t name = 0;
  bool shared = false;  // with others at its address: they take turns
  bool once = false;    // takes one connection; another such one is next
  std::deque<std::shared_ptr<sim_socket>> backlog;
};

/// Somebody waits to be connected.
struct attempt {
  bool cancelled = false;
  std::function<void(std::shared_ptr<sim_socket>, std::error_code)> done;
};

/// The faults of one connection, which may change while it runs.
struct live_faults {
  std::array<direction_faults, 2> faults{};
  /// Once the connection is there: who sends in each direction.
  std::array<std::weak_ptr<sim_socket>, 2> senders{};
  void set(direction way, const direction_faults& f);
};

class network_impl final : public socket_owner, public std::enable_shared_from_this<network_impl> {
 public:
  network_impl(std::uint64_t seed, const link_shape& s) : random{seed}, shape{s} {}
  ~network_impl() override = default;

  instant now() const noexcept { return now_; }
  /// Runs all that is due now, and what that makes due.
  void step();
  /// Moves the clock, running what is due on the way.
  void advance_to(instant t);
  void at(instant t, bool moves, std::function<void()> then);
  /// When something happens next, if nobody does anything. Octets on their way, unless `timers` as well.
  std::optional<instant> next(bool timers) const noexcept;
  /// Runs `then` in the next step(). Keyed, so that one that goes takes its calls along.
  void soon(const std::shared_ptr<void>& owner, std::function<void()> then);

  /// \return the address with its port; empty when it is taken.
  address add(const std::shared_ptr<sim_listener>& l, const address& at, bool shared, bool once = false);
  void remove(const sim_listener& l);
  std::shared_ptr<attempt> connect(const address& to, const address& from,
                                   std::function<void(std::shared_ptr<sim_socket>, std::error_code)> done);
  void script(const address& to, const link_script& s, std::size_t times, std::shared_ptr<live_faults> live = {});
  void put(const std::shared_ptr<sim_pipe>& p, item i);
  void put_octets(const std::shared_ptr<sim_pipe>& p, std::string_view octets);
  /// Takes over a socket that resets when its peer has everything, or at `deadline`.
  void drain(std::shared_ptr<sim_socket> s, instant deadline);
  void changed(sim_socket& s) override;
  void changed(sim_listener&) override {}

  std::uint16_t free_port();

  random_source random;
  link_shape shape;
  sim_datagram_net datagrams{*this};

 private:
  std::size_t next_cut(sim_pipe& p, std::size_t octets);
  void arrivals(const std::shared_ptr<sim_pipe>& p);
  void arrive(const std::shared_ptr<sim_pipe>& p, item i);
  void answer(const std::shared_ptr<attempt>& who, const address& to, const address& from, const link_script& s,
              const std::shared_ptr<live_faults>& live);
  std::shared_ptr<sim_listener> find(const address& to);

  struct happening {
    bool moves;
    std::function<void()> then;
  };
  instant now_ = sim_network::epoch;
  std::uint64_t order_ = 0, links_ = 0, turn_ = 0;
  std::uint16_t last_port_ = 40000;
  std::map<std::pair<instant, std::uint64_t>, happening> events_;
  std::set<std::pair<instant, std::uint64_t>> moving_;
  std::deque<std::pair<std::weak_ptr<void>, std::function<void()>>> soon_;
  std::vector<std::shared_ptr<sim_listener>> listeners_;
  struct plan {
    link_script script;
    std::size_t left;
    std::shared_ptr<live_faults> live;
  };
  std::map<std::string, std::deque<plan>> scripts_;
  std::map<sim_socket*, std::shared_ptr<sim_socket>> draining_;
};

}  // namespace midwire::testing::detail
