#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include <midwire/base/views.hpp>
#include <midwire/rules/rule.hpp>

namespace midwire::rules {

/// A PCRE2 pattern on octets (no UTF mode), compiled for searching a stream piece by piece. Immutable; may be shared
/// between threads. An empty match never counts.
class regex {
 public:
  /// What a search found. Positions count from the start of the octets given.
  struct outcome {
    enum class kind : std::uint8_t {
      match,    ///< [start, end); groups() has the rest
      partial,  ///< a match that begins at `start` may need octets behind the end
      nothing,  ///< none begins, whatever follows
      gave_up,  ///< the work at one start went over PCRE2's limit (R19): that start does not match, go on behind it
      unpaid,   ///< the effort is out: whether a match begins at `start` is open, none begins before it
    };
    kind how = kind::nothing;
    std::size_t start = 0, end = 0;
  };
  enum class ending : bool {
    open,   ///< more octets may follow: what depends on them is partial
    closed  ///< the stream ends behind the last octet
  };

  /// Nothing when PCRE2 refuses it (the check of the rules says so first).
  static std::shared_ptr<const regex> compile(const pattern& p);
  ~regex();
  regex(const regex&) = delete;
  regex& operator=(const regex&) = delete;

  /// Octets in front of a start that must be shown for it to be judged, the start of the stream excepted.
  std::size_t lookbehind() const noexcept { return lookbehind_; }
  /// A line feed that ends the octets may or may not be the last one: `$` or `\Z` treat it so.
  bool minds_last_newline() const noexcept { return minds_last_newline_; }
  /// `\K` may let a match begin behind the place where it was found.
  bool moves_start() const noexcept { return moves_start_; }
  /// Whether a match may begin with this octet, as far as PCRE2 knows.
  bool may_begin_with(std::uint8_t octet) const noexcept;

  /// Where the search begins.
  struct place {
    std::size_t from = 0;
    std::size_t last = ~std::size_t{0};  ///< no match that begins behind it
    bool fresh = true;  ///< the search begins here (`\G`), it does not go on behind a start that was ruled out
  };
  /// The first match that begins at or behind `where.from`. `effort` is what it may cost beyond plain scanning, and is
  /// charged.
  outcome find(byte_view text, const place& where, ending how, std::uint64_t& effort) const;
  /// A group of the last match found on this thread, which was this pattern's; empty when it took no part.
  byte_view group(byte_view text, std::size_t number) const noexcept;

 private:
  struct impl;
  regex() noexcept;
  int run(byte_view text, const place& where, std::size_t last, ending how, std::uint32_t limit) const noexcept;
  outcome judge(int code) const noexcept;
  outcome give_up_or_try(byte_view text, place where, ending how, std::uint64_t& effort) const;

  std::unique_ptr<impl> impl_;
  std::size_t lookbehind_ = 0;
  bool minds_last_newline_ = false, moves_start_ = false;
};

}  // namespace midwire::rules
