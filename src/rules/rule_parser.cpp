#include "rules/rule_parser.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "rules/check.hpp"
#include "rules/literal.hpp"

namespace midwire::rules {

std::string_view name_of(action_kind k) noexcept {
  static constexpr std::string_view names[] = {"replace", "insert", "truncate", "drop", "close",
                                               "reset",   "log",    "dump",     "stop"};
  return names[static_cast<std::size_t>(k)];
}

bool rule_set::uses_chance() const noexcept {
  return std::any_of(rules.begin(), rules.end(), [](const rule& r) {
    return r.when.uses_chance() ||
           std::any_of(r.actions.begin(), r.actions.end(), [](const action& a) { return a.chance < 1; });
  });
}

namespace detail {

namespace {

constexpr std::string_view actions_now[] = {"replace", "insert", "delete", "truncate", "drop",
                                            "close",   "reset",  "log",    "dump",     "stop"};
constexpr std::string_view actions_later[] = {
    "set",        "map",   "delay",  "rate",  "duplicate", "reorder", "corrupt", "mutate", "slice", "limit", "timeout",
    "slow-close", "stall", "inject", "reply", "redirect",  "mirror",  "tag",     "note",   "write", "hold",  "call"};
constexpr std::string_view actions_of_packets[] = {"push", "pop", "fragment", "pad", "shift", "fix"};
constexpr std::string_view rule_words[] = {"let", "when",  "do",     "with", "at",   "before",     "after",  "start",
                                           "end", "times", "chance", "per",  "unit", "connection", "during", "framing"};

template <class List>
bool is_one_of(std::string_view w, const List& list) noexcept {
  return std::find(std::begin(list), std::end(list), w) != std::end(list);
}

/// A value as written, before it is known whether groups have a meaning in it.
struct raw_value {
  std::string octets;
  bool text = false;    ///< `$` may have a meaning
  bool placed = false;  ///< `at` is the text's own token, so a caret can point into it
  extent at;
};

/// Whether a regex has nothing in it that could take an octet: anchors, look-around, flags, empty groups.
bool takes_nothing(std::string_view p, bool extended) {
  std::size_t i = 0;
  int depth = 0, looking = 0;  // inside a look-around nothing is taken
  std::vector<bool> looks;
  while (i < p.size()) {
    const char c = p[i];
    if (c == '^' || c == '$' || c == '|' || (extended && (c == ' ' || c == '\t'))) {
      ++i;
    } else if (c == '\\' && i + 1 < p.size() &&
               (std::string_view{"bBAzZGK"}.find(p[i + 1]) != std::string_view::npos || looking > 0)) {
      i += 2;
    } else if (c == '(') {
      const auto rest = p.substr(i);
      const bool behind = rest.starts_with("(?<=") || rest.starts_with("(?<!");
      const bool look = behind || rest.starts_with("(?=") || rest.starts_with("(?!");
      const bool group = rest.starts_with("(?:") || rest.starts_with("(?>") || rest.starts_with("(?|");
      if (looking == 0 && rest.starts_with("(*")) return false;
      if (!look && !group && rest.starts_with("(?")) {  // (?i) and its like; what else there is may take octets
        const auto close = rest.find(')');
        if (close == rest.npos || rest.substr(2, close - 2).find_first_not_of("imsxnJU^-") != rest.npos) return false;
        i += close + 1;
        continue;
      }
      i += behind ? 4u : look || group ? 3u : 1u;
      looks.push_back(look);
      looking += look, ++depth;
    } else if (c == ')') {
      if (depth == 0) return false;
      looking -= looks.back(), --depth;
      looks.pop_back();
      ++i;
    } else if (looking > 0 && c != '[' && c != '#') {
      ++i;
    } else {
      return false;
    }
  }
  return true;
}

class rule_parser {
 public:
  rule_parser(cursor& at, const source& from, const file_reader& read) : at_{at}, from_{from}, read_{read} {}

