#include "engine/driver/sockaddr.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace midwire::detail {

kernel_address::kernel_address(const address& a) noexcept {
  switch (a.family()) {
    case address::kind::none: break;
    case address::kind::ipv4: {
      sockaddr_in in{};
      in.sin_family = AF_INET, in.sin_port = htons(a.port());
      std::memcpy(&in.sin_addr, a.octets().data(), sizeof in.sin_addr);
      std::memcpy(&storage, &in, sizeof in);
      size = sizeof in;
      break;
    }
    case address::kind::ipv6: {
      sockaddr_in6 in{};
      in.sin6_family = AF_INET6, in.sin6_port = htons(a.port()), in.sin6_scope_id = a.scope();
      std::memcpy(&in.sin6_addr, a.octets().data(), sizeof in.sin6_addr);
      std::memcpy(&storage, &in, sizeof in);
      size = sizeof in;
      break;
    }
    case address::kind::unix_path: {
      sockaddr_un un{};
      un.sun_family = AF_UNIX;
      std::memcpy(un.sun_path, a.octets().data(), a.octets().size());
      std::memcpy(&storage, &un, sizeof un);
      // The NUL behind a path counts, the one in front of an abstract name is part of it and none follows.
      const std::size_t path = a.octets().size() + (a.octets().front() == 0 ? 0 : 1);
      size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path);
      break;
    }
  }
}

address kernel_address::value() const noexcept {
  switch (family()) {
    case AF_INET: {
      sockaddr_in in;
      std::memcpy(&in, &storage, sizeof in);
      std::array<std::uint8_t, 4> octets;
      std::memcpy(octets.data(), &in.sin_addr, octets.size());
      return address::ipv4(octets, ntohs(in.sin_port));
    }
    case AF_INET6: {
      sockaddr_in6 in;
      std::memcpy(&in, &storage, sizeof in);
      std::array<std::uint8_t, 16> octets;
      std::memcpy(octets.data(), &in.sin6_addr, octets.size());
      return address::ipv6(octets, ntohs(in.sin6_port), in.sin6_scope_id);
    }
    case AF_UNIX: {
      constexpr std::size_t head = offsetof(sockaddr_un, sun_path);
      if (size <= head) return {};
      sockaddr_un un;
      std::memcpy(&un, &storage, sizeof un);
      const std::size_t most = std::min<std::size_t>(size - head, sizeof un.sun_path);
      const std::size_t path = un.sun_path[0] == 0 ? most : strnlen(un.sun_path, most);
      return address::unix_path({un.sun_path, path});
    }
    default: return {};
  }
}

}  // namespace midwire::detail
