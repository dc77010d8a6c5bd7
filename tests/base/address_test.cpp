#include <midwire/base/address.hpp>

#include <gtest/gtest.h>

using midwire::address;

TEST(Address, Texts) {
  struct row {
    const char* host;
    const char* text;
  };
  for (const row& r : {row{"127.0.0.1", "127.0.0.1:80"}, row{"::1", "[::1]:80"}, row{"2001:db8::5", "[2001:db8::5]:80"},
                       row{"::ffff:10.1.2.3", "10.1.2.3:80"}}) {
    const auto a = address::parse_ip(r.host, 80);
    ASSERT_TRUE(a) << r.host;
    EXPECT_EQ(a->text(), r.text);
  }
  EXPECT_EQ(address::unix_path("/run/x").text(), "unix:/run/x");
  EXPECT_EQ(address{}.text(), "-");
}

TEST(Address, WhatIsNoLiteral) {
  for (const char* bad : {"", "localhost", "10.1.0", "10.1.0.256", "1.2.3.4.5", "::1::", "fe80::1%eth0x", "[::1]", " 1.2.3.4"})
    EXPECT_FALSE(address::parse_ip(bad, 1)) << bad;
  EXPECT_TRUE(address::unix_path(std::string(108, 'x')).empty());
  EXPECT_FALSE(address::unix_path(std::string(107, 'x')).empty());
}

TEST(Address, Kinds) {
  EXPECT_TRUE(address::parse_ip("127.9.9.9", 0)->is_loopback());
  EXPECT_TRUE(address::parse_ip("::1", 0)->is_loopback());
  EXPECT_FALSE(address::parse_ip("10.0.0.1", 0)->is_loopback());
  EXPECT_TRUE(address::any_ipv6(5).is_any());
  EXPECT_TRUE(address::any_ipv4(5).is_any());
  EXPECT_EQ(address::loopback(5).with_port(6).port(), 6);
  EXPECT_EQ(address::loopback(5), *address::parse_ip("127.0.0.1", 5));
  EXPECT_FALSE(address::loopback(5) == address::loopback(6));
}
