#include <midwire/streams/source/mode.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include <midwire/base/address.hpp>

namespace midwire::streams {
namespace {

enum class standing : std::uint8_t { here, later, never };

struct mode_word {
  std::string_view name;
  standing stands;
  bool takes_data;
  std::uint16_t port;
};
constexpr std::array<mode_word, 10> mode_words{{{"regular", standing::later, false, 8080},
                                                {"upstream", standing::later, true, 8080},
                                                {"reverse", standing::here, true, 8080},
                                                {"transparent", standing::later, false, 8080},
                                                {"socks5", standing::later, false, 1080},
                                                {"dns", standing::later, false, 53},
                                                {"wireguard", standing::never, true, 51820},
                                                {"local", standing::never, true, 0},
                                                {"tun", standing::never, true, 0},
                                                {"serve", standing::here, false, 8888}}};
constexpr std::array<std::string_view, 8> known_schemes{"http", "https", "tls", "dtls", "udp", "dns", "quic", "http3"};

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
std::string lower(std::string_view text) {
  std::string out{text};
  std::transform(out.begin(), out.end(), out.begin(), [](char c) { return lower(c); });
  return out;
}
bool is_word(std::string_view text) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

std::optional<std::uint16_t> parse_port(std::string_view text) noexcept {
  std::uint16_t port = 0;
  const auto end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, port);
  if (error != std::errc{} || at != end) return std::nullopt;
  return port;
}

// Names as DNS and the hosts file have them, IPv4 literals included; IPv6 literals are checked by the address parser.
bool is_host_name(std::string_view host) noexcept {
  if (host.empty() || host.size() > 253) return false;
  const bool characters = std::all_of(host.begin(), host.end(), [](char c) {
    return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
  });
  return characters && host.front() != '-' && host.front() != '.';
}

/// A cursor over the spec, so that each complaint knows its place.
struct reader {
  std::string_view spec;
  std::size_t at(std::string_view part) const noexcept { return static_cast<std::size_t>(part.data() - spec.data()); }
  failure<mode_error> fail(std::string what, std::string_view part, std::string hint = {}) const {
    return failure{mode_error{std::move(what), std::min(at(part), spec.size()), std::move(hint)}};
  }
};

using parsed_endpoint = result<endpoint, mode_error>;

parsed_endpoint parse_unix(const reader& in, std::string_view text) {
  auto path = text.substr(5);
  if (path.starts_with("//")) path.remove_prefix(2);
  if (path.empty() || path.front() != '/')
    return in.fail("a unix socket needs an absolute path", path, "write unix:/path/of/socket");
  if (path.size() > address::max_path)
    return in.fail("path of a unix socket is longer than 107 octets", path, "use a shorter path");
  endpoint e;
  e.how = endpoint::scheme::unix_path;
  e.path = std::string{path};
  return e;
}

parsed_endpoint parse_server(const reader& in, std::string_view text) {
  if (text.starts_with("unix:")) return parse_unix(in, text);
  const auto whole = std::string{text};
  std::string_view scheme, rest = text;
  if (const auto cut = text.find("://"); cut != text.npos) {
    scheme = text.substr(0, cut), rest = text.substr(cut + 3);
    if (!is_word(scheme)) return in.fail("Invalid server specification: " + whole, text);
  }
  if (rest.ends_with('/')) rest.remove_suffix(1);
  std::string_view host, port;
  bool has_port = false;
  if (rest.starts_with('[')) {
    const auto close = rest.find(']');
    if (close == rest.npos) return in.fail("Invalid server specification: " + whole, rest, "']' is missing");
    host = rest.substr(1, close - 1);
    rest = rest.substr(close + 1);
    if (!rest.empty() && rest.front() != ':') return in.fail("Invalid server specification: " + whole, rest);
    if (!rest.empty()) port = rest.substr(1), has_port = true;
    if (!address::parse_ip(host, 0)) return in.fail("Invalid hostname: " + std::string{host}, host);
  } else {
    const auto colon = rest.find(':');
    host = rest.substr(0, colon);
    if (colon != rest.npos) port = rest.substr(colon + 1), has_port = true;
    if (const auto slash = rest.find('/'); slash != rest.npos)
      return in.fail("Invalid server specification: " + whole, rest.substr(slash), "a server has no path");
    if (rest.find('@') != rest.npos)
      return in.fail("Invalid server specification: " + whole, rest, "a server has no user name");
    if (!is_host_name(host)) {
      if (has_port && port.find(':') != port.npos)
        return in.fail("Invalid server specification: " + whole, rest, "write an IPv6 address in brackets: [::1]:80");
      return in.fail(host.empty() ? "Invalid server specification: " + whole : "Invalid hostname: " + std::string{host},
                     host);
    }
    if (has_port && port.find(':') != port.npos)
      return in.fail("Invalid server specification: " + whole, port, "write an IPv6 address in brackets: [::1]:80");
  }
  const auto known = std::find(known_schemes.begin(), known_schemes.end(), scheme) != known_schemes.end();
  if (!scheme.empty() && scheme != "tcp" && !known)
    return in.fail("Invalid server scheme: " + std::string{scheme}, scheme, "write tcp://HOST:PORT or unix:/path");
  std::optional<std::uint16_t> number;
  if (has_port) {
    number = parse_port(port);
    if (!number || *number == 0) return in.fail("invalid port: " + std::string{port}, port, "a port is 1 to 65535");
  }
  const auto shown = std::string{text.starts_with("[") || text.find("[") != text.npos ? "[" + std::string{host} + "]"
                                                                                      : std::string{host}} +
                     ":" + (number ? std::to_string(*number) : "PORT");
  if (scheme.empty())
    return in.fail("the default scheme 'https' is not available yet", text, "write reverse:tcp://" + shown);
  if (known)
    return in.fail("scheme '" + std::string{scheme} + "' is not available yet", scheme,
                   "write tcp://" + shown + " to relay its octets as they are");
  if (!number) return in.fail("Port specification missing.", text.substr(text.size()), "write tcp://" + shown);
  endpoint e;
  e.host = std::string{host}, e.port = *number;
  return e;
}

parsed_endpoint parse_listen(const reader& in, std::string_view text, const std::string& default_host) {
  if (text.starts_with("unix:")) return parse_unix(in, text);
  endpoint e;
  e.host = default_host;
  std::string_view port = text;
  if (const auto colon = text.rfind(':'); colon != text.npos) {
    auto host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (host.starts_with('[') && host.ends_with(']') && host.size() > 2) {
      host = host.substr(1, host.size() - 2);
      if (!address::parse_ip(host, 0)) return in.fail("Invalid hostname: " + std::string{host}, host);
    } else if (host.find(':') != host.npos) {
      return in.fail("Invalid hostname: " + std::string{host}, host, "write an IPv6 address in brackets: @[::1]:8080");
    } else if (!host.empty() && !is_host_name(host)) {
      return in.fail("Invalid hostname: " + std::string{host}, host);
    }
    if (!host.empty()) e.host = std::string{host};
  }
  const auto number = parse_port(port);
  if (!number) return in.fail("invalid port: " + std::string{port}, port, "a port is 0 to 65535; 0 takes a free one");
  e.port = *number;
  return e;
}

std::string nearest_mode(std::string_view word) {
  for (const auto& m : mode_words) {
    if (m.stands == standing::never) continue;
    // One letter more, less or different.
    const auto [a, b] = std::mismatch(word.begin(), word.end(), m.name.begin(), m.name.end());
    const std::string_view rest_a{a, static_cast<std::size_t>(word.end() - a)},
        rest_b{b, static_cast<std::size_t>(m.name.end() - b)};
    const auto tail = [](std::string_view s) { return s.empty() ? s : s.substr(1); };
    if (tail(rest_a) == rest_b || rest_a == tail(rest_b) || tail(rest_a) == tail(rest_b)) return std::string{m.name};
  }
  return {};
}

}  // namespace

