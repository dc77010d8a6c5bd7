#include "rules/check.hpp"

#include <algorithm>
#include <utility>

#include <midwire/base/chance.hpp>

#include "rules/literal.hpp"
#include "rules/parser.hpp"

namespace midwire::rules::detail {

namespace {

using fields::field_type;

kind kind_of(field_type t) noexcept {
  switch (t) {
    case field_type::none:
    case field_type::f64:
    case field_type::time: return kind::nothing;
    case field_type::str: return kind::text;
    case field_type::bytes:
    case field_type::mac: return kind::octets;
    case field_type::ip4: return kind::ip4;
    case field_type::ip6: return kind::ip6;
    case field_type::dur: return kind::time;
    default: return kind::number;
  }
}

/// Addresses before and behind a network's: the network is the interval between.
interval network(const constant& c) {
  interval i{c, c};
  for (std::size_t bit = c.bits; bit < c.octets.size() * 8; ++bit) {
    const auto mask = static_cast<unsigned char>(0x80u >> (bit % 8));
    char& low = i.low.octets[bit / 8];
    char& high = i.high.octets[bit / 8];
    low = static_cast<char>(static_cast<unsigned char>(low) & static_cast<unsigned char>(~mask));
    high = static_cast<char>(static_cast<unsigned char>(high) | mask);
  }
  return i;
}

class checker {
 public:
  checker(std::string_view source, fields::level level) : source_{source}, level_{level} {}

  std::shared_ptr<const filter_program> run(const test_node& root) {
    program_.root = test(root);
    return std::make_shared<const filter_program>(std::move(program_));
  }

 private:
  /// An operand that is no literal.
  struct typed {
    std::uint32_t index = 0;
    kind type = kind::nothing;
    field_type field = field_type::u64;
    bool signed_number = false;  ///< made by arithmetic
    std::size_t most = 1;        ///< values at most
    std::size_t octets = 0;      ///< size where it is always the same; 0: not known
    std::string name;
  };

  // ---- tests ----

  std::uint32_t add(test_code t) {
    program_.tests.push_back(std::move(t));
    return static_cast<std::uint32_t>(program_.tests.size() - 1);
  }

  std::uint32_t test(const test_node& n) {
    // A test's needs are those of the operands met since here.
    needs_connection_ = needs_unit_ = false;
    test_code t;
    using enum test_node::form;
    switch (n.how) {
      case all_of:
      case any_of:
      case negation:
        t.op = n.how == all_of ? test_op::all_of : n.how == any_of ? test_op::any_of : test_op::negation;
        for (const test_ptr& inner : n.tests) t.tests.push_back(test(*inner));
        return add(std::move(t));
      case chance:
        t.op = test_op::chance, t.probability = n.probability;
        t.salt = mix(hash_text("chance()") + draws_++);
        needs_unit_ = true;
        program_.uses_chance = program_.reads_units = true;
        break;
      case bare: bare_test(n, t); break;
      case member: member_test(n, t); break;
      case relation: relation_test(n, t); break;
    }
    t.needs_connection = needs_connection_, t.needs_unit = needs_unit_;
    program_.varies |= needs_unit_;
    return add(std::move(t));
  }

  void bare_test(const test_node& n, test_code& t) {
    using enum operand_node::form;
    switch (n.left->how) {
      case literal:
        fail(n.left->at, "a value alone is not a test: " + shown(*n.left), "compare a field with it: unit.len == 80");
      case function:
        fail(n.left->at, "a function alone is not a test: " + shown(*n.left),
             "compare it: " + std::string(text(n.left->at)) + " == 1");
      case field: t.op = test_op::present; break;
      case slice: t.op = test_op::exists; break;
      case arithmetic:
      case negation: t.op = test_op::not_zero; break;
    }
    t.left = operand(*n.left, 0).index;
  }

