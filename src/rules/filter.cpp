#include <midwire/rules/filter.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include <midwire/base/assert.hpp>
#include <midwire/base/chance.hpp>
#include <midwire/fields/facts.hpp>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "rules/program.hpp"

namespace midwire::rules {

namespace detail {

namespace {

/// A value while a filter runs. Octets lie in the unit, the program, a scratch buffer or (when short and made here)
/// inside.
struct operand {
  kind type = kind::nothing;
  std::uint8_t bits = 0;
  bool inside = false;
  std::size_t size = 0;
  const char* data = nullptr;
  wide number = 0;
  std::array<char, 64> store;

  operand() noexcept {}
  std::string_view octets() const noexcept { return {inside ? store.data() : data, size}; }
  void set(std::string_view s) noexcept { inside = false, data = s.data(), size = s.size(); }
  void keep(std::string_view s) noexcept {
    inside = true, size = std::min(s.size(), store.size());
    std::memcpy(store.data(), s.data(), size);
  }
};

/// At most most_values values, which the checker has made sure of.
class operands {
 public:
  operands() noexcept {}
  operand& add(kind type) noexcept {
    MIDWIRE_ASSERT(size_ < most_values);
    operand& o = *new (&slots_[size_++]) operand;
    o.type = type;
    return o;
  }
  void drop_last() noexcept { --size_; }
  void keep_first() noexcept { size_ = std::min<std::size_t>(size_, 1); }
  bool empty() const noexcept { return size_ == 0; }
  std::size_t size() const noexcept { return size_; }
  operand* begin() noexcept { return reinterpret_cast<operand*>(slots_); }
  operand* end() noexcept { return begin() + size_; }
  const operand* begin() const noexcept { return reinterpret_cast<const operand*>(slots_); }
  const operand* end() const noexcept { return begin() + size_; }
  operand& operator[](std::size_t i) noexcept { return begin()[i]; }

 private:
  struct alignas(operand) slot {
    unsigned char octets[sizeof(operand)];
  };
  std::size_t size_ = 0;
  slot slots_[most_values];
};

constexpr wide lowest = std::numeric_limits<std::int64_t>::min(), highest = std::numeric_limits<std::uint64_t>::max();

int compare_octets(std::string_view a, std::string_view b) noexcept {
  const int order = std::memcmp(a.data(), b.data(), std::min(a.size(), b.size()));
  if (order != 0) return order;
  return a.size() < b.size() ? -1 : a.size() > b.size() ? 1 : 0;
}

/// The first `bits` bits; both sides have room for them.
int compare_bits(std::string_view a, std::string_view b, unsigned bits) noexcept {
  const std::size_t whole = bits / 8;
  const int order = std::memcmp(a.data(), b.data(), whole);
  if (order != 0 || bits % 8 == 0) return order;
  const unsigned mask = 0xffu << (8 - bits % 8) & 0xffu;
  return static_cast<int>(static_cast<unsigned char>(a[whole]) & mask) -
         static_cast<int>(static_cast<unsigned char>(b[whole]) & mask);
}

int compare(const operand& a, const operand& b) noexcept {
  if (!is_octets(a.type)) return a.number < b.number ? -1 : a.number > b.number ? 1 : 0;
  if (is_address(a.type)) return compare_bits(a.octets(), b.octets(), std::min(a.bits, b.bits));
  return compare_octets(a.octets(), b.octets());
}

bool related(relation r, int order) noexcept {
  switch (r) {
    case relation::equal:
    case relation::all_equal: return order == 0;
    case relation::not_equal:
    case relation::any_not_equal: return order != 0;
    case relation::less: return order < 0;
    case relation::less_equal: return order <= 0;
    case relation::greater: return order > 0;
    case relation::greater_equal: return order >= 0;
    case relation::contains:
    case relation::matches: break;
  }
  return false;
}

bool contains(std::string_view hay, std::string_view needle) noexcept {
  if (needle.empty()) return true;
  // Jumping to each first octet is several times faster than memmem, until there are many of them: then memmem, whose
  // time is linear whatever the octets.
  std::size_t tries = 16 + hay.size() / 64;
  while (hay.size() >= needle.size() && tries-- > 0) {
    const void* first = std::memchr(hay.data(), needle[0], hay.size() - needle.size() + 1);
    if (!first) return false;
    hay.remove_prefix(static_cast<std::size_t>(static_cast<const char*>(first) - hay.data()));
    if (hay.starts_with(needle)) return true;
    hay.remove_prefix(1);
  }
  return hay.size() >= needle.size() && ::memmem(hay.data(), hay.size(), needle.data(), needle.size()) != nullptr;
}

/// What a thread needs to match regexes: made at its first match, no allocation after that.
struct match_room {
  pcre2_match_data_8* data = pcre2_match_data_create_8(1, nullptr);
  pcre2_match_context_8* context = pcre2_match_context_create_8(nullptr);
  pcre2_jit_stack_8* stack = pcre2_jit_stack_create_8(32 * 1024, 512 * 1024, nullptr);

