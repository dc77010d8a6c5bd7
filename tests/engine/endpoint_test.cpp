#include <midwire/engine/endpoint.hpp>

#include <gtest/gtest.h>

using midwire::endpoint;
using midwire::parse_endpoint;

TEST(Endpoint, WhatIsUnderstood) {
  struct row {
    const char* text;
    const char* host;
    int port;
    const char* shown;
  };
  for (const row& r : {row{"tcp://db:5432", "db", 5432, "tcp://db:5432"}, row{"127.0.0.1:80", "127.0.0.1", 80, "tcp://127.0.0.1:80"},
                       row{"tcp://[::1]:80", "::1", 80, "tcp://[::1]:80"}, row{"tcp://:0", "", 0, "tcp://:0"},
                       row{"tcp://db:5432/", "db", 5432, "tcp://db:5432"}}) {
    const auto e = parse_endpoint(r.text);
    ASSERT_TRUE(e) << r.text << ": " << e.error().what;
    EXPECT_EQ(e->host, r.host);
    EXPECT_EQ(e->port, r.port);
    EXPECT_EQ(e->text(), r.shown);
  }
  for (const char* text : {"unix:/run/db", "unix:///run/db"}) {
    const auto e = parse_endpoint(text);
    ASSERT_TRUE(e);
    EXPECT_EQ(e->how, endpoint::scheme::unix_path);
    EXPECT_EQ(e->path, "/run/db");
  }
}

TEST(Endpoint, ErrorsPointAtTheirPlace) {
  struct row {
    std::string text;
    std::size_t offset;
    const char* word;
  };
  for (const row& r : {row{"tcp://db", 8, "port"}, row{"tcp://db:x", 9, "invalid port: x"}, row{"tcp://db:65536", 9, "65536"},
                       row{"udp://db:1", 0, "unknown scheme 'udp'"}, row{"tcp://::1:80", 6, "brackets"},
                       row{"tcp://[::1:80", 6, "']'"}, row{"tcp://[nix]:80", 7, "no IPv6"}, row{"tcp://[::1]", 11, "port"},
                       row{"unix:", 5, "path"}, row{"unix:/" + std::string(200, 'x'), 5, "longer"}, row{"tcp://db:", 9, "invalid port"}}) {
    const auto e = parse_endpoint(r.text);
    ASSERT_FALSE(e) << r.text;
    EXPECT_EQ(e.error().offset, r.offset) << r.text;
    EXPECT_NE(e.error().what.find(r.word), std::string::npos) << e.error().what;
  }
}
