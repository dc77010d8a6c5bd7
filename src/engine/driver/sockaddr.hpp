#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <midwire/base/address.hpp>

namespace midwire::detail {

/// An address as the kernel's calls take it and fill it in.
struct kernel_address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  kernel_address() noexcept = default;
  explicit kernel_address(const address& a) noexcept;
  sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const noexcept { return storage.ss_family; }
  /// Makes all of it free for the kernel to fill in.
  void prepare() noexcept { size = sizeof storage, storage.ss_family = AF_UNSPEC; }
  /// IPv4 mapped into IPv6 becomes IPv4; a unix socket without a name, and families not known here, become empty.
  address value() const noexcept;
};

}  // namespace midwire::detail