  match_room() {
    if (!data || !context) throw std::bad_alloc{};
    // A regex that blows up on hostile octets gives up within milliseconds and counts as no match.
    pcre2_set_match_limit_8(context, 500'000);
    pcre2_set_depth_limit_8(context, 20'000);
    pcre2_set_heap_limit_8(context, 4096);  // KiB
    if (stack) pcre2_jit_stack_assign_8(context, nullptr, stack);
  }
  match_room(const match_room&) = delete;
  match_room& operator=(const match_room&) = delete;
  ~match_room() {
    pcre2_match_data_free_8(data);
    pcre2_match_context_free_8(context);
    pcre2_jit_stack_free_8(stack);
  }
};

bool matches(const pcre2_code_8* code, std::string_view subject) {
  static thread_local match_room room;
  return pcre2_match_8(code, reinterpret_cast<PCRE2_SPTR8>(subject.data()), subject.size(), 0, 0, room.data,
                       room.context) >= 0;
}

/// Buffers for joined slices, for each value that a filter makes; they keep their room for the next unit.
std::string& scratch(std::size_t which) {
  static thread_local std::deque<std::string> buffers;  // growth leaves the others in place
  if (buffers.size() <= which) buffers.resize(which + 1);
  buffers[which].clear();
  return buffers[which];
}

class machine {
 public:
  machine(const filter_program& p, const fields::stream_unit& u, bool connection, bool unit) noexcept
      : p_{p}, u_{u}, connection_{connection}, unit_{unit} {}

  tri test(std::uint32_t index) const {
    const test_code& t = p_.tests[index];
    switch (t.op) {
      case test_op::all_of:
      case test_op::any_of: {
        const tri ends = t.op == test_op::all_of ? tri::no : tri::yes;
        tri all = t.op == test_op::all_of ? tri::yes : tri::no;
        for (const std::uint32_t inner : t.tests) {
          const tri one = test(inner);
          if (one == ends) return ends;
          if (one == tri::depends) all = tri::depends;
        }
        return all;
      }
      case test_op::negation: {
        const tri inner = test(t.tests[0]);
        return inner == tri::depends ? inner : inner == tri::yes ? tri::no : tri::yes;
      }
      default:
        if ((t.needs_connection && !connection_) || (t.needs_unit && !unit_)) return tri::depends;
        return leaf(t) ? tri::yes : tri::no;
    }
  }

 private:
  bool leaf(const test_code& t) const {
    switch (t.op) {
      case test_op::present: return present(p_.values[t.left]);
      case test_op::chance: {
        const chance_key key{u_.conn->seed, u_.rule ^ t.salt, u_.conn->listener,
                             u_.conn->id,   index_of(u_.dir), u_.index};
        return key.draw() < t.probability;
      }
      case test_op::field_number: {
        std::array<fields::field_value, fields::max_values> found;
        const std::size_t count = fields::read(p_.values[t.left].field, u_, found);
        const wide limit = p_.constants[t.right].number;
        for (std::size_t i = 0; i < count; ++i) {
          const wide n = found[i].number;
          if (related(t.rel, n < limit ? -1 : n > limit ? 1 : 0) != t.all) return !t.all;
        }
        return count > 0 && t.all;
      }
      default: break;
    }
    operands left;
    load(t.left, left);
    if (left.empty()) return false;
    const auto each = [&](auto&& holds) {
      const bool found = std::any_of(left.begin(), left.end(), [&](const operand& o) { return holds(o) != t.all; });
      return found != t.all;
    };
    switch (t.op) {
      case test_op::exists: return true;
      case test_op::not_zero:
        return each([](const operand& o) {
          if (!is_octets(o.type)) return o.number != 0;
          const auto s = o.octets();
          return std::any_of(s.begin(), s.end(), [](char c) { return c != 0; });
        });
      case test_op::matches:
        return each([&](const operand& o) { return matches(p_.regexes[t.index].get(), o.octets()); });
      case test_op::member: return each([&](const operand& o) { return member(p_.sets[t.index], o); });
      default: break;
    }
    operands right;
    load(t.right, right);
    if (right.empty()) return false;
    for (const operand& a : left)
      for (const operand& b : right) {
        const bool holds = t.op == test_op::contains ? contains(a.octets(), b.octets()) : related(t.rel, compare(a, b));
        if (holds != t.all) return holds;
      }
    return t.all;
  }

  bool present(const value_code& v) const {
    std::array<fields::field_value, fields::max_values> found;
    return v.present && fields::read(v.field, u_, found) > 0;
  }

  static bool member(const std::vector<interval>& set, const operand& o) noexcept {
    const auto order = [&](const constant& c) {
      return is_octets(o.type)     ? compare_octets(o.octets(), c.octets)
             : o.number < c.number ? -1
             : o.number > c.number ? 1
                                   : 0;
    };
    auto above = std::partition_point(set.begin(), set.end(), [&](const interval& i) { return order(i.low) >= 0; });
    return above != set.begin() && order((--above)->high) <= 0;
  }

  void load(std::uint32_t index, operands& out) const {
    const value_code& v = p_.values[index];
    switch (v.op) {
      case value_op::constant: {
        const constant& c = p_.constants[v.constant];
        operand& o = out.add(c.type);
        o.number = c.number, o.bits = c.bits;
        o.set(c.octets);
        return;
      }
      case value_op::field: return field(v, out);
      case value_op::slice: {
        load(v.arguments[0], out);
        return slices(v, out);
      }
      case value_op::add:
      case value_op::subtract:
      case value_op::multiply:
      case value_op::divide:
      case value_op::modulo:
      case value_op::mask: return arithmetic(v, out);
      case value_op::max:
      case value_op::min: return extreme(v, out);
      case value_op::count: {
        load(v.arguments[0], out);
        const std::size_t n = out.size();
        out.keep_first();
        for (operand& o : out) o.type = kind::number, o.number = static_cast<wide>(n);
        return;
      }
      default: break;
    }
    load(v.arguments[0], out);
    for (operand& o : out) one(v, o);
  }

  void field(const value_code& v, operands& out) const {
    if (!v.present) return;
    std::array<fields::field_value, fields::max_values> found;
    const std::size_t count = fields::read(v.field, u_, found);
    for (std::size_t i = 0; i < count; ++i) {
      operand& o = out.add(v.type);
      o.number = found[i].number;
      o.set(as_text(found[i].octets));
      o.bits = is_address(v.type) ? static_cast<std::uint8_t>(o.size * 8) : std::uint8_t{0};
    }
  }

  /// Functions that make one value of one.
  void one(const value_code& v, operand& o) const {
    switch (v.op) {
      case value_op::len: o.number = static_cast<wide>(o.size); break;
      case value_op::upper:
      case value_op::lower: {
        const bool up = v.op == value_op::upper;
        MIDWIRE_ASSERT(o.inside);  // text is made by string() alone
        for (std::size_t i = 0; i < o.size; ++i) {
          char& c = o.store[i];
          if (up ? c >= 'a' && c <= 'z' : c >= 'A' && c <= 'Z') c = static_cast<char>(c ^ 0x20);
        }
        break;
      }
      case value_op::string: {
        static thread_local std::string text;
        text.clear();
        const fields::field_id id = p_.values[v.arguments[0]].field;
        fields::append_text(text, fields::info(id).type, {static_cast<std::uint64_t>(o.number), as_bytes(o.octets())});
        o.keep(text);
        break;
      }
      case value_op::abs: o.number = o.number < 0 ? -o.number : o.number; break;
      case value_op::negate: o.number = -o.number; break;
      default: break;
    }
    o.type = v.type;
  }

  void slices(const value_code& v, operands& out) const {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
      operand& o = out[i];
      const std::string_view s = o.octets();
      std::string_view part;
      bool exists = true;
      if (v.ranges.size() == 1) {
        exists = cut(v.ranges[0], s, part);
      } else {
        std::string& joined = scratch(v.scratch + i);
        for (const range& r : v.ranges) {
          exists = exists && cut(r, s, part);
          joined += part;
        }
        part = joined;
        o.inside = false;
      }
      if (!exists) continue;
      if (o.inside)
        std::memmove(o.store.data(), part.data(), o.size = part.size());
      else
        o.set(part);
      o.type = kind::octets;
      if (kept != i) out[kept] = o;
      ++kept;
    }
    while (out.size() > kept) out.drop_last();
  }

  static bool cut(const range& r, std::string_view s, std::string_view& part) noexcept {
    const auto size = static_cast<std::int64_t>(s.size());
    const std::int64_t first = r.first < 0 ? r.first + size : r.first;
    const std::int64_t last = r.how == range::form::rest    ? size - 1
                              : r.how == range::form::count ? first + r.second - 1
                              : r.second < 0                ? r.second + size
                                                            : r.second;
    if (first < 0 || last < first || last >= size) return false;
    part = s.substr(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first + 1));
    return true;
  }

