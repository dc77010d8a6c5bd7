// Server and client over the kernel's loopback, and a timer: what the engine's library alone must give.
#include "shout.hpp"

#include <cstdio>

namespace {

std::string got;

class asker : public midwire::protocol {
  void connection_made() override { transport().write("hello\n"); }
  void data_received(midwire::chunk data) override {
    got += data.text();
    if (got.back() == '\n') transport().lose_connection();
  }
  void connection_lost(const midwire::reason&) override { transport().reactor().stop(); }
};

}  // namespace

int main() {
  midwire::reactor reactor;
  const auto& port = reactor.listen_tcp(0, midwire::factory::of<shout>(), {.interface = "127.0.0.1"});
  bool own_type = false;
  reactor.connect_tcp("127.0.0.1", port.host().port(), midwire::factory::of<asker>())
      .then([&](midwire::protocol* p) { own_type = dynamic_cast<asker*>(p) != nullptr; });
  reactor.call_later(std::chrono::seconds{20}, [&] { reactor.stop(); });
  reactor.run();
  std::printf("echo: %s%s", own_type ? "" : "not our type: ", got.c_str());
  return got == "HELLO\n" && own_type ? 0 : 1;
}
