#include "rules/lexer.hpp"

#include <algorithm>
#include <utility>

namespace midwire::rules::detail {

namespace {

constexpr bool is_space(char c) noexcept {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f';
}
constexpr bool is_word(char c) noexcept { return is_letter(c) || is_digit(c) || c == '.' || c == '-' || c == ':'; }

/// Of this octet when it begins a UTF-8 sequence; 1 for all that does not.
constexpr std::size_t sequence_size(unsigned char c) noexcept {
  return c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;
}

void append_utf8(std::string& out, std::uint32_t c) {
  const auto put = [&](std::uint32_t octet) { out += static_cast<char>(octet); };
  if (c < 0x80) return put(c);
  if (c < 0x800) return put(0xc0 | c >> 6), put(0x80 | (c & 0x3f));
  if (c < 0x10000) return put(0xe0 | c >> 12), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
  put(0xf0 | c >> 18), put(0x80 | (c >> 12 & 0x3f)), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
}

}  // namespace

void fail(extent at, std::string message, std::string hint) {
  throw failure_at{at, std::move(message), std::move(hint)};
}

std::string quoted(std::string_view text) {
  constexpr std::size_t longest = 60;
  static constexpr char digits[] = "0123456789abcdef";
  std::string out = "'";
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i >= longest + 3 || (i >= longest && (static_cast<unsigned char>(text[i]) & 0xc0) != 0x80)) return out + "…'";
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == 0x7f)
      (out += "\\x") += {digits[c >> 4], digits[c & 15]};
    else
      out += text[i];
  }
  return out + '\'';
}

bool lexer::skip_space() noexcept {
  const std::size_t from = at_;
  while (at_ < end_) {
    if (is_space(text_[at_]))
      ++at_;
    else if (text_[at_] == '#' && (at_ == 0 || is_space(text_[at_ - 1])))
      at_ = end_of_line(at_);
    else
      break;
  }
  return at_ != from;
}

std::size_t lexer::end_of_line(std::size_t from) const noexcept {
  const auto line_end = text_.substr(0, end_).find('\n', from);
  return line_end == text_.npos ? end_ : line_end;
}

token lexer::next() {
  token t;
  const std::size_t last = at_;
  t.spaced = skip_space();
  if (at_ >= end_) {
    t.at = {last, last};  // complaints about what is missing point behind the last word, not behind a comment
    return t;
  }
  const std::size_t begin = at_;
  const auto made = [&](token_kind kind, std::size_t size) {
    at_ = begin + size;
    t.kind = kind, t.at = {begin, at_};
    return t;
  };
  using enum token_kind;
  const char c = peek(), d = peek(1), e = peek(2);
  if (c == '"' || ((c == 'r' || c == 'R') && d == '"')) {
    scan_string(begin, c != '"');
    return made(text, at_ - begin);
  }
  if (c == '.' && d == '.') return made(dots, 2);
  if (is_word(c) && c != '-') {
    scan_word();
    return made(token_kind::word, at_ - begin);
  }
  switch (c) {
    case '\'': scan_character(); return made(token_kind::character, at_ - begin);
    case '(': return made(left_paren, 1);
    case ')': return made(right_paren, 1);
    case '{': return made(left_brace, 1);
    case '}': return made(right_brace, 1);
    case '[': return made(left_bracket, 1);
    case ']': return made(right_bracket, 1);
    case ',': return made(comma, 1);
    case '#': return made(hash, 1);
    case '@': return made(token_kind::at, 1);
    case '+': return made(plus, 1);
    case '-': return made(minus, 1);
    case '*': return made(star, 1);
    case '/': return made(slash, 1);
    case '%': return made(percent, 1);
    case '~': return d == '=' ? made(any_not_equal, 2) : made(tilde, 1);
    case '&': return d == '&' ? made(and_, 2) : made(ampersand, 1);
    case '=': return d != '=' ? made(assign, 1) : e == '=' ? made(all_equal, 3) : made(equal, 2);
    case '!': return d != '=' ? made(not_, 1) : e == '=' ? made(any_not_equal, 3) : made(not_equal, 2);
    case '<':
      if (d == '>') fail({begin, begin + 2}, "unknown operator '<>'", "write '!='");
      return d == '=' ? made(less_equal, 2) : made(less, 1);
    case '>': return d == '=' ? made(greater_equal, 2) : made(greater, 1);
    case '|':
      if (d != '|') fail({begin, begin + 1}, "unknown operator '|'", "write '||' or 'or'");
      return made(or_, 2);
    default: unexpected();
  }
}

void lexer::unexpected() const {
  const std::size_t size = std::min(sequence_size(static_cast<unsigned char>(text_[at_])), end_ - at_);
  const auto what = text_.substr(at_, size);
  if (what == "$" && peek(1) == '{')
    fail({at_, at_ + 2}, "'${field}' needs a selected packet", "write the value itself");
  if (what == "^" && peek(1) == '^')
    fail({at_, at_ + 2}, "'^^' is not an operator here", "write (a and not b) or (b and not a)");
  const bool quote = what == "“" || what == "”" || what == "„" || what == "‘" || what == "’" || what == "`";
  fail({at_, at_ + size}, "unexpected character " + quoted(what),
       quote ? "text stands between plain double quotes: \"text\"" : "");
}

