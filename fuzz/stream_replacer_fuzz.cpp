// The streaming replacer against the answer for the whole text: whatever the cuts, rules and octets, both are the same.
//
// Input: one octet picks the rules, one octet the cuts' seed, the rest is the text.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <midwire/base/assert.hpp>
#include <midwire/base/chance.hpp>

#include "../tests/rules/replace_reference.hpp"
#include "rules/stream_replacer.hpp"

namespace {

using namespace midwire;
using namespace midwire::rules;

struct choice {
  const char* pattern;
  const char* flags;  // null: a literal
  const char* with;
};
constexpr choice choices[] = {
    {"ab", nullptr, "x"},  {"aab", nullptr, ""},  {"abab", nullptr, "aaab"}, {"a+b", "", "<>"},
    {"a|ab|abc", "", "x"}, {"(?<=a)b", "", "yy"}, {"ab(?=c)", "", ""},       {"\\bab\\b", "", "z"},
    {"^a", "m", "-"},      {"a$", "", "end"},     {"a\\Z", "", "end"},       {"a.*?b", "s", "x"},
    {"(a|b)\\1", "", "q"}, {"\\Ga|b", "", "g"},   {"(?<!a)b\\R?", "", ""},   {"[^a]{2,3}c", "", "c"},
};

action action_of(const choice& c) {
  action a;
  a.kind = action_kind::replace, a.word = "replace";
  a.pattern.octets = c.pattern;
  a.value.parts = {{c.with, -1}};
  if (c.flags) {
    a.pattern.how = pattern::kind::regex;
    a.pattern.multi_line = std::string_view{c.flags} == "m", a.pattern.dot_all = std::string_view{c.flags} == "s";
  }
  return a;
}

struct compiled_choice {
  action what;
  replace_plan plan;
};
const std::deque<compiled_choice>& compiled_choices() {
  static const auto* all = [] {
    auto* made = new std::deque<compiled_choice>;
    for (const auto& c : choices) {
      made->push_back({action_of(c), {}});
      made->back().plan = replace_plan::of(made->back().what);
    }
    return made;
  }();
  return *all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || size > 4096) return 0;
  const auto& all = compiled_choices();
  const compiled_choice* picked[2] = {&all[data[0] % std::size(choices)], &all[data[0] / std::size(choices)]};
  random_source random{data[1]};
  const std::string text{as_text({data + 2, size - 2})};

  std::deque<stream_replacer> row;
  for (const auto* c : picked) row.emplace_back(c->plan, stream_replacer::settings{});
  std::deque<unit_mark> units;
  std::string got;
  const auto pass = [&](passing io, bool ended) {
    stream_replacer::terms terms;
    terms.ended = ended;
    for (auto& r : row) r.feed(io, terms);
    MIDWIRE_ASSERT(io.octets.size() == io.units.size());
    got += io.octets.text();
  };
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t part = std::min<std::size_t>(text.size() - at, 1 + random.below(9));
    units.emplace_back();
    units.back().index = units.size();
    passing io;
    io.octets = chunk{std::string_view{text}.substr(at, part)};
    io.units.append(part, &units.back());
    pass(std::move(io), false);
    at += part;
  }
  pass({}, true);

  std::string want = text;
  for (const auto* c : picked) want = replace_reference::replace(c->what, want);
  MIDWIRE_ASSERT(got == want);
  for (const auto& r : row) MIDWIRE_ASSERT(r.held() == 0 && r.count().early == 0);
  return 0;
}
