#include "rules/parser.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <utility>

#include "fields/distance.hpp"

namespace midwire::rules::detail {

namespace {

constexpr std::string_view filter_words[] = {
    "and",         "or",  "not",  "any",    "all",    "in",     "eq",     "ne",       "lt",
    "le",          "gt",  "ge",   "any_eq", "all_eq", "any_ne", "all_ne", "contains", "matches",
    "bitwise_and", "xor", "True", "TRUE",   "False",  "FALSE",  "true",   "false"};
constexpr std::string_view functions[] = {"len", "upper", "lower", "count", "string", "max", "min", "abs", "chance"};

struct spelling {
  std::string_view word;
  token_kind sign;
  relation rel;
};
constexpr spelling relations[] = {{"eq", token_kind::equal, relation::equal},
                                  {"any_eq", token_kind::equal, relation::equal},
                                  {"ne", token_kind::not_equal, relation::not_equal},
                                  {"all_ne", token_kind::not_equal, relation::not_equal},
                                  {"all_eq", token_kind::all_equal, relation::all_equal},
                                  {"any_ne", token_kind::any_not_equal, relation::any_not_equal},
                                  {"lt", token_kind::less, relation::less},
                                  {"le", token_kind::less_equal, relation::less_equal},
                                  {"gt", token_kind::greater, relation::greater},
                                  {"ge", token_kind::greater_equal, relation::greater_equal},
                                  {"matches", token_kind::tilde, relation::matches},
                                  {"contains", token_kind::end, relation::contains}};

template <class List>
bool is_one_of(std::string_view w, const List& list) noexcept {
  return std::find(std::begin(list), std::end(list), w) != std::end(list);
}

/// Could be a field's name, unlike numbers, addresses and octets with separators.
bool looks_like_name(std::string_view w) noexcept { return !w.empty() && is_letter(w[0]) && w.find(':') == w.npos; }

std::string lower_case(std::string_view w) {
  std::string out{w};
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

[[noreturn]] void expected_operator(const cursor& at) {
  const token& t = at.now();
  std::string hint = "join tests with 'and' or 'or'";
  if (t.kind == token_kind::right_paren) fail(t.at, "')' without its '('");
  if (t.kind == token_kind::assign) fail(t.at, "'=' is not a test", "write '==' to compare");
  if (t.kind == token_kind::word) {
    const auto near =
        nearest_word(at.text(), {"and", "or", "in", "contains", "matches", "eq", "ne", "lt", "le", "gt", "ge", "do"});
    if (!near.empty()) hint = did_you_mean(near);
    if (at.text() == "xor") hint = "write (a and not b) or (b and not a)";
  }
  fail(t.at, "expected 'and', 'or' or the end of the filter, not " + at.shown(), std::move(hint));
}

class filter_parser {
 public:
  explicit filter_parser(cursor& at) noexcept : at_{at} {}

  test_ptr any_of() { return chain(token_kind::or_, "or", test_node::form::any_of, &filter_parser::all_of); }

 private:
  /// Counts nesting, so that no input can exhaust the stack.
  class level {
   public:
    level(int& depth, int most, extent where) : depth_{depth} {
      if (++depth_ > most) {
        --depth_;
        fail(where, "nested deeper than " + std::to_string(most) + " levels", "split the rule in two");
      }
    }
    level(const level&) = delete;
    level& operator=(const level&) = delete;
    ~level() { --depth_; }

   private:
    int& depth_;
  };

  test_ptr all_of() { return chain(token_kind::and_, "and", test_node::form::all_of, &filter_parser::negation); }

  test_ptr chain(token_kind sign, std::string_view word, test_node::form how, test_ptr (filter_parser::*next)()) {
    test_ptr first = (this->*next)();
    if (!at_.is(sign) && !at_.is_word(word)) return first;
    auto node = std::make_unique<test_node>();
    node->how = how, node->at.begin = first->at.begin;
    node->tests.push_back(std::move(first));
    while (at_.is(sign) || at_.is_word(word)) {
      behind_ = at_.text();
      at_.advance();
      node->tests.push_back((this->*next)());
      behind_ = {};
    }
    node->at.end = at_.last_end();
    return node;
  }

  test_ptr negation() {
    const std::size_t begin = at_.now().at.begin;
    if (at_.is(token_kind::not_) || at_.is_word("not")) {
      const level deeper{depth_, max_depth, at_.now().at};
      behind_ = at_.text();
      at_.advance();
      auto node = std::make_unique<test_node>();
      node->how = test_node::form::negation;
      node->tests.push_back(negation());
      node->at = {begin, at_.last_end()};
      return node;
    }
    if (!at_.is(token_kind::left_paren)) return test();
    const level deeper{depth_, max_depth, at_.now().at};
    const extent open = at_.now().at;
    behind_ = at_.text();
    at_.advance();
    if (at_.is(token_kind::right_paren)) fail({begin, at_.now().at.end}, "nothing between the parentheses");
    test_ptr inner = any_of();
    if (!at_.is(token_kind::right_paren)) {
      if (ends_filter()) fail(open, "'(' without its ')'");
      expected_operator(at_);
    }
    at_.advance();
    using enum token_kind;
    for (const token_kind k : {plus, minus, star, slash, percent, ampersand, equal, not_equal, all_equal, any_not_equal,
                               less, less_equal, greater, greater_equal, tilde})
      if (at_.is(k))
        fail(at_.now().at, "unexpected " + at_.shown() + " behind ')'", "( ) groups tests; { } groups arithmetic");
    return inner;
  }

  bool ends_filter() const noexcept { return at_.is(token_kind::end) || at_.is_word("do"); }

  test_ptr test() {
    auto node = std::make_unique<test_node>();
    node->at.begin = at_.now().at.begin;
    if (at_.is_word("chance")) {
      chance(*node);
      return finish(std::move(node));
    }
    if (at_.is_word("any") || at_.is_word("all")) {
      node->over = at_.text() == "any" ? quantifier::any : quantifier::all;
      at_.advance();
    }
    node->left = operand(true);
    const extent left = node->left->at;
    if (at_.is_word("in") || at_.is_word("not")) {
      membership(*node);
      return finish(std::move(node));
    }
    if (const spelling* r = relation_here()) {
      node->how = test_node::form::relation;
      node->rel = r->rel, node->rel_at = at_.now().at;
      behind_ = at_.text();
      at_.advance();
      node->right = operand(false);
      if (relation_here() || at_.is_word("in"))
        fail(at_.now().at, "a second relation in one test: " + at_.shown(), "write two tests and join them with 'and'");
    } else if (at_.is(token_kind::assign)) {
      fail(at_.now().at, "'=' is not a test", "write '==' to compare");
    } else if (node->over != quantifier::usual) {
      fail(left, "'any' and 'all' need a relation behind their field", "write 'any tcp.port == 80'");
    }
    return finish(std::move(node));
  }

  test_ptr finish(test_ptr node) const {
    node->at.end = at_.last_end();
    return node;
  }

  const spelling* relation_here() const noexcept {
    for (const spelling& s : relations)
      if (at_.is_word(s.word) || (s.sign != token_kind::end && at_.is(s.sign))) return &s;
    return nullptr;
  }

  void membership(test_node& node) {
    const bool negated = at_.take_word("not");
    if (!at_.is_word("in"))
      fail(at_.now().at, "expected 'in' behind 'not', not " + at_.shown(),
           "'not' stands before the test: not tcp.port == 80");
    node.rel_at = at_.now().at;
    at_.advance();
    auto member = std::make_unique<test_node>();
    test_node& m = negated ? *member : node;
    m.how = test_node::form::member;
    if (const let_value* let = at_.let_here(); let && let->set) {
      m.items = let->items;
      for (set_item& i : m.items) i.low.at = at_.now().at;
      at_.advance();
    } else {
      if (!at_.is(token_kind::left_brace))
        fail(at_.now().at, "expected a set behind 'in', not " + at_.shown(), "write it in braces: in {80, 443}");
      m.items = parse_set(at_);
    }
    if (!negated) return;
    m.left = std::move(node.left), m.over = node.over, m.rel_at = node.rel_at, m.at = {node.at.begin, at_.last_end()};
    node.how = test_node::form::negation, node.over = quantifier::usual;
    node.tests.push_back(std::move(member));
  }

  void chance(test_node& node) {
    node.how = test_node::form::chance;
    at_.advance();
    static constexpr const char* form = "write chance(5%)";
    if (!at_.take(token_kind::left_paren)) fail(at_.now().at, "expected '(' behind 'chance', not " + at_.shown(), form);
    const std::string number{at_.text()};
    double percent = 0;
    const auto [stop, error] =
        std::from_chars(number.data(), number.data() + number.size(), percent, std::chars_format::fixed);
    if (!at_.is(token_kind::word) || error != std::errc{} || stop != number.data() + number.size() || percent < 0 ||
        percent > 100)
      fail(at_.now().at, "expected a share of 0 to 100, not " + at_.shown(), form);
    at_.advance();
    if (!at_.take(token_kind::percent)) fail(at_.now().at, "expected '%' behind the number, not " + at_.shown(), form);
    if (!at_.take(token_kind::right_paren)) fail(at_.now().at, "expected ')', not " + at_.shown(), form);
    node.probability = percent / 100;
  }

  operand_ptr operand(bool left) {
    const level deeper{arithmetic_, max_arithmetic_depth, at_.now().at};
    return binary(left, 0);
  }

  /// Tightest last: & then + - then * / %.
  operand_ptr binary(bool left, int tightness) {
    const auto next = [&](bool first) { return tightness == 2 ? unary(first) : binary(first, tightness + 1); };
    const auto here = [&] {
      using enum token_kind;
      switch (tightness) {
        case 0: return at_.is(ampersand) || at_.is_word("bitwise_and");
        case 1: return at_.is(plus) || at_.is(minus);
        default: return at_.is(star) || at_.is(slash) || at_.is(percent);
      }
    };
    operand_ptr node = next(left);
    for (int terms = 1; here(); ++terms) {
      if (terms >= max_arithmetic_depth)
        fail(at_.now().at, "more than " + std::to_string(max_arithmetic_depth) + " terms");
      auto sum = std::make_unique<operand_node>();
      sum->how = operand_node::form::arithmetic;
      sum->sign = at_.is(token_kind::word) ? token_kind::ampersand : at_.now().kind;
      sum->at.begin = node->at.begin;
      behind_ = at_.text();
      at_.advance();
      sum->arguments.push_back(std::move(node));
      sum->arguments.push_back(next(false));
      sum->at.end = at_.last_end();
      node = std::move(sum);
    }
    return node;
  }

  operand_ptr unary(bool left) {
    if (!at_.is(token_kind::minus)) return primary(left);
    const level deeper{arithmetic_, max_arithmetic_depth, at_.now().at};
    const std::size_t begin = at_.now().at.begin;
    behind_ = at_.text();
    at_.advance();
    operand_ptr inner = unary(left);
    if (inner->how == operand_node::form::literal) {
      inner->value.negative = !inner->value.negative;
      inner->at.begin = inner->value.at.begin = begin;
      return inner;
    }
    auto node = std::make_unique<operand_node>();
    node->how = operand_node::form::negation;
    node->at = {begin, inner->at.end};
    node->arguments.push_back(std::move(inner));
    return node;
  }

  operand_ptr primary(bool left) {
    const std::size_t begin = at_.now().at.begin;
    auto node = std::make_unique<operand_node>();
    if (at_.is(token_kind::left_brace)) {
      const level deeper{arithmetic_, max_arithmetic_depth, at_.now().at};
      const extent open = at_.now().at;
      at_.advance();
      node = binary(left, 0);
      if (!at_.take(token_kind::right_brace)) {
        if (ends_filter()) fail(open, "'{' without its '}'");
        fail(at_.now().at, "expected '}', not " + at_.shown(),
             at_.is(token_kind::comma) ? "a set stands behind 'in'" : "");
      }
      node->at = {begin, at_.last_end()};
      return node;
    }
    const std::string word{at_.is(token_kind::word) ? at_.text() : std::string_view{}};
    const extent place = at_.now().at;
    if (word.empty() && !at_.is(token_kind::text) && !at_.is(token_kind::character)) expected_value(left);
    if (ends_filter()) expected_value(left);
    if (!word.empty() && at_.let_here() == nullptr) {
      if (is_one_of(word, filter_words) && !word.starts_with("True") && !word.starts_with("TRUE") &&
          !word.starts_with("F")) {
        if (word == "true" || word == "false")
          fail(place, quoted(word) + " is not a truth value", "write True or False");
        expected_value(left);
      }
      if (const auto* f = fields::find(word); f && !is_protocol_word(*f, left)) return field(*f);
      if (looks_like_name(word) && followed_by_paren()) return function(word);
      if (left && looks_like_name(word)) unknown_name(word, place);
    }
    if (!parse_literal(at_, node->value)) {
      // A let that stands for a set.
      fail(place, quoted(word) + " is a set", "a set stands behind 'in'");
    }
    node->at = node->value.at;
    return node;
  }

  /// `tcp.port == http`: behind a relation a protocol that only packets have is meant as a value, and refused as one.
  static bool is_protocol_word(const fields::field_info& f, bool left) noexcept {
    return !left && f.levels == fields::level::packet && f.type == fields::field_type::none &&
           f.name.find('.') == f.name.npos;
  }

  bool followed_by_paren() const noexcept {
    const auto rest = at_.source().substr(at_.now().at.end);
    const auto next = rest.find_first_not_of(" \t");
    return next != rest.npos && rest[next] == '(';
  }

  [[noreturn]] void expected_value(bool left) const {
    const std::string what = left ? "expected a field" : "expected a value";
    fail(at_.now().at, what + (behind_.empty() ? "" : " behind " + quoted(behind_)) + ", not " + at_.shown());
  }

  [[noreturn]] static void unknown_name(const std::string& word, extent place) {
    const std::string low = lower_case(word);
    if (is_one_of(low, filter_words) || fields::find(low) || is_function(low))
      fail(place, "unknown field " + quoted(word), did_you_mean(low));
    if (const auto near = fields::nearest(word); !near.empty())
      fail(place, "unknown field " + quoted(word), did_you_mean(near));
    fail(place, "unknown field " + quoted(word), "'midwire rules fields' lists them");
  }

  operand_ptr field(const fields::field_info& f) {
    auto node = std::make_unique<operand_node>();
    node->how = operand_node::form::field;
    node->field = &f, node->at = at_.now().at;
    at_.advance();
    if (at_.is(token_kind::hash)) {
      const std::size_t begin = at_.now().at.begin;
      at_.advance();
      if (at_.is(token_kind::left_bracket)) {
        at_.as_brackets();
        node->outer_layer = holds_first_layer(ranges());
      } else {
        std::int64_t layer = 0;
        const auto w = at_.text();
        const auto [stop, error] = std::from_chars(w.data(), w.data() + w.size(), layer);
        if (!at_.is(token_kind::word) || error != std::errc{} || stop != w.data() + w.size() || layer < 1)
          fail({begin, at_.now().at.end}, "expected the number of a layer behind '#', not " + at_.shown(),
               "layers count from 1, outermost first: ip.src#1");
        node->outer_layer = layer == 1;
      }
      at_.advance();
      node->at.end = at_.last_end();
    }
    return slice(std::move(node));
  }

  /// A stream has one layer of everything: the first from either end.
  static bool holds_first_layer(const std::vector<range>& layers) noexcept {
    return std::any_of(layers.begin(), layers.end(), [](const range& r) {
      const std::int64_t first = r.first == -1 ? 1 : r.first;
      if (r.how == range::form::rest) return first <= 1;
      const std::int64_t last = r.how == range::form::count ? first + r.second - 1 : r.second == -1 ? 1 : r.second;
      return first <= 1 && last >= 1;
    });
  }

  operand_ptr function(const std::string& name) {
    if (!is_one_of(name, functions)) {
      const auto near = nearest_word(name, {"len", "upper", "lower", "count", "string", "max", "min", "abs", "chance"});
      fail(at_.now().at, "unknown function " + quoted(name),
           near.empty() ? "there are: len upper lower count string max min abs chance" : did_you_mean(near));
    }
    if (name == "chance") fail(at_.now().at, "'chance' stands alone, not in a comparison", "write chance(5%)");
    const level deeper{arithmetic_, max_arithmetic_depth, at_.now().at};
    auto node = std::make_unique<operand_node>();
    node->how = operand_node::form::function, node->name = name, node->at.begin = at_.now().at.begin;
    at_.advance();
    const extent open = at_.now().at;
    at_.advance();
    if (at_.is(token_kind::right_paren))
      fail({node->at.begin, at_.now().at.end}, quoted(name) + " needs a field between its parentheses");
    do {
      if (node->arguments.size() >= 16) fail(at_.now().at, "more than 16 values in one function");
      behind_ = node->arguments.empty() ? "(" : ",";
      node->arguments.push_back(binary(node->arguments.empty(), 0));
    } while (at_.take(token_kind::comma));
    if (!at_.take(token_kind::right_paren)) {
      if (ends_filter()) fail(open, "'(' without its ')'");
      fail(at_.now().at, "expected ')' or ',', not " + at_.shown());
    }
    node->at.end = at_.last_end();
    return slice(std::move(node));
  }

  operand_ptr slice(operand_ptr inner) {
    if (!at_.is(token_kind::left_bracket)) return inner;
    auto node = std::make_unique<operand_node>();
    node->how = operand_node::form::slice, node->at.begin = inner->at.begin;
    at_.as_brackets();
    node->ranges = ranges();
    node->arguments.push_back(std::move(inner));
    at_.advance();
    node->at.end = at_.last_end();
    if (at_.is(token_kind::left_bracket)) fail(at_.now().at, "a slice of a slice", "join parts with commas: [0:2,5]");
    return node;
  }

  std::vector<range> ranges() {
    const extent place = at_.now().at;
    std::vector<range> out;
    std::size_t i = place.begin + 1;
    const std::string_view s = at_.source();
    const auto space = [&] {
      while (s[i] == ' ' || s[i] == '\t' || s[i] == '\r' || s[i] == '\n') ++i;
    };
    const auto bad = [&](std::size_t from, std::string message) {
      fail({from, std::max(i, from + 1)}, std::move(message), "a slice is written [i:n], [i-j], [i], [:n] or [i:]");
    };
    const auto number = [&](bool sign) {
      const std::size_t from = i;
      const bool negative = sign && s[i] == '-';
      if (negative) ++i;
      std::int64_t n = 0;
      const auto [stop, error] = std::from_chars(s.data() + i, s.data() + place.end, n);
      if (error == std::errc::invalid_argument) bad(from, "expected a number in the slice");
      i = static_cast<std::size_t>(stop - s.data());
      if (error != std::errc{} || n > INT32_MAX) bad(from, "a slice's number is too large");
      return negative ? -n : n;
    };
    while (true) {
      if (out.size() >= 64) fail(place, "more than 64 parts in one slice");
      space();
      const std::size_t from = i;
      range r;
      if (s[i] == ':') {
        ++i, space();
        r.second = number(false);
      } else {
        r.first = number(true);
        space();
        if (s[i] == ':') {
          ++i, space();
          if (s[i] == ']' || s[i] == ',')
            r.how = range::form::rest;
          else
            r.second = number(false);
        } else if (s[i] == '-') {
          ++i, space();
          r.how = range::form::through;
          r.second = number(true);
        }
      }
      if (r.how == range::form::count && r.second < 1) bad(from, "a slice of no octets");
      if (r.how == range::form::through && (r.first < 0) == (r.second < 0) && r.second < r.first)
        bad(from, "a slice that ends before it begins");
      out.push_back(r);
      space();
      if (s[i] == ']') return out;
      if (s[i] != ',') bad(i, "expected ',' or ']' in the slice");
      ++i;
    }
  }

  cursor& at_;
  std::string_view behind_;  ///< the operator before what is being parsed, for messages
  int depth_ = 0, arithmetic_ = 0;
};

}  // namespace

std::string cursor::shown() const { return is(token_kind::end) ? "the end of the rule" : quoted(text()); }

void cursor::advance() {
  if (now_.kind == token_kind::end) return;
  if (now_.spaced && !normalised_.empty()) normalised_ += ' ';
  if (const let_value* let = let_here()) {
    lets_->growth += let->text.size();
    if (lets_->growth > let_table::max_growth)
      fail(now_.at, "names of lets stand for more than 8 MiB in all",
           "name a value once, or put rules that share it into one");
    normalised_ += let->text;
  } else {
    normalised_ += text();
  }
  last_end_ = now_.at.end;
  now_ = lexer_.next();
}

bool cursor::take(token_kind k) {
  if (!is(k)) return false;
  advance();
  return true;
}

bool cursor::take_word(std::string_view w) {
  if (!is_word(w)) return false;
  advance();
  return true;
}

const let_value* cursor::let_here() const {
  if (now_.kind != token_kind::word) return nullptr;
  const auto found = lets_->values.find(text());
  return found == lets_->values.end() ? nullptr : &found->second;
}

test_ptr parse_filter(cursor& at) {
  if (at.is(token_kind::end) || at.is_word("do")) return nullptr;
  filter_parser parser{at};
  return parser.any_of();
}

void check_filter_end(const cursor& at) {
  if (!at.is(token_kind::end)) expected_operator(at);
}

bool parse_literal(cursor& at, literal& out) {
  const extent place = at.now().at;
  if (const let_value* let = at.let_here()) {
    if (let->set) return false;
    out = let->items.front().low;
    out.at = place, out.from_let = true;
  } else if (at.is(token_kind::text) || at.is(token_kind::character)) {
    out.how = at.is(token_kind::text) ? literal::form::text : literal::form::character;
    out.value = at.decoded();
    if (out.how == literal::form::character && out.value.size() != 1)
      fail(place, "a character is one octet", "text stands between double quotes");
    out.at = place;
  } else if (at.is(token_kind::word)) {
    out.value = at.text();
    out.at = place;
  } else {
    return false;
  }
  at.advance();
  return true;
}

std::vector<set_item> parse_set(cursor& at) {
  const extent open = at.now().at;
  std::vector<set_item> items;
  at.advance();
  if (at.is(token_kind::right_brace))
    fail({open.begin, at.now().at.end}, "an empty set", "write the values between the braces: {80, 443}");
  const auto item = [&](literal& out) {
    const std::size_t begin = at.now().at.begin;
    const bool negative = at.take(token_kind::minus);
    if (!parse_literal(at, out)) fail(at.now().at, "expected a value in the set, not " + at.shown());
    if (negative) out.negative = !out.negative, out.at.begin = begin;
  };
  while (true) {
    if (const let_value* let = at.let_here(); let && let->set) {
      for (set_item i : let->items) {
        i.low.at = at.now().at;
        items.push_back(std::move(i));
      }
      at.advance();
    } else {
      item(items.emplace_back().low);
      if (at.take(token_kind::dots)) item(items.back().high.emplace());
    }
    if (items.size() > 100'000) fail(open, "more than 100000 values in one set");
    if (at.take(token_kind::right_brace)) return items;
    if (at.is(token_kind::end) || at.is_word("do")) fail(open, "'{' without its '}'");
    if (!at.take(token_kind::comma))
      fail(at.now().at, "expected ',' or '}' in the set, not " + at.shown(), "values in a set are separated by commas");
    if (at.is(token_kind::right_brace)) fail(at.now().at, "expected a value behind ','");
  }
}

bool is_filter_word(std::string_view w) noexcept { return is_one_of(w, filter_words) || is_one_of(w, functions); }
bool is_function(std::string_view w) noexcept { return is_one_of(w, functions); }

std::string_view nearest_word(std::string_view wrong, std::initializer_list<std::string_view> words) noexcept {
  if (wrong.size() < 2 || wrong.size() > fields::max_compared) return {};
  std::size_t best = std::clamp<std::size_t>(wrong.size() / 3, 1, 3) + 1;
  std::string_view found;
  for (const std::string_view word : words)
    if (const std::size_t d = fields::distance(wrong, word); d < best) best = d, found = word;
  return found;
}

std::string did_you_mean(std::string_view word) { return "did you mean '" + std::string(word) + "'?"; }

}  // namespace midwire::rules::detail
