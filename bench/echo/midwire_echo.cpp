// midwire_echo server PORT | midwire_echo client PORT CONNS SIZE SECS
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>

#include <midwire/engine.hpp>

#include "report.hpp"

namespace {

class echo : public midwire::protocol {
  void data_received(midwire::chunk data) override { transport().write(std::move(data)); }
};

report figures;

/// Sends a request, waits for all of its answer, sends the next one.
class asker : public midwire::protocol {
 public:
  explicit asker(std::size_t size) : size_{size} {}

 private:
  void connection_made() override { ask(); }
  void data_received(midwire::chunk data) override {
    if ((missing_ -= data.size()) > 0) return;
    figures.answered();
    ask();
  }
  void ask() {
    missing_ = size_;
    transport().write(midwire::chunk::literal({request().data(), size_}));
  }
  const std::string& request() const {
    static const std::string octets(1 << 20, 'x');
    return octets;
  }
  const std::size_t size_;
  std::size_t missing_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view role = argc > 2 ? argv[1] : "";
  midwire::reactor reactor;
  if (role == "server" && argc == 3) {
    const auto& port = reactor.listen_tcp(static_cast<std::uint16_t>(std::atoi(argv[2])), midwire::factory::of<echo>(),
                                          {.interface = "127.0.0.1"});
    std::cout << "listening on " << port.host().text() << std::endl;
    reactor.run();
    return 0;
  }
  if (role != "client" || argc != 6) return 2;
  const auto port = static_cast<std::uint16_t>(std::atoi(argv[2]));
  const auto asks = midwire::factory::of<asker>(static_cast<std::size_t>(std::atoi(argv[4])));
  for (int i = std::atoi(argv[3]); i > 0; --i) reactor.connect_tcp("127.0.0.1", port, asks);
  const auto seconds = [](double s) {
    return std::chrono::duration_cast<midwire::duration>(std::chrono::duration<double>{s});
  };
  const double length = std::atof(argv[5]);
  reactor.call_later(seconds(report::warm_up(length)), [&] {
    figures.begin();
    reactor.call_later(seconds(length), [&] {
      figures.end();
      reactor.stop();
    });
  });
  reactor.run();
}
