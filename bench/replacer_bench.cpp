// How many octets a second does a replacing action move, on chunks as a socket fills them, against a plain copy and
// against the search that the limit program does? One token in each KiB unless the name says otherwise.
#include <benchmark/benchmark.h>

#include <cstring>
#include <deque>
#include <string>

#include <midwire/base/chance.hpp>
#include <midwire/rules/rule.hpp>

#include "rules/stream_replacer.hpp"

namespace {

using namespace midwire;
using namespace midwire::rules;

constexpr std::size_t chunk_class = 2;  // 64 KiB
constexpr std::size_t chunk_size = segment_pool::size_of_class(chunk_class);

std::string text_with(std::string_view token, std::size_t every) {
  random_source random{1};
  std::string text(chunk_size, 0);
  for (auto& c : text) c = static_cast<char>('a' + random.below(26));
  if (!token.empty())
    for (std::size_t at = every / 2; at + token.size() <= text.size(); at += every)
      text.replace(at, token.size(), token);
  return text;
}

/// A chunk as a driver makes it: the copy stands for the kernel's.
chunk received(const std::string& text) {
  chunk c = segment_pool::receive(chunk_class);
  std::memcpy(c.writable().data(), text.data(), text.size());
  return c;
}

action replacing(std::string pattern_text, std::string with, bool regex = false, bool fold = false) {
  action a;
  a.kind = action_kind::replace, a.word = "replace";
  a.pattern.octets = std::move(pattern_text);
  a.pattern.how = regex ? pattern::kind::regex : pattern::kind::literal;
  a.pattern.ignore_case = fold;
  a.value.parts = {{std::move(with), -1}};
  return a;
}

void copy_only(benchmark::State& state) {
  const std::string text = text_with("s3cr3t", 1024);
  for (auto _ : state) {
    chunk c = received(text);
    benchmark::DoNotOptimize(c.bytes().data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}
BENCHMARK(copy_only);

/// What remains of the work when the search costs nothing: the copy in, and one copy out.
void copy_twice(benchmark::State& state) {
  const std::string text = text_with("s3cr3t", 1024);
  for (auto _ : state) {
    chunk c = received(text);
    chunk out = chunk::uninitialized(c.size(), segment_pool::headroom);
    std::memcpy(out.writable().data(), c.bytes().data(), c.size());
    benchmark::DoNotOptimize(out.bytes().data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}
BENCHMARK(copy_twice);

void run(benchmark::State& state, const std::vector<action>& actions, const std::string& text) {
  std::deque<replace_plan> plans;
  std::deque<stream_replacer> row;
  for (const auto& a : actions) {
    plans.push_back(replace_plan::of(a));
    row.emplace_back(plans.back(), stream_replacer::settings{});
  }
  unit_mark unit;
  unit.index = 1;
  for (auto _ : state) {
    passing io;
    io.octets = received(text);
    io.units.append(text.size(), &unit);
    for (auto& r : row) r.feed(io, {});
    benchmark::DoNotOptimize(io.octets.bytes().data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

void literal_without_match(benchmark::State& state) { run(state, {replacing("s3cr3t", "x")}, text_with("", 1)); }
BENCHMARK(literal_without_match);
void literal_shorter(benchmark::State& state) { run(state, {replacing("s3cr3t", "x")}, text_with("s3cr3t", 1024)); }
BENCHMARK(literal_shorter);
void literal_longer(benchmark::State& state) {
  run(state, {replacing("s3cr3t", "something longer")}, text_with("s3cr3t", 1024));
}
BENCHMARK(literal_longer);
void literal_same_length(benchmark::State& state) {
  run(state, {replacing("s3cr3t", "******")}, text_with("s3cr3t", 1024));
}
BENCHMARK(literal_same_length);
void literal_any_case(benchmark::State& state) {
  run(state, {replacing("s3cr3t", "******", false, true)}, text_with("S3cR3t", 1024));
}
BENCHMARK(literal_any_case);
void literal_rare_in_common_letters(benchmark::State& state) { run(state, {replacing("aab", "x")}, text_with("", 1)); }
BENCHMARK(literal_rare_in_common_letters);
void four_literals(benchmark::State& state) {
  run(state, {replacing("s3cr3t", "x"), replacing("t0k3n", "y"), replacing("p4ss", "z"), replacing("k3y", "w")},
      text_with("s3cr3t", 1024));
}
BENCHMARK(four_literals);
void regex_with_captures(benchmark::State& state) {
  run(state, {replacing("s(\\d)cr(\\d)t", "x", true)}, text_with("s3cr3t", 1024));
}
BENCHMARK(regex_with_captures);
void regex_with_lookbehind(benchmark::State& state) {
  run(state, {replacing("(?<=\\w)s3cr\\dt", "x", true)}, text_with("s3cr3t", 1024));
}
BENCHMARK(regex_with_lookbehind);

}  // namespace
