#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include <midwire/base/export.hpp>
#include <midwire/engine/core/stage.hpp>
#include <midwire/streams/pipeline/changes.hpp>

namespace midwire::streams {

/// Shows what passes a flow, in both directions: with an entry in front of the stages that edit and an exit behind
/// them, each edit appears as before and after. Both pass everything on as it is.
///
/// Lifetime  entry and exit share the taps' state; edited() is for the stages between them, on the flow's loop.
class MIDWIRE_API dump_taps {
 public:
  using show = std::function<void(direction, const change_tracker::change&)>;
  explicit dump_taps(show to);
  /// The first stage of the flow.
  std::unique_ptr<stage> entry() const;
  /// The last one.
  std::unique_ptr<stage> exit() const;
  /// A single stage for a flow that nothing edits.
  std::unique_ptr<stage> single() const;
  /// A hint: what an edit between the two made of what.
  void edited(direction d, byte_view before, byte_view after) const;

 private:
  struct state;
  class tap;
  std::shared_ptr<state> state_;
};

}  // namespace midwire::streams
