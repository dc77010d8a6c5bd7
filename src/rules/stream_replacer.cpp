#include "rules/stream_replacer.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include <midwire/base/assert.hpp>

namespace midwire::rules {

namespace {

constexpr std::size_t none = ~std::size_t{0};
// Work allowed for looking at the same octets again, in octets: so much at first, so much more for each octet, each
// arrival and each microsecond.
constexpr std::uint64_t most_credit = std::uint64_t{64} << 20, credit_per_octet = 128, credit_per_arrival = 4096,
                        credit_per_us = 100;
// With less than this not each arrival leads to a scan; a scan that begins with as much has got its fair share.
constexpr std::uint64_t ample_credit = most_credit / 2;
// Less than this is left for scans that must be: at the deadline, at the window's end, at the end.
constexpr std::uint64_t spare_credit = most_credit / 4;
// What a start gets of it behind one that needed too long, and with how much there is no use in going on.
constexpr std::uint64_t share_part = 16, least_credit = std::uint64_t{16} << 10;
constexpr duration least_pause = std::chrono::milliseconds{5};
constexpr std::size_t least_growth = 256, growth_part = 4;  // a quarter more
constexpr std::size_t slack_part = 8;                       // of the window, where scans are put off
// Growth of the table of hits and of the made text that is kept for the next call.
constexpr std::size_t most_scratch = std::size_t{1} << 20;

bool plain(const pattern& p) noexcept {
  constexpr std::string_view special = "\\^$.[]|()?*+{}";
  return !p.octets.empty() && p.octets.find_first_of(special) == p.octets.npos &&
         (!p.extended || p.octets.find_first_of("# \t\n\r\f\v") == p.octets.npos);
}

}  // namespace

replace_plan replace_plan::of(const action& a) {
  replace_plan plan;
  plan.what = &a;
  const pattern& p = a.pattern;
  if (p.how == pattern::kind::literal ? !p.octets.empty() : plain(p))
    plan.literal = std::make_shared<const literal_search>(p.octets, p.ignore_case);
  else if (p.how == pattern::kind::regex)
    plan.expression = regex::compile(p);
  return plan;
}

/// A match to be replaced: [start, end) of the region by octets of the made text, or by the constant value.
struct stream_replacer::hit {
  std::size_t start, end, made, made_size;
};

/// Of the call that runs: no connection keeps it.
struct stream_replacer::scratch {
  std::vector<hit> hits;
  std::vector<std::size_t> given_up;  // starts where PCRE2 needed too long
  std::string made;
  const unit_span* span = nullptr;  // where the last look-up of a position ended, and where that span begins
  std::size_t span_begins = 0;
  std::int64_t growth = 0;
  bool resized = false;

