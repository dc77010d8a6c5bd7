#include <iostream>
#include <midwire/midwire.hpp>

class packet_manipulator : public midwire::protocol {
  void data_received(midwire::chunk data) override {
    process_manipulated_packet(manipulate_packet(std::move(data)));
  }
  virtual midwire::chunk manipulate_packet(midwire::chunk data) { return data; }
  virtual void process_manipulated_packet(midwire::chunk data) { std::cout << data.text() << '\n'; }
};

int main() {
  midwire::reactor reactor;
  reactor.listen_tcp(8888, midwire::factory::of<packet_manipulator>());
  reactor.run();
}
