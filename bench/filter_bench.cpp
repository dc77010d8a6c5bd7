// What does a rule cost that only looks: a filter over the facts of the connection, over the unit, over its payload?
// In nanoseconds a chunk of 16 KiB; and what a whole stage costs that passes such a chunk through ten rules.
#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <midwire/engine/core/flow.hpp>
#include <midwire/rules/rule.hpp>
#include <midwire/rules/rule_stage.hpp>

namespace {

using namespace midwire;
using namespace midwire::rules;

fields::connection_facts facts() {
  fields::connection_facts f;
  f.client = address::ipv4({10, 0, 0, 1}, 40000), f.server = address::ipv4({10, 0, 0, 2}, 80);
  f.id = 1, f.listener = 7, f.seed = 42;
  return f;
}
rule_set_ptr rules_of(const std::string& text) {
  return compile({{.name = "bench.rules", .text = text, .folder = "", .file = true}}, {}).rules;
}

void filter_of(benchmark::State& state, const std::string& filter_text) {
  const auto rules = rules_of("when " + filter_text + " do drop");
  if (!rules) return state.SkipWithError("the rule was refused");
  const auto conn = facts();
  const std::string payload(16 * 1024, 'x');
  fields::stream_unit unit;
  unit.conn = &conn, unit.payload = as_bytes(payload);
  const filter& when = rules->rules[0].when;
  for (auto _ : state) benchmark::DoNotOptimize(when.holds(unit));
}
void filter_connection_facts(benchmark::State& state) { filter_of(state, "ip.src == 10.0.0.0/8 && tcp.dstport == 80"); }
BENCHMARK(filter_connection_facts);
void filter_unit(benchmark::State& state) { filter_of(state, "unit.index == 3 && unit.len > 100"); }
BENCHMARK(filter_unit);
void filter_payload_contains(benchmark::State& state) { filter_of(state, "payload contains \"s3cr3t\""); }
BENCHMARK(filter_payload_contains);
void filter_payload_matches(benchmark::State& state) { filter_of(state, "payload matches \"s\\\\dcr\\\\dt\""); }
BENCHMARK(filter_payload_matches);

/// One chunk of 16 KiB through a flow whose only stage runs the rules.
void stage_with(benchmark::State& state, const std::string& text) {
  const auto rules = rules_of(text);
  if (!rules) return state.SkipWithError("a rule was refused");
  std::vector<std::unique_ptr<stage>> stages;
  stages.push_back(std::make_unique<rule_stage>(rules, facts()));
  flow pipe{std::move(stages)};
  const instant now{std::chrono::hours{1}};
  pipe.open(now);
  const std::string payload(16 * 1024, 'x');
  for (auto _ : state) {
    chunk data = segment_pool::receive(1);
    std::memcpy(data.writable().data(), payload.data(), payload.size());
    pipe.handle(side::client, event::data_received(std::move(data)), now);
    side to{};
    command what = command::close();
    while (pipe.next_command(to, what))
      if (what.what() == command::kind::send) pipe.handle(to, event::octets_sent(what.octets().size()), now);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(payload.size()));
}
void stage_without_rules(benchmark::State& state) { stage_with(state, ""); }
BENCHMARK(stage_without_rules);
void stage_one_literal(benchmark::State& state) { stage_with(state, "do replace \"s3cr3t\" with \"x\""); }
BENCHMARK(stage_one_literal);
void stage_ten_rules_on_facts(benchmark::State& state) {
  std::string text;
  for (int n = 0; n < 10; ++n)
    text += "when tcp.dstport == " + std::to_string(8000 + n) + " do replace \"s3cr3t\" with \"x\"\n";
  stage_with(state, text + "when conn.octets < 5 do log \"first\"\n");
}
BENCHMARK(stage_ten_rules_on_facts);
void stage_ten_rules_on_units(benchmark::State& state) {
  std::string text;
  for (int n = 0; n < 10; ++n)
    text += "when unit.len == " + std::to_string(8000 + n) + " do replace \"s3cr3t\" with \"x\"\n";
  stage_with(state, text);
}
BENCHMARK(stage_ten_rules_on_units);

}  // namespace
