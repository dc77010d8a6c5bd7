#include <midwire/streams/pipeline/dump_stage.hpp>

#include <utility>

namespace midwire::streams {

struct dump_taps::state {
  explicit state(show to)
      : shown{std::move(to)},
        ways{change_tracker{[this](const change_tracker::change& c) { shown(direction::to_server, c); }},
             change_tracker{[this](const change_tracker::change& c) { shown(direction::to_client, c); }}} {}
  show shown;
  std::array<change_tracker, 2> ways;
};

class dump_taps::tap final : public stage {
 public:
  tap(std::shared_ptr<state> s, bool in, bool out) : state_{std::move(s)}, in_{in}, out_{out} {}

  verdict on_data(stage_context&, direction d, chunk data) override {
    look(d, data.bytes());
    return verdict::pass(std::move(data));
  }
  verdict on_end(stage_context&, direction d, chunk kept) override {
    if (!kept.empty()) look(d, kept.bytes());
    if (out_) state_->ways[index_of(d)].end();
    return verdict::pass(std::move(kept));
  }
  void on_close(stage_context&, const reason&) noexcept override {
    if (out_)
      for (auto& way : state_->ways) way.end();
  }

 private:
  void look(direction d, byte_view octets) {
    auto& way = state_->ways[index_of(d)];
    if (in_) way.came(octets);
    if (out_) way.left(octets);
  }
  std::shared_ptr<state> state_;
  const bool in_, out_;
};

dump_taps::dump_taps(show to) : state_{std::make_shared<state>(std::move(to))} {}
std::unique_ptr<stage> dump_taps::entry() const { return std::make_unique<tap>(state_, true, false); }
std::unique_ptr<stage> dump_taps::exit() const { return std::make_unique<tap>(state_, false, true); }
std::unique_ptr<stage> dump_taps::single() const { return std::make_unique<tap>(state_, true, true); }
void dump_taps::edited(direction d, byte_view before, byte_view after) const {
  state_->ways[index_of(d)].edited(before, after);
}

}  // namespace midwire::streams