  parsed_rule run() {
    parsed_rule r;
    if (at_.take_word("when")) {
      const std::size_t begin = at_.now().at.begin;
      const test_ptr root = parse_filter(at_);
      r.empty_filter = !root;
      r.filter_at = root ? extent{begin, at_.last_end()} : extent{begin, begin};
      if (!at_.is_word("do")) check_do();
      if (root) r.when = filter{compile_filter(*root, at_.source(), fields::level::stream)};
    }
    if (!at_.take_word("do")) no_do();
    do {
      r.action_at.push_back(at_.now().at);
      r.actions.push_back(one_action());
    } while (at_.take(token_kind::comma));
    if (!at_.is(token_kind::end)) after_action(r.actions.back());
    r.text = at_.normalised();
    return r;
  }

 private:
  void check_do() const {
    if (at_.is(token_kind::end))
      fail(at_.now().at, "expected 'do' and an action behind the filter",
           "a rule is [NAME:] [when FILTER] do ACTION, …");
    if (at_.is(token_kind::word) && (is_one_of(at_.text(), actions_now) || is_one_of(at_.text(), actions_later)))
      fail(at_.now().at, "expected 'do' before " + at_.shown(), "a rule is [NAME:] [when FILTER] do ACTION, …");
    check_filter_end(at_);
  }

  [[noreturn]] void no_do() const {
    const token& t = at_.now();
    const std::string word{at_.text()};
    std::string hint = "a rule is [NAME:] [when FILTER] do ACTION, …";
    if (is_one_of(word, actions_now))
      hint = "write 'do " + word + " …'";
    else if (fields::find(word))
      hint = "a filter begins with 'when'";
    else if (const auto near = nearest_word(word, {"when", "do", "let"}); !near.empty())
      hint = did_you_mean(near);
    fail(t.at, "expected 'when' or 'do', not " + at_.shown(), std::move(hint));
  }

  [[noreturn]] void after_action(const action& a) const {
    std::string hint = "actions are separated by commas";
    if (at_.is(token_kind::word)) {
      const auto near = nearest_word(at_.text(), {"times", "chance", "with", "in", "at", "before", "after", "per"});
      if (at_.is_word("framing"))
        hint = "framings are not available yet";
      else if (!near.empty())
        hint = did_you_mean(near);
    }
    fail(at_.now().at, "unexpected " + at_.shown() + " behind '" + a.word + "'", std::move(hint));
  }

  action one_action() {
    action a;
    a.word = at_.is(token_kind::word) ? at_.text() : std::string_view{};
    if (!is_one_of(a.word, actions_now)) unknown_action(a.word);
    at_.advance();
    if (a.word == "replace")
      replace(a);
    else if (a.word == "delete")
      remove(a);
    else if (a.word == "insert")
      insert(a);
    else if (a.word == "truncate")
      a.kind = action_kind::truncate, a.octets = size("the number of octets to keep");
    else if (a.word == "log")
      log(a);
    else if (a.word == "drop")
      a.kind = action_kind::drop;
    else if (a.word == "close")
      a.kind = action_kind::close;
    else if (a.word == "reset")
      a.kind = action_kind::reset;
    else if (a.word == "dump")
      a.kind = action_kind::dump;
    else
      a.kind = action_kind::stop;
    clauses(a);
    return a;
  }

  [[noreturn]] void unknown_action(const std::string& word) const {
    const extent place = at_.now().at;
    if (word.empty())
      fail(place, "expected an action, not " + at_.shown(),
           "there are: replace insert delete truncate drop close reset log dump stop");
    if (is_one_of(word, actions_later)) fail(place, "action " + quoted(word) + " is not available at stream level yet");
    if (is_one_of(word, actions_of_packets)) fail(place, "action " + quoted(word) + " exists only at packet level");
    if (word == "framing") fail(place, "'framing' is not available yet");
    const auto near =
        nearest_word(word, {"replace",  "insert", "delete", "truncate", "drop",       "close", "reset",     "log",
                            "dump",     "stop",   "set",    "map",      "delay",      "rate",  "duplicate", "reorder",
                            "corrupt",  "mutate", "limit",  "timeout",  "slow-close", "stall", "inject",    "reply",
                            "redirect", "mirror", "note",   "write",    "hold",       "call"});
    fail(
        place, "unknown action " + quoted(word),
        near.empty() ? "there are: replace insert delete truncate drop close reset log dump stop" : did_you_mean(near));
  }

