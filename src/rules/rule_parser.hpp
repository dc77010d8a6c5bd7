#pragma once

#include <string>
#include <vector>

#include <midwire/rules/rule.hpp>

#include "rules/parser.hpp"

namespace midwire::rules::detail {

/// One rule behind its name: `[when FILTER] do ACTION, …`.
struct parsed_rule {
  std::string text;  ///< normalised
  rules::filter when;
  std::vector<action> actions;
  extent filter_at;           ///< empty without `when`
  bool empty_filter = false;  ///< `when` with nothing behind it
  std::vector<extent> action_at;
};

/// \throws failure_at
parsed_rule parse_rule(cursor& at, const source& from, const file_reader& read);

/// Reads `NAME = VALUE` behind `let`. \throws failure_at
void parse_let(cursor& at, let_table& lets);

/// The rule that does what netsed's `s/…/…/` does, for a hint; empty when it is none.
std::string netsed_hint(std::string_view text);

}  // namespace midwire::rules::detail
