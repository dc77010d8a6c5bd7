#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include <midwire/rules/rule.hpp>

#include "rules/rule_parser.hpp"

namespace midwire::rules {

namespace {

using namespace detail;

constexpr std::size_t most_errors = 50;

/// The octets of one rule or let, with the lines that continue it.
struct entry {
  extent at;
  std::size_t line = 1;  ///< of its first octet
};

class compiler {
 public:
  compiler(const file_reader& read, compiled& out) : read_{read}, out_{out} {}

  void add(const source& from) {
    from_ = &from;
    in_source_ = 0;
    if (from.text.size() > source::max_size) {
      complain(1, {0, 0}, {0, 1}, diagnostic::severity::error,
               "longer than " + std::to_string(source::max_size) + " octets", "split it into several files");
      return;
    }
    for (const entry& e : entries()) {
      if (errors_ >= most_errors) {
        if (!std::exchange(full_, true))
          complain(e.line, e.at, {e.at.begin, e.at.begin + 1}, diagnostic::severity::note,
                   "errors from here on are not shown", "");
        return;
      }
      try {
        one(e);
      } catch (const failure_at& f) { complain(e.line, e.at, f.at, diagnostic::severity::error, f.message, f.hint); }
    }
  }

  bool ok() const noexcept { return errors_ == 0; }
  std::shared_ptr<rule_set> take() { return std::move(set_); }

 private:
  std::vector<entry> entries() {
    const std::string_view text = from_->text;
    std::vector<entry> found;
    std::size_t line = 1;
    bool complained = false;
    for (std::size_t begin = text.starts_with("\xef\xbb\xbf") ? 3 : 0; begin < text.size(); ++line) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::size_t first = std::min(text.find_first_not_of(" \t\r\v\f", begin), end);
      if (first < end && text[first] != '#') {
        if (first == begin || (found.empty() && !from_->file)) {
          found.push_back({{first, end}, line});
        } else if (!found.empty()) {
          found.back().at.end = end;
        } else if (!std::exchange(complained, true)) {
          complain(line, {begin, end}, {first, end}, diagnostic::severity::error,
                   "an indented line continues the rule above it, and there is none", "begin it in the first column");
        }
      }
      begin = end + 1;
    }
    return found;
  }

  void one(const entry& e) {
    const std::string_view text = from_->text;
    std::size_t at = e.at.begin;
    const auto space = [&](std::size_t i) {
      while (i < e.at.end && (text[i] == ' ' || text[i] == '\t')) ++i;
      return i;
    };
    const auto name_end = [&](std::size_t i) {
      while (i < e.at.end && (is_letter(text[i]) || is_digit(text[i]) || text[i] == '.' || text[i] == '-')) ++i;
      return i;
    };
    if (!from_->file && text.substr(at).starts_with("s/"))
      fail({at, at + 2}, "netsed's s/…/…/ is not read here", netsed_hint(text.substr(at, e.at.end - at)));
    const extent word{at, name_end(at)};
    const std::string name{text.substr(word.begin, word.end - word.begin)};
    const std::size_t colon = space(word.end);
    const bool named = !name.empty() && colon < e.at.end && text[colon] == ':';
    if (named) {
      if (name == "do" || name == "when" || name == "let")
        fail(word, quoted(name) + " is a word of the language", "choose another name");
      at = colon + 1;
    } else if (name == "let" && word.end < e.at.end) {
      cursor c{text, {word.end, e.at.end}, lets_};
      return parse_let(c, lets_);
    }
    cursor c{text, {at, e.at.end}, lets_};
    parsed_rule parsed = parse_rule(c, *from_, read_);

    rule r;
    r.named = named;
    r.place = place(e.line, e.at, e.at.begin);
    const std::string line = std::to_string(e.line);
    const bool only = !from_->file && in_source_ == 0;
    r.name = named ? name : only ? from_->name : from_->name + ':' + line;
    ++in_source_;
    if (const auto [known, fresh] = names_.emplace(r.name, r.place); !fresh && named)
      fail(word, "a rule is named " + quoted(name) + " already",
           "the first is at " + known->second.file + ':' + std::to_string(known->second.line));
    r.text = std::move(parsed.text);
    r.when = std::move(parsed.when);
    r.actions = std::move(parsed.actions);
    remark(e, r, parsed);
    set_->rules.push_back(std::move(r));
  }