  void extreme(const value_code& v, operands& out) const {
    for (const std::uint32_t argument : v.arguments) {
      operands more;
      load(argument, more);
      if (more.empty()) {  // a field inside a function must exist
        while (!out.empty()) out.drop_last();
        return;
      }
      for (const operand& o : more) {
        if (out.empty()) {
          out.add(v.type) = o;
        } else if (const int order = compare(o, out[0]); v.op == value_op::max ? order > 0 : order < 0) {
          out[0] = o;
        }
      }
    }
  }

  void arithmetic(const value_code& v, operands& out) const {
    operands left, right;
    load(v.arguments[0], left);
    load(v.arguments[1], right);
    std::uint32_t number = v.scratch;
    for (const operand& a : left)
      for (const operand& b : right) {
        operand& o = out.add(v.type);
        const bool made =
            is_octets(v.type) ? mask(a, b, scratch(number++), o) : calculate(v.op, a.number, b.number, o.number);
        if (!made) out.drop_last();
      }
  }

  static bool mask(const operand& a, const operand& b, std::string& room, operand& out) {
    const auto x = a.octets(), y = b.octets();
    if (x.size() != y.size()) return false;
    for (std::size_t i = 0; i < x.size(); ++i) room += static_cast<char>(x[i] & y[i]);
    out.bits = a.bits;
    out.set(room);
    return true;
  }

