#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace midwire::rules::detail {

/// A place in a source: octets [begin, end).
struct extent {
  std::size_t begin = 0, end = 0;
};

/// What the parser and the checker throw; caught once for each rule. Places are octets of the source.
struct failure_at {
  extent at;
  std::string message;
  std::string hint;
};
[[noreturn]] void fail(extent at, std::string message, std::string hint = {});

/// User text for a message: control octets escaped, cut after 60 octets, in single quotes.
std::string quoted(std::string_view text);

enum class token_kind : std::uint8_t {
  end,
  word,       ///< names, numbers, addresses, octets: letters, digits and . - : _, with /bits behind an address
  text,       ///< "…" or r"…"
  character,  ///< 'x'
  left_paren,
  right_paren,
  left_brace,
  right_brace,
  left_bracket,
  right_bracket,
  comma,
  hash,
  dots,
  at,
  assign,
  equal,
  not_equal,
  all_equal,
  any_not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  tilde,
  and_,
  or_,
  not_,
  plus,
  minus,
  star,
  slash,
  percent,
  ampersand,
};

struct token {
  token_kind kind = token_kind::end;
  extent at;
  bool spaced = false;  ///< white space or a comment stands before it
};

/// Cuts one rule's octets into tokens, on demand. White space, line ends and comments separate and are not tokens.
class lexer {
 public:
  /// The rule is `text` in [where.begin, where.end).
  lexer(std::string_view text, extent where) noexcept : text_{text}, at_{where.begin}, end_{where.end} {}

  /// \throws failure_at for what cannot begin a token, and for text without its end
  token next();
  /// The regex whose first slash is at `slash`: the token covers /…/flags. next() goes on behind it.
  token regex(token slash);
  /// `@path` from its `@` on: to white space or a comma, or @"…".
  token path(token sign);
  /// The inside of `[…]` from its bracket on, both brackets included.
  token brackets(token bracket);

  std::string_view source() const noexcept { return text_; }
  std::string_view text(const token& t) const noexcept { return text_.substr(t.at.begin, t.at.end - t.at.begin); }

 private:
  bool skip_space() noexcept;
  char peek(std::size_t ahead = 0) const noexcept { return at_ + ahead < end_ ? text_[at_ + ahead] : '\0'; }
  std::size_t end_of_line(std::size_t from) const noexcept;
  void scan_word() noexcept;
  void scan_string(std::size_t begin, bool raw);
  void scan_character();
  [[noreturn]] void unexpected() const;

  std::string_view text_;
  std::size_t at_, end_;
};

/// The octets that a text or character token stands for.
///
/// \param watch  an index into the result; its place in the source is put into `found` (for a caret inside the text)
/// \throws failure_at  bad escape
std::string decode(std::string_view source, extent token_at, std::size_t watch = 0, std::size_t* found = nullptr);

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr bool is_letter(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
/// The value of a hex digit, or -1.
constexpr int hex_digit(char c) noexcept {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace midwire::rules::detail
