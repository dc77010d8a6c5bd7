// Sends back whatever comes.
//
//   echo [PORT]        (0: a free one; prints the address it took)
#include <cstdlib>
#include <iostream>

#include <midwire/engine.hpp>

/// A client that does not read what it gets is not read either: so no more than flow_limits::high waits for it.
class echo : public midwire::protocol, midwire::producer {
  void connection_made() override { transport().register_producer(*this, midwire::producing::push); }
  void data_received(midwire::chunk data) override { transport().write(std::move(data)); }

  void pause_producing() override { transport().pause_reading(); }
  void resume_producing() override { transport().resume_reading(); }
  void stop_producing() override {}
};

int main(int count, char** arguments) {
  const auto port = static_cast<std::uint16_t>(count > 1 ? std::atoi(arguments[1]) : 0);
  midwire::reactor reactor;
  const auto& listener = reactor.listen_tcp(port, midwire::factory::of<echo>(), {.interface = "127.0.0.1"});
  std::cout << "echo on " << listener.host().text() << std::endl;
  reactor.run();
}
