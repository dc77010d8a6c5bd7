#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <midwire/base/chunk.hpp>
#include <midwire/rules/rule_stage.hpp>

#include "rules/rule_program.hpp"
#include "rules/stream_replacer.hpp"
#include "rules/unit_spans.hpp"

namespace midwire::rules {

/// All actions of all rules that can act in one direction of one connection, in a row: octets of a unit pass them in
/// order. Reads no clock. What the actions hold lies with the caller between the calls, as one chunk in stream order.
class rule_chain : private edit_watch {
 public:
  struct outcome {
    chunk out;        ///< goes on
    chunk kept;       ///< to be shown again in front of what comes
    duration left{};  ///< until the oldest of it is over age, or can be scanned again; zero: never
    chunk dropped;    ///< a whole unit that a rule dropped, when nothing else came out of it
    enum class end : std::uint8_t { none, close, reset } then = end::none;
    std::uint64_t octets_dropped = 0, limit_hits = 0, early = 0;
  };

  rule_chain(rule_program_ptr program, const fields::connection_facts& facts, direction d, const rule_options& options,
             rule_observer* observer, instant opened);

  /// Kept octets with a new unit behind them; `before` octets of the direction came before the unit.
  outcome unit(chunk octets, std::uint64_t before, instant now);
  outcome expire(chunk kept, instant now);
  /// The direction ends.
  outcome finish(chunk kept, bool by_reset, instant now);
  /// Takes effect at the next call; at once when nothing is held.
  void reload(rule_program_ptr program, std::uint64_t before);

  /// No octet that comes can matter to any action any more, and nothing is held.
  bool idle() const;
  std::size_t held() const;
  /// Edits so far, by rule; of the present set, then of rules that are gone.
  void add_edits(std::vector<std::pair<std::string, std::uint64_t>>& to) const;

 private:
  static constexpr std::size_t no_rule = stream_replacer::terms::no_rule;
  struct link {
    std::size_t rule = 0;    ///< in the present set
    std::size_t action = 0;  ///< in its rule
    const rules::action* what = nullptr;
    std::size_t varies = no_rule;  ///< which of a unit's `acts` is the rule's
    std::uint64_t since = 0;       ///< the first unit that counts for the rule
    bool asks = false;             ///< the rule's first action here: its filter is asked before
    bool done = false;
    std::uint64_t shown = 0, used = 0;
    std::unique_ptr<stream_replacer> replacer;
    rule_program_ptr plan;  ///< what the replacer was made for: an older set's after a reload

    bool may_act_in(const unit_mark& u) const { return u.index >= since && (varies == no_rule || u.acts[varies]); }
  };
  struct pass_terms {
    unit_mark* fresh = nullptr;  ///< the unit that has just come
    bool ended = false, by_end = false;
    const std::vector<bool>* ending = nullptr;  ///< these links end: a reload takes them away
    std::size_t forced = 0;
  };

  void build(std::uint64_t before, bool first);
  void take_reload(outcome& o);
  void adopt(rule_program_ptr program, const std::vector<std::size_t>& goes_to);
  const rule& owner(const link& l) const { return program_->set->rules[l.rule]; }
  chance_key key_of(const link& l) const;
  bool chosen(const link& l, std::uint64_t unit) const;

  void give_back(chunk& octets);
  void keep(outcome& o);
  void pass(passing& io, const pass_terms& t, outcome& o);
  void run(std::size_t i, passing& io, const pass_terms& t, outcome& o);
  void run_replacer(std::size_t i, passing& io, const pass_terms& t, outcome& o);
  void run_insert(std::size_t i, passing& io, const pass_terms& t);
  void run_truncate(std::size_t i, passing& io, outcome& o);
  void run_unit(std::size_t i, passing& io, const pass_terms& t, outcome& o);
  void ask(std::size_t i, const passing& io, unit_mark& u);
  fields::stream_unit unit_at(std::size_t i, const passing& io, const unit_mark& u);
  byte_view octets_of(std::size_t i, const passing& io, const unit_mark& u);
  void insert(std::size_t i, passing& io, std::size_t at, const unit_mark* unit);
  void remove(passing& io, outcome& o, const std::vector<std::pair<std::size_t, std::size_t>>& gone);
  void complete(chunk octets, passing& io, const pass_terms& t, outcome& o);
  void join_units();
  void edited(std::uint64_t offset, byte_view before, byte_view after) override;
  void count_edit(std::size_t i, std::uint64_t n = 1) { edits_[links_[i].rule] += n; }

  rule_program_ptr program_, next_;
  const fields::connection_facts& facts_;
  direction direction_;
  rule_options options_;
  rule_observer* observer_;
  instant opened_, now_{};
  std::vector<link> links_;
  std::size_t varying_ = 0;
  std::deque<unit_mark> units_;
  std::uint64_t unit_count_ = 0, before_ = 0, next_before_ = 0, merge_since_ = 0;
  std::vector<bool> last_acts_;  // of the unit that came last
  std::vector<std::uint64_t> edits_;
  std::vector<std::pair<std::string, std::uint64_t>> retired_edits_;
  std::size_t watched_ = 0;
  bool wants_edits_ = false;
  std::string joined_;
};

}  // namespace midwire::rules
