#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "rules/lexer.hpp"
#include "rules/syntax.hpp"

namespace midwire::rules::detail {

/// Deepest nesting of parentheses, `not` and of arithmetic; what is deeper is refused.
inline constexpr int max_depth = 200;
inline constexpr int max_arithmetic_depth = 24;

/// A rule's tokens, one at a time, and its text with white space and comments made single spaces.
class cursor {
 public:
  /// \throws failure_at, as all members that move
  cursor(std::string_view source, extent where, let_table& lets) : lexer_{source, where}, lets_{&lets} {
    now_ = lexer_.next();
  }

  const token& now() const noexcept { return now_; }
  bool is(token_kind k) const noexcept { return now_.kind == k; }
  bool is_word(std::string_view w) const noexcept { return now_.kind == token_kind::word && text() == w; }
  std::string_view text() const noexcept { return lexer_.text(now_); }
  std::string_view source() const noexcept { return lexer_.source(); }
  /// Where the token before now() ends.
  std::size_t last_end() const noexcept { return last_end_; }
  /// What stands here, for messages: "'udp'", "the end of the rule".
  std::string shown() const;

  void advance();
  bool take(token_kind k);
  bool take_word(std::string_view w);
  /// Makes now() a whole regex, a whole path, or a whole `[…]`.
  void as_regex() { now_ = lexer_.regex(now_); }
  void as_path() { now_ = lexer_.path(now_); }
  void as_brackets() { now_ = lexer_.brackets(now_); }

  /// The let whose name stands here; nothing: none.
  const let_value* let_here() const;
  /// The octets of the text or character token here.
  std::string decoded() const { return decode(source(), now_.at); }
  /// All that advance() has passed: tokens as written, let names replaced by what they stand for.
  const std::string& normalised() const noexcept { return normalised_; }
  void forget_normalised() { normalised_.clear(); }

 private:
  lexer lexer_;
  let_table* lets_;
  token now_;
  std::size_t last_end_ = 0;
  std::string normalised_;
};

/// A display filter up to the word `do`, a token that ends it, or the end; nothing: it is empty and holds always.
/// \throws failure_at
test_ptr parse_filter(cursor& at);
/// Refuses whatever stands behind a filter that should have ended. \throws failure_at
void check_filter_end(const cursor& at);

/// A literal here, or a let that stands for one; false: there is none, and nothing was taken.
bool parse_literal(cursor& at, literal& out);
/// `{…}` with its braces.
std::vector<set_item> parse_set(cursor& at);

/// Words that a let may not be named: those of filters (not fields) and of rules.
bool is_filter_word(std::string_view w) noexcept;
bool is_function(std::string_view w) noexcept;
/// The word nearest to a misspelt one; empty when none is near.
std::string_view nearest_word(std::string_view wrong, std::initializer_list<std::string_view> words) noexcept;
std::string did_you_mean(std::string_view word);

}  // namespace midwire::rules::detail
