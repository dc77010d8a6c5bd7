#pragma once

#include <memory>
#include <string_view>

#include <midwire/fields/registry.hpp>

#include "rules/program.hpp"
#include "rules/syntax.hpp"

namespace midwire::rules::detail {

/// Checks names, levels and types of a parsed filter and makes its program. A level other than stream is checked in
/// full, but its fields are absent when the program runs on a stream's unit.
/// \throws failure_at
std::shared_ptr<const filter_program> compile_filter(const test_node& root, std::string_view source,
                                                     fields::level level);

/// A filter on its own, without a rule around it. \throws failure_at
filter compile_filter(std::string_view text, fields::level level = fields::level::stream);

/// Refuses a field that `level` does not have, and says what it has. \throws failure_at
void check_level(const fields::field_info& f, fields::level level, extent at);

}  // namespace midwire::rules::detail
