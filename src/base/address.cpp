#include <midwire/base/address.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <charconv>
#include <cstring>

namespace midwire {

address address::ipv4(const std::array<std::uint8_t, 4>& octets, std::uint16_t port) noexcept {
  address a;
  a.kind_ = kind::ipv4, a.size_ = 4, a.port_ = port;
  std::memcpy(a.data_.data(), octets.data(), 4);
  return a;
}

address address::ipv6(const std::array<std::uint8_t, 16>& octets, std::uint16_t port, std::uint32_t scope) noexcept {
  static constexpr std::uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (std::memcmp(octets.data(), mapped, 12) == 0) return ipv4({octets[12], octets[13], octets[14], octets[15]}, port);
  address a;
  a.kind_ = kind::ipv6, a.size_ = 16, a.port_ = port, a.scope_ = scope;
  std::memcpy(a.data_.data(), octets.data(), 16);
  return a;
}

address address::any_ipv6(std::uint16_t port) noexcept {
  address a;
  a.kind_ = kind::ipv6, a.size_ = 16, a.port_ = port;
  return a;
}

address address::unix_path(std::string_view path) noexcept {
  address a;
  if (path.empty() || path.size() > max_path) return a;
  a.kind_ = kind::unix_path, a.size_ = static_cast<std::uint8_t>(path.size());
  std::memcpy(a.data_.data(), path.data(), path.size());
  return a;
}

std::optional<address> address::parse_ip(std::string_view host, std::uint16_t port) noexcept {
  char text[64];
  if (host.empty() || host.size() >= sizeof text) return std::nullopt;
  if (host.find('\0') != host.npos) return std::nullopt;  // inet_pton would stop there
  const auto percent = host.find('%');
  const auto plain = host.substr(0, percent);
  std::memcpy(text, plain.data(), plain.size());
  text[plain.size()] = 0;
  std::array<std::uint8_t, 4> four;
  if (percent == host.npos && inet_pton(AF_INET, text, four.data()) == 1) return ipv4(four, port);
  std::array<std::uint8_t, 16> six;
  if (inet_pton(AF_INET6, text, six.data()) != 1) return std::nullopt;
  std::uint32_t scope = 0;
  if (percent != host.npos) {
    const auto digits = host.substr(percent + 1);
    const auto end = digits.data() + digits.size();
    if (const auto [stop, error] = std::from_chars(digits.data(), end, scope); error != std::errc{} || stop != end)
      return std::nullopt;
  }
  return ipv6(six, port, scope);
}

bool address::is_loopback() const noexcept {
  if (kind_ == kind::ipv4) return data_[0] == 127;
  if (kind_ != kind::ipv6) return false;
  for (int i = 0; i < 15; ++i)
    if (data_[static_cast<std::size_t>(i)] != 0) return false;
  return data_[15] == 1;
}

bool address::is_any() const noexcept {
  if (!is_ip()) return false;
  for (const char c : octets())
    if (c != 0) return false;
  return true;
}

address address::with_port(std::uint16_t port) const noexcept {
  address copy = *this;
  if (is_ip()) copy.port_ = port;
  return copy;
}

std::string address::host() const {
  char text[INET6_ADDRSTRLEN] = "";
  switch (kind_) {
    case kind::none: return {};
    case kind::ipv4: return inet_ntop(AF_INET, data_.data(), text, sizeof text) ? text : "";
    case kind::ipv6: {
      std::string host = inet_ntop(AF_INET6, data_.data(), text, sizeof text) ? text : "";
      if (scope_ != 0) host += '%' + std::to_string(scope_);
      return host;
    }
    case kind::unix_path: return std::string{data_[0] == 0 ? "@" : ""} + std::string{octets().substr(data_[0] == 0)};
  }
  return {};
}

std::string address::text() const {
  switch (kind_) {
    case kind::none: return "-";
    case kind::ipv4: return host() + ':' + std::to_string(port_);
    case kind::ipv6: return '[' + host() + "]:" + std::to_string(port_);
    case kind::unix_path: return "unix:" + host();
  }
  return {};
}

}  // namespace midwire
