#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <midwire/engine.hpp>
#include <midwire/testing/sim_reactor.hpp>

// What the tests of datagrams share: a protocol that writes down what happens, and a reactor of either kind.
namespace midwire::datagram_tests {

using std::chrono::operator""ms;
using std::chrono::operator""s;
using lines = std::vector<std::string>;

/// Notes each call; `then` does what a test wants done inside of one.
class recorder : public datagram_protocol {
 public:
  void started() override { note("started"); }
  void datagram_received(chunk data, const address& from) override {
    sender = from;
    received.push_back(data.detach());
    note("got " + (data.size() > 40 ? std::to_string(data.size()) + " octets" : data.detach()));
  }
  void connection_refused(const address& by) override { note("refused " + by.text()); }
  void send_failed(const address& to, std::error_code why) override { note("failed " + to.text()), failure = why; }
  void stopped() override { note("stopped"); }

  std::size_t count(const std::string& what) const {
    return static_cast<std::size_t>(std::count(log.begin(), log.end(), what));
  }
  lines log;
  std::vector<std::string> received;
  address sender;
  std::error_code failure;
  std::function<void(const std::string&)> then;
  int depth = 0, deepest = 0;

 private:
  void note(std::string what) {
    deepest = std::max(deepest, ++depth);
    log.push_back(what);
    if (then) then(what);
    --depth;
  }
};

class echo final : public recorder {
  void datagram_received(chunk data, const address& from) override {
    recorder::datagram_received(data.share(), from);
    send_to(std::move(data), from);
  }
};

/// A reactor on the kernel or on a simulated one.
class world {
 public:
  explicit world(bool simulated) {
    if (simulated) {
      auto made = std::make_shared<testing::sim_reactor>();
      sim = made.get();
      loop = std::move(made);
    } else {
      loop = std::make_shared<reactor>();
    }
  }
  /// Turns until it is so; false when time runs out first.
  bool until(const std::function<bool()>& done) {
    if (sim) {
      for (int i = 0; i < 100 && !done(); ++i) sim->advance(10ms);
      return done();
    }
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (!done() && std::chrono::steady_clock::now() < end) loop->turn(20ms);
    return done();
  }
  /// Lets happen what is going to happen.
  void settle() {
    if (sim) return sim->advance(10ms);
    for (const auto end = std::chrono::steady_clock::now() + 60ms; std::chrono::steady_clock::now() < end;)
      loop->turn(5ms);
  }
  reactor& operator*() { return *loop; }
  reactor* operator->() { return loop.get(); }

  testing::sim_reactor* sim = nullptr;
  std::shared_ptr<reactor> loop;
};

}  // namespace midwire::datagram_tests
