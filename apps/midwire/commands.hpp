#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace midwire::app {

/// Exit statuses: docs and scripts rely on them.
enum status : int { done = 0, work_failed = 1, wrong_usage = 2, privilege_missing = 3 };

/// The words behind the command's own.
using words = std::vector<std::string>;

int proxy_command(const words& arguments);
int serve_command(const words& arguments);
int rules_command(const words& arguments);

/// `midwire: error: WHAT`, and the hint on a line of its own; returns `how`.
int complain(status how, std::string_view what, std::string_view hint = {});
/// An error inside `text`, at octet `offset`: the text, a caret below, the hint.
int complain_at(status how, std::string_view what, std::string_view text, std::size_t offset,
                std::string_view hint = {});
/// The candidate nearest to `word`; empty when none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace midwire::app
