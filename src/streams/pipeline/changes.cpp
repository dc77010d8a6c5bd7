#include <midwire/streams/pipeline/changes.hpp>

#include <algorithm>
#include <string_view>
#include <unordered_map>

namespace midwire::streams {
namespace {

constexpr std::size_t hints_tried = 64, hints_kept = 65536, agree = 8, search = 64 * 1024;

std::size_t same_front(std::string_view a, std::string_view b) noexcept {
  return static_cast<std::size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(std::min(a.size(), b.size())), b.begin()).first -
      a.begin());
}

// The nearest place behind two differing fronts from which both agree on `agree` octets.
struct meeting {
  std::size_t in, out;
};
bool find_meeting(std::string_view in, std::string_view out, meeting& found) {
  if (in.size() < agree || out.size() < agree) return false;
  std::unordered_map<std::string_view, std::size_t> places;
  const auto last = std::min(in.size() - agree, search);
  for (std::size_t i = 0; i <= last; ++i) places.emplace(in.substr(i, agree), i);
  for (std::size_t o = 0; o <= std::min(out.size() - agree, search); ++o)
    if (const auto at = places.find(out.substr(o, agree)); at != places.end()) {
      found = {at->second, o};
      return true;
    }
  return false;
}

}  // namespace

void change_tracker::came(byte_view octets) {
  in_ += as_text(octets);
  if (in_.size() > limit) show_changed(in_.size() - limit, 0);
}

void change_tracker::edited(byte_view before, byte_view after) {
  hints_.push_back({std::string{as_text(before)}, std::string{as_text(after)}});
  if (hints_.size() > hints_kept) hints_.pop_front();
  // A removal at the very front needs no output to be seen.
  if (after.empty() && out_.empty() && hints_.size() == 1) settle(false);
}

void change_tracker::left(byte_view octets) {
  out_ += as_text(octets);
  settle(false);
}

void change_tracker::end() {
  settle(true);
  if (!in_.empty() || !out_.empty()) show_changed(in_.size(), out_.size());
  hints_.clear();
}

void change_tracker::settle(bool final) {
  while (true) {
    const std::string_view in{in_}, out{out_};
    const auto same = same_front(in, out);
    // The first place, within what agrees, at which one of the edits that were made can have happened.
    std::size_t best = same + 1, which = 0;
    bool wait = false;
    for (std::size_t h = 0; h < std::min(hints_.size(), hints_tried) && best > 0; ++h) {
      const auto& [before, after] = hints_[h];
      for (std::size_t at = 0; at < best; ++at) {
        // Jump to the next place where the old octets stand.
        at = before.empty() ? at : in.find(before, at);
        if (at == in.npos || at >= best) break;
        const auto rest = out.substr(at);
        const bool whole =
            rest.starts_with(after) && (!after.empty() || before.empty() || at == same || !rest.starts_with(before));
        const bool cut = !whole && !final && rest.size() < after.size() && std::string_view{after}.starts_with(rest);
        if (whole || cut) {
          best = at, which = h, wait = cut;
          break;
        }
      }
    }
    if (best <= same) {
      if (best > 0) show_same(best);
      if (wait) return;
      const auto found = std::move(hints_[which]);
      hints_.erase(hints_.begin() + static_cast<std::ptrdiff_t>(which));
      show_changed(found.before.size(), found.after.size());
      continue;
    }
    if (same > 0) show_same(same);
    if (out_.empty()) return;
    if (in_.empty() && !final && hints_.empty()) {
      // More left than came: added by something that gave no hint.
      show_changed(0, out_.size());
      return;
    }
    // Several edits touch here, or one without a hint.
    if (meeting at{}; find_meeting(in_, out_, at)) {
      show_changed(at.in, at.out);
      continue;
    }
    show_changed(std::min(in_.size(), out_.size()), out_.size());
    hints_.clear();
    return;
  }
}

void change_tracker::show_same(std::size_t octets) {
  const auto now = as_bytes(std::string_view{out_}.substr(0, octets));
  show_({out_offset_, in_offset_, now, now, false});
  in_.erase(0, octets), out_.erase(0, octets);
  in_offset_ += octets, out_offset_ += octets;
}

void change_tracker::show_changed(std::size_t was, std::size_t octets) {
  if (was == 0 && octets == 0) return;
  show_({out_offset_, in_offset_, as_bytes(std::string_view{out_}.substr(0, octets)),
         as_bytes(std::string_view{in_}.substr(0, was)), true});
  in_.erase(0, was), out_.erase(0, octets);
  in_offset_ += was, out_offset_ += octets;
}

}  // namespace midwire::streams
