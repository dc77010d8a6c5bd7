#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

#include <midwire/rules/rule.hpp>

/// Search and replace on whole strings, written as naively as it can be: what the streaming code is compared with.
namespace replace_reference {

using midwire::rules::action;
using midwire::rules::pattern;
using may_begin = std::function<bool(std::size_t)>;

inline std::string made(const action& a, const std::function<std::string(int)>& group) {
  std::string out;
  for (const auto& p : a.value.parts) out += p.group < 0 ? p.text : group(p.group);
  return out;
}

inline std::string literal(const action& a, const std::string& text, const may_begin& may) {
  std::string out;
  std::size_t done = 0, from = 0;
  std::uint64_t times = 0;
  while (a.times == 0 || times < a.times) {
    const std::size_t at = text.find(a.pattern.octets, from);
    if (at == text.npos) break;
    from = at + 1;
    if (!may(at)) continue;
    out += text.substr(done, at - done) + made(a, [&](int) { return a.pattern.octets; });
    done = from = at + a.pattern.octets.size();
    ++times;
  }
  return out + text.substr(done);
}

inline std::string regex(const action& a, const std::string& text, const may_begin& may) {
  const pattern& p = a.pattern;
  int error = 0;
  PCRE2_SIZE where = 0;
  const auto* source = reinterpret_cast<PCRE2_SPTR>(p.octets.data());
  pcre2_code* code = pcre2_compile(source, p.octets.size(),
                                   (p.ignore_case ? PCRE2_CASELESS : 0u) | (p.multi_line ? PCRE2_MULTILINE : 0u) |
                                       (p.dot_all ? PCRE2_DOTALL : 0u) | (p.extended ? PCRE2_EXTENDED : 0u),
                                   &error, &where, nullptr);
  if (!code) throw std::runtime_error{"bad test pattern " + p.octets};
  pcre2_match_data* data = pcre2_match_data_create_from_pattern(code, nullptr);
  std::string out;
  std::size_t done = 0, from = 0;
  std::uint64_t times = 0;
  while (a.times == 0 || times < a.times) {
    const int count =
        pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from, PCRE2_NOTEMPTY, data, nullptr);
    if (count < 0) break;
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data);
    if (!may(ends[0])) {
      from = ends[0] + 1;
      continue;
    }
    const std::uint32_t pairs = pcre2_get_ovector_count(data);
    out += text.substr(done, ends[0] - done) + made(a, [&](int g) {
             const auto n = static_cast<std::size_t>(g);
             return n >= pairs || ends[2 * n] == PCRE2_UNSET ? std::string{}
                                                             : text.substr(ends[2 * n], ends[2 * n + 1] - ends[2 * n]);
           });
    done = from = ends[1];
    ++times;
  }
  pcre2_match_data_free(data);
  pcre2_code_free(code);
  return out + text.substr(done);
}

inline std::string replace(
    const action& a, const std::string& text, const may_begin& may = [](std::size_t) { return true; }) {
  return a.pattern.how == pattern::kind::literal ? literal(a, text, may) : regex(a, text, may);
}

}  // namespace replace_reference
