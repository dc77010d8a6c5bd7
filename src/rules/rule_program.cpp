#include "rules/rule_program.hpp"

#include <array>
#include <cstddef>

#include <midwire/base/chance.hpp>

namespace midwire::rules {

std::shared_ptr<const rule_program> rule_program::of(const rule_set_ptr& set) {
  // A proxy has one set at a time, and two around a reload.
  thread_local std::array<std::shared_ptr<const rule_program>, 4> latest;
  thread_local std::size_t next = 0;
  for (const auto& known : latest)
    if (known && known->set == set) return known;
  auto made = std::make_shared<rule_program>();
  made->set = set ? set : std::make_shared<const rule_set>();
  for (const auto& r : made->set->rules) {
    entry e;
    e.hash = hash_text(r.named ? r.name : r.text);
    for (const auto& a : r.actions)
      e.plans.push_back(a.kind == action_kind::replace ? replace_plan::of(a) : replace_plan{});
    made->entries.push_back(std::move(e));
  }
  latest[next++ % latest.size()] = made;
  return made;
}

}  // namespace midwire::rules
