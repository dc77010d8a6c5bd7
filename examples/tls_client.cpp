// Says a line to a TLS server and prints what comes back.   tls_client HOST PORT LINE [CA-FILE]
//
// The certificate is checked for HOST: by the system's trust store, and by CA-FILE when there is one.
#include <cstdlib>
#include <iostream>
#include <midwire/engine.hpp>
#include <string>

namespace {

int status = 1;

class speaker : public midwire::protocol {
 public:
  explicit speaker(std::string line) : line_{std::move(line)} {}

 private:
  void connection_made() override {
    const midwire::tls_info info = transport().tls();
    std::cout << info.cipher << ", " << info.peer_subject << (info.resumed ? ", resumed" : "") << '\n';
    transport().write(line_ + '\n');
    transport().lose_write_connection();  // close_notify: the server knows that this was all
  }
  void data_received(midwire::chunk data) override { std::cout << data.text(); }
  void connection_lost(const midwire::reason& why) override {
    // An end without close_notify may be somebody's cut: ending::tls_truncated.
    if (why.how() == midwire::ending::done)
      status = 0;
    else
      std::cerr << "tls_client: " << name_of(why.how()) << ": " << why.text() << '\n';
    transport().reactor().stop();
  }
  std::string line_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "tls_client HOST PORT LINE [CA-FILE]\n";
    return 2;
  }
  try {
    midwire::tls_client_options options;
    if (argc > 4) options.ca_file = argv[4];
    const auto tls = midwire::tls_client(options);
    midwire::reactor reactor;
    reactor
        .connect_tls(argv[1], static_cast<std::uint16_t>(std::atoi(argv[2])), midwire::factory::of<speaker>(argv[3]),
                     tls)
        .then([](midwire::protocol*) {},
              [&](const midwire::reason& why) {
                std::cerr << "tls_client: " << why.text() << '\n';
                reactor.stop();
              });
    reactor.run();
  } catch (const std::exception& e) { std::cerr << "tls_client: " << e.what() << '\n'; }
  return status;
}
