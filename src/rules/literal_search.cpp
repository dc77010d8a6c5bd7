#include "rules/literal_search.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include <midwire/base/assert.hpp>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace midwire::rules {

namespace {

constexpr std::uint8_t lower(std::uint8_t c) noexcept { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; }
constexpr std::uint8_t upper(std::uint8_t c) noexcept { return c >= 'a' && c <= 'z' ? c & 0xdf : c; }

}  // namespace

literal_search::literal_search(std::string_view octets, bool ignore_case)
    : needle_(octets.begin(), octets.end()), border_(octets.size()), ignore_case_{ignore_case} {
  MIDWIRE_ASSERT(!octets.empty() && octets.size() <= ~std::uint32_t{0});
  for (std::size_t c = 0; c < 256; ++c)
    fold_[c] = ignore_case ? lower(static_cast<std::uint8_t>(c)) : static_cast<std::uint8_t>(c);
  for (auto& c : needle_) c = fold_[c];
  // A needle without letters needs no folding.
  if (std::none_of(needle_.begin(), needle_.end(), [](std::uint8_t c) { return upper(c) != c; })) ignore_case_ = false;
  std::uint32_t k = 0;
  for (std::size_t i = 1; i < needle_.size(); ++i) {
    while (k > 0 && needle_[k] != needle_[i]) k = border_[k - 1];
    if (needle_[k] == needle_[i]) ++k;
    border_[i] = k;
  }
  finder_ = choose(ignore_case_);
}

template <bool Fold>
bool literal_search::stands_at(const std::uint8_t* at) const noexcept {
  // The first and the last octet have been compared already.
  const std::size_t size = needle_.size();
  if (size <= 2) return true;
  if constexpr (!Fold) return std::memcmp(at + 1, needle_.data() + 1, size - 2) == 0;
  for (std::size_t i = 1; i + 1 < size; ++i)
    if (fold_[at[i]] != needle_[i]) return false;
  return true;
}

#if defined(__x86_64__)

