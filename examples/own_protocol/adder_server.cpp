// A protocol of one's own: its framing in checked_framer.hpp, what it does in adder.hpp, its tests without sockets in
// adder_test.cpp.
//
//   adder_server [PORT]        (0: a free one; prints the address it took)
#include <cstdlib>
#include <iostream>

#include "adder.hpp"

int main(int count, char** arguments) {
  const auto port = static_cast<std::uint16_t>(count > 1 ? std::atoi(arguments[1]) : 0);
  midwire::reactor reactor;
  const auto& listener = reactor.listen_tcp(port, midwire::factory::of<adder>(), {.interface = "127.0.0.1"});
  std::cout << "adder_server on " << listener.host().text() << std::endl;
  reactor.run();
}
