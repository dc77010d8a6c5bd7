// What does a stage cost that only passes? A chunk of 64 octets and one of 64 KiB go through a flow with 0, 1 and 4 of
// them, and are taken by an imagined kernel. The chunk is owned, so its size should not matter; what one stage adds is
// the difference between two rows.
#include <benchmark/benchmark.h>

#include <midwire/engine/core/flow.hpp>

using namespace midwire;

namespace {

struct pass_stage final : stage {
  verdict on_data(stage_context&, direction, chunk data) override { return verdict::pass(std::move(data)); }
};

void pipeline(benchmark::State& state) {
  std::vector<std::unique_ptr<stage>> stages;
  for (std::int64_t i = 0; i < state.range(0); ++i) stages.push_back(std::make_unique<pass_stage>());
  flow f{std::move(stages)};
  const instant now{std::chrono::hours{1}};
  f.open(now);
  const auto size = static_cast<std::size_t>(state.range(1));
  const chunk text{std::string(size, 'x')};
  side to{};
  command what = command::close();
  while (f.next_command(to, what)) {
  }
  for (auto _ : state) {
    f.handle(side::client, event::data_received(text.share()), now);
    while (f.next_command(to, what)) {
    }
    f.handle(side::server, event::octets_sent(size), now);
    while (f.next_command(to, what)) {
    }
  }
  state.SetItemsProcessed(state.iterations());
}

BENCHMARK(pipeline)->ArgsProduct({{0, 1, 4}, {64, 65536}})->ArgNames({"stages", "octets"});

}  // namespace
