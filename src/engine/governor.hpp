#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>

#include <midwire/engine/policy.hpp>

#include "engine/core/token_bucket.hpp"
#include "engine/reactor_impl.hpp"

namespace midwire::detail {

class rate_share;
class transport_impl;

/// A rate that many connections share. Those that have to wait get a portion each, in the order in which they came.
struct shared_rate {
  token_bucket bucket;
  std::deque<rate_share*> waiting;
};

/// One connection's part in it. What it may move is paid for when it is moved: one that has leave and uses none costs
/// the others nothing, and for a moment all together may be ahead by a portion each.
class rate_share {
 public:
  /// `owner` is queued when its turn to ask again has come.
  rate_share(shared_rate& of, reactor_impl& loop, deferred_work& owner) : of_{of}, loop_{loop}, owner_{owner} {}
  rate_share(const rate_share&) = delete;
  rate_share& operator=(const rate_share&) = delete;
  ~rate_share() { leave(); }
  std::uint64_t may(std::uint64_t wanted, instant now);
  void moved(std::uint64_t octets) noexcept;
  /// The last instant there is: others come first, and wake it.
  instant when(std::uint64_t wanted, instant now);
  /// It wants nothing now.
  void leave();

 private:
  shared_rate& of_;
  reactor_impl& loop_;
  deferred_work& owner_;
  std::uint64_t leave_to_move_ = 0;
  bool waiting_ = false;
};

/// What all connections under one policy share.
struct policy_state {
  explicit policy_state(policy p);
  policy rules;
  std::shared_ptr<policy_counts> counts;
  std::map<std::string, std::size_t> per_peer;
  std::size_t open = 0;
  shared_rate total_read, total_write;
  bool started = false;  // the totals have a clock
  instant complained{};
  std::uint64_t unsaid = 0;
};

/// One connection under a policy, from its beginning to its end; several policies make a chain.
class governor {
 public:
  governor(std::shared_ptr<policy_state> state, transport_impl& t, std::unique_ptr<governor> next);
  governor(const governor&) = delete;
  governor& operator=(const governor&) = delete;
  ~governor();

  std::uint64_t may_read(std::uint64_t wanted, instant now);
  std::uint64_t may_write(std::uint64_t wanted, instant now);
  void was_read(std::uint64_t octets);
  void was_written(std::uint64_t octets);
  /// When may_read() or may_write() will give more than nothing.
  instant read_at(std::uint64_t wanted, instant now);
  instant write_at(std::uint64_t wanted, instant now);
  /// Reading is not wanted now, whatever the rates say.
  void rest();
  bool logs() const noexcept { return logs_; }
  void log_octets(const char* what, byte_view octets) const;
  void log_file(std::uint64_t octets) const;
  void log_end(const reason& why) const;

 private:
  void say(const std::string& line) const;
  std::shared_ptr<policy_state> state_;
  std::unique_ptr<governor> next_;
  std::string host_, name_;
  token_bucket read_, write_;
  rate_share total_read_, total_write_;
  bool logs_;
};

/// `inner` where it differs from a fresh flow_limits, else `outer`.
flow_limits combined(const flow_limits& outer, const flow_limits& inner);

}  // namespace midwire::detail
