#pragma once

#include <string>
#include <string_view>

#include <midwire/base/export.hpp>
#include <midwire/base/result.hpp>

namespace midwire {

/// Where to listen or to connect: `tcp://host:port`, `unix:/path`, `unix:///path`.
struct MIDWIRE_API endpoint {
  enum class scheme : std::uint8_t { tcp, unix_path };
  scheme how = scheme::tcp;
  std::string host;  ///< a name or a literal without brackets; empty is every address (to listen)
  std::uint16_t port = 0;
  std::string path;
  std::string text() const;
};

/// What is wrong with an endpoint, and at which octet of its text.
struct endpoint_error {
  std::string what;
  std::size_t offset;
};

/// `tcp://host:port`, `host:port`, `unix:/path`. `[::1]:80` for IPv6.
MIDWIRE_API result<endpoint, endpoint_error> parse_endpoint(std::string_view text);

}  // namespace midwire
