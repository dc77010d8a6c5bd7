// Echoes over TLS.   tls_echo CERTIFICATE-FILE KEY-FILE      prints the port it took
#include <iostream>
#include <midwire/engine.hpp>

class echo : public midwire::protocol {
  void data_received(midwire::chunk data) override { transport().write(std::move(data)); }
};

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "tls_echo CERTIFICATE-FILE KEY-FILE\n";
    return 2;
  }
  try {
    midwire::reactor reactor;
    const auto tls = midwire::tls_server(midwire::tls_server_options{argv[1], argv[2]});
    auto& port = reactor.listen_tls(0, midwire::factory::of<echo>(), tls, {.interface = "127.0.0.1"});
    std::cout << port.host().port() << std::endl;
    reactor.run();
  } catch (const std::exception& e) {
    std::cerr << "tls_echo: " << e.what() << '\n';
    return 1;
  }
}