result<mode, mode_error> parse_mode(std::string_view spec, const listen_defaults& defaults) {
  const reader in{spec};
  std::string_view head = spec, listen;
  bool listens = false;
  if (const auto cut = spec.rfind('@'); cut != spec.npos && cut > 0)
    head = spec.substr(0, cut), listen = spec.substr(cut + 1), listens = true;
  const auto colon = head.find(':');
  const auto word = head.substr(0, colon);
  const auto data = colon == head.npos ? std::string_view{spec.data() + word.size(), 0} : head.substr(colon + 1);

  const auto name = lower(word);
  const auto known =
      std::find_if(mode_words.begin(), mode_words.end(), [&](const mode_word& m) { return m.name == name; });
  if (known == mode_words.end()) {
    const auto near = nearest_mode(name);
    return in.fail("unknown mode", word,
                   near.empty() ? "write reverse:tcp://HOST:PORT@PORT, or serve@PORT" : "did you mean '" + near + "'?");
  }
  if (known->stands == standing::never)
    return in.fail("mode '" + name + "' is not a mode of midwire", word,
                   "for live packets see: midwire inline tun:mw0");
  if (known->stands == standing::later)
    return in.fail("mode '" + name + "' is not available yet", word,
                   "available: reverse:tcp://HOST:PORT, reverse:unix:/path, serve");
  if (!known->takes_data && colon != head.npos && !data.empty())
    return in.fail("mode takes no arguments", data, "write " + name + "@PORT");

  mode m;
  m.how = name == "serve" ? mode::kind::serve : mode::kind::reverse;
  m.spec = std::string{spec};
  if (m.how == mode::kind::reverse) {
    if (data.empty()) return in.fail("Invalid server specification: ", data, "write reverse:tcp://HOST:PORT");
    auto server = parse_server(in, data);
    if (!server) return failure{server.error()};
    m.server = std::move(*server);
  }
  m.listen.host = defaults.host;
  m.listen.port = defaults.port.value_or(known->port);
  if (listens) {
    auto at = parse_listen(in, listen, defaults.host);
    if (!at) return failure{at.error()};
    m.listen = std::move(*at);
  }
  return m;
}

std::optional<std::string> find_clash(const std::vector<mode>& modes) {
  const auto text = [](const endpoint& e) {
    if (e.how == endpoint::scheme::unix_path) return "unix:" + e.path;
    return (e.host.find(':') == e.host.npos ? e.host : "[" + e.host + "]") + ":" + std::to_string(e.port);
  };
  for (auto a = modes.begin(); a != modes.end(); ++a)
    for (auto b = modes.begin(); b != a; ++b) {
      const bool same =
          a->listen.how == b->listen.how &&
          (a->listen.how == endpoint::scheme::unix_path
               ? a->listen.path == b->listen.path
               : a->listen.port != 0 && a->listen.port == b->listen.port && a->listen.host == b->listen.host);
      if (same) return "Cannot spawn multiple servers on the same address: " + text(a->listen);
    }
  return std::nullopt;
}

}  // namespace midwire::streams
