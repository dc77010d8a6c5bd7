#pragma once

#include <functional>
#include <utility>

#include <midwire/proto/framer.hpp>

namespace midwire::proto {

/// A framer made of callables, for a format of one's own. They do what the concept `framer` says of its members. A copy
/// copies the callables with what they hold: each direction of each connection needs state of its own.
///
/// What `next` claims is checked: a message that is empty, or longer than what it was shown, is an error.
class custom_framer {
 public:
  using next_function = std::function<step(byte_view seen)>;
  using encode_function = std::function<void(chunk payload, buffer& out)>;
  using reset_function = std::function<void()>;

  /// `next` and `encode` must not be empty: std::invalid_argument. `reset` may be, where `next` keeps no state.
  custom_framer(next_function next, encode_function encode, reset_function reset = {})
      : next_{std::move(next)}, encode_{std::move(encode)}, reset_{std::move(reset)} {
    if (!next_ || !encode_) throw std::invalid_argument{"a framer needs next and encode"};
  }
  step next(byte_view seen) { return next_(seen).checked(seen.size()); }
  void encode(chunk payload, buffer& out) { encode_(std::move(payload), out); }
  void reset() {
    if (reset_) reset_();
  }

 private:
  next_function next_;
  encode_function encode_;
  reset_function reset_;
};

}  // namespace midwire::proto
