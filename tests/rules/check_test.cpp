#include "rules/check.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace midwire::rules::detail {
namespace {

using fields::level;

/// A refused filter: where the caret stands (from 1), what it says, what it hints (a part of it each).
struct row {
  std::string filter;
  std::size_t column;
  const char* message;
  const char* hint = "";
};

void refuse(const std::vector<row>& rows, level at = level::stream) {
  for (const row& r : rows) {
    try {
      compile_filter(r.filter, at);
      ADD_FAILURE() << "accepted: " << r.filter;
    } catch (const failure_at& f) {
      EXPECT_EQ(f.at.begin + 1, r.column) << r.filter << "\n  " << f.message;
      EXPECT_LE(f.at.begin, f.at.end) << r.filter;
      EXPECT_LE(f.at.end, r.filter.size()) << r.filter;
      EXPECT_NE(f.message.find(r.message), std::string::npos) << r.filter << "\n  " << f.message;
      EXPECT_NE(f.hint.find(r.hint), std::string::npos) << r.filter << "\n  " << f.hint;
    }
  }
}

TEST(check, shape) {
  refuse({{"tcp.port = 80", 10, "'=' is not a test", "write '=='"},
          {"tcp.port <> 80", 10, "unknown operator '<>'", "'!='"},
          {"tcp udp", 5, "not 'udp'", "'and' or 'or'"},
          {"tcp &&", 7, "expected a field behind '&&', not the end"},
          {"&& tcp", 1, "expected a field, not '&&'"},
          {"tcp and", 8, "behind 'and', not the end"},
          {"(tcp", 1, "'(' without its ')'"},
          {"tcp)", 4, "')' without its '('"},
          {"()", 1, "nothing between"},
          {"any tcp", 5, "need a relation", "any tcp.port == 80"},
          {"tcp.port == 80 == 80", 16, "second relation", "join them with 'and'"},
          {"(tcp.port + 1) * 2 == 3", 16, "unexpected '*'", "{ } groups arithmetic"},
          {"(tcp.port) == 80", 12, "unexpected '=='", "{ }"},
          {"tcp | ip", 5, "unknown operator '|'", "'||' or 'or'"},
          {"tcp xor ip", 5, "not 'xor'", "not b"},
          {"tcp ^^ ip", 5, "'^^'"},
          {"tcp.port ==", 12, "expected a value behind '==', not the end"},
          {"tcp.port == and", 13, "expected a value behind '=='"},
          {"not", 4, "expected a field behind 'not'"},
          {"{tcp.port + 1 == 2", 15, "expected '}', not '=='"},
          {"tcp.port not 80", 14, "expected 'in' behind 'not'"},
          {"tcp.port == “80”", 13, "unexpected character '“'", "plain double quotes"},
          {"tcp.port == ${ip.src}", 13, "selected packet"},
          {"tcp.port == \"80", 13, "text without its closing"},
          {"payload[0] == 'G", 15, "character without its closing"},
          {"tcp.port == 80 ;", 16, "unexpected character ';'"}});
}

TEST(check, a_field_stands_on_the_left) {
  refuse({{"80 == tcp.port", 1, "expected a field on the left side, not '80'", "field first"},
          {"1 == 1", 1, "expected a field on the left"},
          {"2 + tcp.srcport == 5", 1, "expected a field, not '2'"},
          {"80", 1, "a value alone is not a test"},
          {"\"abc\"", 1, "a value alone"},
          {"-80 == tcp.port", 1, "expected a field on the left"},
          {"len(payload)", 1, "a function alone", "len(payload) == 1"},
          {"10.0.0.1 == ip.src", 1, "expected a field on the left"},
          {"aa:bb == payload", 1, "expected a field on the left"}});
}

TEST(check, names) {
  refuse({{"tcp.prt == 80", 1, "unknown field 'tcp.prt'", "'tcp.port'"},
          {"foo == 80", 1, "unknown field 'foo'"},
          {"TCP", 1, "unknown field 'TCP'", "'tcp'"},
          {"tcp AND ip", 5, "not 'AND'", "'and'"},
          {"tcp.port EQ 80", 10, "not 'EQ'", "'eq'"},
          {"foo(tcp.port) == 1", 1, "unknown function 'foo'", "len upper"},
          {"lenn(payload) == 1", 1, "unknown function 'lenn'", "'len'"},
          {"ip.src == ip.dts", 11, "'ip.dts' is not an IPv4 address", "'ip.dst'"},
          {"tcp.srcport-1 == 5", 1, "unknown field 'tcp.srcport-1'"},
          {"ip && unit.lenn > 4", 7, "unknown field 'unit.lenn'", "'unit.len'"}});
}

TEST(check, fields_that_only_packets_have) {
  refuse({{"ip.ttl == 4", 1, "field 'ip.ttl' exists only at packet level", "a proxied connection has: from.client"},
          {"dns.qry.name == \"x\"", 1, "'dns.qry.name' exists only at packet level"},
          {"tcp.payload contains \"x\"", 1, "only at packet level", "'payload'"},
          {"tcp.port == 80 && frame.number > 4", 19, "'frame.number' exists only"},
          {"udp", 1, "'udp' exists only"},
          {"tcp.port == ip.ttl", 13, "'ip.ttl' exists only"}});
}

TEST(check, sets) {
  refuse({{"tcp.port in {80 443}", 17, "expected ',' or '}'", "commas"},
          {"tcp.port in {80,}", 17, "expected a value behind ','"},
          {"tcp.port in {}", 13, "an empty set"},
          {"tcp.port in 80", 13, "expected a set behind 'in'", "braces"},
          {"tcp.port in {80", 13, "'{' without its '}'"},
          {"tcp.port in {80..}", 18, "expected a value in the set"},
          {"tcp.port in {99999}", 14, "too large"},
          {"tcp.port in {80..99999}", 18, "too large"},
          {"ip.src in {10.0.0.0/8..11.0.0.0}", 12, "network at the end"},
          {"ip.src in {::1}", 12, "not an IPv4 address", "ipv6"}});
}

TEST(check, types) {
  refuse({{"tcp.port == \"80\"", 13, "is a number", "without quotes"},
          {"tcp.port > \"a\"", 12, "is a number"},
          {"unit.len == 64kb", 13, "'64kb' is not a number", "KiB"},
          {"unit.len == 64.0", 13, "'64.0' is not a number", "whole number"},
          {"ip.addr == \"10.1.0.5\"", 12, "is text", "without quotes"},
          {"tcp.port == http", 13, "'http' is not a number", "not looked up"},
          {"tcp.port == www", 13, "'www' is not a number", "not looked up"},
          {"tcp.port contains \"8\"", 10, "neither", "string(tcp.port)"},
          {"ip.src matches \"10\"", 8, "neither", "string(ip.src)"},
          {"tcp contains \"8\"", 5, "neither", "payload contains"},
          {"upper(tcp.port) == \"80\"", 7, "'upper' needs text"},
          {"lower(payload) == \"x\"", 7, "'lower' needs text", "ignores case"},
          {"len(\"abc\") == 3", 5, "expected a field"},
          {"len(tcp.port) == 2", 5, "'len' needs"},
          {"max(tcp.port, ip.src) == 1", 15, "cannot compare"},
          {"count(payload[0:2]) == 1", 7, "'count' needs a field"},
          {"string(payload) == \"x\"", 8, "'string' needs"},
          {"abs(payload) == 1", 5, "'abs' needs"},
          {"len() == 1", 1, "needs a field between"},
          {"len(payload, payload) == 1", 14, "takes one value"},
          {"tcp.port[0] == 1", 1, "slices"},
          {"tcp[0] == 1", 1, "slices", "payload[0:4]"},
          {"from.client == 1", 13, "present or not", "bare: from.client"},
          {"from.client == True", 13, "present or not"},
          {"tcp.port == payload", 13, "cannot compare"},
          {"ip.src == ipv6.src", 11, "cannot compare"},
          {"tcp.port == ip.src", 13, "cannot compare"},
          {"ip.src + 1 == 2", 1, "cannot be done"},
          {"payload + 1 == 2", 1, "cannot be done"},
          {"conn.age * 2 > 1s", 1, "cannot be done"},
          {"payload[0:2] & ff == 1", 16, "equal length: 2 and 1"},
          {"tcp.port / 0 == 1", 12, "division by zero"},
          {"conn.age > \"10s\"", 12, "is a time", "10s"},
          {"conn.age > 10x", 12, "'10x' is not a time"},
          {"ip.src[0][0] == 1", 10, "a slice of a slice"},
          {"chance(5%) == 1", 12, "not '=='"},
          {"chance(5)", 9, "expected '%'"},
          {"chance(500%)", 8, "0 to 100"},
          {"chance 5%", 8, "expected '('"}});
}

TEST(check, numbers_and_text) {
  refuse({{"tcp.port == 99999", 13, "'99999' is too large for 'tcp.port'", "at most 65535"},
          {"conn.id == 0x10000000000000000", 12, "too large"},
          {"tcp.port == 080", 13, "'080' is not a number", "octal"},
          {"tcp.port == 0x", 13, "'0x' is not a number"},
          {"tcp.port == 1e3", 13, "'1e3' is not a number"},
          {"tcp.port == -1", 13, "too small"},
          {"payload[0:2] == 0x7878", 17, "are not octets", "78:78"},
          {"payload contains 4z", 18, "are not octets"},
          {"payload contains \"\"", 18, "empty text"},
          {"payload == 123", 12, "are not octets", "two digits"},
          {"payload matches GET", 17, "quoted regex", "payload matches"},
          {"payload matches payload", 17, "quoted regex"},
          {"payload matches \"a(b\"", 21, "bad regex"},
          {"payload matches \"\\x61[b\"", 24, "bad regex"},
          {"payload matches \"(*UTF)a\"", 24, "bad regex"},
          {"payload matches \"\\w\"", 18, "unknown escape '\\w'", "write \"\\\\w\", or raw text: r\"\\w\""},
          {"payload == \"\\777\"", 13, "over \\377"},
          {"payload == \"\\xzz\"", 13, "needs hex digits"},
          {"payload == \"\\ud800\"", 13, "Unicode"},
          {"payload == 'ab'", 12, "one octet"}});
}

TEST(check, addresses_and_slices) {
  refuse({{"ip.src == 10.1.0", 11, "'10.1.0' is not an IPv4 address"},
          {"ip.src == 10.1.0.256", 11, "not an IPv4 address"},
          {"ip.src == 10.1.0.5/33", 11, "not a network", "at most /32"},
          {"ipv6.src == ::1/129", 13, "not a network", "at most /128"},
          {"ipv6.src == ::ffff:10.0.0.1", 13, "never appears", "10.0.0.1"},
          {"ip.src == ::1", 11, "not an IPv4 address", "ipv6.src"},
          {"ip.src == ::ffff:10.0.0.1", 11, "not an IPv4 address"},
          {"ipv6.src == 10.0.0.1", 13, "not an IPv6 address", "ip.src"},
          {"ip.src == example.org", 11, "not an IPv4 address", "never waits for DNS"},
          {"payload[0:0]", 9, "no octets"},
          {"payload[3-1]", 9, "ends before it begins"},
          {"payload[a:b]", 9, "made of numbers"},
          {"payload[0:4 == 47", 8, "'[' without"},
          {"payload[]", 9, "expected a number"},
          {"payload[0", 8, "'[' without"},
          {"payload[0:99999999999]", 11, "too large"},
          {"ip.src#0", 7, "number of a layer"},
          {"ip.src#x", 7, "number of a layer"}});
}

TEST(check, types_of_packet_fields) {
  refuse({{"ip.ttl == 64.0", 11, "not a number"},
          {"ip.len == 0x10000", 11, "too large", "65535"},
          {"eth.src == 02:00:00", 12, "not a MAC address"},
          {"eth.src == 02:00:00:00:00:00:07", 12, "not a MAC address"},
          {"eth.src == \"02:00:00:00:00:01\"", 12, "is text"},
          {"dns.qry.name == 5", 17, "is text", "\"5\""},
          {"tcp.flags.syn == 2", 18, "too large"},
          {"radiotap.dbm_antsignal == -129", 27, "too small"},
          {"len(dns.qry.name) == \"x\"", 22, "is a number"}},
         level::packet);
  for (const char* good :
       {"ip.ttl == 64", "eth.src == 02:00:00:00:00:01", "eth.src == 02-00-00-00-00-01", "eth.src == 0200.0000.0001",
        "tcp.flags.syn == True", "tcp.flags.syn == 1", "upper(dns.qry.name) contains \"X\"", "tcp.flags & 2 == 2",
        "radiotap.dbm_antsignal < -50", "udp.port in {53, 5353}", "tcp.analysis.retransmission"})
    EXPECT_NO_THROW(compile_filter(good, level::packet)) << good;
}

TEST(check, depth_and_size_are_bounded) {
  const auto many = [](std::size_t n, std::string_view s) {
    std::string out;
    for (std::size_t i = 0; i < n; ++i) out += s;
    return out;
  };
  refuse({{many(100'000, "(") + "ip" + many(100'000, ")"), 201, "nested deeper"},
          {many(100'000, "!") + "ip", 201, "nested deeper"},
          {many(100'000, "not ") + "ip", 801, "nested deeper"},
          {many(100'000, "-") + "tcp.port == 1", 24, "nested deeper"},
          {many(100'000, "{") + "tcp.port == 1", 24, "nested deeper"},
          {many(100'000, "len("), 93, "nested deeper"},
          {"tcp.port" + many(100'000, " + 1") + " == 1", 102, "more than 24 terms"},
          {"tcp.port + tcp.port + tcp.port + tcp.port + tcp.port == 1", 1, "more than 16 values"},
          {"payload[0" + many(100, ",1") + "]", 8, "more than 64 parts"}});
  EXPECT_NO_THROW(compile_filter(many(199, "(") + "ip" + many(199, ")")));
  EXPECT_NO_THROW(compile_filter("ip" + many(20'000, " && ip")));
  std::string ports = "tcp.port in {1";
  for (int i = 2; i < 50'000; ++i) ports += ',' + std::to_string(i);
  EXPECT_NO_THROW(compile_filter(ports + '}'));
}

}  // namespace
}  // namespace midwire::rules::detail
