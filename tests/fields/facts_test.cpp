#include <midwire/fields/facts.hpp>

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include <midwire/base/chance.hpp>

namespace midwire::fields {
namespace {

std::string text(std::string_view name, const stream_unit& u) {
  std::string out;
  append_text(out, id_of(*find(name)), u);
  return out;
}

TEST(facts, a_unit_from_the_client_has_it_as_source) {
  connection_facts c;
  c.client = address::ipv4({10, 0, 0, 1}, 40000), c.server = address::ipv4({192, 168, 1, 2}, 80), c.id = 7;
  stream_unit u;
  u.conn = &c, u.payload = as_bytes("hello"), u.index = 3, u.before = 11, u.age = std::chrono::milliseconds(1500);
  EXPECT_EQ(text("ip.src", u), "10.0.0.1");
  EXPECT_EQ(text("ip.dst", u), "192.168.1.2");
  EXPECT_EQ(text("ip.addr", u), "10.0.0.1,192.168.1.2");
  EXPECT_EQ(text("tcp.port", u), "40000,80");
  EXPECT_EQ(text("from.client", u), "1");
  EXPECT_EQ(text("from.server", u), "");
  EXPECT_EQ(text("ip.version", u), "4");
  EXPECT_EQ(text("ipv6", u), "");
  EXPECT_EQ(text("ipv6.version", u), "");
  EXPECT_EQ(text("conn.id", u), "7");
  EXPECT_EQ(text("conn.age", u), "1.500000000");
  EXPECT_EQ(text("conn.octets", u), "11");
  EXPECT_EQ(text("unit.index", u), "3");
  EXPECT_EQ(text("unit.len", u), "5");
  EXPECT_EQ(text("payload", u), "hello");
  EXPECT_EQ(text("ip.ttl", u), "") << "only packets have it";
  u.dir = direction::to_client;
  EXPECT_EQ(text("ip.addr", u), "192.168.1.2,10.0.0.1");
  EXPECT_EQ(text("tcp.srcport", u), "80");
  EXPECT_EQ(text("tcp.dstport", u), "40000");
  EXPECT_EQ(text("from.server", u), "1");
  u.payload = {};
  EXPECT_EQ(text("payload", u), "");
  EXPECT_EQ(text("unit.len", u), "0");
}

TEST(facts, an_end_on_a_unix_socket_has_no_ip_and_tcp_fields) {
  connection_facts c;
  c.client = address::unix_path("/run/front"),
  c.server = address::ipv6({0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 5432);
  stream_unit u;
  u.conn = &c;
  EXPECT_EQ(text("tcp.srcport", u), "");
  EXPECT_EQ(text("tcp.port", u), "5432");
  EXPECT_EQ(text("ipv6.src", u), "");
  EXPECT_EQ(text("ipv6.addr", u), "2001:db8::1");
  EXPECT_EQ(text("ip", u), "");
  EXPECT_EQ(text("ipv6", u), "1");
  EXPECT_EQ(text("tcp", u), "1");
  c.server = address::unix_path("/run/db");
  for (const field_info& f : at_stream_level()) {
    if (f.name.starts_with("ip") || f.name.starts_with("tcp")) { EXPECT_EQ(text(f.name, u), "") << f.name; }
  }
}

TEST(facts, ipv6_text_is_the_address_s_own) {
  random_source random{20261122};
  for (int i = 0; i < 2000; ++i) {
    std::array<std::uint8_t, 16> octets{};
    for (std::size_t j = 0; j < 16; j += 2)
      if (random.one_in(2))
        octets[j + 1] = static_cast<std::uint8_t>(random.next()),
                   octets[j] = random.one_in(2) ? static_cast<std::uint8_t>(random.next()) : std::uint8_t{0};
    octets[0] = 0x20;  // not one of the forms with an IPv4 tail
    const address a = address::ipv6(octets, 1);
    std::string out;
    append_text(out, field_type::ip6, {0, as_bytes(a.octets())});
    ASSERT_EQ(out, a.host());
  }
}

}  // namespace
}  // namespace midwire::fields
