#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <midwire/base/export.hpp>
#include <midwire/engine/core/stage.hpp>
#include <midwire/fields/facts.hpp>
#include <midwire/rules/rule.hpp>

namespace midwire::rules {

/// Hears what rules do on one connection. Octets are valid during the call. Calls come from within the flow: what they
/// throw ends it (E22).
class MIDWIRE_API rule_observer {
 public:
  virtual ~rule_observer() = default;
  /// Asked before each chunk: whether edited() is wanted for it. Edits are counted either way.
  virtual bool wants_edits() const { return false; }
  /// `action` is the word as the user wrote it; `offset` counts the octets that this action was shown.
  virtual void edited(direction, const rule&, std::string_view action, std::uint64_t offset, byte_view before,
                      byte_view after) {
    (void)action, (void)offset, (void)before, (void)after;
  }
  virtual void logged(direction, const rule&, std::string text) { (void)text; }
  /// The unit as it is at this action.
  virtual void dumped(direction, const rule&, std::uint64_t offset, byte_view octets) { (void)offset, (void)octets; }
  /// So many held octets were decided early: over age, over the window, or where a regex needed too long. `first`: none
  /// before on this connection.
  virtual void released_early(direction, std::uint64_t octets, bool first) { (void)octets, (void)first; }
};

/// How a rule_stage holds back what may still begin a match.
struct rule_options {
  std::size_t window = 64 * 1024;                 ///< octets held for one action
  std::size_t most_held = 128 * 1024;             ///< octets held for one direction: at most the flow's low water mark
  duration hold = std::chrono::milliseconds{50};  ///< after an octet's arrival; zero: nothing is held
  bool strict = false;                            ///< held until decided; `hold` does not count
};

/// Runs a set of rules on a flow without framing. Each chunk that arrives is a unit.
class MIDWIRE_API rule_stage : public stage {
 public:
  /// `observer` may be null, and outlives the stage.
  rule_stage(rule_set_ptr rules, fields::connection_facts facts, rule_options options = {},
             rule_observer* observer = nullptr);
  ~rule_stage() override;

  /// The rules that count from the next unit on. A rule whose text stays keeps its state. Call it on the flow's loop,
  /// outside of callbacks.
  void reload(rule_set_ptr rules);
  /// Octets decided early.
  std::uint64_t early(direction d) const noexcept;
  /// What each rule has edited on this connection, those that a reload took away included; rules without edits are left
  /// out.
  std::vector<std::pair<std::string, std::uint64_t>> edits() const;

  void on_open(stage_context& context) override;
  verdict on_data(stage_context& context, direction d, chunk data) override;
  verdict on_expired(stage_context& context, direction d, chunk kept) override;
  verdict on_end(stage_context& context, direction d, chunk kept) override;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace midwire::rules