  void expect(std::string_view word, std::string_view form) {
    if (at_.take_word(word)) return;
    const bool near = at_.is(token_kind::word) && !nearest_word(at_.text(), {word}).empty();
    fail(at_.now().at, "expected " + quoted(word) + ", not " + at_.shown(),
         near ? did_you_mean(word) : "write: " + std::string(form));
  }

  void replace(action& a) {
    a.kind = action_kind::replace;
    pattern(a.pattern, "replace PATTERN with VALUE");
    expect("with", "replace PATTERN with VALUE");
    interpret(value("replace PATTERN with VALUE"), a.pattern, a.value);
  }

  void remove(action& a) {
    a.kind = action_kind::replace;
    pattern(a.pattern, "delete PATTERN");
  }

  void insert(action& a) {
    static constexpr std::string_view form = "insert VALUE at start|end|N, or insert VALUE before|after PATTERN";
    const raw_value raw = value(form);
    if (raw.octets.empty() && raw.text) fail(raw.at, "nothing to insert");
    if (at_.is_word("before") || at_.is_word("after")) {
      const bool before = at_.is_word("before");
      at_.advance();
      a.kind = action_kind::replace;
      pattern(a.pattern, form);
      interpret(raw, a.pattern, a.value);
      const value::part match{{}, 0};
      a.value.parts.insert(before ? a.value.parts.end() : a.value.parts.begin(), match);
      return;
    }
    a.kind = action_kind::insert;
    expect("at", form);
    if (!raw.octets.empty()) a.value.parts.push_back({raw.octets, -1});
    if (at_.take_word("start")) return;
    if (at_.take_word("end")) {
      a.at = action::where::end;
      return;
    }
    a.at = action::where::offset;
    a.octets = size("'start', 'end' or the number of octets to go before it");
  }

  /// What stands there, for a message.
  std::string written(extent at) const {
    return at.begin == at.end ? "the end of the rule" : quoted(at_.source().substr(at.begin, at.end - at.begin));
  }

  void log(action& a) {
    a.kind = action_kind::log;
    const extent place = at_.now().at;
    literal l;
    if (!parse_literal(at_, l) || l.how != literal::form::text)
      fail(place, "expected text behind 'log', not " + written(place), "write log \"got {ip.src}\"");
    std::string text;
    const auto flush = [&] {
      if (!text.empty()) a.text.parts.push_back({std::exchange(text, {}), {}, false});
    };
    for (std::size_t i = 0; i < l.value.size(); ++i) {
      const char c = l.value[i];
      if ((c == '{' || c == '}') && i + 1 < l.value.size() && l.value[i + 1] == c) {
        text += c, ++i;
        continue;
      }
      if (c == '}') fail(inside(l, i, 1), "'}' without its '{'", "a brace in the text is written twice: }}");
      if (c != '{') {
        text += c;
        continue;
      }
      const auto close = l.value.find('}', i);
      if (close == l.value.npos)
        fail(inside(l, i, 1), "'{' without its '}'", "a brace in the text is written twice: {{");
      const std::string name = l.value.substr(i + 1, close - i - 1);
      flush();
      const fields::field_info* f = fields::find(name);
      if (!f || !exists_at(f->levels, fields::level::stream))
        f = &field(name, inside(l, i + 1, std::max<std::size_t>(name.size(), 1)));
      a.text.parts.push_back({{}, id_of(*f), true});
      i = close;
    }
    flush();
  }

  static const fields::field_info& field(const std::string& name, extent at) {
    const fields::field_info* f = fields::find(name);
    if (!f) {
      const auto near = fields::nearest(name);
      fail(at, "unknown field " + quoted(name),
           near.empty() ? "'midwire rules fields' lists them" : did_you_mean(near));
    }
    check_level(*f, fields::level::stream, at);
    return *f;
  }

