// Who is there? A question to a multicast group on the loopback, and an answer from each program that has joined it.
//   udp_discovery announce NAME PORT
//   udp_discovery find PORT
#include <cstdlib>
#include <iostream>
#include <midwire/engine.hpp>

using midwire::address, midwire::chunk;

const address group = *address::parse_ip("239.255.77.77", 0), loopback = address::loopback(0);

class announcer : public midwire::datagram_protocol {
 public:
  explicit announcer(std::string name) : name_{std::move(name)} {}

 private:
  void started() override {
    if (const auto error = join_group(group, loopback)) {
      std::cerr << "cannot join " << group.host() << ": " << error.message() << '\n';
      return reactor().stop();
    }
    std::cout << "announcing " << name_ << std::endl;
  }
  void datagram_received(chunk data, const address& from) override {
    if (data.text() == "who is there?") send_to("here is " + name_, from);
  }
  std::string name_;
};

class finder : public midwire::datagram_protocol {
 public:
  explicit finder(std::uint16_t port) : port_{port} {}

 private:
  void started() override {
    set_multicast_interface(loopback);
    send_to("who is there?", group.with_port(port_));
    reactor().call_later(std::chrono::seconds{1}, [this] { reactor().stop(); });
  }
  void datagram_received(chunk data, const address& from) override {
    std::cout << data.text() << " at " << from.text() << '\n';
  }
  std::uint16_t port_;
};

int main(int argc, char** argv) {
  const std::string role = argc > 1 ? argv[1] : "";
  midwire::reactor reactor;
  if (role == "announce" && argc == 4) {
    // Several programs of this machine share the port: each of them gets what is sent to the group.
    reactor.listen_udp(static_cast<std::uint16_t>(std::atoi(argv[3])), std::make_shared<announcer>(argv[2]),
                       {.reuse_port = true});
  } else if (role == "find" && argc == 3) {
    const auto port = static_cast<std::uint16_t>(std::atoi(argv[2]));
    reactor.listen_udp(0, std::make_shared<finder>(port), {.interface = "127.0.0.1"});
  } else {
    std::cerr << "usage: udp_discovery announce NAME PORT | find PORT\n";
    return 2;
  }
  reactor.run();
}
