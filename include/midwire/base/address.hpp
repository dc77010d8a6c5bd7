#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <midwire/base/export.hpp>

namespace midwire {

/// One end of a connection: IPv4 or IPv6 with a port, or the path of a unix socket. A plain value of 120 octets.
class MIDWIRE_API address {
 public:
  enum class kind : std::uint8_t { none, ipv4, ipv6, unix_path };
  static constexpr std::size_t max_path = 107;

  address() noexcept = default;
  /// `octets` are 4 or 16 in network order; `port` is in host order.
  static address ipv4(const std::array<std::uint8_t, 4>& octets, std::uint16_t port) noexcept;
  /// An IPv4 address mapped into IPv6 (RFC 4291 section 2.5.5.2) becomes the IPv4 address it stands for.
  static address ipv6(const std::array<std::uint8_t, 16>& octets, std::uint16_t port, std::uint32_t scope = 0) noexcept;
  /// Paths over 107 octets do not fit a socket: the result is empty. A leading NUL names an abstract socket.
  static address unix_path(std::string_view path) noexcept;
  /// A literal IPv4 or IPv6 address, without brackets; IPv6 may carry `%scope`. Asks nobody.
  static std::optional<address> parse_ip(std::string_view host, std::uint16_t port) noexcept;
  static address any_ipv4(std::uint16_t port) noexcept { return ipv4({}, port); }
  static address any_ipv6(std::uint16_t port) noexcept;
  static address loopback(std::uint16_t port) noexcept { return ipv4({127, 0, 0, 1}, port); }

  kind family() const noexcept { return kind_; }
  bool is_ip() const noexcept { return kind_ == kind::ipv4 || kind_ == kind::ipv6; }
  bool is_unix() const noexcept { return kind_ == kind::unix_path; }
  bool empty() const noexcept { return kind_ == kind::none; }
  /// 127.0.0.0/8, ::1.
  bool is_loopback() const noexcept;
  /// 0.0.0.0, ::.
  bool is_any() const noexcept;
  std::uint16_t port() const noexcept { return port_; }
  std::uint32_t scope() const noexcept { return scope_; }
  address with_port(std::uint16_t port) const noexcept;
  /// 4, 16 or no octets in network order, or the path.
  std::string_view octets() const noexcept { return {data_.data(), size_}; }
  /// `10.0.0.1`, `::1`, or the path.
  std::string host() const;
  /// `10.0.0.1:80`, `[::1]:80`, `unix:/path`.
  std::string text() const;

  friend bool operator==(const address& a, const address& b) noexcept {
    return a.kind_ == b.kind_ && a.port_ == b.port_ && a.scope_ == b.scope_ && a.octets() == b.octets();
  }

 private:
  kind kind_ = kind::none;
  std::uint8_t size_ = 0;
  std::uint16_t port_ = 0;
  std::uint32_t scope_ = 0;
  std::array<char, max_path + 1> data_{};
};

}  // namespace midwire