  void relation_test(const test_node& n, test_code& t) {
    using rules::detail::relation;
    t.op = test_op::relation, t.rel = n.rel;
    t.all = n.over == quantifier::usual ? n.rel == relation::not_equal || n.rel == relation::all_equal
                                        : n.over == quantifier::all;
    const typed left = field_first(*n.left);
    t.left = left.index;
    if (n.rel == relation::matches) return matches_test(n, t, left);
    if (n.rel == relation::contains) return contains_test(n, t, left);
    const typed right = other(*n.right, left, n.rel_at);
    t.right = right.index;
    const value_code& l = program_.values[t.left];
    const value_code& r = program_.values[t.right];
    if (l.op == value_op::field && l.type == kind::number && l.present && r.op == value_op::constant) {
      t.op = test_op::field_number;
      t.right = r.constant;
    }
  }

  void needs_text(const test_node& n, const typed& left, std::string_view word) {
    if (left.type == kind::octets || left.type == kind::text) return;
    std::string hint;
    if (left.type == kind::nothing)
      hint = "look into the octets: payload " + std::string(word) + " …";
    else if (n.left->how == operand_node::form::field)
      hint = "as text: string(" + std::string(n.left->field->name) + ") " + std::string(word) + " …";
    fail(n.rel_at, quoted(word) + " searches text and octets, and " + left.name + " is neither", std::move(hint));
  }

  void matches_test(const test_node& n, test_code& t, const typed& left) {
    needs_text(n, left, "matches");
    if (n.right->how != operand_node::form::literal || n.right->value.how != literal::form::text)
      fail(n.right->at, "'matches' needs a quoted regex",
           "write " + left.name.substr(1, left.name.size() - 2) + " matches \"…\"");
    const literal& l = n.right->value;
    std::size_t offset = 0;
    std::string why;
    regex_code code = compile_regex(l.value, {.ignore_case = true}, offset, why);
    if (!code) {
      extent at = l.at;
      if (!l.from_let) {
        decode(source_, l.at, offset, &at.begin);
        at.end = at.begin + 1;
      }
      fail(at, "bad regex: " + why);
    }
    t.op = test_op::matches;
    t.index = static_cast<std::uint32_t>(program_.regexes.size());
    program_.regexes.push_back(std::move(code));
  }

  void contains_test(const test_node& n, test_code& t, const typed& left) {
    needs_text(n, left, "contains");
    t.op = test_op::contains;
    if (n.right->how == operand_node::form::literal) {
      t.right = constant_value(convert(n.right->value, {left.type, field_type::bytes, left.name, false}));
      return;
    }
    const typed right = operand(*n.right, 0);
    if (right.type != kind::octets && right.type != kind::text)
      fail(n.right->at, "'contains' needs text or octets, and " + right.name + " is neither");
    t.right = right.index;
  }

  void member_test(const test_node& n, test_code& t) {
    t.op = test_op::member;
    t.all = n.over == quantifier::all;
    const typed left = field_first(*n.left);
    t.left = left.index;
    const expected want{left.type, left.field, left.name, left.signed_number};
    std::vector<interval> set;
    for (const set_item& item : n.items) {
      const constant low = convert(item.low, want);
      if (!item.high) {
        set.push_back(is_address(low.type) ? network(low) : interval{low, low});
        continue;
      }
      const constant high = convert(*item.high, want);
      if (is_address(low.type) && (low.bits != low.octets.size() * 8 || high.bits != low.bits))
        fail(item.low.at, "a network at the end of a range", "write both ends without /bits");
      if (compare(low, high) <= 0) set.push_back({low, high});  // 81..79 holds nothing
    }
    std::sort(set.begin(), set.end(), [](const interval& a, const interval& b) { return compare(a.low, b.low) < 0; });
    std::vector<interval> apart;
    for (interval& i : set) {
      if (apart.empty() || compare(apart.back().high, i.low) < 0)
        apart.push_back(std::move(i));
      else if (compare(apart.back().high, i.high) < 0)
        apart.back().high = std::move(i.high);
    }
    t.index = static_cast<std::uint32_t>(program_.sets.size());
    program_.sets.push_back(std::move(apart));
  }

  // ---- values ----