  /// The place of `size` octets of a text from its `index` on; the whole of it when a let stands there.
  extent inside(const literal& l, std::size_t index, std::size_t size) const {
    if (l.from_let) return l.at;
    extent at;
    decode(at_.source(), l.at, index, &at.begin);
    decode(at_.source(), l.at, index + size, &at.end);
    return at;
  }

  // ---- pattern and value ----

  void pattern(rules::pattern& p, std::string_view form) {
    if (at_.is(token_kind::slash)) return regex(p);
    const extent place = at_.now().at;
    const std::string shown = at_.shown();
    literal l;
    if (ends_argument() || !parse_literal(at_, l)) {
      const bool set = at_.let_here() != nullptr;
      fail(place, set ? shown + " is a set" : "expected a pattern, not " + shown,
           "write: " + std::string(form) + "; a pattern is \"text\", aa:bb or /regex/");
    }
    p.octets = octets(l, "a pattern");
    if (p.octets.empty()) fail(place, "an empty pattern", "write the octets to look for");
  }

  bool ends_argument() const noexcept {
    return at_.is_word("with") || at_.is_word("at") || at_.is_word("before") || at_.is_word("after") ||
           at_.is_word("times");
  }

  std::string octets(const literal& l, std::string_view what) const {
    if (l.how != literal::form::word) return l.value;
    std::string out;
    if (l.negative || !parse_octets(l.value, out))
      fail(l.at, quoted(l.value) + " is not " + std::string(what),
           "text stands between quotes, \"" + l.value.substr(0, 40) +
               "\"; octets are hex with two digits each, 47:45:54");
    return out;
  }

  void regex(rules::pattern& p) {
    at_.as_regex();
    const extent place = at_.now().at;
    const std::string_view written = at_.text();
    const auto last = written.rfind('/');
    p.how = rules::pattern::kind::regex;
    std::vector<std::size_t> places;  // of each octet of the regex, in the source
    for (std::size_t i = 1; i < last; ++i) {
      if (written[i] == '\\' && written[i + 1] != '/' && i + 1 < last) {
        places.push_back(place.begin + i);
        p.octets += written[i++];
      } else if (written[i] == '\\') {
        ++i;
      }
      places.push_back(place.begin + i);
      p.octets += written[i];
    }
    places.push_back(place.begin + last);
    for (std::size_t i = last + 1; i < written.size(); ++i) {
      bool* const flags[] = {&p.ignore_case, &p.multi_line, &p.dot_all, &p.extended};
      const auto which = std::string_view{"imsx"}.find(written[i]);
      const extent at{place.begin + i, place.begin + i + 1};
      if (which == std::string_view::npos)
        fail(at, "unknown regex flag " + quoted(written.substr(i, 1)),
             written[i] == 'g' ? "every match is replaced; 'times N' limits that" : "there are: i m s x");
      if (std::exchange(*flags[which], true)) fail(at, "regex flag " + quoted(written.substr(i, 1)) + " twice");
    }
    if (p.octets.empty()) fail(place, "an empty regex", "write what to look for");
    std::size_t offset = 0;
    std::string why;
    code_ = compile_regex(p.octets, {p.ignore_case, p.multi_line, p.dot_all, p.extended}, offset, why);
    if (!code_) {
      const std::size_t at = places[std::min(offset, places.size() - 1)];
      fail({at, at + 1}, "bad regex: " + why);
    }
    if (takes_nothing(p.octets, p.extended))
      fail(place, "this regex can match only where there are no octets",
           "a match of no octets does not count: let it take the octets to replace");
    at_.advance();
  }

  raw_value value(std::string_view form) {
    raw_value v;
    v.at = at_.now().at;
    if (at_.is(token_kind::at)) {
      at_.as_path();
      v.at = at_.now().at;
      v.octets = file();
      at_.advance();
      return v;
    }
    const std::string shown = at_.shown();
    literal l;
    if (ends_argument() || !parse_literal(at_, l)) {
      const bool set = at_.let_here() != nullptr;
      fail(v.at, set ? shown + " is a set" : "expected a value, not " + shown,
           "write: " + std::string(form) + "; a value is \"text\", aa:bb or @file");
    }
    v.octets = octets(l, "a value");
    v.text = l.how != literal::form::word;
    v.placed = !l.from_let;
    return v;
  }

