#pragma once

#include <memory>
#include <optional>
#include <utility>

#include <midwire/engine/protocol.hpp>

namespace midwire::testing::detail {

/// Stands where the reactor owns a protocol, and hands everything on to one that it does not own.
class borrowed_protocol final : public protocol {
 public:
  struct seen {
    bool made = false, closed = false;
    bool given_back = false;  ///< the protocol may be gone: it hears nothing more
    std::optional<reason> why;
  };
  borrowed_protocol(protocol& p, std::shared_ptr<seen> s) noexcept : protocol_{p}, seen_{std::move(s)} {}
  void connection_made() override {
    if (seen_->given_back) return transport().abort_connection();
    seen_->made = true;
    lend(&transport());
    protocol_.connection_made();
  }
  void data_received(chunk data) override {
    if (!seen_->given_back) protocol_.data_received(std::move(data));
  }
  void read_connection_lost() override {
    if (!seen_->given_back) protocol_.read_connection_lost();
  }
  void write_connection_lost() override {
    if (!seen_->given_back) protocol_.write_connection_lost();
  }
  void connection_lost(const reason& why) override {
    seen_->closed = true, seen_->why = why;
    if (seen_->given_back) return;
    protocol_.connection_lost(why);
    lend(nullptr);
  }

 private:
  void lend(midwire::transport* t) noexcept { protocol_.transport_ = t; }
  protocol& protocol_;
  std::shared_ptr<seen> seen_;
};

class borrowing_factory final : public factory {
 public:
  borrowing_factory(protocol& p, std::shared_ptr<borrowed_protocol::seen> s) : protocol_{p}, seen_{std::move(s)} {}
  std::unique_ptr<protocol> build_protocol(const address&) override {
    if (seen_->given_back) return nullptr;
    return std::make_unique<borrowed_protocol>(protocol_, seen_);
  }

 private:
  protocol& protocol_;
  std::shared_ptr<borrowed_protocol::seen> seen_;
};

}  // namespace midwire::testing::detail
