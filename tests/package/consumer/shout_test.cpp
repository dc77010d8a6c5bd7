// A protocol of one's own, tested without sockets: over every way to cut its input, and alone on a string_transport.
#include "shout.hpp"

#include <cstdio>

#include <midwire/testing/sim_reactor.hpp>
#include <midwire/testing/string_transport.hpp>

namespace {

int failures = 0;
void expect(bool ok, const char* what) {
  if (!ok) std::printf("FAILED %s\n", what), ++failures;
}

void over(midwire::testing::cut pieces) {
  midwire::testing::sim_reactor reactor{7, {.segments = pieces}};
  const auto& port = reactor.listen_tcp(0, midwire::factory::of<shout>(), {.interface = "127.0.0.1"});
  midwire::testing::sim_peer peer{reactor.network()};
  peer.connect(port.host()).send("one\ntwo\nthree");
  reactor.pump();
  expect(peer.received() == "ONE\nTWO\n", "two lines");
  peer.send("\n").send_end();
  reactor.advance(std::chrono::seconds{1});
  expect(peer.received() == "ONE\nTWO\nTHREE\n", "the third line, before the end");
  expect(peer.saw_end(), "the end");
}

class thrower : public midwire::protocol {
  struct own_error : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  void data_received(midwire::chunk) override { throw own_error{"mine"}; }
};

}  // namespace

int main() {
  using midwire::testing::cut;
  for (const cut pieces : {cut::as_sent, cut::one_octet, cut::primes, cut::random}) over(pieces);

  shout tested;
  midwire::testing::string_transport wire{tested};
  wire.deliver("abc");
  expect(wire.written().empty(), "no line yet");
  wire.deliver("\n");
  expect(wire.written() == "ABC\n", "one line");

  // An exception of ours passes through the library, and types of the library are known here.
  midwire::set_log([](int, std::string_view) {});
  thrower bad;
  midwire::testing::string_transport other{bad};
  other.deliver("x");
  expect(other.closed() && other.why().how() == midwire::ending::failed, "an exception ends its connection");
  expect(other.reactor().failures() == 1, "and is counted");
  midwire::driver* kernel = &other.reactor().simulated();
  expect(dynamic_cast<midwire::testing::sim_driver*>(kernel) != nullptr, "dynamic_cast to a type of the library");
  try {
    midwire::relay nowhere{other.reactor(), "tcp://127.0.0.1:notaport", "tcp://127.0.0.1:1"};
    nowhere.start();
    expect(false, "a bad endpoint");
  } catch (const std::system_error& e) { expect(e.what() != std::string{}, "the library's exception"); }

  if (failures == 0) std::printf("shout_test: ok\n");
  return failures != 0;
}
