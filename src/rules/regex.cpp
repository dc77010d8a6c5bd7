#define PCRE2_CODE_UNIT_WIDTH 8
#include "rules/regex.hpp"

#include <pcre2.h>

#include <algorithm>

namespace midwire::rules {

namespace {

// The first try at a start is short, so that what each octet can cost is bounded without a clock; a start that needs
// more is tried again with more as long as there is effort left.
constexpr std::uint32_t first_limit_jit = 128, first_limit_interpreted = 8192, limit_growth = 4, last_limit = 4'000'000;
// What one count of the match limit may cost, in octets scanned; more where it may stand for a run.
constexpr std::size_t price_of_count = 8, octets_per_price = 256;
constexpr std::uint32_t heap_limit_kib = 16 * 1024;
constexpr std::size_t smallest_jit_stack = 32 * 1024, largest_jit_stack = 16 * 1024 * 1024;

/// What a match needs beside the pattern: one for each thread.
struct matcher {
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(smallest_jit_stack, largest_jit_stack, nullptr);
  pcre2_match_data* data = nullptr;
  std::uint32_t pairs = 0;

  matcher() {
    pcre2_jit_stack_assign(context, nullptr, stack);
    pcre2_set_heap_limit(context, heap_limit_kib);
  }
  matcher(const matcher&) = delete;
  matcher& operator=(const matcher&) = delete;
  ~matcher() {
    pcre2_match_data_free(data);
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
  }
  void need(std::uint32_t wanted) {
    if (wanted <= pairs) return;
    pcre2_match_data_free(data);
    data = pcre2_match_data_create(wanted, nullptr);
    pairs = wanted;
  }
  static matcher& here() {
    thread_local matcher m;
    return m;
  }
};

/// Whether `\` and one of these letters, or one of these bare octets, occurs in the source. Rather too often than not.
bool mentions(std::string_view source, std::string_view escaped, std::string_view bare) noexcept {
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\\' && i + 1 < source.size()) {
      if (escaped.find(source[i + 1]) != escaped.npos) return true;
      ++i;
    } else if (bare.find(source[i]) != bare.npos) {
      return true;
    }
  }
  return false;
}

/// Whether one count of PCRE2's match limit may stand for a long run of octets: a greedy repeat of a single octet runs
/// uncounted, and again each time that what stands before it, or around it, tries another way.
bool runs_uncounted(std::string_view source) noexcept {
  bool repeated = false, in_class = false;
  int depth = 0;
  for (std::size_t i = 0; i < source.size(); ++i) {
    const char c = source[i];
    if (c == '\\') {
      ++i;
    } else if (in_class) {
      in_class = c != ']';
    } else if (c == '[') {
      in_class = true;
      i += i + 1 < source.size() && source[i + 1] == '^';
      i += i + 1 < source.size() && source[i + 1] == ']';
    } else if (c == '(') {
      ++depth;
    } else if (c == ')') {
      --depth;
    } else if (c == '*' || c == '+' || c == '{') {
      if (c == '{') i = std::min(source.find('}', i), source.size() - 1);
      const bool lazy = i + 1 < source.size() && source[i + 1] == '?';
      if (!lazy && (repeated || depth > 0)) return true;
      repeated = true;
    }
  }
  return false;
}

pcre2_code* compile_source(const std::string& source, std::uint32_t options, bool& jit) {
  int error = 0;
  PCRE2_SIZE where = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
                                   options | PCRE2_USE_OFFSET_LIMIT | PCRE2_NEVER_UTF, &error, &where, nullptr);
  if (code) jit = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0 && jit;
  return code;
}

}  // namespace

struct regex::impl {
  pcre2_code* code = nullptr;
  pcre2_code* later = nullptr;  // with \G: the same, but no match begins where the search does
  bool uncounted_runs = true;
  std::uint32_t pairs = 1, first_limit = first_limit_interpreted;
  std::uint32_t first_type = 0, first_unit = 0;
  const std::uint8_t* first_map = nullptr;

  impl() = default;
  impl(const impl&) = delete;
  impl& operator=(const impl&) = delete;
  ~impl() {
    pcre2_code_free(code);
    pcre2_code_free(later);
  }
};

regex::regex() noexcept = default;
regex::~regex() = default;

std::shared_ptr<const regex> regex::compile(const pattern& p) {
  const std::uint32_t options = (p.ignore_case ? PCRE2_CASELESS : 0u) | (p.multi_line ? PCRE2_MULTILINE : 0u) |
                                (p.dot_all ? PCRE2_DOTALL : 0u) | (p.extended ? PCRE2_EXTENDED : 0u);
  std::shared_ptr<regex> made{new regex};
  made->impl_ = std::make_unique<impl>();
  impl& i = *made->impl_;
  bool jit = true;
  i.code = compile_source(p.octets, options, jit);
  if (!i.code) return nullptr;
  if (mentions(p.octets, "G", "")) {
    // In extended mode the pattern may end in a comment, which only a line end ends.
    i.later = compile_source("(?!\\G)(?:" + p.octets + (p.extended ? "\n)" : ")"), options, jit);
  }
  i.first_limit = jit ? first_limit_jit : first_limit_interpreted;
  i.uncounted_runs = runs_uncounted(p.octets);
  std::uint32_t groups = 0, behind = 0;
  pcre2_pattern_info(i.code, PCRE2_INFO_CAPTURECOUNT, &groups);
  pcre2_pattern_info(i.code, PCRE2_INFO_MAXLOOKBEHIND, &behind);
  pcre2_pattern_info(i.code, PCRE2_INFO_FIRSTCODETYPE, &i.first_type);
  pcre2_pattern_info(i.code, PCRE2_INFO_FIRSTCODEUNIT, &i.first_unit);
  pcre2_pattern_info(i.code, PCRE2_INFO_FIRSTBITMAP, &i.first_map);
  i.pairs = groups + 1;
  // One more than PCRE2 says: ^, \A and \b at the far end of a lookbehind look at the octet before it.
  const bool looks_behind = behind > 0 || i.later || mentions(p.octets, "", "^");
  made->lookbehind_ = looks_behind ? std::size_t{behind} + 1 : 0;
  made->minds_last_newline_ = mentions(p.octets, "Z", "$");
  made->moves_start_ = mentions(p.octets, "K", "");
  return made;
}

