#include <midwire/rules/filter.hpp>

#include <gtest/gtest.h>

#include <iostream>
#include <string>
#include <vector>

#include <midwire/base/chance.hpp>

#include "rules/check.hpp"

namespace midwire::rules {
namespace {

filter compile(std::string_view text) {
  try {
    return detail::compile_filter(text);
  } catch (const detail::failure_at& f) {
    ADD_FAILURE() << text << "\n  at " << f.at.begin << ": " << f.message << " (" << f.hint << ")";
    return {};
  }
}

/// 10.1.0.5:40000 asks 192.168.1.2:80.
struct sample {
  fields::connection_facts conn;
  fields::stream_unit unit;
  explicit sample(std::string_view payload = "GET /x HTTP/1.1\r\n", direction d = direction::to_server) {
    conn.client = address::ipv4({10, 1, 0, 5}, 40000), conn.server = address::ipv4({192, 168, 1, 2}, 80);
    conn.id = 3, conn.listener = 99, conn.seed = 42;
    unit.conn = &conn, unit.dir = d, unit.payload = as_bytes(payload);
    unit.index = 3, unit.before = 100, unit.age = std::chrono::milliseconds{10'500};
  }
  sample(const sample&) = delete;
  sample& operator=(const sample&) = delete;
};

struct row {
  const char* filter;
  bool holds;
};

void check(const std::vector<row>& rows, const fields::stream_unit& unit) {
  for (const row& r : rows) EXPECT_EQ(compile(r.filter).holds(unit), r.holds) << r.filter;
}

TEST(filter, relations_and_their_spellings) {
  const sample s;
  check({{"tcp.dstport == 80", true},       {"tcp.dstport eq 80", true},
         {"tcp.dstport any_eq 80", true},   {"tcp.dstport == 81", false},
         {"tcp.port == 80", true},          {"tcp.port == 40000", true},
         {"tcp.port == 41", false},         {"tcp.port != 80", false},
         {"tcp.port ne 80", false},         {"tcp.port all_ne 80", false},
         {"tcp.port != 41", true},          {"tcp.port === 80", false},
         {"tcp.port all_eq 80", false},     {"tcp.dstport === 80", true},
         {"tcp.port !== 80", true},         {"tcp.port any_ne 80", true},
         {"tcp.port ~= 80", true},          {"tcp.dstport !== 80", false},
         {"tcp.port < 81", true},           {"tcp.port lt 80", false},
         {"tcp.port <= 80", true},          {"tcp.port le 79", false},
         {"tcp.port > 40000", false},       {"tcp.port gt 39999", true},
         {"tcp.port >= 40000", true},       {"tcp.port ge 40001", false},
         {"any tcp.port != 80", true},      {"all tcp.port > 79", true},
         {"all tcp.port > 80", false},      {"all tcp.port == 80", false},
         {"any tcp.port === 80", true},     {"tcp.srcport > tcp.dstport", true},
         {"tcp.port == tcp.dstport", true}, {"ip.src == ip.dst", false},
         {"ip.addr == ip.dst", true},       {"ip.addr != ip.dst", false}},
        s.unit);
}

TEST(filter, sizes) {
  const sample s;
  check({{"unit.len < 10KB", true},
         {"unit.len > 1KiB", false},
         {"unit.len in {0..1MiB}", true},
         {"conn.octets < 18GB", true},
         {"conn.octets > 10GiB", false}},
        s.unit);
}

TEST(filter, sets_and_ranges) {
  const sample s;
  check({{"tcp.dstport in {80, 443, 8000..8080}", true},
         {"tcp.dstport in {443, 8000..8080}", false},
         {"tcp.dstport in {70..90}", true},
         {"tcp.dstport in {80..80}", true},
         {"tcp.dstport in {81..79}", false},
         {"tcp.dstport not in {80}", false},
         {"tcp.dstport not in {81}", true},
         {"not tcp.dstport in {81}", true},
         {"tcp.port in {1..79, 81..39999}", false},
         {"all tcp.port in {80, 40000}", true},
         {"all tcp.port in {80}", false},
         {"tcp.port in {0x50}", true},
         {"ip.addr in {10.0.0.0/8}", true},
         {"ip.src in {10.1.0.4..10.1.0.6}", true},
         {"ip.src in {10.1.0.6..10.1.0.9, 11.0.0.0/8}", false},
         {"ipv6.src in {::1}", false},
         {"ipv6.src not in {::1}", true},
         {"payload[0:3] in {\"PUT\", \"GET\"}", true},
         {"payload[0] in {40..50}", true},
         {"payload[0] in {48..50}", false},
         {"conn.age in {10s..11s}", true},
         {"conn.age in {1..2}", false},
         {"string(tcp.dstport) in {\"80\"}", true}},
        s.unit);
}

TEST(filter, precedence_is_wireshark_s) {
  const sample s;
  check({{"! tcp.port == 81 && ip", true},
         {"! tcp.port == 80 || ip", true},
         {"!(tcp.port == 80 || ip)", false},
         {"ip or tcp and ipv6", true},
         {"(ip or tcp) and ipv6", false},
         {"ipv6 and ip or tcp", true},
         {"ipv6 && (ip || tcp)", false},
         {"not not ip", true},
         {"!!ip", true},
         {"not ip or ip", true},
         {"tcp.dstport & 16 == 16", true},
         {"tcp.dstport bitwise_and 15 == 0", true},
         {"tcp.dstport & 0xff + 1 == 0", true},
         {"tcp.dstport + 1 * 2 == 82", true},
         {"{tcp.dstport + 1} * 2 == 162", true},
         {"tcp.dstport - 10 == 70", true},
         {"tcp.dstport / 3 == 26", true},
         {"tcp.dstport % 7 == 3", true},
         {"-tcp.dstport == -80", true},
         {"tcp.dstport == tcp.srcport - 39920", true},
         {"tcp.dstport == {100 - 2 * 10}", true},
         {"tcp.dstport == 2 * {tcp.dstport / 2}", true},
         {"tcp.dstport == 80 and(ip)", true},
         {"tcp.dstport==80&&ip", true}},
        s.unit);
}

TEST(filter, what_is_absent_makes_tests_false) {
  const sample s;
  check({{"ipv6.src == ::1", false},
         {"ipv6.src != ::1", false},
         {"!(ipv6.src == ::1)", true},
         {"all ipv6.addr != ::1", false},
         {"count(ipv6.addr) == 0", false},
         {"count(ip.addr) == 2", true},
         {"ipv6", false},
         {"ip", true},
         {"tcp", true},
         {"from.client", true},
         {"from.server", false},
         {"conn.id", true},
         {"payload", true},
         {"ip.src#1", true},
         {"ip.src#2", false},
         {"ip.src#1 == 10.1.0.5", true},
         {"ip.src#2 != 10.1.0.5", false},
         {"tcp.port#[1-4] == 80", true},
         {"tcp.port#[2-4] == 80", false},
         {"ip.src#[-1]", true},
         {"ip.src#[-2]", false},
         {"ip.src#[:2]", true},
         {"ip.src#[1:]", true},
         {"ip.src#[2,1]", true}},
        s.unit);
  fields::stream_unit empty = s.unit;
  empty.payload = {};
  check({{"payload", false},
         {"payload contains \"x\"", false},
         {"len(payload) == 0", false},
         {"unit.len == 0", true},
         {"payload != 00", false}},
        empty);
}

TEST(filter, slices_and_octets) {
  const sample s{"GET /\x00\x10\xff"};
  check({{"payload[0:3] == \"GET\"", true},
         {"payload[0:3] == 47:45:54", true},
         {"payload[0:3] == 47-45-54", true},
         {"payload[0:3] == 47.45.54", true},
         {"payload[0:3] == 474554", true},
         {"payload[0] == 47", true},
         {"payload[0] == 0x47", true},
         {"payload[0] == 'G'", true},
         {"payload[0] == 71", false},
         {"payload[0-2] == \"GET\"", true},
         {"payload[:3] == \"GET\"", true},
         {"payload[3] == 20", true},
         {"payload[-3:] == 2f", false},
         {"payload[4] == '\\x2f'", true},
         {"payload[1,0] == \"EG\"", true},
         {"payload[0,2-3,4:1] == \"GT /\"", true},
         {"payload[0:2,1:2] == payload[0,1,1,2]", true},
         {"payload[0:2] == payload[2:2]", false},
         {"payload[0:2] < payload[2:2]", true},
         {"payload[0:100]", false},
         {"payload[0:100] != \"x\"", false},
         {"payload[4]", true},
         {"payload[5]", false},
         {"payload[-1] == '/'", true},
         {"payload[-2:2] == \" /\"", true},
         {"payload[-5:] == payload", true},
         {"payload[-6:]", false},
         {"payload[-2-4] == \" /\"", true},
         {"payload[5:]", false},
         {"payload == \"GET /\"", true},
         {"payload > \"GET\"", true},
         {"payload < \"GEU\"", true},
         {"payload[0] & 40", true},
         {"payload[0] & 80", false},
         {"payload[0] & 0f == 7", true},
         {"payload[0:2] & ff:00 == 47:00", true},
         {"payload & ff:00 == 47:00", false},
         {"payload[1:2] & payload[0:2] == 45:44", true},
         {"ip.src[0:2] == 0a:01", true},
         {"ip.addr[0] == c0", true},
         {"ip.src & 255.0.0.0 == 10.0.0.0", true},
         {"string(tcp.dstport)[0] == \"8\"", true},
         {"string(ip.src)[0:2,-1] == \"105\"", true}},
        s.unit);
  const sample binary{std::string_view{"GET /\x00\x10\xff", 8}};
  check({{"payload[5] == 00", true},
         {"payload[6] == 10", true},
         {"payload[6] == 16", false},
         {"payload[-1] == ff", true},
         {"payload[5:2] == 0010", true},
         {"payload[7] > 7f", true},
         {"payload contains 00:10", true},
         {"payload contains \"\\x00\\020\"", true},
         {"len(payload) == 8", true}},
        binary.unit);
}

TEST(filter, contains_and_matches) {
  const sample s{"Set-Cookie: A=b\nnext"};
  check({{"payload contains \"Cookie\"", true},
         {"payload contains \"cookie\"", false},
         {"payload contains r\"A=b\"", true},
         {"payload contains 41:3d", true},
         {"payload contains 'A'", true},
         {"payload contains payload[4:3]", true},
         {"payload matches \"cookie\"", true},
         {"payload ~ \"COOKIE\"", true},
         {"payload matches \"(?-i)cookie\"", false},
         {"payload matches \"^next\"", false},
         {"payload matches \"(?m)^next\"", true},
         {"payload matches \"b.next\"", false},
         {"payload matches \"(?s)b.next\"", true},
         {"payload matches r\"\\w=\\w\"", true},
         {"payload matches \"\\\\w=\\\\w\"", true},
         {"payload[0:3] matches \"^set$\"", true},
         {"string(ip.src) matches r\"^10\\.\"", true},
         {"string(tcp.port) contains \"000\"", true},
         {"all string(tcp.port) contains \"000\"", false},
         {"string(conn.age) == \"10.500000000\"", true},
         {"upper(string(tcp.dstport)) == \"80\"", true},
         {"lower(string(ip.src)) contains \"10.\"", true}},
        s.unit);
  const sample nul{std::string_view{"a\0b", 3}};
  check({{"payload matches \"a\\x00b\"", true},
         {"payload matches r\"a\\x00b\"", true},
         {"payload matches \"^a.b$\"", true}},
        nul.unit);
}

TEST(filter, contains_agrees_with_a_plain_search) {
  const std::uint64_t seed = 11;
  std::cout << "seed " << seed << '\n';
  random_source random{seed};
  const int cases = static_cast<int>(3000 * MIDWIRE_TEST_SCALE) + 50;
  for (int i = 0; i < cases; ++i) {
    std::string hay, needle;
    for (std::uint64_t n = random.below(random.one_in(4) ? 600 : 30); n > 0; --n) hay += random.one_in(3) ? 'b' : 'a';
    for (std::uint64_t n = 1 + random.below(8); n > 0; --n) needle += random.one_in(3) ? 'b' : 'a';
    const sample s{hay};
    ASSERT_EQ(compile("payload contains \"" + needle + '"').holds(s.unit), hay.find(needle) != hay.npos)
        << hay << ' ' << needle;
  }
}

TEST(filter, numbers_times_and_functions) {
  const sample s;
  check({{"tcp.dstport == 0120", true},
         {"tcp.dstport == 0x50", true},
         {"tcp.dstport == 0b1010000", true},
         {"tcp.dstport == 'P'", true},
         {"unit.index == 3", true},
         {"unit.len == 17", true},
         {"conn.id == 3", true},
         {"conn.octets == 100", true},
         {"conn.octets < 18446744073709551615", true},
         {"conn.age > 10s", true},
         {"conn.age > 10", true},
         {"conn.age > 10.5", false},
         {"conn.age >= 10.5s", true},
         {"conn.age == 10500ms", true},
         {"conn.age < 1m", true},
         {"conn.age > 1h", false},
         {"conn.age + 500ms == 11s", true},
         {"conn.age == 10500000us", true},
         {"conn.age == 10500000000ns", true},
         {"abs(-tcp.dstport) == 80", true},
         {"abs(tcp.dstport - 100) == 20", true},
         {"max(tcp.port) == 40000", true},
         {"min(tcp.port) == 80", true},
         {"max(tcp.dstport, 1000) == 1000", true},
         {"min(tcp.srcport, tcp.dstport) == 80", true},
         {"min(ip.addr) == 10.1.0.5", true},
         {"max(ipv6.addr, ipv6.src) == ::1", false},
         {"len(payload) == unit.len", true},
         {"len(payload) == 17", true},
         {"count(tcp.port) == 2", true},
         {"count(tcp.srcport) == 1", true},
         {"tcp.dstport / {tcp.dstport - 80} == 1", false},
         {"tcp.dstport % {tcp.dstport - 80} != 1", false},
         {"conn.octets * 18446744073709551615 > 0", false},
         {"tcp.dstport - 80", false},
         {"tcp.dstport - 79", true},
         {"tcp.dstport & 16", true},
         {"tcp.dstport & 15", false},
         {"-tcp.dstport < 0", true},
         {"tcp.port + tcp.port == 160", true},
         {"tcp.port + tcp.port == 40080", true},
         {"tcp.port + tcp.port == 81", false}},
        s.unit);
}

TEST(filter, addresses) {
  const sample s;
  check({{"ip.src == 10.1.0.5", true},
         {"ip.src == 10.0.0.0/8", true},
         {"ip.src == 11.0.0.0/8", false},
         {"ip.src == 10.1.0.6/31", false},
         {"ip.src == 10.1.0.4/31", true},
         {"ip.addr == 192.168.0.0/16", true},
         {"ip.addr != 10.0.0.0/8", false},
         {"ip.src != 10.0.0.0/8", false},
         {"ip.src < 10.1.0.6", true},
         {"ip.src >= 10.1.0.5", true},
         {"ip.src > 10.0.0.0/8", false},
         {"ip.src == 0.0.0.0/0", true},
         {"ip.version == 4", true},
         {"ip.dst == 10.1.0.5", false}},
        s.unit);
  const sample back{"x", direction::to_client};
  check({{"ip.src == 192.168.1.2", true},
         {"ip.dst == 10.1.0.5", true},
         {"tcp.srcport == 80", true},
         {"from.server", true},
         {"from.client", false}},
        back.unit);
  sample six;
  six.conn.client = *address::parse_ip("2001:db8::1", 1), six.conn.server = *address::parse_ip("::ffff:10.0.0.1", 2);
  check({{"ipv6.src == 2001:db8::1", true},
         {"ipv6.src == 2001:db8::/32", true},
         {"ipv6.addr == 2001:db9::/32", false},
         {"ipv6.src == 2001:DB8:0:0:0:0:0:1", true},
         {"ip.dst == 10.0.0.1", true},
         {"ip.src", false},
         {"ipv6.dst", false},
         {"ip.version == 4 && ipv6.version == 6", true},
         {"string(ipv6.src) == \"2001:db8::1\"", true}},
        six.unit);
  sample local;
  local.conn.client = address::unix_path("/run/a");
  check({{"ip.src", false},
         {"tcp.srcport", false},
         {"tcp.port == 80", true},
         {"all tcp.port == 80", true},
         {"tcp", true}},
        local.unit);
}

TEST(filter, decides_what_the_connection_settles) {
  const sample s;
  struct decided {
    const char* filter;
    tri up, down;
    bool can_up, can_down;
  };
  const decided rows[] = {{"from.client", tri::yes, tri::no, true, false},
                          {"from.server", tri::no, tri::yes, false, true},
                          {"not from.client", tri::no, tri::yes, false, true},
                          {"from.client && tcp.dstport == 80", tri::yes, tri::no, true, false},
                          {"tcp.dstport == 80", tri::yes, tri::no, true, true},
                          {"tcp.port == 80", tri::yes, tri::yes, true, true},
                          {"tcp.port == 81", tri::no, tri::no, true, true},
                          {"payload contains \"x\"", tri::depends, tri::depends, true, true},
                          {"from.client && payload contains \"x\"", tri::depends, tri::no, true, false},
                          {"tcp.port == 81 && payload contains \"x\"", tri::no, tri::no, true, true},
                          {"tcp.port == 80 || payload contains \"x\"", tri::yes, tri::yes, true, true},
                          {"conn.age > 1s", tri::depends, tri::depends, true, true},
                          {"conn.octets > 1", tri::depends, tri::depends, true, true},
                          {"unit.index == 1 && conn.id == 3", tri::depends, tri::depends, true, true},
                          {"chance(50%) && conn.id == 4", tri::no, tri::no, true, true},
                          {"from.client && from.server", tri::no, tri::no, false, false},
                          {"!(payload contains \"x\")", tri::depends, tri::depends, true, true}};
  for (const decided& r : rows) {
    const filter f = compile(r.filter);
    EXPECT_EQ(f.decide(s.conn, direction::to_server), r.up) << r.filter;
    EXPECT_EQ(f.decide(s.conn, direction::to_client), r.down) << r.filter;
    EXPECT_EQ(f.can_hold(direction::to_server), r.can_up) << r.filter;
    EXPECT_EQ(f.can_hold(direction::to_client), r.can_down) << r.filter;
  }
  EXPECT_TRUE(filter{}.empty());
  EXPECT_TRUE(filter{}.holds(s.unit));
  EXPECT_EQ(filter{}.decide(s.conn, direction::to_client), tri::yes);
  EXPECT_TRUE(compile("").empty()) << "an empty filter matches everything";
  EXPECT_TRUE(compile("payload").reads_units());
  EXPECT_FALSE(compile("conn.age > 1").reads_units());
  EXPECT_TRUE(compile("conn.age > 1").varies());
  EXPECT_FALSE(compile("tcp.port == 1").varies());
  EXPECT_TRUE(compile("chance(1%)").uses_chance());
  EXPECT_TRUE(compile("ip || from.server").names_direction());
}

TEST(filter, decide_agrees_with_holds) {
  // A random filter over random units: whenever decide() is sure, holds() says the same for every unit.
  const std::uint64_t seed = 7;
  std::cout << "seed " << seed << '\n';
  random_source random{seed};
  static const char* const tests[] = {"from.client",
                                      "from.server",
                                      "tcp.dstport == 80",
                                      "ip.src == 10.0.0.0/8",
                                      "payload contains \"a\"",
                                      "unit.index < 3",
                                      "conn.age > 5s",
                                      "conn.id == 3",
                                      "ipv6",
                                      "chance(30%)"};
  const int cases = static_cast<int>(2000 * MIDWIRE_TEST_SCALE) + 50;
  for (int i = 0; i < cases; ++i) {
    std::string text;
    const std::uint64_t terms = 1 + random.below(5);
    for (std::uint64_t t = 0; t < terms; ++t) {
      if (t > 0) text += random.one_in(2) ? " && " : " || ";
      if (random.one_in(3)) text += "!";
      text += tests[random.below(std::size(tests))];
    }
    const filter f = compile(text);
    for (int j = 0; j < 8; ++j) {
      sample s{random.one_in(2) ? "banana" : "xyz", random.one_in(2) ? direction::to_server : direction::to_client};
      s.unit.index = 1 + random.below(5), s.unit.age = std::chrono::seconds{random.below(10)};
      const tri known = f.decide(s.conn, s.unit.dir);
      const bool holds = f.holds(s.unit);
      if (known != tri::depends) { ASSERT_EQ(holds, known == tri::yes) << text; }
      if (holds) { ASSERT_TRUE(f.can_hold(s.unit.dir)) << text; }
    }
  }
}

TEST(filter, chance_is_reproducible_and_fair) {
  const filter f = compile("chance(20%)");
  sample s;
  int hits = 0;
  for (std::uint64_t i = 1; i <= 10'000; ++i) {
    s.unit.index = i;
    hits += f.holds(s.unit);
    EXPECT_EQ(f.holds(s.unit), f.holds(s.unit));
  }
  EXPECT_NEAR(hits, 2000, 200);
  // Two draws in one filter are two coins.
  const filter both = compile("chance(50%) && chance(50%)");
  hits = 0;
  for (std::uint64_t i = 1; i <= 10'000; ++i) s.unit.index = i, hits += both.holds(s.unit);
  EXPECT_NEAR(hits, 2500, 250);
  EXPECT_FALSE(compile("chance(0%)").holds(s.unit));
  EXPECT_TRUE(compile("chance(100%)").holds(s.unit));
}

TEST(filter, a_regex_that_blows_up_counts_as_no_match) {
  const std::string payload(60'000, 'a');
  const sample s{payload};
  const filter f = compile("payload matches \"(a+)+$b\" || payload matches \"^(?:a|aa|a)*[^a]$\"");
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(f.holds(s.unit));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds{5});
}

}  // namespace
}  // namespace midwire::rules