  std::string file() const {
    const std::string_view written = at_.text().substr(1);
    std::string path = written.starts_with('"') ? decode(at_.source(), {at_.now().at.begin + 1, at_.now().at.end})
                                                : std::string{written};
    if (path.empty() || path.find('\0') != path.npos) fail(at_.now().at, "expected the path of a file behind '@'");
    if (path[0] != '/' && !from_.folder.empty()) path = from_.folder + (from_.folder.ends_with('/') ? "" : "/") + path;
    std::string error;
    std::optional<std::string> content;
    if (read_) content = read_(path, error);
    if (!content)
      fail(at_.now().at, "cannot read " + quoted(path) + (error.empty() ? "" : ": " + error),
           from_.folder.empty() ? "" : "a path is relative to the rule file");
    return std::move(*content);
  }

  /// Gives `$1`, `${name}`, `$0` and `$$` their meaning, behind a regex; elsewhere `$` is itself.
  void interpret(const raw_value& raw, const rules::pattern& p, rules::value& out) const {
    std::string text;
    const auto flush = [&] {
      if (!text.empty()) out.parts.push_back({std::exchange(text, {}), -1});
    };
    if (p.how == rules::pattern::kind::literal || !raw.text) {
      text = raw.octets;
      flush();
      return;
    }
    const std::string& s = raw.octets;
    const auto bad = [&](std::size_t from, std::size_t end, std::string message, std::string hint) {
      extent at = raw.at;
      if (raw.placed) {
        decode(at_.source(), raw.at, from, &at.begin);
        decode(at_.source(), raw.at, end, &at.end);
      }
      fail(at, std::move(message), std::move(hint));
    };
    for (std::size_t i = 0; i < s.size(); ++i) {
      if (s[i] != '$') {
        text += s[i];
        continue;
      }
      const std::size_t begin = i++;
      if (i < s.size() && s[i] == '$') {
        text += '$';
        continue;
      }
      const bool braces = i < s.size() && s[i] == '{';
      const std::size_t end = braces ? s.find('}', i) : std::min(s.find_first_not_of("0123456789", i), s.size());
      if (end == s.npos || end == i || (braces && end == i + 1))
        bad(begin, std::min(begin + 1, s.size()), "'$' without a group",
            "behind a regex write $1, ${name}, $0 for the whole match, or $$ for a dollar");
      const std::string name = braces ? s.substr(i + 1, end - i - 1) : s.substr(i, end - i);
      i = braces ? end : end - 1;
      flush();
      out.parts.push_back({{}, group(name, [&](std::string message, std::string hint) {
                             bad(begin, i + 1, std::move(message), std::move(hint));
                           })});
    }
    flush();
  }

  template <class Bad>
  int group(const std::string& name, Bad&& bad) const {
    const unsigned most = group_count(*code_);
    const std::string has = most == 0 ? "the regex has no groups; $0 is the whole match"
                                      : "the regex has " + std::to_string(most) + (most == 1 ? " group" : " groups");
    unsigned number = 0;
    if (is_digit(name[0])) {
      const auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), number);
      const bool digits = stop == name.data() + name.size();
      if (!digits || error != std::errc{} || number > most)
        bad("the regex has no group " + quoted(name),
            has + (digits && name.size() > 1 && name[0] - '0' <= static_cast<int>(most)
                       ? "; ${" + name.substr(0, 1) + "}" + name.substr(1) + " ends the number"
                       : ""));
    } else if (number = group_named(*code_, name); number == 0) {
      bad("the regex has no group " + quoted(name), "a named group is written (?<" + name + ">…)");
    }
    return static_cast<int>(number);
  }

  // ---- numbers and clauses ----

