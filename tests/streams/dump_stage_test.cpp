#include <midwire/streams/pipeline/dump_stage.hpp>

#include <gtest/gtest.h>

#include <string>

#include <midwire/engine/core/flow.hpp>

namespace {

using namespace midwire;
using streams::change_tracker;
using streams::dump_taps;

/// Replaces "ab" by "xyz", keeping an 'a' at the end until more comes.
class small_editor final : public stage {
 public:
  explicit small_editor(const dump_taps* taps) : taps_{taps} {}
  verdict on_data(stage_context&, direction d, chunk data) override {
    std::string out;
    const std::string in{data.text()};
    for (std::size_t i = 0; i < in.size(); ++i) {
      if (in[i] == 'a' && i + 1 == in.size()) return verdict::keep(std::move(out), chunk{"a"});
      if (in.compare(i, 2, "ab") == 0) {
        out += "xyz", ++i;
        if (taps_) taps_->edited(d, as_bytes("ab"), as_bytes("xyz"));
      } else {
        out += in[i];
      }
    }
    return verdict::pass(std::move(out));
  }

 private:
  const dump_taps* taps_;
};

struct world {
  std::string shown[2], sent[2];
  instant now{};
  dump_taps taps{[this](direction d, const change_tracker::change& c) {
    auto& to = shown[index_of(d)];
    if (c.edited)
      to += "[" + std::string{as_text(c.was)} + "|" + std::string{as_text(c.octets)} + "]";
    else
      to += as_text(c.octets);
  }};
  std::optional<flow> f;
  void start(std::vector<std::unique_ptr<stage>> stages) {
    f.emplace(std::move(stages));
    f->open(now);
    drain();
  }
  void tell(side from, event e) {
    f->handle(from, std::move(e), now);
    drain();
  }
  void drain() {
    side to{};
    command what = command::close();
    while (f->next_command(to, what))
      if (what.what() == command::kind::send) {
        sent[index_of(opposite(direction_from(to)))] += what.octets().text();
        f->handle(to, event::octets_sent(what.octets().size()), now);
      }
  }
};

TEST(dump_stage, a_single_tap_shows_what_passes) {
  world w;
  std::vector<std::unique_ptr<stage>> stages;
  stages.push_back(w.taps.single());
  w.start(std::move(stages));
  w.tell(side::client, event::data_received("question"));
  w.tell(side::server, event::data_received("answer"));
  EXPECT_EQ(w.shown[0], "question");
  EXPECT_EQ(w.shown[1], "answer");
  EXPECT_EQ(w.sent[0], "question");
  EXPECT_EQ(w.sent[1], "answer");
}

// However the input is cut, the edit is shown once, whole, in its place.
TEST(dump_stage, two_taps_show_before_and_after_at_every_cut) {
  const std::string text = "12ab34ab";
  for (std::size_t cut = 0; cut <= text.size(); ++cut)
    for (const bool hints : {true, false}) {
      world w;
      std::vector<std::unique_ptr<stage>> stages;
      stages.push_back(w.taps.entry());
      stages.push_back(std::make_unique<small_editor>(hints ? &w.taps : nullptr));
      stages.push_back(w.taps.exit());
      w.start(std::move(stages));
      for (const auto& part : {text.substr(0, cut), text.substr(cut)})
        if (!part.empty()) w.tell(side::client, event::data_received(part));
      w.tell(side::client, event::end_received());
      EXPECT_EQ(w.sent[0], "12xyz34xyz") << cut;
      if (hints) { EXPECT_EQ(w.shown[0], "12[ab|xyz]34[ab|xyz]") << cut; }
    }
}

TEST(dump_stage, what_is_held_when_the_flow_is_reset_is_shown_as_removed) {
  world w;
  std::vector<std::unique_ptr<stage>> stages;
  stages.push_back(w.taps.entry());
  stages.push_back(std::make_unique<small_editor>(&w.taps));
  stages.push_back(w.taps.exit());
  w.start(std::move(stages));
  w.tell(side::client, event::data_received("12a"));
  EXPECT_EQ(w.shown[0], "12");
  w.f->abort(reason{ending::aborted}, w.now);
  EXPECT_EQ(w.shown[0], "12[a|]");
}

}  // namespace
