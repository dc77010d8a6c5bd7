#include <midwire/streams/source/mode.hpp>

#include <gtest/gtest.h>

namespace {

using midwire::endpoint;
using midwire::streams::find_clash;
using midwire::streams::mode;
using midwire::streams::parse_mode;

struct good_row {
  const char* spec;
  mode::kind how;
  const char* listen;
  const char* server;
};
constexpr good_row good[] = {
    {"reverse:tcp://db:5432@15432", mode::kind::reverse, "127.0.0.1 15432", "db 5432"},
    {"reverse:tcp://db:5432", mode::kind::reverse, "127.0.0.1 8080", "db 5432"},
    {"REVERSE:tcp://db:5432/@15432", mode::kind::reverse, "127.0.0.1 15432", "db 5432"},
    {"reverse:tcp://10.0.0.1:80@0.0.0.0:8080", mode::kind::reverse, "0.0.0.0 8080", "10.0.0.1 80"},
    {"reverse:tcp://[::1]:80@[::1]:8080", mode::kind::reverse, "::1 8080", "::1 80"},
    {"reverse:tcp://[fe80::1%2]:80@0", mode::kind::reverse, "127.0.0.1 0", "fe80::1%2 80"},
    {"reverse:tcp://a.b-c_d:1@:65535", mode::kind::reverse, "127.0.0.1 65535", "a.b-c_d 1"},
    {"reverse:unix:/run/db@15432", mode::kind::reverse, "127.0.0.1 15432", "unix /run/db"},
    {"reverse:unix:/run/db@unix:/run/front", mode::kind::reverse, "unix /run/front", "unix /run/db"},
    {"reverse:unix:///run/db@unix:///run/front", mode::kind::reverse, "unix /run/front", "unix /run/db"},
    {"reverse:tcp://db:5432@unix:/run/front", mode::kind::reverse, "unix /run/front", "db 5432"},
    {"reverse:tcp://db:5432@localhost:1", mode::kind::reverse, "localhost 1", "db 5432"},
    {"serve", mode::kind::serve, "127.0.0.1 8888", " 0"},
    {"serve@9000", mode::kind::serve, "127.0.0.1 9000", " 0"},
    {"Serve:@[::]:9000", mode::kind::serve, ":: 9000", " 0"},
    {"serve@unix:/tmp/s", mode::kind::serve, "unix /tmp/s", " 0"},
};

std::string words(const endpoint& e) {
  return e.how == endpoint::scheme::unix_path ? "unix " + e.path : e.host + " " + std::to_string(e.port);
}

TEST(mode, good_specs) {
  for (const auto& row : good) {
    const auto m = parse_mode(row.spec);
    ASSERT_TRUE(m) << row.spec << ": " << m.error().what;
    EXPECT_EQ(m->how, row.how) << row.spec;
    EXPECT_EQ(m->spec, row.spec);
    EXPECT_EQ(words(m->listen), row.listen) << row.spec;
    EXPECT_EQ(words(m->server), row.server) << row.spec;
  }
}

struct bad_row {
  const char* spec;
  const char* what;
  std::size_t offset;
  const char* hint;  // a part of it
};
constexpr bad_row bad[] = {
    {"", "unknown mode", 0, "reverse:tcp://"},
    {"revers:tcp://a:1", "unknown mode", 0, "did you mean 'reverse'?"},
    {"serv@80", "unknown mode", 0, "did you mean 'serve'?"},
    {"@8080", "unknown mode", 0, ""},
    {"tcp://a:1", "unknown mode", 0, "reverse:tcp://HOST:PORT"},
    {"regular@8080", "mode 'regular' is not available yet", 0, "reverse:tcp://"},
    {"socks5", "mode 'socks5' is not available yet", 0, "reverse:tcp://"},
    {"upstream:http://a:1", "mode 'upstream' is not available yet", 0, ""},
    {"transparent@1", "mode 'transparent' is not available yet", 0, ""},
    {"dns", "mode 'dns' is not available yet", 0, ""},
    {"wireguard", "mode 'wireguard' is not a mode of midwire", 0, "midwire inline tun:mw0"},
    {"local:curl", "mode 'local' is not a mode of midwire", 0, "midwire inline tun:mw0"},
    {"tun:x", "mode 'tun' is not a mode of midwire", 0, "midwire inline tun:mw0"},
    {"serve:80", "mode takes no arguments", 6, "serve@PORT"},
    {"serve@", "invalid port: ", 6, "0 to 65535"},
    {"serve@x", "invalid port: x", 6, "0 to 65535"},
    {"serve@65536", "invalid port: 65536", 6, "0 to 65535"},
    {"serve@-1", "invalid port: -1", 6, "0 to 65535"},
    {"serve@+1", "invalid port: +1", 6, "0 to 65535"},
    {"serve@127.0.0.1:http", "invalid port: http", 16, "0 to 65535"},
    {"serve@::1:80", "Invalid hostname: ::1", 6, "brackets"},
    {"serve@[::x]:80", "Invalid hostname: ::x", 7, ""},
    {"serve@a b:80", "Invalid hostname: a b", 6, ""},
    {"serve@unix:", "a unix socket needs an absolute path", 11, "unix:/path"},
    {"serve@unix:rel", "a unix socket needs an absolute path", 11, "unix:/path"},
    {"reverse", "Invalid server specification: ", 7, "reverse:tcp://HOST:PORT"},
    {"reverse:@80", "Invalid server specification: ", 8, "reverse:tcp://HOST:PORT"},
    {"reverse:tcp://db", "Port specification missing.", 16, "tcp://db:PORT"},
    {"reverse:tcp://db@80", "Port specification missing.", 16, "tcp://db:PORT"},
    {"reverse:tcp://db:", "invalid port: ", 17, "1 to 65535"},
    {"reverse:tcp://db:0", "invalid port: 0", 17, "1 to 65535"},
    {"reverse:tcp://db:99999", "invalid port: 99999", 17, "1 to 65535"},
    {"reverse:tcp://db:80/path", "Invalid server specification: tcp://db:80/path", 19, "no path"},
    {"reverse:tcp://me@db:80", "Port specification missing.", 16, ""},  // the last '@' says where to listen
    {"reverse:tcp://::1:80@1", "Invalid server specification: tcp://::1:80", 14, "brackets"},
    {"reverse:tcp://[::1:80", "Invalid server specification: tcp://[::1:80", 14, "']'"},
    {"reverse:tcp://:80", "Invalid server specification: tcp://:80", 14, ""},
    {"reverse:gopher://a:1", "Invalid server scheme: gopher", 8, "tcp://HOST:PORT"},
    {"reverse:TCP://a:1", "Invalid server scheme: TCP", 8, "tcp://HOST:PORT"},
    {"reverse:tls://a:1", "scheme 'tls' is not available yet", 8, "tcp://a:1"},
    {"reverse:udp://a:1", "scheme 'udp' is not available yet", 8, "tcp://a:1"},
    {"reverse:http3://[::1]:1", "scheme 'http3' is not available yet", 8, "tcp://[::1]:1"},
    {"reverse:db:5432", "the default scheme 'https' is not available yet", 8, "reverse:tcp://db:5432"},
    {"reverse:db", "the default scheme 'https' is not available yet", 8, "reverse:tcp://db:PORT"},
};

TEST(mode, bad_specs_say_what_where_and_what_to_do) {
  for (const auto& row : bad) {
    const auto m = parse_mode(row.spec);
    ASSERT_FALSE(m) << row.spec;
    EXPECT_EQ(m.error().what, row.what) << row.spec;
    EXPECT_EQ(m.error().offset, row.offset) << row.spec;
    EXPECT_NE(m.error().hint.find(row.hint), std::string::npos) << row.spec << ": " << m.error().hint;
  }
}

TEST(mode, a_path_that_does_not_fit_a_socket_is_refused) {
  EXPECT_TRUE(parse_mode("reverse:unix:/" + std::string(106, 'a') + "@1"));
  EXPECT_FALSE(parse_mode("reverse:unix:/" + std::string(107, 'a') + "@1"));
}

TEST(mode, defaults_are_taken_when_the_mode_says_nothing) {
  EXPECT_EQ(words(parse_mode("reverse:tcp://a:1", {"0.0.0.0", 7777})->listen), "0.0.0.0 7777");
  EXPECT_EQ(words(parse_mode("serve@1", {"0.0.0.0", 7777})->listen), "0.0.0.0 1");
}

TEST(mode, two_modes_on_one_address) {
  const auto all = [](std::initializer_list<const char*> specs) {
    std::vector<mode> modes;
    for (const auto* s : specs) modes.push_back(*parse_mode(s));
    return find_clash(modes).value_or("");
  };
  EXPECT_EQ(all({"serve@80", "reverse:tcp://a:1@80"}),
            "Cannot spawn multiple servers on the same address: 127.0.0.1:80");
  EXPECT_EQ(all({"serve@[::1]:80", "serve@[::1]:80"}), "Cannot spawn multiple servers on the same address: [::1]:80");
  EXPECT_EQ(all({"serve@unix:/a", "serve@unix:/a"}), "Cannot spawn multiple servers on the same address: unix:/a");
  EXPECT_EQ(all({"serve@80", "serve@81", "serve@127.0.0.2:80", "serve@unix:/a"}), "");
  EXPECT_EQ(all({"serve@0", "serve@0"}), "");
}

}  // namespace