namespace {

struct sse2 {
  static constexpr std::size_t width = 16;
  using reg = __m128i;
  static reg all(std::uint8_t c) noexcept { return _mm_set1_epi8(static_cast<char>(c)); }
  static reg load(const std::uint8_t* p) noexcept { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static reg same(reg a, reg b) noexcept { return _mm_cmpeq_epi8(a, b); }
  static reg both(reg a, reg b) noexcept { return _mm_and_si128(a, b); }
  static reg either(reg a, reg b) noexcept { return _mm_or_si128(a, b); }
  static std::uint32_t bits(reg a) noexcept { return static_cast<std::uint32_t>(_mm_movemask_epi8(a)); }
};

}  // namespace

// One text for both vector widths: target attributes do not reach templates, so the loop is a macro's body.
#define MIDWIRE_FIND_LOOP(WIDTH, REG, ALL, LOAD, SAME, BOTH, EITHER, BITS)                                         \
  const std::size_t length = s.needle_.size();                                                                     \
  if (size < length) return none;                                                                                  \
  const std::size_t end = size - length + 1;                                                                       \
  const std::uint8_t head = s.needle_.front(), tail = s.needle_.back();                                            \
  const REG head_low = ALL(head), tail_low = ALL(tail);                                                            \
  const REG head_high = ALL(fold ? upper(head) : head), tail_high = ALL(fold ? upper(tail) : tail);                \
  /* Long needles in hostile text: so much comparing for nothing, then the automaton takes over. */                \
  const std::size_t price = length / 16 + 1;                                                                       \
  std::size_t spent = 0, i = from;                                                                                 \
  for (; i + 2 * (WIDTH) <= end; i += 2 * (WIDTH)) {                                                               \
    const std::uint8_t *here = text + i, *behind = text + i + length - 1;                                          \
    const REG front = LOAD(here), next_front = LOAD(here + (WIDTH));                                               \
    const REG back = LOAD(behind), next_back = LOAD(behind + (WIDTH));                                             \
    REG heads = SAME(front, head_low), next_heads = SAME(next_front, head_low);                                    \
    REG tails = SAME(back, tail_low), next_tails = SAME(next_back, tail_low);                                      \
    if (fold) {                                                                                                    \
      heads = EITHER(heads, SAME(front, head_high)), next_heads = EITHER(next_heads, SAME(next_front, head_high)); \
      tails = EITHER(tails, SAME(back, tail_high)), next_tails = EITHER(next_tails, SAME(next_back, tail_high));   \
    }                                                                                                              \
    const REG found = BOTH(heads, tails), next_found = BOTH(next_heads, next_tails);                               \
    if (BITS(EITHER(found, next_found)) == 0) continue;                                                            \
    for (std::uint64_t m = BITS(found) | std::uint64_t{BITS(next_found)} << (WIDTH); m != 0; m &= m - 1) {         \
      const std::size_t at = i + static_cast<std::size_t>(std::countr_zero(m));                                    \
      if (s.stands_at<fold>(text + at)) return at;                                                                 \
      spent += price;                                                                                              \
    }                                                                                                              \
    if (spent > 4096 + 2 * (i - from)) {                                                                           \
      costly = true;                                                                                               \
      return i + 2 * (WIDTH);                                                                                      \
    }                                                                                                              \
  }                                                                                                                \
  for (; i < end; ++i)                                                                                             \
    if (s.fold_[text[i]] == head && s.fold_[text[i + length - 1]] == tail) {                                       \
      if (s.stands_at<fold>(text + i)) return i;                                                                   \
      spent += price;                                                                                              \
      if (spent > 4096 + 2 * (i - from)) {                                                                         \
        costly = true;                                                                                             \
        return i + 1;                                                                                              \
      }                                                                                                            \
    }                                                                                                              \
  return none;

#define MIDWIRE_AVX2_ALL(c) _mm256_set1_epi8(static_cast<char>(c))
#define MIDWIRE_AVX2_LOAD(p) _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))
#define MIDWIRE_AVX2_BITS(a) static_cast<std::uint32_t>(_mm256_movemask_epi8(a))

__attribute__((target("avx2"))) std::size_t literal_search::find_avx2(const literal_search& s, const std::uint8_t* text,
                                                                      std::size_t from, std::size_t size,
                                                                      bool& costly) noexcept {
  constexpr bool fold = false;
  MIDWIRE_FIND_LOOP(32, __m256i, MIDWIRE_AVX2_ALL, MIDWIRE_AVX2_LOAD, _mm256_cmpeq_epi8, _mm256_and_si256,
                    _mm256_or_si256, MIDWIRE_AVX2_BITS)
}
__attribute__((target("avx2"))) std::size_t literal_search::find_avx2_fold(const literal_search& s,
                                                                           const std::uint8_t* text, std::size_t from,
                                                                           std::size_t size, bool& costly) noexcept {
  constexpr bool fold = true;
  MIDWIRE_FIND_LOOP(32, __m256i, MIDWIRE_AVX2_ALL, MIDWIRE_AVX2_LOAD, _mm256_cmpeq_epi8, _mm256_and_si256,
                    _mm256_or_si256, MIDWIRE_AVX2_BITS)
}
std::size_t literal_search::find_base(const literal_search& s, const std::uint8_t* text, std::size_t from,
                                      std::size_t size, bool& costly) noexcept {
  constexpr bool fold = false;
  MIDWIRE_FIND_LOOP(sse2::width, sse2::reg, sse2::all, sse2::load, sse2::same, sse2::both, sse2::either, sse2::bits)
}
std::size_t literal_search::find_base_fold(const literal_search& s, const std::uint8_t* text, std::size_t from,
                                           std::size_t size, bool& costly) noexcept {
  constexpr bool fold = true;
  MIDWIRE_FIND_LOOP(sse2::width, sse2::reg, sse2::all, sse2::load, sse2::same, sse2::both, sse2::either, sse2::bits)
}

literal_search::finder literal_search::choose(bool fold) noexcept {
  if (__builtin_cpu_supports("avx2")) return fold ? &find_avx2_fold : &find_avx2;
  return fold ? &find_base_fold : &find_base;
}

#undef MIDWIRE_FIND_LOOP
#undef MIDWIRE_AVX2_ALL
#undef MIDWIRE_AVX2_LOAD
#undef MIDWIRE_AVX2_BITS

#else

literal_search::finder literal_search::choose(bool) noexcept {
  // Without a vector unit we know: the automaton alone.
  return [](const literal_search&, const std::uint8_t*, std::size_t from, std::size_t, bool& costly) noexcept {
    costly = true;
    return from;
  };
}

#endif

std::size_t literal_search::find(byte_view text, std::size_t from) const noexcept {
  bool costly = false;
  const std::size_t at = finder_(*this, text.data(), from, text.size(), costly);
  if (!costly) return at;
  std::size_t matched = 0;
  for (std::size_t i = at; i < text.size(); ++i)
    if ((matched = step(matched, text[i])) == needle_.size()) return i + 1 - needle_.size();
  return none;
}

std::size_t literal_search::open_at_end(byte_view text, std::size_t from) const noexcept {
  const std::size_t longest = needle_.size() - 1;
  std::size_t i = std::max(from, text.size() - std::min(text.size(), longest)), matched = 0;
  const std::uint8_t head = needle_.front();
  for (; i < text.size(); ++i) {
    if (matched == 0 && !ignore_case_) {
      const void* at = std::memchr(text.data() + i, head, text.size() - i);
      if (!at) return 0;
      i = static_cast<std::size_t>(static_cast<const std::uint8_t*>(at) - text.data());
    }
    matched = step(matched, text[i]);
  }
  return matched;
}

}  // namespace midwire::rules
