#include <midwire/streams/source/own_listeners.hpp>

#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/stat.h>

#include <array>
#include <cstring>

namespace midwire::streams {
namespace {

bool same_host(const address& a, const address& b) noexcept {
  return a.family() == b.family() && a.octets() == b.octets();
}

// Whether the kernel would deliver to this machine itself. Asked when a port fits already, which is rare.
bool is_local(const address& at) {
  if (at.is_loopback() || at.is_any()) return true;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return true;  // in doubt it is ours
  bool found = false;
  for (const auto* i = list; i != nullptr && !found; i = i->ifa_next) {
    if (i->ifa_addr == nullptr) continue;
    address here;
    if (i->ifa_addr->sa_family == AF_INET) {
      std::array<std::uint8_t, 4> octets;
      sockaddr_in in;
      std::memcpy(&in, i->ifa_addr, sizeof in);
      std::memcpy(octets.data(), &in.sin_addr, octets.size());
      here = address::ipv4(octets, 0);
    } else if (i->ifa_addr->sa_family == AF_INET6) {
      std::array<std::uint8_t, 16> octets;
      sockaddr_in6 in;
      std::memcpy(&in, i->ifa_addr, sizeof in);
      std::memcpy(octets.data(), &in.sin6_addr, octets.size());
      here = address::ipv6(octets, 0);
    }
    found = !here.empty() && same_host(here, at);
  }
  freeifaddrs(list);
  return found;
}

bool same_socket_file(const address& a, const address& b) {
  if (a.octets() == b.octets()) return true;
  struct stat one {
  }, two{};
  const auto one_path = std::string{a.octets()}, two_path = std::string{b.octets()};
  return stat(one_path.c_str(), &one) == 0 && stat(two_path.c_str(), &two) == 0 && one.st_dev == two.st_dev &&
         one.st_ino == two.st_ino;
}

bool reaches(const address& to, const address& listening) {
  if (to.is_unix() || listening.is_unix())
    return to.is_unix() && listening.is_unix() && same_socket_file(to, listening);
  if (to.port() != listening.port()) return false;
  if (same_host(to, listening)) return true;
  // 0.0.0.0 and :: as a destination mean this machine's loopback.
  if (to.is_any() && listening.is_loopback() && to.family() == listening.family()) return true;
  if (!listening.is_any()) return false;
  // A socket at :: takes IPv4 as well.
  return (listening.family() == address::kind::ipv6 || to.family() == address::kind::ipv4) && is_local(to);
}

}  // namespace

std::optional<std::string> own_listeners::reached_by(const address& to) const {
  for (const auto& at : listening_)
    if (reaches(to, at))
      return to.text() + " is a listener of this process (" + at.text() + "): it would forward to itself";
  return std::nullopt;
}

}  // namespace midwire::streams
