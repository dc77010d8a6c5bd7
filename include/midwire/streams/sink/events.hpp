#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include <midwire/base/address.hpp>
#include <midwire/base/export.hpp>
#include <midwire/base/reason.hpp>
#include <midwire/base/views.hpp>
#include <midwire/streams/sink/dump_format.hpp>

namespace midwire::streams {

/// Octets of one direction: what came, what left, and what of it rules let go before they had decided.
struct direction_totals {
  std::uint64_t in = 0, out = 0, early = 0;
  direction_totals& operator+=(const direction_totals& more) noexcept {
    in += more.in, out += more.out, early += more.early;
    return *this;
  }
};
using both_totals = std::array<direction_totals, 2>;  ///< by index_of(direction)

/// Who an event is about. Borrows the listener's name.
struct conn_name {
  std::uint64_t conn = 0;     ///< from 1, per listener
  std::string_view listener;  ///< the mode as written
};

struct listening_event {
  std::string_view listener;
  address at;
};
struct open_event {
  conn_name who;
  address client, server;
};
struct edit_event {
  conn_name who;
  direction dir{};
  std::string_view rule, action;
  std::uint64_t offset = 0;  ///< in what this rule was shown
  byte_view before, after;
};
struct log_event {
  conn_name who;
  direction dir{};
  std::string_view rule;  ///< empty: midwire itself says it
  std::string_view text;
};
/// A run of octets of a dump: `was` is what came where `octets` left (either may be empty).
struct data_event {
  conn_name who;
  direction dir{};
  std::uint64_t offset = 0;      ///< of `octets`, in what left
  std::uint64_t was_offset = 0;  ///< of `was`, in what came
  byte_view octets, was;
  bool edited = false;
  std::string_view rule;  ///< whose `dump` action asked for it; empty: --dump
};
struct close_event {
  conn_name who;
  bool opened = true;  ///< false: dialling failed
  address client;
  ending how{};
  std::string_view by;    ///< client, server, rule or midwire
  std::string_view text;  ///< for people; may be empty
  duration age{};
  both_totals totals{};
};
struct summary_event {
  std::uint64_t connections = 0;
  both_totals totals{};
  std::map<std::string, std::uint64_t> edits;  ///< rule to number
  std::uint64_t lost = 0;                      ///< events dropped because the output was slow
  std::uint64_t seed = 0;
};

/// One JSON object and a line feed each, `event` and `time` first. With `many_listeners`, events of a connection name
/// their listener at the end: connections are numbered by listener.
class MIDWIRE_API json_lines {
 public:
  explicit json_lines(bool many_listeners = false) : many_{many_listeners} {}
  std::string operator()(const listening_event& e, wall_time when) const;
  std::string operator()(const open_event& e, wall_time when) const;
  std::string operator()(const edit_event& e, wall_time when) const;
  std::string operator()(const log_event& e, wall_time when) const;
  std::string operator()(const data_event& e, wall_time when) const;
  std::string operator()(const close_event& e, wall_time when) const;
  std::string operator()(const summary_event& e, wall_time when) const;
  static std::string gap(std::uint64_t lost, wall_time when);

 private:
  bool many_;
};

/// The summary for people: several lines without a line feed at the end.
MIDWIRE_API std::string summary_text(const summary_event& e);

/// Takes the events of a proxy. Members are called on any loop, several at once.
class MIDWIRE_API event_sink {
 public:
  virtual ~event_sink() = default;
  /// Whether edit and data events are wanted at all: making them costs.
  virtual bool wants_edits() const noexcept { return false; }
  virtual bool wants_data() const noexcept { return false; }
  virtual void take(const listening_event&) {}
  virtual void take(const open_event&) {}
  virtual void take(const edit_event&) {}
  virtual void take(const log_event&) {}
  virtual void take(const data_event&) {}
  virtual void take(const close_event&) {}
};

}  // namespace midwire::streams
