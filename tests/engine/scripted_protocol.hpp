#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <midwire/engine/protocol.hpp>

namespace midwire::tests {

/// What became of one connection, and what to do when.
struct conversation {
  std::function<void(protocol&)> made, secured, read_lost, write_lost;
  std::function<void(protocol&, std::string)> data;
  std::function<void(protocol&, const reason&)> gone;
  protocol* live = nullptr;
  std::string got;
  bool read_ended = false, write_ended = false;
  int lost = 0;
  std::vector<reason> why, failed;
  /// The default for the peer's end: answer it. Else nothing is done.
  bool close_on_end = true;
};

/// A protocol that tells its conversation.
class talking final : public protocol {
 public:
  explicit talking(std::shared_ptr<conversation> c) : c_{std::move(c)} {}
  void connection_made() override {
    c_->live = this;
    if (c_->made) c_->made(*this);
  }
  void handshake_completed() override {
    if (c_->secured) c_->secured(*this);
  }
  void data_received(chunk data) override {
    c_->got += data.text();
    if (c_->data) c_->data(*this, data.detach());
  }
  void read_connection_lost() override {
    c_->read_ended = true;
    if (c_->read_lost)
      c_->read_lost(*this);
    else if (c_->close_on_end)
      transport().lose_connection();
  }
  void write_connection_lost() override {
    c_->write_ended = true;
    if (c_->write_lost) c_->write_lost(*this);
  }
  void connection_lost(const reason& why) override {
    c_->live = nullptr;
    ++c_->lost;
    c_->why.push_back(why);
    if (c_->gone) c_->gone(*this, why);
  }

 private:
  std::shared_ptr<conversation> c_;
};

class talking_factory final : public factory {
 public:
  explicit talking_factory(std::shared_ptr<conversation> c) : c_{std::move(c)} {}
  std::unique_ptr<protocol> build_protocol(const address&) override { return std::make_unique<talking>(c_); }
  void connection_failed(const reason& why) override { c_->failed.push_back(why); }

 private:
  std::shared_ptr<conversation> c_;
};

inline std::shared_ptr<conversation> talk() { return std::make_shared<conversation>(); }
inline factory_ptr talkers(std::shared_ptr<conversation> c) { return std::make_shared<talking_factory>(std::move(c)); }

}  // namespace midwire::tests