void lexer::scan_word() noexcept {
  const std::size_t begin = at_;
  bool address = true, mark = false;
  while (at_ < end_ && is_word(text_[at_]) && !(text_[at_] == '.' && peek(1) == '.')) {
    const char c = text_[at_++];
    mark = mark || c == '.' || c == ':';
    address = address && (hex_digit(c) >= 0 || c == '.' || c == ':');
  }
  // 10.0.0.0/8 is one word, tcp.port/2 is a division.
  if (at_ > begin && address && mark && peek() == '/' && is_digit(peek(1))) {
    ++at_;
    while (is_digit(peek())) ++at_;
  }
}

void lexer::scan_string(std::size_t begin, bool raw) {
  for (at_ = begin + (raw ? 2 : 1); at_ < end_ && text_[at_] != '\n'; ++at_) {
    if (text_[at_] == '"') {
      ++at_;
      return;
    }
    if (text_[at_] == '\\' && at_ + 1 < end_ && text_[at_ + 1] != '\n') ++at_;  // r"\"" holds a backslash and a quote
  }
  fail({begin, end_of_line(begin)}, "text without its closing '\"'",
       "text ends in its line; \\n stands for a line feed");
}

void lexer::scan_character() {
  const std::size_t begin = at_++;
  if (peek() == '\\') ++at_;
  if (at_ < end_ && text_[at_] != '\n') ++at_;
  while (at_ < end_ && text_[at_] != '\'' && text_[at_] != '\n' && at_ - begin < 12) ++at_;
  if (peek() != '\'')
    fail({begin, std::min(at_, end_)}, "character without its closing \"'\"", "text stands between double quotes");
  ++at_;
}

token lexer::regex(token slash) {
  for (at_ = slash.at.begin + 1; at_ < end_ && text_[at_] != '\n'; ++at_) {
    if (text_[at_] == '\\' && at_ + 1 < end_ && text_[at_ + 1] != '\n') {
      ++at_;
      continue;
    }
    if (text_[at_] != '/') continue;
    ++at_;
    while (is_letter(peek()) || is_digit(peek())) ++at_;
    slash.kind = token_kind::slash, slash.at.end = at_;
    return slash;
  }
  fail({slash.at.begin, end_of_line(slash.at.begin)}, "regex without its closing '/'", "a slash inside is written \\/");
}

token lexer::path(token sign) {
  at_ = sign.at.begin + 1;
  if (peek() == '"') {
    scan_string(at_, false);
  } else {
    while (at_ < end_ && !is_space(text_[at_]) && text_[at_] != ',') ++at_;
  }
  sign.at.end = at_;
  return sign;
}

token lexer::brackets(token bracket) {
  at_ = bracket.at.begin + 1;
  while (at_ < end_ && (is_digit(peek()) || is_space(peek()) || peek() == ':' || peek() == '-' || peek() == ',')) ++at_;
  if (peek() != ']') {
    if (at_ >= end_ || !(is_letter(peek()) || peek() == '.'))
      fail(bracket.at, "'[' without its ']'", "a slice is written [i:n], [i-j], [i], [:n] or [i:]");
    fail({at_, at_ + 1}, "slices are made of numbers", "a slice is written [i:n], [i-j], [i], [:n] or [i:]");
  }
  bracket.at.end = ++at_;
  return bracket;
}

std::string decode(std::string_view source, extent token_at, std::size_t watch, std::size_t* found) {
  std::size_t i = token_at.begin;
  const bool raw = source[i] == 'r' || source[i] == 'R';
  i += raw ? 2 : 1;
  const std::size_t end = token_at.end - 1;
  std::string out;
  if (found) *found = end;
  const auto digits = [&](std::size_t most, int base) {
    std::uint32_t value = 0;
    std::size_t n = 0;
    for (; n < most && i < end && hex_digit(source[i]) >= 0 && hex_digit(source[i]) < base; ++n)
      value = value * static_cast<std::uint32_t>(base) + static_cast<std::uint32_t>(hex_digit(source[i++]));
    return std::pair{value, n};
  };
  while (i < end) {
    const std::size_t begin = i;
    const std::size_t before = out.size();
    if (source[i] != '\\' || raw) {
      out += source[i++];
    } else {
      const char c = source[++i];
      static constexpr std::string_view plain = "\"\\'abfnrtv", meant = "\"\\'\a\b\f\n\r\t\v";
      if (const auto at = plain.find(c); at != plain.npos) {
        out += meant[at];
        ++i;
      } else if (c >= '0' && c <= '7') {
        const auto [value, n] = digits(3, 8);
        if (value > 0xff)
          fail({begin, i}, "octal escape " + quoted(source.substr(begin, i - begin)) + " is over \\377",
               "\\xNN writes an octet in hex");
        out += static_cast<char>(value);
      } else if (c == 'x') {
        ++i;
        const auto [value, n] = digits(2, 16);
        if (n == 0) fail({begin, i}, "'\\x' needs hex digits", "write two of them: \\x0a");
        out += static_cast<char>(value);
      } else if (c == 'u' || c == 'U') {
        ++i;
        const std::size_t need = c == 'u' ? 4 : 8;
        const auto [value, n] = digits(need, 16);
        if (n != need || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
          fail({begin, i},
               "'\\" + std::string(1, c) + "' needs " + std::to_string(need) + " hex digits of a Unicode character");
        append_utf8(out, value);
      } else {
        const std::size_t size = std::min(sequence_size(static_cast<unsigned char>(c)), end - i);
        const std::string escape{source.substr(begin, 1 + size)};
        fail({begin, i + size}, "unknown escape " + quoted(escape),
             "write \"\\" + escape + "\", or raw text: r\"" + escape + "\"");
      }
    }
    if (found && before <= watch && watch < out.size()) *found = begin;
  }
  return out;
}

}  // namespace midwire::rules::detail
