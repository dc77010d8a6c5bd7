#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <midwire/base/chance.hpp>
#include <midwire/base/chunk.hpp>
#include <midwire/base/views.hpp>
#include <midwire/rules/rule.hpp>

#include "rules/literal_search.hpp"
#include "rules/regex.hpp"
#include "rules/unit_spans.hpp"

namespace midwire::rules {

/// What a replacing action looks for and puts in. Made once for a rule set; the action must outlive it.
struct replace_plan {
  std::shared_ptr<const literal_search> literal;  ///< this,
  std::shared_ptr<const regex> expression;        ///< or this; neither: the pattern can never match
  const action* what = nullptr;

  /// A regex without anything special in it becomes a literal.
  static replace_plan of(const action& a);
};

/// Hears of each replacement. The octets are valid during the call.
class edit_watch {
 public:
  virtual ~edit_watch() = default;
  /// `offset` counts the octets that the action was shown.
  virtual void edited(std::uint64_t offset, byte_view before, byte_view after) = 0;
};

/// Exact search and replace over one direction as an endless stream: the output does not depend on how it was cut.
///
/// Holds only octets that may still begin a match. What is held is decided early, as if the stream ended behind all
/// that has come, where the caller says that it is over age and where a candidate is longer than the window. Where
/// scanning the held octets again and again costs too much they are scanned less often: when they have grown by a
/// part of what they were, or some time later.
class stream_replacer {
 public:
  struct settings {
    std::size_t window = 64 * 1024;
    chance_key chance{};       ///< of the n-th match when its `unit` is n
    std::uint64_t offset = 0;  ///< octets that came before the first one it is shown
  };
  /// How one call is to be decided.
  struct terms {
    instant now{};
    instant over_age = instant::min();  ///< what arrived then or before is decided now
    std::size_t forced = 0;             ///< so many octets at the front of what is held are decided now
    bool ended = false;                 ///< the direction ends behind what is shown
    std::uint32_t place = 0;            ///< of this action in the chain: what hides units from it
    std::uint64_t since = 0;            ///< units before this one do not count for the rule
    std::size_t varies = no_rule;       ///< which of a unit's `acts` says whether a match may begin in it
    edit_watch* watch = nullptr;
    static constexpr std::size_t no_rule = ~std::size_t{0};

    bool may_begin_in(const unit_mark& u) const { return u.index >= since && (varies == no_rule || u.acts[varies]); }
  };
  /// Counted since the start.
  struct counters {
    std::uint64_t replaced = 0;    ///< matches replaced
    std::uint64_t limit_hits = 0;  ///< starts given up because PCRE2 needed too long
    std::uint64_t early = 0;       ///< octets decided early or given up that no action before had so decided
    std::uint64_t scanned = 0;     ///< work of the searches: octets, and what PCRE2 needed beyond plain scanning
  };

  stream_replacer(const replace_plan& plan, const settings& s);

  /// Takes what comes, gives what goes on, in place; the rest is held.
  void feed(passing& io, const terms& t);

  /// Octets held. The chain takes them out while they lie in the flow's care, and gives them back before the next feed.
  std::size_t held() const noexcept { return units_.size(); }
  chunk take_held() noexcept { return std::move(held_); }
  void give_held(chunk octets) noexcept { held_ = std::move(octets); }
  const chunk& held_octets() const noexcept { return held_; }
  unit_spans& held_units() noexcept { return units_; }
  /// It will never replace anything again: it holds nothing, and what it is shown goes on.
  bool done() const noexcept { return done_; }
  /// Until what is held can be scanned again, where that was put off; zero: nothing waits for it.
  duration scans_in(instant now) const noexcept;
  const counters& count() const noexcept { return count_; }
  /// Octets it was shown and has let go.
  std::uint64_t offset() const noexcept { return consumed_; }

 private:
  struct hit;
  struct scratch;
  void stretch(chunk fresh, const unit_spans& units, bool ended, const terms& t, passing& out);
  std::size_t search_literal(byte_view region, std::size_t held, bool ended, const terms& t);
  std::size_t search_regex(byte_view text, std::size_t context, bool ended, const terms& t);
  void release(chunk all, std::size_t context, std::size_t size, const terms& t, passing& out);
  chunk rewritten(const chunk& all, std::size_t context, std::size_t size);
  void remember(byte_view text, std::size_t end);
  void forget_context();
  void accept(byte_view text, std::size_t context, std::size_t start, std::size_t end);
  std::size_t next_start(std::size_t from, const terms& t);
  bool may_begin_at(std::size_t position, const terms& t) { return next_start(position, t) == position; }
  std::size_t over_age(const terms& t) const;
  void refill(std::size_t fresh, const terms& t);
  bool put_off(std::size_t size, const terms& t) const;

  const replace_plan& plan_;
  settings settings_;
  chunk held_;
  unit_spans units_;
  std::string context_;  // what the pattern may look back at in front of what is held
  std::uint64_t consumed_ = 0, matches_ = 0;
  std::uint64_t credit_;          // work that may still be done
  instant refilled_, scan_from_;  // when time last gave credit; when time alone allows a scan again
  std::size_t scanned_ = 0;       // so much of what is held was there at the last scan
  bool cut_ = false;              // the last scan came to no end: the credit was out
  std::size_t early_from_ = 0;
  counters count_;
  bool done_ = false, fresh_ = true;
};

}  // namespace midwire::rules
