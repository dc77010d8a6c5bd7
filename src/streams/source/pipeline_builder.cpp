#include "streams/source/pipeline_builder.hpp"

#include <utility>

#include <midwire/base/chance.hpp>

namespace midwire::streams::detail {

std::vector<std::unique_ptr<stage>> connection::build(const proxy_settings& settings, const address& client,
                                                      const address& server, bool answers_pass) {
  std::vector<std::unique_ptr<stage>> stages;
  const bool edits = settings.rules_can_change || !loop_.rules->rules.empty();
  if (sink_.wants_data()) {
    taps_.emplace([this](direction d, const change_tracker::change& c) {
      sink_.take(data_event{who_, d, c.offset, c.was_offset, c.octets, c.was, c.edited, {}});
    });
    stages.push_back(edits ? taps_->entry() : taps_->single());
  }
  if (edits) {
    fields::connection_facts facts;
    facts.client = client, facts.server = server, facts.id = who_.conn;
    facts.listener = hash_text(who_.listener), facts.seed = settings.seed;
    rules::rule_options how;
    how.window = settings.window, how.most_held = settings.limits.low;
    how.hold = settings.hold, how.strict = settings.hold_strict;
    stages.push_back(std::make_unique<live_rules>(loop_, facts, how, shared_from_this(), answers_pass));
    if (taps_) stages.push_back(taps_->exit());
  }
  return stages;
}

void connection::opened(const address& client, const address& server) { sink_.take(open_event{who_, client, server}); }

void connection::closed(const flow_summary& summary, const address& client, std::string_view server) {
  close_event e;
  e.who = who_, e.opened = summary.opened, e.client = client;
  e.how = summary.why.how(), e.age = summary.age;
  e.by = summary.by == ended_by::stage ? "rule" : summary.by == ended_by::engine ? "midwire" : name_of(summary.by);
  auto text = summary.why.text();
  // What failed may have written the system's words down already.
  if (const auto& code = summary.why.code(); code && text.find(code.message()) == text.npos)
    text += (text.empty() ? "" : ": ") + code.message();
  if (!e.opened && e.how == ending::refused && !server.empty())
    text = "cannot connect to " + std::string{server} + (text.empty() ? "" : ": ") + text;
  e.text = text;
  for (const auto d : {direction::to_server, direction::to_client}) {
    const auto i = index_of(d);
    e.totals[i] = {summary.counts[i].in, summary.counts[i].out, early_[i]};
    loop_.totals[i] += e.totals[i];
  }
  ++loop_.connections;
  sink_.take(e);
}

void connection::edited(direction d, const rules::rule& by, std::string_view action, std::uint64_t offset,
                        byte_view before, byte_view after) {
  if (taps_) taps_->edited(d, before, after);
  if (sink_.wants_edits()) sink_.take(edit_event{who_, d, by.name, action, offset, before, after});
}

void connection::logged(direction d, const rules::rule& by, std::string text) {
  sink_.take(log_event{who_, d, by.name, text});
}

void connection::dumped(direction d, const rules::rule& by, std::uint64_t offset, byte_view octets) {
  sink_.take(data_event{who_, d, offset, offset, octets, {}, false, by.name});
}

void connection::released_early(direction d, std::uint64_t octets, bool first) {
  early_[index_of(d)] += octets;
  if (first)
    sink_.take(
        log_event{who_, d, {}, "octets that could still begin a match were let go: --hold or --window was over"});
}

live_rules::live_rules(loop_state& loop, fields::connection_facts facts, const rules::rule_options& options,
                       std::shared_ptr<connection> observer, bool answers_pass)
    : rule_stage{loop.rules, std::move(facts), options, observer.get()},
      loop_{loop},
      observer_{std::move(observer)},
      answers_pass_{answers_pass},
      next_{loop.live},
      link_{&loop.live} {
  if (next_) next_->link_ = &next_;
  loop.live = this;
}

live_rules::~live_rules() {
  *link_ = next_;
  if (next_) next_->link_ = link_;
}

verdict live_rules::on_data(stage_context& context, direction d, chunk data) {
  if (answers_pass_ && d == direction::to_client) return verdict::pass(buffer{std::move(data)});
  return rule_stage::on_data(context, d, std::move(data));
}

verdict live_rules::on_end(stage_context& context, direction d, chunk kept) {
  if (answers_pass_ && d == direction::to_client) return verdict::pass(buffer{std::move(kept)});
  return rule_stage::on_end(context, d, std::move(kept));
}

void live_rules::on_close(stage_context& context, const reason& why) noexcept {
  for (auto& [rule, number] : edits()) loop_.edits[rule] += number;
  rule_stage::on_close(context, why);
}

}  // namespace midwire::streams::detail