  /// False: no 64-bit number, or a division by zero.
  static bool calculate(value_op op, wide a, wide b, wide& out) noexcept {
    switch (op) {
      case value_op::add: out = a + b; break;
      case value_op::subtract: out = a - b; break;
      case value_op::multiply: {
        const wide x = a < 0 ? -a : a, y = b < 0 ? -b : b;
        if (y != 0 && x > highest / y) return false;
        out = a * b;
        break;
      }
      case value_op::divide:
        if (b == 0) return false;
        out = a / b;
        break;
      case value_op::modulo:
        if (b == 0) return false;
        out = a % b;
        break;
      default: out = a & b; break;
    }
    return out >= lowest && out <= highest;
  }

  const filter_program& p_;
  const fields::stream_unit& u_;
  bool connection_, unit_;
};

}  // namespace

void free_code::operator()(pcre2_real_code_8* code) const noexcept { pcre2_code_free_8(code); }

regex_code compile_regex(std::string_view pattern, regex_flags flags, std::size_t& offset, std::string& why) {
  constexpr std::size_t longest = 64 * 1024;
  if (pattern.size() > longest) {
    offset = 0, why = "longer than 65536 octets";
    return nullptr;
  }
  std::uint32_t options = PCRE2_NEVER_UTF | PCRE2_NEVER_UCP;
  if (flags.ignore_case) options |= PCRE2_CASELESS;
  if (flags.multi_line) options |= PCRE2_MULTILINE;
  if (flags.dot_all) options |= PCRE2_DOTALL;
  if (flags.extended) options |= PCRE2_EXTENDED;
  int error = 0;
  PCRE2_SIZE at = 0;
  regex_code code{
      pcre2_compile_8(reinterpret_cast<PCRE2_SPTR8>(pattern.data()), pattern.size(), options, &error, &at, nullptr)};
  if (!code) {
    PCRE2_UCHAR8 message[160] = {};
    pcre2_get_error_message_8(error, message, sizeof message);
    offset = at, why = reinterpret_cast<const char*>(message);
    return nullptr;
  }
  // Where JIT is not to be had, matching interprets: slower, with the same answer.
  pcre2_jit_compile_8(code.get(), PCRE2_JIT_COMPLETE);
  return code;
}

unsigned group_count(const pcre2_real_code_8& code) noexcept {
  std::uint32_t count = 0;
  pcre2_pattern_info_8(&code, PCRE2_INFO_CAPTURECOUNT, &count);
  return count;
}

unsigned group_named(const pcre2_real_code_8& code, const std::string& name) noexcept {
  const int n = pcre2_substring_number_from_name_8(&code, reinterpret_cast<PCRE2_SPTR8>(name.c_str()));
  return n > 0 ? static_cast<unsigned>(n) : 0;
}

}  // namespace detail

bool filter::holds(const fields::stream_unit& unit) const {
  return !program_ || detail::machine{*program_, unit, true, true}.test(program_->root) == tri::yes;
}

tri filter::decide(const fields::connection_facts& conn, direction d) const {
  if (!program_) return tri::yes;
  fields::stream_unit unit;
  unit.conn = &conn, unit.dir = d;
  return detail::machine{*program_, unit, true, false}.test(program_->root);
}

bool filter::can_hold(direction d) const {
  if (!program_) return true;
  static const fields::connection_facts nobody;
  fields::stream_unit unit;
  unit.conn = &nobody, unit.dir = d;
  return detail::machine{*program_, unit, false, false}.test(program_->root) != tri::no;
}

bool filter::reads_units() const noexcept { return program_ && program_->reads_units; }
bool filter::varies() const noexcept { return program_ && program_->varies; }
bool filter::uses_chance() const noexcept { return program_ && program_->uses_chance; }
bool filter::names_direction() const noexcept { return program_ && program_->names_direction; }

}  // namespace midwire::rules