bool regex::may_begin_with(std::uint8_t octet) const noexcept {
  if (impl_->first_type == 1) {
    const auto low = [](std::uint32_t c) { return c >= 'A' && c <= 'Z' ? c | 0x20u : c; };
    return low(impl_->first_unit) == low(octet);
  }
  return !impl_->first_map || (impl_->first_map[octet / 8] & (1u << (octet % 8))) != 0;
}

int regex::run(byte_view text, const place& where, std::size_t last, ending how, std::uint32_t limit) const noexcept {
  matcher& m = matcher::here();
  m.need(impl_->pairs);
  pcre2_set_match_limit(m.context, limit);
  pcre2_set_offset_limit(m.context, last);
  const pcre2_code* code = impl_->code;
  std::size_t from = where.from;
  if (!where.fresh && impl_->later && from > 0) code = impl_->later, --from;
  const std::uint32_t options = PCRE2_NOTEMPTY | (how == ending::open ? PCRE2_PARTIAL_HARD : 0u);
  static constexpr std::uint8_t no_octets = 0;
  const std::uint8_t* octets = text.empty() ? &no_octets : text.data();
  return pcre2_match(code, octets, text.size(), from, options, m.data, m.context);
}

regex::outcome regex::judge(int code) const noexcept {
  if (code >= 0 || code == PCRE2_ERROR_PARTIAL) {
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(matcher::here().data);
    return {code >= 0 ? outcome::kind::match : outcome::kind::partial, ends[0], ends[1]};
  }
  return {code == PCRE2_ERROR_NOMATCH ? outcome::kind::nothing : outcome::kind::gave_up, 0, 0};
}

regex::outcome regex::find(byte_view text, const place& where, ending how, std::uint64_t& effort) const {
  const outcome first = judge(run(text, where, std::min(where.last, text.size()), how, impl_->first_limit));
  return first.how == outcome::kind::gave_up ? give_up_or_try(text, where, how, effort) : first;
}

regex::outcome regex::give_up_or_try(byte_view text, place where, ending how, std::uint64_t& effort) const {
  // PCRE2 does not say which start was too much work: close in on it, then give that one start more.
  const std::size_t last = std::min(where.last, text.size());
  std::size_t step = 1;
  const auto charge = [&](std::uint32_t limit) {
    const std::size_t run = impl_->uncounted_runs ? (text.size() - where.from) / octets_per_price : 0;
    const std::uint64_t price = std::uint64_t{limit} * (price_of_count + run);
    if (price > effort) return false;
    effort -= price;
    return true;
  };
  while (where.from <= last) {
    const std::size_t to = last - where.from < step ? last : where.from + step - 1;
    const outcome got = judge(run(text, where, to, how, impl_->first_limit));
    if (got.how == outcome::kind::nothing) {
      where.from = to + 1, where.fresh = false;
      step *= 2;
    } else if (got.how != outcome::kind::gave_up) {
      return got;
    } else if (!charge(impl_->first_limit)) {
      return {outcome::kind::unpaid, where.from, where.from};
    } else if (to > where.from) {
      step = (to - where.from + 1) / 2;
    } else {
      for (std::uint32_t limit = impl_->first_limit * limit_growth;; limit *= limit_growth) {
        if (limit > last_limit) return {outcome::kind::gave_up, where.from, where.from};
        if (!charge(limit)) return {outcome::kind::unpaid, where.from, where.from};
        const outcome more = judge(run(text, where, to, how, limit));
        if (more.how == outcome::kind::gave_up) continue;
        if (more.how != outcome::kind::nothing) return more;
        break;
      }
      where.from = to + 1, where.fresh = false;
      step = 1;
      const outcome rest = where.from <= last ? judge(run(text, where, last, how, impl_->first_limit)) : outcome{};
      if (rest.how != outcome::kind::gave_up) return rest;
    }
  }
  return {};
}

byte_view regex::group(byte_view text, std::size_t number) const noexcept {
  if (number >= impl_->pairs) return {};
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(matcher::here().data) + 2 * number;
  if (ends[0] == PCRE2_UNSET || ends[0] > ends[1] || ends[1] > text.size()) return {};
  return text.subspan(ends[0], ends[1] - ends[0]);
}

}  // namespace midwire::rules
