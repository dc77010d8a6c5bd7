// Tests of a protocol without sockets, threads or waiting: the transport is the real one, the kernel below it is not.
#include <gtest/gtest.h>

#include <string>

#include <midwire/testing/sim_reactor.hpp>
#include <midwire/testing/string_transport.hpp>

#include "adder.hpp"

using namespace std::string_literals;
using midwire::testing::cut;
using midwire::testing::sim_peer;
using midwire::testing::sim_reactor;
using midwire::testing::string_transport;

namespace {

std::string framed(std::string payload) {
  midwire::buffer out;
  checked_framer{}.encode(midwire::chunk{std::move(payload)}, out);
  return out.text();
}
const std::string one = framed("\0\0\0\1"s), many = framed("\xff\xff\xff\xff"s);
std::string sum(std::uint64_t value) {
  std::string octets(8, '\0');
  midwire::store_number(reinterpret_cast<std::uint8_t*>(octets.data()), value, 8, midwire::byte_order::big);
  return framed(octets);
}

}  // namespace

TEST(Adder, AnswersEachNumberWithTheSum) {
  adder tested;
  string_transport line{tested};
  line.deliver(one + many);
  EXPECT_EQ(line.written(), sum(1) + sum(0x100000000));
  line.clear();
  line.deliver(framed("") + one);
  EXPECT_EQ(line.written(), sum(0) + sum(1));
}

TEST(Adder, RefusesWhatItDoesNotKnow) {
  for (const std::string& bad : {framed("abc"), "\1a\1"s}) {
    adder tested;
    string_transport line{tested};
    line.deliver(one + bad + one);
    EXPECT_EQ(line.written(), sum(1) + framed("E")) << "and nothing behind it is answered";
    EXPECT_TRUE(line.disconnecting());
    line.deliver_end();
    EXPECT_TRUE(line.closed());
  }
}

TEST(Adder, DoesNotCareHowTheStreamIsCut) {
  const std::string text = one + many + framed("") + one + framed("no");
  const std::string want = sum(1) + sum(0x100000000) + sum(0) + sum(1) + framed("E");
  for (const cut how : {cut::as_sent, cut::one_octet, cut::primes, cut::random}) {
    sim_reactor reactor{42, {.segments = how}};
    auto& listener = reactor.listen_tcp(0, midwire::factory::of<adder>());
    sim_peer client{reactor.network()};
    client.connect(listener.host()).send(text);
    reactor.pump();
    EXPECT_EQ(client.received(), want);
    EXPECT_TRUE(client.saw_end());
  }
}

TEST(CheckedFramer, RefusesWhatItCannotCarry) {
  EXPECT_EQ(framed(std::string(255, 'x')).size(), 257u);
  EXPECT_THROW(framed(std::string(256, 'x')), midwire::proto::encode_error);
}