  /// What is no error and yet may surprise.
  void remark(const entry& e, const rule& r, const parsed_rule& parsed) {
    using enum diagnostic::severity;
    const auto edits = [](const action& a) {
      return a.kind == action_kind::replace || a.kind == action_kind::insert || a.kind == action_kind::truncate ||
             a.kind == action_kind::drop;
    };
    if (parsed.empty_filter)
      complain(e.line, e.at, parsed.filter_at, warning, "an empty filter holds always",
               "leave 'when' out if that is meant");
    const bool up = r.when.can_hold(direction::to_server), down = r.when.can_hold(direction::to_client);
    if (!up && !down)
      complain(e.line, e.at, parsed.filter_at, warning, "this filter never holds on a proxied connection", "");
    if (!r.actions.empty() && up && down && !r.when.names_direction()) {
      const auto edit = std::find_if(r.actions.begin(), r.actions.end(), edits);
      const auto at = edit == r.actions.end() ? 0 : edit - r.actions.begin();
      complain(e.line, e.at, parsed.action_at[static_cast<std::size_t>(at)], note, "this rule acts on both directions",
               "add 'when from.client' or 'when from.server' to choose one");
    }
    static constexpr const char* end_it = "a framing such as 'framing line' would end that";
    if (r.when.reads_units())
      complain(e.line, e.at, parsed.filter_at, note,
               "this filter sees chunks, so its answer depends on how TCP cut the stream", end_it);
    for (std::size_t i = 0; i < r.actions.size(); ++i) {
      if (r.actions[i].chance_per_unit && (r.actions[i].kind != action_kind::replace))
        complain(e.line, e.at, parsed.action_at[i], note,
                 "'per unit' counts chunks, so what it hits depends on how TCP cut the stream", end_it);
      if (r.actions[i].kind == action_kind::stop && i + 1 < r.actions.size() && r.actions[i].chance >= 1) {
        complain(e.line, e.at, parsed.action_at[i + 1], warning, "actions behind 'stop' never run", "put 'stop' last");
        break;
      }
    }
  }

  source_place place(std::size_t line, extent within, std::size_t at) const {
    const std::string_view text = from_->text;
    at = std::min(at, text.size());
    std::size_t begin = at == 0 ? text.npos : text.rfind('\n', at - 1);
    begin = begin == text.npos ? 0 : begin + 1;
    if (at > within.begin)
      line += static_cast<std::size_t>(std::count(text.begin() + static_cast<std::ptrdiff_t>(within.begin),
                                                  text.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
    return {from_->name, line, at - begin + 1};
  }

  /// `line` is that of the first octet of `within`, which bounds the search for line ends.
  void complain(std::size_t line, extent within, extent at, diagnostic::severity how, std::string message,
                std::string hint) {
    if (how == diagnostic::severity::error) ++errors_;
    diagnostic d;
    d.how = how;
    d.place = place(line, within, at.begin);
    const std::string_view text = from_->text;
    const std::size_t begin = std::min(at.begin, text.size()) - (d.place.column - 1);
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    d.line = text.substr(begin, end - begin);
    if (d.line.ends_with('\r')) d.line.pop_back();
    if (d.place.line == 1 && d.line.starts_with("\xef\xbb\xbf") && d.place.column > 3) {
      d.line.erase(0, 3);
      d.place.column -= 3;
    }
    const std::size_t left = d.line.size() - std::min(d.line.size(), d.place.column - 1);
    d.length = std::max<std::size_t>(1, std::min(at.end - std::min(at.begin, at.end), left));
    d.message = std::move(message), d.hint = std::move(hint);
    out_.diagnostics.push_back(std::move(d));
  }

  const file_reader& read_;
  compiled& out_;
  const source* from_ = nullptr;
  std::size_t in_source_ = 0, errors_ = 0;
  bool full_ = false;
  let_table lets_;
  std::map<std::string, source_place> names_;
  std::shared_ptr<rule_set> set_ = std::make_shared<rule_set>();
};

}  // namespace

compiled compile(const std::vector<source>& sources, const file_reader& read) {
  compiled out;
  compiler c{read, out};
  for (const source& s : sources) c.add(s);
  if (c.ok()) out.rules = c.take();
  return out;
}

}  // namespace midwire::rules