  std::string_view text(extent at) const { return source_.substr(at.begin, at.end - at.begin); }
  std::string shown(const operand_node& n) const { return quoted(text(n.at)); }

  std::uint32_t add(value_code v) {
    program_.values.push_back(std::move(v));
    return static_cast<std::uint32_t>(program_.values.size() - 1);
  }

  std::uint32_t constant_value(constant c) {
    value_code v;
    v.op = value_op::constant, v.type = c.type;
    v.constant = static_cast<std::uint32_t>(program_.constants.size());
    program_.constants.push_back(std::move(c));
    return add(std::move(v));
  }

  /// The left side of a test.
  typed field_first(const operand_node& n) {
    if (n.how == operand_node::form::literal)
      fail(n.at, "expected a field on the left side, not " + shown(n), "put the field first: tcp.port == 80");
    typed t = operand(n, 0);
    if (t.type != kind::nothing) return t;
    if (t.field == field_type::none) return t;
    fail(n.at, t.name + " (" + std::string(name_of(t.field)) + ") cannot be compared here");
  }

  /// The right side of a comparison with `left`.
  typed other(const operand_node& n, const typed& left, extent relation_at) {
    if (left.type == kind::nothing)
      fail(relation_at, left.name + " is present or not and has no value to compare",
           "write it bare: " + left.name.substr(1, left.name.size() - 2));
    if (n.how == operand_node::form::literal) return literal_like(n, left, left.signed_number);
    typed t = operand(n, 0, &left);
    same_type(left, t, n.at);
    return t;
  }

  typed literal_like(const operand_node& n, const typed& like, bool signed_number) {
    typed t = like;
    constant c = convert(n.value, {like.type, like.field, like.name, signed_number});
    t.octets = is_octets(c.type) ? c.octets.size() : 0;
    t.index = constant_value(std::move(c));
    t.most = 1;
    return t;
  }

  static void same_type(const typed& left, const typed& right, extent at) {
    if (left.type == right.type && left.type != kind::nothing) return;
    const auto what = [](const typed& t) {
      switch (t.type) {
        case kind::nothing: return "present or not";
        case kind::number: return "a number";
        case kind::time: return "a time";
        case kind::octets: return "octets";
        case kind::text: return "text";
        case kind::ip4: return "an IPv4 address";
        case kind::ip6: return "an IPv6 address";
      }
      return "";
    };
    fail(at, "cannot compare " + left.name + ", which is " + what(left) + ", with " + right.name + ", which is " +
                 what(right));
  }

  /// \param like  what a literal that begins arithmetic is to be; nothing: a field must begin it
  typed operand(const operand_node& n, int depth, const typed* like = nullptr) {
    constexpr int deepest = 32;
    if (depth > deepest)
      fail(n.at, "arithmetic nested deeper than " + std::to_string(deepest) + " levels", "split the test in two");
    typed t;
    using enum operand_node::form;
    switch (n.how) {
      case field: t = field_value(n); break;
      case slice: t = slice_value(n, depth); break;
      case function: t = function_value(n, depth); break;
      case arithmetic: t = arithmetic_value(n, depth, like); break;
      case negation: {
        const typed inner = operand(*n.arguments[0], depth + 1, like);
        if (inner.type != kind::number && inner.type != kind::time)
          fail(n.at, "'-' needs a number, and " + inner.name + " is none");
        t = inner;
        t.signed_number = true;
        t.index = add({.op = value_op::negate, .type = inner.type, .arguments = {inner.index}, .ranges = {}});
        break;
      }
      case literal:
        fail(n.at, "expected a field, not " + shown(n), "arithmetic and functions begin with a field: tcp.port + 1");
    }
    if (t.most > most_values)
      fail(n.at, "more than " + std::to_string(most_values) + " values on one side of a test", "split the test in two");
    t.name = shown(n);
    return t;
  }

