#include <midwire/engine/endpoint.hpp>

#include <charconv>

#include <midwire/base/address.hpp>

namespace midwire {

std::string endpoint::text() const {
  if (how == scheme::unix_path) return "unix:" + path;
  const bool six = host.find(':') != host.npos;
  return "tcp://" + (six ? '[' + host + ']' : host) + ':' + std::to_string(port);
}

result<endpoint, endpoint_error> parse_endpoint(std::string_view text) {
  const auto wrong = [](std::string what, std::size_t at) { return failure{endpoint_error{std::move(what), at}}; };
  endpoint e;
  std::size_t at = 0;
  if (text.starts_with("unix:")) {
    at = 5;
    if (text.substr(at).starts_with("//")) at += 2;
    e.how = endpoint::scheme::unix_path;
    e.path = text.substr(at);
    if (e.path.empty()) return wrong("a path must follow 'unix:'", at);
    if (e.path.size() > address::max_path)
      return wrong(
          "the path is longer than the " + std::to_string(address::max_path) + " octets a unix socket may have", at);
    return e;
  }
  if (const auto scheme = text.find("://"); scheme != text.npos) {
    if (text.substr(0, scheme) != "tcp")
      return wrong("unknown scheme '" + std::string{text.substr(0, scheme)} + "': tcp and unix are known", 0);
    at = scheme + 3;
  }
  std::string_view rest = text.substr(at);
  while (rest.ends_with('/')) rest.remove_suffix(1);
  std::string_view digits;
  if (rest.starts_with('[')) {
    const auto close = rest.find(']');
    if (close == rest.npos) return wrong("']' is missing", at);
    e.host = rest.substr(1, close - 1);
    if (!address::parse_ip(e.host, 0)) return wrong("'" + e.host + "' is no IPv6 address", at + 1);
    if (close + 1 >= rest.size() || rest[close + 1] != ':') return wrong("a port must follow: ':PORT'", at + close + 1);
    digits = rest.substr(close + 2), at += close + 2;
  } else {
    const auto colon = rest.rfind(':');
    if (colon == rest.npos) return wrong("a port must follow: ':PORT'", at + rest.size());
    e.host = rest.substr(0, colon);
    if (e.host.find(':') != e.host.npos) return wrong("an IPv6 address is written in brackets: [" + e.host + "]", at);
    digits = rest.substr(colon + 1), at += colon + 1;
  }
  unsigned port = 0;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (digits.empty() || error != std::errc{} || stop != digits.data() + digits.size() || port > 65535)
    return wrong("invalid port: " + std::string{digits}, at);
  e.port = static_cast<std::uint16_t>(port);
  return e;
}

}  // namespace midwire
