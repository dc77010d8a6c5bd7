#include <midwire/rules/rule_stage.hpp>

#include <array>
#include <optional>
#include <utility>

#include <midwire/base/assert.hpp>

#include "rules/rule_chain.hpp"
#include "rules/rule_program.hpp"

namespace midwire::rules {

struct rule_stage::impl {
  rule_program_ptr program;
  fields::connection_facts facts;
  rule_options options;
  rule_observer* observer;
  stage_context* context = nullptr;

  struct way {
    std::optional<rule_chain> chain;
    std::uint64_t octets = 0;  // that came in this direction, as far as the stage was shown them
    std::size_t kept = 0;
    bool bypassed = false, ended = false;
    std::uint64_t early = 0;
  };
  std::array<way, 2> ways;

  way& of(direction d) noexcept { return ways[index_of(d)]; }

  /// Where no rule can act any more, splice may move what comes.
  void rest(direction d) {
    way& w = of(d);
    if (w.bypassed || w.ended || !w.chain->idle()) return;
    w.bypassed = true;
    context->bypass(d);
  }

  verdict answer(direction d, rule_chain::outcome o, std::size_t shown) {
    way& w = of(d);
    if (o.early > 0) {
      const bool first = ways[0].early + ways[1].early == 0;
      w.early += o.early;
      if (observer) observer->released_early(d, o.early, first);
    }
    for (; o.limit_hits > 0; --o.limit_hits) context->count("a regex needed too long");
    if (o.octets_dropped > 0) context->count("dropped by a rule");
    w.kept = o.kept.size();
    rest(d);
    verdict v = [&] {
      if (!o.kept.empty()) return verdict::keep(buffer{std::move(o.out)}, std::move(o.kept), 1, o.left);
      if (shown > 0 && o.dropped.size() == shown) return verdict::drop(std::move(o.dropped), "dropped by a rule");
      return verdict::pass(buffer{std::move(o.out)});
    }();
    if (o.then == rule_chain::outcome::end::close)
      return std::move(v).then_close(reason{ending::aborted, {}, "closed by a rule"});
    if (o.then == rule_chain::outcome::end::reset) return std::move(v).then_reset();
    return v;
  }
};

rule_stage::rule_stage(rule_set_ptr rules, fields::connection_facts facts, rule_options options,
                       rule_observer* observer)
    : impl_{std::make_unique<impl>()} {
  impl_->program = rule_program::of(rules);
  impl_->facts = std::move(facts), impl_->options = options, impl_->observer = observer;
}

rule_stage::~rule_stage() = default;

void rule_stage::on_open(stage_context& context) {
  impl_->context = &context;
  for (const direction d : {direction::to_server, direction::to_client}) {
    impl_->of(d).chain.emplace(impl_->program, impl_->facts, d, impl_->options, impl_->observer, context.now());
    impl_->rest(d);
  }
}

verdict rule_stage::on_data(stage_context& context, direction d, chunk data) {
  auto& w = impl_->of(d);
  if (w.bypassed) w.octets = context.offset(d);  // a reload woke it: splice moved what came before
  w.bypassed = false;
  const std::size_t shown = data.size(), fresh = shown - w.kept;
  auto o = w.chain->unit(std::move(data), std::exchange(w.octets, w.octets + fresh), context.now());
  return impl_->answer(d, std::move(o), shown);
}

verdict rule_stage::on_expired(stage_context& context, direction d, chunk kept) {
  const std::size_t shown = kept.size();
  return impl_->answer(d, impl_->of(d).chain->expire(std::move(kept), context.now()), shown);
}

verdict rule_stage::on_end(stage_context& context, direction d, chunk kept) {
  auto& w = impl_->of(d);
  w.ended = true;
  const std::size_t shown = kept.size();
  MIDWIRE_ASSERT(shown == w.kept);
  return impl_->answer(d, w.chain->finish(std::move(kept), context.ended_by_reset(d), context.now()), shown);
}

void rule_stage::reload(rule_set_ptr rules) {
  impl_->program = rule_program::of(rules);
  if (!impl_->context) return;  // not open yet: it opens with the new ones
  for (const direction d : {direction::to_server, direction::to_client}) {
    auto& w = impl_->of(d);
    if (w.ended) continue;
    w.chain->reload(impl_->program, w.bypassed ? impl_->context->offset(d) : w.octets);
    if (w.bypassed && !w.chain->idle())
      impl_->context->bypass(d, 0);
    else
      impl_->rest(d);
  }
}

std::uint64_t rule_stage::early(direction d) const noexcept { return impl_->of(d).early; }

std::vector<std::pair<std::string, std::uint64_t>> rule_stage::edits() const {
  std::vector<std::pair<std::string, std::uint64_t>> all;
  for (const auto& w : impl_->ways)
    if (w.chain) w.chain->add_edits(all);
  return all;
}

}  // namespace midwire::rules