  typed field_value(const operand_node& n) {
    const fields::field_info& f = *n.field;
    check_level(f, level_, n.at);
    needs_unit_ |= f.per_unit;
    const bool from = f.name.starts_with("from.");
    needs_connection_ |= !f.per_unit && !from;
    program_.names_direction |= from;
    program_.reads_units |= f.name == "payload" || f.name.starts_with("unit.");
    typed t;
    t.type = kind_of(f.type), t.field = f.type;
    t.most = f.many ? fields::max_values : 1;
    t.octets = t.type == kind::ip4 ? 4 : t.type == kind::ip6 ? 16 : 0;
    t.index = add({.op = value_op::field,
                   .type = t.type,
                   .present = n.outer_layer,
                   .field = id_of(f),
                   .arguments = {},
                   .ranges = {}});
    return t;
  }

  typed slice_value(const operand_node& n, int depth) {
    const typed inner = operand(*n.arguments[0], depth + 1);
    if (!is_octets(inner.type)) {
      const bool none = inner.type == kind::nothing;
      fail(n.at, "only text, octets and addresses have slices, and " + inner.name + " is none of them",
           none ? "slice the octets: payload[0:4]" : "");
    }
    typed t;
    t.type = kind::octets, t.field = field_type::bytes, t.most = inner.most;
    bool known = true;
    for (const range& r : n.ranges) {
      if (r.how == range::form::rest || (r.how == range::form::through && (r.first < 0) != (r.second < 0)))
        known = false;
      else
        t.octets += static_cast<std::size_t>(r.how == range::form::count ? r.second : r.second - r.first + 1);
    }
    if (!known) t.octets = 0;
    t.index = add({.op = value_op::slice,
                   .type = t.type,
                   .scratch = scratch(t.most),
                   .arguments = {inner.index},
                   .ranges = n.ranges});
    return t;
  }

  std::uint32_t scratch(std::size_t values) {
    return std::exchange(program_.scratches, program_.scratches + static_cast<std::uint32_t>(values));
  }

  typed function_value(const operand_node& n, int depth) {
    std::vector<typed> arguments;
    const typed first = operand(*n.arguments[0], depth + 1);
    const bool many = n.name == "max" || n.name == "min";
    if (!many && n.arguments.size() > 1) fail(n.arguments[1]->at, quoted(n.name) + " takes one value");
    typed t;
    t.most = first.most;
    value_code v;
    v.arguments = {first.index};
    const auto wants = [&](bool fits, const char* what, const char* hint = "") {
      if (!fits) fail(n.arguments[0]->at, quoted(n.name) + " needs " + what + ", and " + first.name + " is none", hint);
    };
    const bool is_field = n.arguments[0]->how == operand_node::form::field;
    t.type = kind::number;
    if (n.name == "len") {
      wants(first.type == kind::octets || first.type == kind::text, "text or octets");
      v.op = value_op::len;
    } else if (n.name == "count") {
      wants(is_field, "a field");
      v.op = value_op::count, t.most = 1;
    } else if (n.name == "upper" || n.name == "lower") {
      wants(first.type == kind::text, "text",
            first.type == kind::octets ? "'matches' ignores case: payload matches \"…\"" : "");
      v.op = n.name == "upper" ? value_op::upper : value_op::lower;
      t.type = kind::text, t.field = field_type::str;
    } else if (n.name == "string") {
      wants(is_field && (first.type == kind::number || first.type == kind::time || is_address(first.type)),
            "a field with a number, a time or an address");
      v.op = value_op::string;
      t.type = kind::text, t.field = field_type::str;
    } else if (n.name == "abs") {
      wants(first.type == kind::number || first.type == kind::time, "a number or a time");
      v.op = value_op::abs;
      t.type = first.type, t.signed_number = true;
    } else {
      wants(first.type != kind::nothing, "a value");
      v.op = n.name == "max" ? value_op::max : value_op::min;
      t = first;
      t.most = 1;
      for (std::size_t i = 1; i < n.arguments.size(); ++i) {
        const operand_node& a = *n.arguments[i];
        v.arguments.push_back(
            a.how == operand_node::form::literal
                ? constant_value(convert(a.value, {first.type, first.field, first.name, first.signed_number}))
                : argument_like(first, a, depth));
      }
    }
    v.type = t.type;
    t.index = add(std::move(v));
    return t;
  }