  /// Octets: `100`, `10KB`, `64KiB`.
  std::uint64_t size(std::string_view what) {
    const token t = at_.now();
    literal l;
    if (ends_argument() || !parse_literal(at_, l) || l.how != literal::form::word)
      fail(t.at, "expected " + std::string(what) + ", not " + written(t.at));
    std::uint64_t n = 0;
    const char* const end = l.value.data() + l.value.size();
    const auto [stop, error] = std::from_chars(l.value.data(), end, n);
    if (error == std::errc::invalid_argument)
      fail(t.at, "expected " + std::string(what) + ", not " + quoted(l.value), "sizes are written 100, 10KB, 64KiB");
    const std::string_view unit{stop, static_cast<std::size_t>(end - stop)};
    const std::uint64_t factor = size_of_unit(unit);
    if (factor == 0) fail(t.at, "unknown size " + quoted(l.value), "units are KB MB GB (1000) and KiB MiB GiB (1024)");
    if (error != std::errc{} || n > std::numeric_limits<std::int64_t>::max() / factor)
      fail(t.at, quoted(l.value) + " is too large");
    return n * factor;
  }

  void clauses(action& a) {
    bool in = false, times = false, chance = false;
    const bool searches = a.kind == action_kind::replace;
    const auto once = [&](bool& flag) {
      if (std::exchange(flag, true)) fail(at_.now().at, at_.shown() + " twice in one action");
    };
    while (at_.is(token_kind::word)) {
      if (at_.is_word("in")) {
        once(in);
        if (!searches || a.word == "insert") fail(at_.now().at, "'in' does not go with '" + a.word + "'");
        at_.advance();
        const std::string name{at_.text()};
        if (!at_.is(token_kind::word)) fail(at_.now().at, "expected a field behind 'in', not " + at_.shown());
        if (const auto& f = field(name, at_.now().at); f.name != "payload")
          fail(at_.now().at, "'in " + name + "' works only at packet level",
               "a stream has 'in payload', which may be left out");
        at_.advance();
      } else if (at_.is_word("times")) {
        once(times);
        if (!searches)
          fail(at_.now().at, "'times' does not go with '" + a.word + "'", "it counts matches of a pattern");
        at_.advance();
        const std::string_view n = at_.text();
        const auto [stop, error] = std::from_chars(n.data(), n.data() + n.size(), a.times);
        if (!at_.is(token_kind::word) || error != std::errc{} || stop != n.data() + n.size() || a.times == 0)
          fail(at_.now().at, "expected a number of at least 1 behind 'times', not " + at_.shown());
        at_.advance();
      } else if (at_.is_word("chance")) {
        once(chance);
        at_.advance();
        share(a);
      } else if (at_.is_word("during")) {
        fail(at_.now().at, "'during' is not available yet", "a filter can say it: conn.age >= 10s && conn.age < 30s");
      } else {
        return;
      }
    }
  }

  void share(action& a) {
    static constexpr const char* form = "write: chance 20% [per unit|per connection]";
    const std::string number{at_.text()};
    const auto [stop, error] =
        std::from_chars(number.data(), number.data() + number.size(), a.chance, std::chars_format::fixed);
    if (!at_.is(token_kind::word) || error != std::errc{} || stop != number.data() + number.size() || a.chance < 0 ||
        a.chance > 100)
      fail(at_.now().at, "expected a share of 0 to 100 behind 'chance', not " + at_.shown(), form);
    a.chance /= 100;
    at_.advance();
    if (!at_.take(token_kind::percent)) fail(at_.now().at, "expected '%' behind the number, not " + at_.shown(), form);
    if (!at_.take_word("per")) return;
    if (!at_.is_word("unit") && !at_.is_word("connection"))
      fail(at_.now().at, "expected 'unit' or 'connection' behind 'per', not " + at_.shown(), form);
    a.chance_per_unit = at_.is_word("unit");
    at_.advance();
  }

  cursor& at_;
  const source& from_;
  const file_reader& read_;
  regex_code code_;  ///< of the last regex pattern, for its groups
};

}  // namespace

parsed_rule parse_rule(cursor& at, const source& from, const file_reader& read) {
  return rule_parser{at, from, read}.run();
}

