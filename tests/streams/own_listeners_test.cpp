#include <midwire/streams/source/own_listeners.hpp>

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace {

using midwire::address;
using midwire::streams::own_listeners;

address ip(const char* host, std::uint16_t port) { return *address::parse_ip(host, port); }

struct row {
  const char* listening;
  const char* to;
  bool refused;
};
constexpr row rows[] = {
    {"127.0.0.1", "127.0.0.1", true},
    {"127.0.0.1", "::ffff:127.0.0.1", true},
    {"127.0.0.1", "0.0.0.0", true},
    {"127.0.0.1", "127.0.0.2", false},
    {"127.0.0.1", "::1", false},
    {"::1", "::1", true},
    {"::1", "::", true},
    {"::1", "127.0.0.1", false},
    {"0.0.0.0", "127.0.0.1", true},
    {"0.0.0.0", "127.9.9.9", true},
    {"0.0.0.0", "0.0.0.0", true},
    {"0.0.0.0", "::1", false},
    {"0.0.0.0", "192.0.2.1", false},
    {"::", "127.0.0.1", true},
    {"::", "::1", true},
    {"::", "0.0.0.0", true},
    {"::", "2001:db8::1", false},
};

TEST(own_listeners, addresses) {
  for (const auto& r : rows) {
    own_listeners own;
    own.add(ip(r.listening, 8080));
    EXPECT_EQ(own.reached_by(ip(r.to, 8080)).has_value(), r.refused) << r.listening << " from " << r.to;
    EXPECT_FALSE(own.reached_by(ip(r.to, 8081))) << r.to;
  }
}

TEST(own_listeners, says_which) {
  own_listeners own;
  own.add(ip("127.0.0.1", 1));
  own.add(ip("0.0.0.0", 2));
  EXPECT_EQ(own.reached_by(ip("127.0.0.1", 2)),
            "127.0.0.1:2 is a listener of this process (0.0.0.0:2): it would forward to itself");
}

TEST(own_listeners, a_socket_file_by_any_name) {
  char folder[] = "/tmp/midwire-own-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::string path = std::string{folder} + "/a", other = std::string{folder} + "/b",
                    link = std::string{folder} + "/link";
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  std::strncpy(at.sun_path, path.c_str(), sizeof at.sun_path - 1);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  ASSERT_EQ(symlink(path.c_str(), link.c_str()), 0);
  own_listeners own;
  own.add(address::unix_path(path));
  EXPECT_TRUE(own.reached_by(address::unix_path(path)));
  EXPECT_TRUE(own.reached_by(address::unix_path(std::string{folder} + "/./a")));
  EXPECT_TRUE(own.reached_by(address::unix_path(link)));
  EXPECT_FALSE(own.reached_by(address::unix_path(other)));
  EXPECT_FALSE(own.reached_by(ip("127.0.0.1", 1)));
  close(fd);
  unlink(path.c_str()), unlink(link.c_str()), rmdir(folder);
}

}  // namespace