  static scratch& here() {
    thread_local scratch s;
    return s;
  }
  void start(const unit_spans& units) {
    if (hits.capacity() * sizeof(hit) > most_scratch) hits = {};
    if (made.capacity() > most_scratch) made = {};
    hits.clear(), made.clear(), given_up.clear();
    span = units.begin(), span_begins = 0, growth = 0, resized = false;
  }
};

stream_replacer::stream_replacer(const replace_plan& plan, const settings& s)
    : plan_{plan}, settings_{s}, consumed_{s.offset}, credit_{most_credit}, refilled_{instant::max()} {
  if (consumed_ > 0) forget_context();
  const action& a = *plan.what;
  done_ = (!plan.literal && !plan.expression) ||
          (!a.chance_per_unit && a.chance < 1.0 && settings_.chance.draw() >= a.chance);
}

void stream_replacer::feed(passing& io, const terms& t) {
  const bool hidden =
      std::any_of(io.units.begin(), io.units.end(), [&](const unit_span& s) { return s.unit->hidden_from(t.place); });
  if (done_ && !hidden) {
    consumed_ += io.octets.size();
    return;
  }
  if (!hidden) {
    passing out;
    stretch(std::move(io.octets), io.units, t.ended, t, out);
    io = std::move(out);
    return;
  }
  // Hidden octets go behind what is held, which is decided first; what follows them sees nothing of what was before.
  passing out;
  unit_spans todo = std::move(io.units);
  while (!todo.empty()) {
    unit_spans part;
    const bool hide = todo.front().unit->hidden_from(t.place);
    while (!todo.empty() && todo.front().unit->hidden_from(t.place) == hide) todo.move_front(todo.front().size, &part);
    if (hide) {
      if (held() > 0) stretch({}, {}, true, t, out);
      out.octets.append(io.octets.take_front(part.size()));
      out.units.append(part);
      if (consumed_ > 0) forget_context();
    } else {
      chunk octets = io.octets.take_front(part.size());
      stretch(std::move(octets), part, t.ended || !todo.empty(), t, out);
    }
  }
  if (t.ended && held() > 0) stretch({}, {}, true, t, out);
  io = std::move(out);
}

void stream_replacer::stretch(chunk fresh, const unit_spans& units, bool ended, const terms& t, passing& out) {
  if (done_) {
    consumed_ += fresh.size();
    out.octets.append(std::move(fresh));
    out.units.append(units);
    return;
  }
  const std::size_t held = units_.size();
  refill(fresh.size(), t);
  units_.append(units);
  chunk all = std::move(held_);
  all.append(std::move(fresh));
  MIDWIRE_ASSERT(all.size() == units_.size());
  const std::size_t size = all.size();
  if (size == 0) return;
  if (plan_.expression && !ended && put_off(size, t)) {
    held_ = std::move(all);
    return;
  }

  scratch::here().start(units_);
  early_from_ = none;
  std::size_t context = 0, end = 0;
  if (plan_.literal) {
    end = search_literal(all.bytes(), held, ended, t);
  } else {
    if (!context_.empty()) {
      context = context_.size();
      chunk front{context_};
      front.append(std::move(all));
      all = std::move(front);
    }
    const std::uint64_t had = credit_;
    end = search_regex(all.bytes(), context, ended, t);
    remember(all.bytes(), context + end);
    scanned_ = size - end;
    const std::uint64_t cost = had - std::min(had, credit_);
    scan_from_ = t.now + std::max<duration>(least_pause, std::chrono::microseconds{cost / credit_per_us});
    for (const std::size_t start : scratch::here().given_up) count_.early += units_.mark_early(start, start + 1);
  }
  if (early_from_ < end) count_.early += units_.mark_early(early_from_, end);
  release(std::move(all), context, end, t, out);
}

void stream_replacer::refill(std::size_t fresh, const terms& t) {
  std::uint64_t more = fresh > 0 ? credit_per_octet * fresh + credit_per_arrival : 0;
  if (t.now > refilled_) {
    const auto passed = std::chrono::duration_cast<std::chrono::microseconds>(t.now - refilled_);
    more += credit_per_us * std::min(static_cast<std::uint64_t>(passed.count()), most_credit);
    refilled_ += passed;
  } else if (refilled_ == instant::max()) {
    refilled_ = t.now;
  }
  credit_ = std::min(most_credit, credit_ + more);
}

/// Whether what is held stays undecided for now, without a look at it.
bool stream_replacer::put_off(std::size_t size, const terms& t) const {
  if (t.forced > 0 || units_.front().unit->arrived <= t.over_age) return false;
  if (size == scanned_ && !cut_) return true;  // nothing new
  if (credit_ >= ample_credit || scanned_ == 0) return false;
  const bool over_window = size > settings_.window;
  if (over_window && (scanned_ <= settings_.window - settings_.window / slack_part || cut_ ||
                      size - settings_.window > settings_.window / slack_part))
    return false;
  const bool grown = size - scanned_ >= std::max(least_growth, scanned_ / growth_part);
  if (cut_) return !grown || credit_ < spare_credit;
  return !grown && (t.now < scan_from_ || credit_ < spare_credit);
}

duration stream_replacer::scans_in(instant now) const noexcept {
  if (!plan_.expression || (units_.size() == scanned_ && !cut_)) return {};
  const std::uint64_t wanted = cut_ ? ample_credit : spare_credit;
  const std::uint64_t lacks = wanted > credit_ ? wanted - credit_ : 0;
  const instant paid = refilled_ + std::chrono::microseconds{lacks / credit_per_us + 1};
  return std::max(duration{1}, std::max(paid, scan_from_) - now);
}

std::size_t stream_replacer::search_literal(byte_view region, std::size_t held, bool ended, const terms& t) {
  const literal_search& s = *plan_.literal;
  const std::size_t size = region.size(), length = s.size();
  // What is held is the longest prefix of the literal that ended there: the automaton goes on from it.
  std::size_t at = held, open = held;
  while (!done_) {
    for (; open > 0 && at < size; ++at) {
      open = s.step(open, region[at]);
      if (open < length) continue;
      const std::size_t start = at + 1 - length;
      if (may_begin_at(start, t)) {
        accept(region, 0, start, at + 1);
        open = 0;
        if (done_) return size;
      } else {
        open = s.border(length);
      }
    }
    if (open > 0 || at >= size) break;
    at = next_start(at, t);
    const std::size_t start = at < size ? s.find(region, at) : none;
    if (start == none) {
      if (at < size) open = s.open_at_end(region, at);
      break;
    }
    at = start + length;
    if (may_begin_at(start, t)) {
      accept(region, 0, start, at);
      if (done_) return size;
    } else {
      open = s.border(length);
    }
  }
  const std::size_t early = ended ? 0 : over_age(t);
  while (open > 0) {
    const std::size_t start = size - open;
    const bool force = start < early || open > settings_.window;
    if (!ended && !force && may_begin_at(start, t)) break;
    if (!ended && force && early_from_ == none) early_from_ = start;
    open = s.border(open);
  }
  return size - open;
}

std::size_t stream_replacer::search_regex(byte_view text, std::size_t context, bool ended, const terms& t) {
  using kind = regex::outcome::kind;
  const regex& rx = *plan_.expression;
  const std::size_t size = text.size() - context;
  const std::size_t early = ended ? 0 : over_age(t);
  // Where the meaning of a last line feed is open, look at what precedes it only.
  const bool open_newline = !ended && size > 0 && rx.minds_last_newline() && text.back() == '\n';
  const std::size_t seen = open_newline ? size - 1 : size;
  const auto how = ended ? regex::ending::closed : regex::ending::open;
  const bool fair = credit_ >= ample_credit, was_cut = std::exchange(cut_, false);
  bool hopeless = false;  // a start needed too long: those behind it get a part of what is left, and are not held
  std::size_t at = 0;
  const auto pay = [&](std::uint64_t work) {
    count_.scanned += work;
    credit_ -= std::min(credit_, work);
  };
  const auto find = [&](std::size_t octets, const regex::place& where, regex::ending end) {
    const std::uint64_t share = hopeless ? credit_ / share_part : credit_;
    std::uint64_t effort = share;
    const auto found = rx.find(text.first(octets), where, end, effort);
    pay(share - effort);
    return found;
  };
  const auto give_up = [&](std::size_t start) {
    ++count_.limit_hits;
    scratch::here().given_up.push_back(start);
    hopeless = true;
  };
  const auto leave = [&] {
    if (size > at) fresh_ = false;
    return size;
  };
  while (true) {
    if (done_) return leave();
    // A \K puts the start of the match behind where the search finds it: then only the match itself tells.
    const std::size_t start = rx.moves_start() ? at : next_start(at, t);
    if (start >= size) return leave();
    if (start > at) fresh_ = false;
    at = start;
    regex::outcome got;
    if (at <= seen) {
      got = find(context + seen, {.from = context + at, .fresh = fresh_}, how);
      pay(got.how == kind::match ? got.end - context - at : seen - at);
    }
    if (open_newline && got.how == kind::nothing && rx.may_begin_with('\n')) got = {kind::partial, context + seen, 0};
    switch (got.how) {
      case kind::nothing: return leave();
      case kind::gave_up:
        give_up(got.start - context);
        at = got.start - context + 1;
        fresh_ = false;
        continue;
      case kind::unpaid: {
        const std::size_t begin = got.start - context;
        const bool must = ended || begin < early || size - begin > settings_.window;
        const bool had_all = fair && (begin == 0 || was_cut);
        if (!must && !hopeless && !had_all) {
          if (begin > at) fresh_ = false;
          cut_ = true;
          return begin;
        }
        give_up(begin);
        if (credit_ < std::max<std::uint64_t>(least_credit, size - begin)) {
          if (early_from_ == none) early_from_ = begin;
          return leave();
        }
        at = begin + 1;
        fresh_ = false;
        continue;
      }
      case kind::match: break;
      case kind::partial: {
        const std::size_t begin = got.start - context;
        if (begin >= size) return leave();
        if (begin != at) fresh_ = false;
        if (!rx.moves_start() && !may_begin_at(begin, t)) {
          at = begin + 1;
          fresh_ = false;
          continue;
        }
        if (begin >= early && size - begin <= settings_.window) return begin;
        // Over age or too long: decided as if the direction ended here, this start alone.
        if (early_from_ == none) early_from_ = begin;
        if (size - begin > credit_) return leave();
        pay(size - begin);
        got = find(text.size(), {.from = got.start, .last = got.start, .fresh = fresh_}, regex::ending::closed);
        if (got.how == kind::gave_up || got.how == kind::unpaid) give_up(begin);
        if (got.how != kind::match) {
          at = begin + 1;
          fresh_ = false;
          continue;
        }
        break;
      }
    }
    const std::size_t begin = got.start - context, end = std::max(got.end - context, begin + 1);
    if (!may_begin_at(begin, t)) {
      at = begin + 1;
      fresh_ = false;
      continue;
    }
    accept(text, context, begin, end);
    at = end;
    fresh_ = true;
  }
}

void stream_replacer::accept(byte_view text, std::size_t context, std::size_t start, std::size_t end) {
  const action& a = *plan_.what;
  ++matches_;
  if (a.chance_per_unit && a.chance < 1.0) {
    chance_key key = settings_.chance;
    key.unit = matches_;
    if (key.draw() >= a.chance) return;
  }
  scratch& s = scratch::here();
  hit h{start, end, none, a.value.text().size()};
  if (!a.value.constant()) {
    h.made = s.made.size();
    for (const auto& part : a.value.parts) {
      if (part.group < 0)
        s.made += part.text;
      else if (part.group == 0)
        s.made += as_text(text.subspan(context + start, end - start));
      else if (plan_.expression)
        s.made += as_text(plan_.expression->group(text, static_cast<std::size_t>(part.group)));
    }
    h.made_size = s.made.size() - h.made;
  }
  s.growth += static_cast<std::int64_t>(h.made_size) - static_cast<std::int64_t>(end - start);
  s.resized = s.resized || h.made_size != end - start;
  s.hits.push_back(h);
  ++count_.replaced;
  done_ = a.times > 0 && count_.replaced >= a.times;
}

void stream_replacer::release(chunk all, std::size_t context, std::size_t size, const terms& t, passing& out) {
  const scratch& s = scratch::here();
  const std::string_view constant = plan_.what->value.text();
  const auto instead = [&](const hit& h) {
    return h.made == none ? constant : std::string_view{s.made}.substr(h.made, h.made_size);
  };
  if (t.watch)
    for (const auto& h : s.hits)
      t.watch->edited(consumed_ + h.start, all.bytes().subspan(context + h.start, h.end - h.start),
                      as_bytes(instead(h)));
  consumed_ += size;

  // The units: what is put in belongs to the unit in which its match began.
  if (s.resized) {
    std::size_t from = 0;
    for (const auto& h : s.hits) {
      units_.move_front(h.start - from, &out.units);
      out.units.append(h.made_size, units_.front().unit, units_.front().early);
      units_.move_front(h.end - h.start, nullptr);
      from = h.end;
    }
    units_.move_front(size - from, &out.units);
  } else {
    units_.move_front(size, &out.units);
  }

  if (s.resized) {
    chunk made = rewritten(all, context, size);
    all.drop_front(context + size);
    held_ = std::move(all);
    out.octets.append(std::move(made));
    return;
  }
  if (!s.hits.empty()) {
    std::uint8_t* octets = all.writable().data() + context;
    for (const auto& h : s.hits)
      if (h.made_size > 0) std::memcpy(octets + h.start, instead(h).data(), h.made_size);
  }
  all.drop_front(context);
  out.octets.append(all.take_front(size));
  held_ = std::move(all);
}

chunk stream_replacer::rewritten(const chunk& all, std::size_t context, std::size_t size) {
  const scratch& s = scratch::here();
  const std::string_view constant = plan_.what->value.text();
  const std::uint8_t* octets = all.bytes().data() + context;
  const auto total = static_cast<std::size_t>(static_cast<std::int64_t>(size) + s.growth);
  chunk made = chunk::uninitialized(total, segment_pool::headroom);
  std::uint8_t* to = made.writable().data();
  const auto put = [&to](const void* from, std::size_t count) {
    if (count > 0) std::memcpy(to, from, count);
    to += count;
  };
  std::size_t from = 0;
  for (const auto& h : s.hits) {
    put(octets + from, h.start - from);
    put(h.made == none ? constant.data() : s.made.data() + h.made, h.made_size);
    from = h.end;
  }
  put(octets + from, size - from);
  return made;
}

void stream_replacer::remember(byte_view text, std::size_t end) {
  const std::size_t wanted = plan_.expression->lookbehind();
  if (wanted == 0) return;
  const std::size_t size = std::min(wanted, end);
  context_.assign(as_text(text.subspan(end - size, size)));
}

void stream_replacer::forget_context() {
  // Neither the start of the stream nor anything a pattern would look for.
  if (plan_.expression && plan_.expression->lookbehind() > 0) context_.assign(1, '\0');
  fresh_ = false;
}

std::size_t stream_replacer::next_start(std::size_t from, const terms& t) {
  if (t.varies == terms::no_rule && t.since == 0) return from;
  scratch& s = scratch::here();
  if (from < s.span_begins) s.span = units_.begin(), s.span_begins = 0;
  for (; s.span != units_.end(); s.span_begins += s.span->size, ++s.span)
    if (from < s.span_begins + s.span->size && t.may_begin_in(*s.span->unit)) return std::max(from, s.span_begins);
  s.span = units_.begin(), s.span_begins = 0;
  return none;
}

std::size_t stream_replacer::over_age(const terms& t) const {
  std::size_t octets = 0;
  for (const auto& s : units_) {
    if (s.unit->arrived > t.over_age) break;
    octets += s.size;
  }
  return std::max(octets, t.forced);
}

}  // namespace midwire::rules