void parse_let(cursor& at, let_table& lets) {
  static constexpr const char* form = "write: let NAME = VALUE";
  const std::string name{at.text()};
  const extent place = at.now().at;
  const bool shape = !name.empty() && is_letter(name[0]) && name.find_first_of(":/") == name.npos;
  if (!at.is(token_kind::word) || !shape) fail(place, "expected a name behind 'let', not " + at.shown(), form);
  if (fields::find(name)) fail(place, quoted(name) + " is a field", "choose another name");
  if (is_filter_word(name) || is_one_of(name, rule_words) || is_one_of(name, actions_now) ||
      is_one_of(name, actions_later) || is_one_of(name, actions_of_packets))
    fail(place, quoted(name) + " is a word of the language", "choose another name");
  if (lets.values.contains(name)) fail(place, quoted(name) + " has a value already", "choose another name");
  at.advance();
  if (!at.take(token_kind::assign)) fail(at.now().at, "expected '=' behind the name, not " + at.shown(), form);
  let_value v;
  at.forget_normalised();
  if (const let_value* other = at.let_here()) {
    v = *other;
    at.advance();
  } else if (at.is(token_kind::left_brace)) {
    v.set = true;
    v.items = parse_set(at);
  } else {
    const extent from = at.now().at;
    const bool negative = at.take(token_kind::minus);
    literal l;
    if (!parse_literal(at, l))
      fail(at.now().at, "expected a value, not " + at.shown(),
           "a value is a number, an address, \"text\", octets, or a set {80, 443}");
    if (l.how == literal::form::word && (is_filter_word(l.value) || fields::find(l.value)) &&
        !l.value.starts_with("T") && !l.value.starts_with("F"))
      fail(from, quoted(l.value) + " is not a value",
           "a value is a number, an address, \"text\", octets, or a set {80, 443}");
    l.negative = negative;
    v.items.push_back({std::move(l), std::nullopt});
  }
  v.text = at.normalised();
  if (!at.is(token_kind::end)) fail(at.now().at, "unexpected " + at.shown() + " behind the value", form);
  for (set_item& i : v.items) {
    i.low.from_let = true;
    if (i.high) i.high->from_let = true;
  }
  lets.values.emplace(name, std::move(v));
}

std::string netsed_hint(std::string_view text) {
  // s/PATTERN/REPLACEMENT[/FLAGS]; a slash inside is written %2f.
  std::vector<std::string> parts(1);
  for (const char c : text.substr(std::min<std::size_t>(2, text.size()))) {
    if (c == '/' || c == '\n') {
      parts.emplace_back();
      continue;
    }
    parts.back() += c;
  }
  if (!text.starts_with("s/") || parts.size() < 2 || parts[0].empty() || parts.size() > 3) return {};
  const auto plain = [](const std::string& p) {
    std::string out = "\"";
    for (std::size_t i = 0; i < p.size(); ++i) {
      if (p[i] == '%' && i + 1 < p.size() && p[i + 1] == '%')
        out += p[++i];
      else if (p[i] == '%' && i + 2 < p.size() && hex_digit(p[i + 1]) >= 0 && hex_digit(p[i + 2]) >= 0)
        (out += "\\x") += p.substr(i + 1, 2), i += 2;
      else if (p[i] == '"' || p[i] == '\\')
        (out += '\\') += p[i];
      else
        out += p[i];
    }
    return out + '"';
  };
  std::string hint = "write: ", count;
  if (parts.size() == 3)
    for (const char c : parts[2]) {
      if (c == 'i' || c == 'I')
        hint += "when from.server ";
      else if (c == 'o' || c == 'O')
        hint += "when from.client ";
      else if (is_digit(c))
        count += c;
      else
        return {};
    }
  hint +=
      parts[1].empty() ? "do delete " + plain(parts[0]) : "do replace " + plain(parts[0]) + " with " + plain(parts[1]);
  return count.empty() ? hint : hint + " times " + count;
}

}  // namespace detail
}  // namespace midwire::rules
