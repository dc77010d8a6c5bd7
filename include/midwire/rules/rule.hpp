#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <midwire/base/export.hpp>
#include <midwire/base/views.hpp>
#include <midwire/fields/registry.hpp>
#include <midwire/rules/filter.hpp>

namespace midwire::rules {

/// What a replace, delete or `insert … before|after` looks for.
struct pattern {
  enum class kind : std::uint8_t { literal, regex };
  kind how = kind::literal;
  std::string octets;  ///< the literal's octets, or the regex's source without its slashes
  bool ignore_case = false, multi_line = false, dot_all = false, extended = false;  ///< /…/imsx
};

/// What is put in: text and, behind a regex, groups of the match.
struct value {
  struct part {
    std::string text;
    int group = -1;  ///< 0 is the whole match; -1: `text` counts
  };
  std::vector<part> parts;
  bool constant() const noexcept { return parts.empty() || (parts.size() == 1 && parts[0].group < 0); }
  /// The octets of a constant value.
  std::string_view text() const noexcept {
    return parts.empty() ? std::string_view{} : std::string_view{parts[0].text};
  }
};

/// A template of `log`: text and fields, `{ip.src}`; `{{` and `}}` stand for braces.
struct log_text {
  struct part {
    std::string text;
    fields::field_id field{};
    bool is_field = false;
  };
  std::vector<part> parts;
};

enum class action_kind : std::uint8_t {
  replace,   ///< pattern, value; `delete PATTERN` has an empty value, `insert … before|after` keeps $0
  insert,    ///< value at start, end or an offset of the direction (of the message, with framing)
  truncate,  ///< the direction ends its octets behind the first `octets`; the rest is dropped
  drop,
  close,
  reset,
  log,
  dump,
  stop,
};
MIDWIRE_API std::string_view name_of(action_kind k) noexcept;

struct action {
  action_kind kind{};
  std::string word;  ///< as the user wrote it: `replace`, `delete`, `insert`, …
  rules::pattern pattern;
  rules::value value;
  log_text text;
  enum class where : std::uint8_t { start, end, offset } at = where::start;
  std::uint64_t octets = 0;  ///< of truncate, and of insert at N
  std::uint64_t times = 0;   ///< at most so many for one connection and direction; 0: no limit
  double chance = 1.0;       ///< share of connections, or of units, that it acts on
  bool chance_per_unit = false;
};

/// Where a rule stands in its source.
struct source_place {
  std::string file;                  ///< "-e:N" or a path
  std::size_t line = 0, column = 0;  ///< from 1; a column is an octet
};

struct rule {
  std::string name;  ///< given, else `FILE:LINE` or `-e:N`
  bool named = false;
  std::string text;  ///< normalised: the same text keeps its state over a reload, and is what chance hashes
  source_place place;
  filter when;  ///< empty: always
  std::vector<action> actions;
};

/// Rules in order. Immutable once made: loops share it.
struct MIDWIRE_API rule_set {
  std::vector<rule> rules;
  /// Any chance in it: connections must be numbered in the kernel's order.
  bool uses_chance() const noexcept;
};
using rule_set_ptr = std::shared_ptr<const rule_set>;

/// One complaint about rules: where, what, and what to do. `severity` error refuses the whole set.
struct diagnostic {
  enum class severity : std::uint8_t { error, warning, note };
  severity how = severity::error;
  source_place place;
  std::size_t length = 1;  ///< octets that the caret underlines
  std::string message;     ///< lower case, no full stop: "unknown field 'tcp.prt'"
  std::string hint;        ///< "did you mean 'tcp.port'?"; may be empty
  std::string line;        ///< the source line, for the caret
};
/// "FILE:LINE:COL: error: …", the line, the caret, the hint; several lines, ends with a line feed. A long line is
/// shown as a window round the caret; control octets, invalid UTF-8 and what turns text round are escaped.
MIDWIRE_API std::string format(const diagnostic& d, bool colour = false);

/// A text of rules: a file's content, or one -e.
struct source {
  static constexpr std::size_t max_size = 1024 * 1024;  ///< octets of `text`; more is refused
  std::string name;                                     ///< "-e:1" or the path
  std::string text;
  std::string folder;  ///< what `@path` is relative to; empty: the working folder
  bool file = true;    ///< false: one -e, whose rules are named `-e:N`
};

/// Reads a file named by `@path`; nothing: cannot be read (`error` says why). The caller does the reading: no files
/// here.
using file_reader = std::function<std::optional<std::string>(const std::string& path, std::string& error)>;

struct compiled {
  rule_set_ptr rules;                   ///< null when there is an error
  std::vector<diagnostic> diagnostics;  ///< in the order of the text; one error for each rule, 50 at most and then a note
  bool ok() const noexcept { return rules != nullptr; }
};
/// All sources together, in order, at stream level: the set loads whole or not at all.
MIDWIRE_API compiled compile(const std::vector<source>& sources, const file_reader& read);

}  // namespace midwire::rules