  std::uint32_t argument_like(const typed& first, const operand_node& a, int depth) {
    const typed t = operand(a, depth + 1);
    same_type(first, t, a.at);
    return t.index;
  }

  typed arithmetic_value(const operand_node& n, int depth, const typed* like) {
    const operand_node& first = *n.arguments[0];
    const typed left = first.how == operand_node::form::literal && like ? literal_like(first, *like, true)
                                                                        : operand(first, depth + 1, like);
    const std::string sign{n.sign == token_kind::plus      ? "+"
                           : n.sign == token_kind::minus   ? "-"
                           : n.sign == token_kind::star    ? "*"
                           : n.sign == token_kind::slash   ? "/"
                           : n.sign == token_kind::percent ? "%"
                                                           : "&"};
    const bool adds = sign == "+" || sign == "-", masks = sign == "&";
    const bool fits = left.type == kind::number || (left.type == kind::time && adds) ||
                      (is_octets(left.type) && left.type != kind::text && masks);
    if (!fits)
      fail(first.at, "'" + sign + "' cannot be done with " + left.name,
           masks  ? "'&' takes numbers, octets and addresses"
           : adds ? "'" + sign + "' takes numbers and times"
                  : "'" + sign + "' takes numbers");
    typed t = left;
    const operand_node& second = *n.arguments[1];
    value_code v;
    v.type = left.type;
    std::size_t octets = 0;
    if (second.how == operand_node::form::literal) {
      const typed right = literal_like(second, left, true);
      const constant& c = program_.constants[program_.values[right.index].constant];
      if ((sign == "/" || sign == "%") && c.number == 0) fail(second.at, "division by zero");
      v.arguments = {left.index, right.index};
      octets = right.octets;
    } else {
      const typed right = operand(second, depth + 1, &left);
      same_type(left, right, second.at);
      t.most *= right.most, octets = right.octets;
      v.arguments = {left.index, right.index};
    }
    if (masks && left.octets != 0 && octets != 0 && left.octets != octets)
      fail(second.at,
           "'&' needs octets of equal length: " + std::to_string(left.octets) + " and " + std::to_string(octets));
    using enum token_kind;
    v.op = n.sign == plus      ? value_op::add
           : n.sign == minus   ? value_op::subtract
           : n.sign == star    ? value_op::multiply
           : n.sign == slash   ? value_op::divide
           : n.sign == percent ? value_op::modulo
                               : value_op::mask;
    if (t.most <= most_values) v.scratch = scratch(t.most);
    t.octets = masks ? std::max(left.octets, octets) : 0;
    t.signed_number = true;
    t.index = add(std::move(v));
    return t;
  }

  std::string_view source_;
  fields::level level_;
  filter_program program_;
  bool needs_connection_ = false, needs_unit_ = false;
  std::uint64_t draws_ = 0;
};

}  // namespace

void check_level(const fields::field_info& f, fields::level level, extent at) {
  if (exists_at(f.levels, level)) return;
  std::string hint;
  if (f.name.ends_with(".payload") || f.name.starts_with("data") || f.name == "tcp.segment_data")
    hint = "the octets are in 'payload'; ";
  hint += "a proxied connection has:";
  for (const fields::field_info& known : fields::at_stream_level()) (hint += ' ') += known.name;
  fail(at, "field " + quoted(f.name) + " exists only at packet level", std::move(hint));
}

std::shared_ptr<const filter_program> compile_filter(const test_node& root, std::string_view source,
                                                     fields::level level) {
  return checker{source, level}.run(root);
}

filter compile_filter(std::string_view text, fields::level level) {
  let_table none;
  cursor at{text, {0, text.size()}, none};
  const test_ptr root = parse_filter(at);
  check_filter_end(at);
  return root ? filter{compile_filter(*root, text, level)} : filter{};
}

}  // namespace midwire::rules::detail
