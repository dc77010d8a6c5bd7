#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <midwire/rules/rule.hpp>

#include "rules/stream_replacer.hpp"

namespace midwire::rules {

/// A rule set with its patterns compiled. Immutable; made once on each loop, not once for each connection.
struct rule_program {
  struct entry {
    std::uint64_t hash = 0;           ///< of the rule's name, else of its text: for chance
    std::vector<replace_plan> plans;  ///< for each action; used by those that replace
  };
  rule_set_ptr set;
  std::vector<entry> entries;  ///< for each rule

  /// That of this set, from this thread's last few or made now. The plans point into the set, which it keeps.
  static std::shared_ptr<const rule_program> of(const rule_set_ptr& set);
};
using rule_program_ptr = std::shared_ptr<const rule_program>;

}  // namespace midwire::rules
