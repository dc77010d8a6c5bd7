#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <midwire/base/export.hpp>
#include <midwire/base/result.hpp>
#include <midwire/engine/endpoint.hpp>

namespace midwire::streams {

/// One listener and what happens behind it: `mode[:data][@[host:]port]`, spelt as mitmproxy users know it.
struct mode {
  enum class kind : std::uint8_t {
    reverse,  ///< forward each connection to `server`
    serve,    ///< end connections here
  };
  kind how = kind::reverse;
  std::string spec;  ///< as written: the listener's name in events
  endpoint listen;
  endpoint server;  ///< of reverse
};

/// What is wrong with a mode, at which octet of its text, and what to write instead (may be empty).
struct mode_error {
  std::string what;
  std::size_t offset = 0;
  std::string hint;
};

/// Where a mode listens that does not say so itself.
struct listen_defaults {
  std::string host = "127.0.0.1";
  std::optional<std::uint16_t> port{};  ///< nothing: the mode's own (reverse 8080, serve 8888)
};

/// Reads one mode. Words are in any case, schemes in lower case, ports decimal 0 to 65535; `[::1]:80` and
/// `unix:/path` are understood on both sides. Modes and schemes that midwire does not have yet are refused by name.
MIDWIRE_API result<mode, mode_error> parse_mode(std::string_view spec, const listen_defaults& defaults = {});

/// `Cannot spawn multiple servers on the same address: H:P` when two modes listen at one address. Port 0 never clashes.
MIDWIRE_API std::optional<std::string> find_clash(const std::vector<mode>& modes);

}  // namespace midwire::streams
