#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <midwire/engine/reactor.hpp>
#include <midwire/engine/relay.hpp>
#include <midwire/rules/rule_stage.hpp>
#include <midwire/streams/pipeline/dump_stage.hpp>
#include <midwire/streams/sink/events.hpp>
#include <midwire/streams/source/stream_proxy.hpp>

namespace midwire::streams::detail {

class live_rules;

/// What one loop knows: only its own thread touches it, so the data path needs no lock.
struct loop_state {
  midwire::reactor* loop = nullptr;
  rules::rule_set_ptr rules;
  live_rules* live = nullptr;  ///< the rule stages of this loop's connections, chained
  std::uint64_t connections = 0;
  both_totals totals{};
  std::map<std::string, std::uint64_t, std::less<>> edits;
};

/// One connection: turns what its stages report into events.
class connection final : public rules::rule_observer, public std::enable_shared_from_this<connection> {
 public:
  connection(loop_state& loop, event_sink& sink, conn_name who) : loop_{loop}, sink_{sink}, who_{who} {}

  /// The stages between the two ends: a tap when data events are wanted, and the rules. `answers_pass`: no rule acts on
  /// what goes to the client.
  std::vector<std::unique_ptr<stage>> build(const proxy_settings& settings, const address& client,
                                            const address& server, bool answers_pass = false);
  void opened(const address& client, const address& server);
  /// `server`: where the connection should have gone, for the text when it never got there.
  void closed(const flow_summary& summary, const address& client, std::string_view server = {});

  bool wants_edits() const override { return taps_.has_value() || sink_.wants_edits(); }
  void edited(direction d, const rules::rule& by, std::string_view action, std::uint64_t offset, byte_view before,
              byte_view after) override;
  void logged(direction d, const rules::rule& by, std::string text) override;
  void dumped(direction d, const rules::rule& by, std::uint64_t offset, byte_view octets) override;
  void released_early(direction d, std::uint64_t octets, bool first) override;

 private:
  loop_state& loop_;
  event_sink& sink_;
  const conn_name who_;
  std::array<std::uint64_t, 2> early_{};
  std::optional<dump_taps> taps_;
};

/// The rules on one connection, findable for a reload.
class live_rules final : public rules::rule_stage {
 public:
  live_rules(loop_state& loop, fields::connection_facts facts, const rules::rule_options& options,
             std::shared_ptr<connection> observer, bool answers_pass);
  live_rules(const live_rules&) = delete;
  live_rules& operator=(const live_rules&) = delete;
  ~live_rules() override;
  verdict on_data(stage_context& context, direction d, chunk data) override;
  verdict on_end(stage_context& context, direction d, chunk kept) override;
  /// Counts this connection's edits with the loop's.
  void on_close(stage_context& context, const reason& why) noexcept override;
  live_rules* next() const noexcept { return next_; }

 private:
  loop_state& loop_;
  const std::shared_ptr<connection> observer_;
  const bool answers_pass_;
  live_rules *next_ = nullptr, **link_ = nullptr;
};

}  // namespace midwire::streams::detail
