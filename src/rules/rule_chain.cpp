#include "rules/rule_chain.hpp"

#include <algorithm>
#include <limits>

#include <midwire/base/assert.hpp>

namespace midwire::rules {

namespace {

// Units that came nearly together share one mark, so that a long hold of tiny chunks stays small.
constexpr int marks_per_hold = 1024;

}  // namespace

rule_chain::rule_chain(rule_program_ptr program, const fields::connection_facts& facts, direction d,
                       const rule_options& options, rule_observer* observer, instant opened)
    : program_{std::move(program)},
      facts_{facts},
      direction_{d},
      options_{options},
      observer_{observer},
      opened_{opened},
      now_{opened} {
  build(0, true);
}

chance_key rule_chain::key_of(const link& l) const {
  const bool per_unit = l.what->chance_per_unit;
  return {.seed = facts_.seed,
          .rule = program_->entries[l.rule].hash,
          .listener = facts_.listener,
          .connection = facts_.id,
          .direction = per_unit ? index_of(direction_) : 0,
          .unit = 0};
}

bool rule_chain::chosen(const link& l, std::uint64_t unit) const {
  if (l.what->chance >= 1.0) return true;
  chance_key key = key_of(l);
  key.unit = l.what->chance_per_unit ? unit : 0;
  return key.draw() < l.what->chance;
}

void rule_chain::build(std::uint64_t before, bool first) {
  const auto& rules = program_->set->rules;
  links_.clear();
  varying_ = 0;
  edits_.assign(rules.size(), 0);
  for (std::size_t r = 0; r < rules.size(); ++r) {
    const rule& what = rules[r];
    if (!what.when.empty() && !what.when.can_hold(direction_)) continue;
    const tri decided = what.when.empty() ? tri::yes : what.when.decide(facts_, direction_);
    if (decided == tri::no) continue;
    bool asks = decided == tri::depends;
    for (std::size_t a = 0; a < what.actions.size(); ++a) {
      link l;
      l.rule = r, l.action = a, l.what = &what.actions[a];
      if (!l.what->chance_per_unit && !chosen(l, 0)) continue;  // once for the connection: it never acts here
      l.since = first ? 0 : unit_count_ + 1;
      l.shown = before;
      l.varies = decided == tri::depends ? varying_ : no_rule;
      l.asks = std::exchange(asks, false);
      if (l.what->kind == action_kind::replace) {
        l.plan = program_;
        l.replacer = std::make_unique<stream_replacer>(
            program_->entries[r].plans[a],
            stream_replacer::settings{.window = options_.window, .chance = key_of(l), .offset = before});
      }
      links_.push_back(std::move(l));
    }
    if (decided == tri::depends && !asks) ++varying_;
  }
}

bool rule_chain::idle() const {
  if (next_ || held() > 0) return false;
  for (std::size_t i = links_.size(); i-- > 0;) {
    const link& l = links_[i];
    if (l.done || (l.replacer && l.replacer->done())) continue;
    if (l.what->kind == action_kind::insert && l.what->at == action::where::end && l.varies == no_rule) continue;
    if (l.what->kind == action_kind::stop) continue;  // nothing behind it is awake
    return false;
  }
  return true;
}

std::size_t rule_chain::held() const {
  std::size_t octets = 0;
  for (const auto& l : links_)
    if (l.replacer) octets += l.replacer->held();
  return octets;
}

void rule_chain::give_back(chunk& octets) {
  // In stream order what the last action holds comes first.
  for (std::size_t i = links_.size(); i-- > 0;)
    if (links_[i].replacer && links_[i].replacer->held() > 0)
      links_[i].replacer->give_held(octets.take_front(links_[i].replacer->held()));
}

void rule_chain::keep(outcome& o) {
  const unit_mark* oldest = nullptr;
  duration scan{};
  for (std::size_t i = links_.size(); i-- > 0;) {
    stream_replacer* r = links_[i].replacer.get();
    if (!r || r->held() == 0) continue;
    if (!oldest) oldest = r->held_units().front().unit;
    if (const duration in = r->scans_in(now_); in.count() > 0) scan = scan.count() > 0 ? std::min(scan, in) : in;
    o.kept.append(r->take_held());
  }
  if (oldest && !options_.strict) o.left = std::max(duration{1}, oldest->arrived + options_.hold - now_);
  if (scan.count() > 0) o.left = o.left.count() > 0 ? std::min(o.left, scan) : scan;
  while (!units_.empty() && &units_.front() != oldest) units_.pop_front();
}

void rule_chain::join_units() {
  // The last unit joins the one before it where nothing tells them apart.
  if (units_.size() < 2) return;
  const unit_mark &last = units_.back(), &before = units_[units_.size() - 2];
  const auto alone = [](const unit_mark& u) {
    return u.stopped_at != unit_mark::nowhere || u.dropped_at != unit_mark::nowhere;
  };
  if (alone(last) || alone(before) || last.acts != before.acts || before.index < merge_since_) return;
  if (!options_.strict && last.arrived - before.arrived > options_.hold / marks_per_hold) return;
  for (auto& l : links_)
    if (l.replacer) l.replacer->held_units().rename_back(&last, &before);
  units_.pop_back();
}

rule_chain::outcome rule_chain::unit(chunk octets, std::uint64_t before, instant now) {
  outcome o;
  now_ = now, before_ = before;
  give_back(octets);
  if (next_) take_reload(o);
  units_.push_back({.index = ++unit_count_, .arrived = now, .acts = std::vector<bool>(varying_)});
  passing io;
  io.units.append(octets.size(), &units_.back());
  complete(std::move(octets), io, {.fresh = &units_.back()}, o);
  last_acts_ = units_.back().acts;
  join_units();
  keep(o);
  return o;
}

rule_chain::outcome rule_chain::expire(chunk kept, instant now) {
  outcome o;
  now_ = now;
  give_back(kept);
  if (next_) take_reload(o);
  passing io;
  complete({}, io, {}, o);
  keep(o);
  return o;
}

rule_chain::outcome rule_chain::finish(chunk kept, bool by_reset, instant now) {
  outcome o;
  now_ = now;
  give_back(kept);
  if (next_) take_reload(o);
  passing io;
  complete({}, io, {.ended = true, .by_end = !by_reset}, o);
  keep(o);
  return o;
}

/// A pass, and what must follow it: the end where a rule closed, and the bound on all that is held.
void rule_chain::complete(chunk octets, passing& io, const pass_terms& t, outcome& o) {
  io.octets = std::move(octets);
  wants_edits_ = observer_ && observer_->wants_edits();
  pass(io, t, o);
  o.out.append(std::move(io.octets));
  const auto again = [&](const pass_terms& more) {
    passing rest;
    pass(rest, more, o);
    o.out.append(std::move(rest.octets));
  };
  if (o.then != outcome::end::none) {
    again({.ended = true});
  } else if (!t.ended) {
    for (int tries = 0; held() > options_.most_held; ++tries)
      again({.forced = tries < 4 ? held() - options_.most_held : std::numeric_limits<std::size_t>::max()});
  }
  if (!o.out.empty() || held() > 0) o.dropped = {};
}

void rule_chain::pass(passing& io, const pass_terms& t, outcome& o) {
  for (std::size_t i = 0; i < links_.size(); ++i) {
    unit_mark* u = t.fresh;
    const bool gone = u && (u->stopped_at != unit_mark::nowhere || u->dropped_at != unit_mark::nowhere);
    if (links_[i].asks && u && !gone) ask(i, io, *u);
    run(i, io, t, o);
  }
}

void rule_chain::ask(std::size_t i, const passing& io, unit_mark& u) {
  const filter& when = owner(links_[i]).when;
  u.acts[links_[i].varies] = when.holds(unit_at(i, io, u));
}

fields::stream_unit rule_chain::unit_at(std::size_t i, const passing& io, const unit_mark& u) {
  return {.conn = &facts_,
          .dir = direction_,
          .payload = octets_of(i, io, u),
          .index = u.index,
          .before = before_,
          .age = now_ - opened_,
          .rule = program_->entries[links_[i].rule].hash};
}

/// The unit as it is at this action: what has come to it, and behind that what earlier actions still hold.
byte_view rule_chain::octets_of(std::size_t i, const passing& io, const unit_mark& u) {
  const auto part = [&u](byte_view octets, const unit_spans& spans) {
    return spans.empty() || spans.back().unit != &u ? byte_view{} : octets.last(spans.back().size);
  };
  byte_view all = part(io.octets.bytes(), io.units);
  bool copied = false;
  while (i-- > 0) {
    if (!links_[i].replacer) continue;
    const byte_view more = part(links_[i].replacer->held_octets().bytes(), links_[i].replacer->held_units());
    if (more.empty()) continue;
    if (all.empty()) {
      all = more;
    } else if (!copied && all.data() + all.size() == more.data()) {
      all = {all.data(), all.size() + more.size()};
    } else {
      if (!copied) joined_.assign(as_text(all));
      copied = true;
      joined_ += as_text(more);
      all = as_bytes(joined_);
    }
  }
  return all;
}

void rule_chain::run(std::size_t i, passing& io, const pass_terms& t, outcome& o) {
  switch (links_[i].what->kind) {
    case action_kind::replace: return run_replacer(i, io, t, o);
    case action_kind::insert: return run_insert(i, io, t);
    case action_kind::truncate: return run_truncate(i, io, o);
    default: return run_unit(i, io, t, o);
  }
}

void rule_chain::run_replacer(std::size_t i, passing& io, const pass_terms& t, outcome& o) {
  link& l = links_[i];
  stream_replacer& r = *l.replacer;
  const bool ended = t.ended || (t.ending && (*t.ending)[i]);
  if (io.octets.empty() && r.held() == 0) return;
  std::size_t in_front = 0;
  if (t.forced > 0)
    for (std::size_t later = i + 1; later < links_.size(); ++later)
      if (links_[later].replacer) in_front += links_[later].replacer->held();
  const auto was = r.count();
  watched_ = i;
  r.feed(io, {.now = now_,
              .over_age = options_.strict ? instant::min() : now_ - options_.hold,
              .forced = t.forced > in_front ? t.forced - in_front : 0,
              .ended = ended,
              .place = static_cast<std::uint32_t>(i),
              .since = l.since,
              .varies = l.varies,
              .watch = wants_edits_ ? this : nullptr});
  const auto& is = r.count();
  count_edit(i, is.replaced - was.replaced);
  o.limit_hits += is.limit_hits - was.limit_hits;
  o.early += is.early - was.early;
}

void rule_chain::edited(std::uint64_t offset, byte_view before, byte_view after) {
  const link& l = links_[watched_];
  observer_->edited(direction_, owner(l), l.what->word, offset, before, after);
}

void rule_chain::insert(std::size_t i, passing& io, std::size_t at, const unit_mark* unit) {
  const link& l = links_[i];
  const std::string_view text = l.what->value.text();
  watched_ = i;
  count_edit(i);
  if (wants_edits_) edited(l.shown, {}, as_bytes(text));
  passing out;
  out.octets = io.octets.take_front(at);
  io.units.move_front(at, &out.units);
  out.units.append(text.size(), unit);
  out.units.append(io.units);
  chunk behind{text};
  behind.append(std::move(io.octets));
  out.octets.append(std::move(behind));
  io = std::move(out);
}

void rule_chain::run_insert(std::size_t i, passing& io, const pass_terms& t) {
  link& l = links_[i];
  const bool at_end = l.what->at == action::where::end;
  const std::uint64_t target = l.what->at == action::where::offset ? l.what->octets : 0;
  std::uint64_t shown = l.shown;
  std::size_t at = 0;
  const unit_mark* into = nullptr;
  for (const auto& s : io.units) {
    if (!s.unit->hidden_from(static_cast<std::uint32_t>(i))) {
      if (!into && !at_end && !l.done && target >= shown && target - shown < s.size) {
        at += static_cast<std::size_t>(target - shown);
        into = s.unit;
      }
      shown += s.size;
    }
    if (!into) at += s.size;
  }
  if (into) {
    l.shown = target;
    if (l.may_act_in(*into) && chosen(l, 1)) insert(i, io, at, into);
  }
  l.shown = shown;
  if (!at_end && shown > target) l.done = true;
  if (!t.by_end || l.done || (!at_end && target != shown)) return;
  l.done = true;
  if (l.varies != no_rule && (unit_count_ < l.since || unit_count_ == 0 || !last_acts_[l.varies])) return;
  if (!chosen(l, 1)) return;
  // Behind the last octet: it belongs to no unit that came, and nothing hides it.
  units_.push_back({.index = unit_count_ + 1, .arrived = now_, .acts = std::vector<bool>(varying_, false)});
  insert(i, io, io.octets.size(), &units_.back());
}

/// Takes [first, second) runs out of what passes, in order.
void rule_chain::remove(passing& io, outcome& o, const std::vector<std::pair<std::size_t, std::size_t>>& gone) {
  passing out;
  std::size_t at = 0;
  for (const auto& [from, to] : gone) {
    out.octets.append(io.octets.take_front(from - at));
    io.units.move_front(from - at, &out.units);
    o.dropped = io.octets.take_front(to - from);
    io.units.move_front(to - from, nullptr);
    o.octets_dropped += to - from;
    at = to;
  }
  out.octets.append(std::move(io.octets));
  out.units.append(io.units);
  if (gone.size() > 1) o.dropped = {};
  io = std::move(out);
}

void rule_chain::run_truncate(std::size_t i, passing& io, outcome& o) {
  link& l = links_[i];
  std::vector<std::pair<std::size_t, std::size_t>> gone;
  std::size_t at = 0;
  for (const auto& s : io.units) {
    if (!s.unit->hidden_from(static_cast<std::uint32_t>(i))) {
      const std::uint64_t left = l.what->octets > l.shown ? l.what->octets - l.shown : 0;
      if (left < s.size && l.may_act_in(*s.unit) && chosen(l, s.unit->index)) {
        const std::size_t from = at + static_cast<std::size_t>(left);
        watched_ = i;
        if (wants_edits_)
          edited(l.shown + left, io.octets.bytes().subspan(from, s.size - static_cast<std::size_t>(left)), {});
        if (l.used++ == 0) count_edit(i);
        if (!gone.empty() && gone.back().second == from)
          gone.back().second = at + s.size;
        else
          gone.emplace_back(from, at + s.size);
      }
      l.shown += s.size;
    }
    at += s.size;
  }
  if (!gone.empty()) remove(io, o, gone);
}

void rule_chain::run_unit(std::size_t i, passing& io, const pass_terms& t, outcome& o) {
  link& l = links_[i];
  const action& a = *l.what;
  const auto place = static_cast<std::uint32_t>(i);
  unit_mark* u = t.fresh;
  std::uint64_t visible = 0;
  std::uint64_t in_front = 0;
  for (const auto& s : io.units) {
    if (s.unit->hidden_from(place)) continue;
    visible += s.size;
    if (s.unit != u) in_front += s.size;
  }
  if (u && !l.done && u->dropped_at == unit_mark::nowhere && u->stopped_at == unit_mark::nowhere && l.may_act_in(*u) &&
      chosen(l, u->index)) {
    l.done = a.times > 0 && ++l.used >= a.times;
    watched_ = i;
    switch (a.kind) {
      case action_kind::drop:
        count_edit(i);
        if (wants_edits_) edited(l.shown + in_front, octets_of(i, io, *u), {});
        u->dropped_at = place;
        break;
      case action_kind::close:
      case action_kind::reset:
        u->dropped_at = place;
        o.then = a.kind == action_kind::close ? outcome::end::close : outcome::end::reset;
        break;
      case action_kind::stop: u->stopped_at = place; break;
      case action_kind::log:
        if (observer_) {
          const auto unit = unit_at(i, io, *u);
          std::string text;
          for (const auto& p : a.text.parts) {
            if (p.is_field)
              fields::append_text(text, p.field, unit);
            else
              text += p.text;
          }
          observer_->logged(direction_, owner(l), std::move(text));
        }
        break;
      case action_kind::dump:
        if (observer_) observer_->dumped(direction_, owner(l), l.shown + in_front, octets_of(i, io, *u));
        break;
      default: break;
    }
  }
  l.shown += visible;
  if (a.kind != action_kind::drop && a.kind != action_kind::close && a.kind != action_kind::reset) return;
  std::vector<std::pair<std::size_t, std::size_t>> gone;
  std::size_t at = 0;
  for (const auto& s : io.units) {
    if (s.unit->dropped_at == place) {
      if (!gone.empty() && gone.back().second == at)
        gone.back().second += s.size;
      else
        gone.emplace_back(at, at + s.size);
    }
    at += s.size;
  }
  if (!gone.empty()) remove(io, o, gone);
}

void rule_chain::reload(rule_program_ptr program, std::uint64_t before) {
  next_ = std::move(program), next_before_ = before;
  if (held() == 0) {
    outcome nothing;
    take_reload(nothing);
  }
}

void rule_chain::take_reload(outcome& o) {
  const rule_program_ptr program = std::move(next_);
  next_ = nullptr;
  // Where the rules that stay have changed places, what those hold that now come too early is decided as well: held
  // octets lie in the order of the rules.
  const auto& rules = program->set->rules;
  std::vector<bool> taken(rules.size()), ending(links_.size());
  std::vector<std::size_t> goes_to(links_.size(), no_rule);
  for (std::size_t i = 0; i < links_.size(); ++i) {
    const rule& mine = owner(links_[i]);
    if (i > 0 && links_[i - 1].rule == links_[i].rule) {
      goes_to[i] = goes_to[i - 1];
      continue;
    }
    for (std::size_t r = 0; r < rules.size() && goes_to[i] == no_rule; ++r)
      if (!taken[r] && rules[r].text == mine.text) goes_to[i] = r;
    if (goes_to[i] != no_rule) taken[goes_to[i]] = true;
  }
  std::size_t furthest = 0;
  for (std::size_t i = 0; i < links_.size(); ++i) {
    ending[i] = goes_to[i] == no_rule || goes_to[i] < furthest;
    if (!ending[i]) furthest = goes_to[i];
  }
  passing io;
  wants_edits_ = observer_ && observer_->wants_edits();
  pass(io, {.ending = &ending}, o);
  o.out.append(std::move(io.octets));
  adopt(program, goes_to);
}

void rule_chain::adopt(rule_program_ptr program, const std::vector<std::size_t>& goes_to) {
  for (std::size_t r = 0; r < edits_.size(); ++r)
    if (edits_[r] > 0) retired_edits_.emplace_back(program_->set->rules[r].name, edits_[r]);
  std::vector<link> old = std::move(links_);
  program_ = std::move(program);
  build(next_before_, false);
  std::vector<std::size_t> place(old.size(), no_rule), varied(varying_, no_rule);
  for (std::size_t n = 0; n < links_.size(); ++n) {
    link& l = links_[n];
    for (std::size_t i = 0; i < old.size(); ++i) {
      link& was = old[i];
      if (goes_to[i] != l.rule || was.action != l.action) continue;
      l.since = was.since, l.done = was.done, l.shown = was.shown, l.used = was.used;
      l.replacer = std::move(was.replacer), l.plan = std::move(was.plan);
      place[i] = n;
      if (l.varies != no_rule) varied[l.varies] = was.varies;
    }
  }
  // What the marks of units on their way say of the old rules now goes for those that stay.
  const auto renumber = [&](const std::vector<bool>& acts) {
    std::vector<bool> now(varying_, false);
    for (std::size_t v = 0; v < varying_; ++v)
      if (varied[v] < acts.size()) now[v] = acts[varied[v]];
    return now;
  };
  const auto moved = [&](std::uint32_t was) {
    std::uint32_t now = unit_mark::nowhere;
    for (std::size_t i = 0; was != unit_mark::nowhere && i <= was; ++i)
      if (place[i] != no_rule) now = static_cast<std::uint32_t>(place[i]);
    return now;
  };
  for (auto& u : units_) {
    u.acts = renumber(u.acts);
    u.stopped_at = moved(u.stopped_at), u.dropped_at = moved(u.dropped_at);
  }
  last_acts_ = renumber(last_acts_);
  merge_since_ = unit_count_ + 1;
}

void rule_chain::add_edits(std::vector<std::pair<std::string, std::uint64_t>>& to) const {
  const auto add = [&to](const std::string& name, std::uint64_t n) {
    if (n == 0) return;
    const auto known = std::find_if(to.begin(), to.end(), [&](const auto& e) { return e.first == name; });
    if (known == to.end())
      to.emplace_back(name, n);
    else
      known->second += n;
  };
  for (std::size_t r = 0; r < edits_.size(); ++r) add(program_->set->rules[r].name, edits_[r]);
  for (const auto& [name, n] : retired_edits_) add(name, n);
}

}  // namespace midwire::rules
