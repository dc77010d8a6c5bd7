#include <iostream>
#include <midwire/engine.hpp>

int main(int argc, char** argv) {
  if (argc != 3) return std::cerr << "usage: port_forward tcp://HOST:PORT tcp://SERVER:PORT\n", 2;
  midwire::reactor reactor;
  midwire::relay relay{reactor, argv[1], argv[2]};
  relay.start();
  std::cout << relay.host().text() << " -> " << argv[2] << std::endl;
  reactor.run();
}
