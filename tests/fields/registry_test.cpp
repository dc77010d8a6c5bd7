#include <midwire/fields/registry.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace midwire::fields {
namespace {

TEST(registry, names_are_unique_found_and_dense) {
  ASSERT_GT(all().size(), 300u);
  for (std::size_t i = 0; i < all().size(); ++i) {
    const field_info& f = all()[i];
    EXPECT_EQ(find(f.name), &f) << f.name;
    EXPECT_EQ(static_cast<std::size_t>(id_of(f)), i);
    EXPECT_EQ(&info(id_of(f)), &f);
    EXPECT_FALSE(f.description.empty()) << f.name;
    EXPECT_FALSE(name_of(f.type).empty());
  }
  EXPECT_EQ(find("tcp.prt"), nullptr);
  EXPECT_EQ(find(""), nullptr);
  EXPECT_EQ(find("zzz"), nullptr);
  EXPECT_EQ(find("TCP"), nullptr);
}

TEST(registry, stream_fields_come_first_and_the_rest_is_sorted) {
  EXPECT_EQ(at_stream_level().size(), 22u);
  for (const field_info& f : at_stream_level()) EXPECT_EQ(f.levels, level::both) << f.name;
  const auto rest = all().subspan(at_stream_level().size());
  for (const field_info& f : rest) EXPECT_EQ(f.levels, level::packet) << f.name;
  EXPECT_TRUE(std::is_sorted(rest.begin(), rest.end(), [](const auto& a, const auto& b) { return a.name < b.name; }));
}

TEST(registry, types_are_wireshark_s) {
  struct row {
    const char* name;
    const char* type;
  };
  constexpr row rows[] = {{"tcp.port", "u16"},      {"ip.src", "ip4"},       {"ipv6.addr", "ip6"},
                          {"payload", "bytes"},     {"conn.age", "dur"},     {"from.client", "none"},
                          {"ip.ttl", "u8"},         {"ip.flags.df", "bool"}, {"eth.src", "mac"},
                          {"dns.qry.name", "str"},  {"frame.time", "time"},  {"tcp", "none"},
                          {"mpls.label", "u32"},    {"vxlan.vni", "u24"},    {"radiotap.dbm_antsignal", "i8"},
                          {"icmp.resptime", "f64"}, {"ipv6.flow", "u24"},    {"http.request_in", "fnum"},
                          {"snmp.version", "i32"},  {"sip.Call-ID", "str"}};
  for (const row& r : rows) {
    ASSERT_NE(find(r.name), nullptr) << r.name;
    EXPECT_EQ(name_of(find(r.name)->type), r.type) << r.name;
  }
}

TEST(registry, suggests_the_nearest_name) {
  struct row {
    const char* wrong;
    const char* near;
  };
  constexpr row rows[] = {{"tcp.prt", "tcp.port"},
                          {"tcp.prot", "tcp.port"},
                          {"ip.source", "ip.src"},
                          {"ip.destination", "ip.dst"},
                          {"tcp.dport", "tcp.dstport"},
                          {"tcp.sport", "tcp.srcport"},
                          {"from.clients", "from.client"},
                          {"form.client", "from.client"},
                          {"srcport", "tcp.srcport"},
                          {"client", "from.client"},
                          {"IP.SRC", "ip.src"},
                          {"payloda", "payload"},
                          {"unit.index1", "unit.index"},
                          {"dns.qry.nam", "dns.qry.name"},
                          {"conn.idd", "conn.id"},
                          {"completely.other", ""},
                          {"x", ""},
                          {"", ""}};
  for (const row& r : rows) EXPECT_EQ(nearest(r.wrong), r.near) << r.wrong;
  EXPECT_EQ(nearest(std::string(100'000, 'a')), "");
}

}  // namespace
}  // namespace midwire::fields
