#pragma once

#include <atomic>
#include <functional>
#include <string>

#include <midwire/base/export.hpp>
#include <midwire/streams/sink/events.hpp>
#include <midwire/streams/sink/output.hpp>

namespace midwire::streams {

/// The moment an event is written at.
using wall_clock = std::function<wall_time()>;
MIDWIRE_API wall_time wall_now();

/// Every event as one line of JSON on `results`.
class MIDWIRE_API json_writer final : public event_sink {
 public:
  json_writer(output& results, bool data, bool many_listeners, wall_clock clock = wall_now)
      : results_{results}, lines_{many_listeners}, clock_{std::move(clock)}, data_{data} {}
  bool wants_edits() const noexcept override { return true; }
  bool wants_data() const noexcept override { return data_; }
  void take(const listening_event& e) override { put(e); }
  void take(const open_event& e) override { put(e); }
  void take(const edit_event& e) override { put(e); }
  void take(const log_event& e) override { put(e); }
  void take(const data_event& e) override { put(e); }
  void take(const close_event& e) override { put(e); }
  void take(const summary_event& e) { put(e); }

 private:
  template <class E>
  void put(const E& e) {
    results_.write(lines_(e, clock_()));
  }
  output& results_;
  json_lines lines_;
  wall_clock clock_;
  bool data_;
};

struct text_options {
  bool data = false;  ///< print what passes
  dump_style style = dump_style::text;
  bool colour = false;
  int talk = 1;  ///< 0 silent, 1 what matters, 2 each connection
  bool many_listeners = false;
};

/// For people: dumps and what rules log go to `results`, the rest is said on `talk`.
class MIDWIRE_API text_writer final : public event_sink {
 public:
  using event_sink::take;
  text_writer(output& results, output& talk, text_options options, wall_clock clock = wall_now)
      : results_{results}, talk_{talk}, options_{options}, clock_{std::move(clock)} {}
  bool wants_data() const noexcept override { return options_.data; }
  void take(const listening_event& e) override;
  void take(const open_event& e) override;
  void take(const log_event& e) override;
  void take(const data_event& e) override;
  void take(const close_event& e) override;

 private:
  std::string name(const conn_name& who) const;
  output &results_, &talk_;
  text_options options_;
  wall_clock clock_;
};

}  // namespace midwire::streams
