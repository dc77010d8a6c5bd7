#include <midwire/fields/facts.hpp>

#include <charconv>

#include "fields/stream_fields.hpp"

namespace midwire::fields {

namespace {

using values = std::array<field_value, max_values>;

std::size_t present(bool is) noexcept { return is ? 1 : 0; }

std::size_t number(std::uint64_t n, values& out) noexcept {
  out[0].number = n;
  return 1;
}

/// Adds the value of an end, where the end has one.
std::size_t host(const address& end, address::kind family, std::size_t have, values& out) noexcept {
  if (end.family() != family) return have;
  out[have].octets = as_bytes(end.octets());
  return have + 1;
}
std::size_t port(const address& end, std::size_t have, values& out) noexcept {
  if (!end.is_ip()) return have;
  out[have].number = end.port();
  return have + 1;
}

void append_number(std::string& out, std::uint64_t n, int base = 10) {
  char digits[24];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, n, base).ptr);
}

void append_ipv4(std::string& out, byte_view octets) {
  for (std::size_t i = 0; i < octets.size(); ++i) {
    if (i > 0) out += '.';
    append_number(out, octets[i]);
  }
}

/// RFC 5952 section 4: the longest run of two or more zero groups, the first of equal ones, becomes `::`.
void append_ipv6(std::string& out, byte_view octets) {
  std::array<unsigned, 8> groups{};
  for (std::size_t i = 0; i < 8; ++i) groups[i] = octets[2 * i] * 256u + octets[2 * i + 1];
  std::size_t gap = 8, longest = 1;
  for (std::size_t i = 0; i < 8; ++i) {
    std::size_t run = 0;
    while (i + run < 8 && groups[i + run] == 0) ++run;
    if (run > longest) gap = i, longest = run;
  }
  for (std::size_t i = 0; i < 8;) {
    if (i == gap) {
      out += "::";
      i += longest;
      continue;
    }
    if (i > 0 && (gap == 8 || i != gap + longest)) out += ':';
    append_number(out, groups[i++], 16);
  }
}

}  // namespace

std::size_t read(field_id f, const stream_unit& u, values& out) noexcept {
  const bool up = u.dir == direction::to_server;
  const address& from = up ? u.conn->client : u.conn->server;
  const address& to = up ? u.conn->server : u.conn->client;
  using enum address::kind;
  const bool four = from.family() == ipv4 || to.family() == ipv4, six = from.family() == ipv6 || to.family() == ipv6;
  switch (static_cast<stream_field>(f)) {
    case stream_field::from_client: return present(up);
    case stream_field::from_server: return present(!up);
    case stream_field::conn_id: return number(u.conn->id, out);
    case stream_field::conn_age: return number(static_cast<std::uint64_t>(u.age.count() < 0 ? 0 : u.age.count()), out);
    case stream_field::conn_octets: return number(u.before, out);
    case stream_field::unit_index: return number(u.index, out);
    case stream_field::unit_len: return number(u.payload.size(), out);
    case stream_field::payload: out[0].octets = u.payload; return present(!u.payload.empty());
    case stream_field::ip: return present(four);
    case stream_field::ip_src: return host(from, ipv4, 0, out);
    case stream_field::ip_dst: return host(to, ipv4, 0, out);
    case stream_field::ip_addr: return host(to, ipv4, host(from, ipv4, 0, out), out);
    case stream_field::ip_version: return four ? number(4, out) : 0;
    case stream_field::ipv6: return present(six);
    case stream_field::ipv6_src: return host(from, ipv6, 0, out);
    case stream_field::ipv6_dst: return host(to, ipv6, 0, out);
    case stream_field::ipv6_addr: return host(to, ipv6, host(from, ipv6, 0, out), out);
    case stream_field::ipv6_version: return six ? number(6, out) : 0;
    case stream_field::tcp: return present(from.is_ip() || to.is_ip());
    case stream_field::tcp_srcport: return port(from, 0, out);
    case stream_field::tcp_dstport: return port(to, 0, out);
    case stream_field::tcp_port: return port(to, port(from, 0, out), out);
    case stream_field::count_: break;
  }
  return 0;
}

void append_text(std::string& out, field_id f, const stream_unit& u) {
  values found;
  const std::size_t count = read(f, u, found);
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) out += ',';
    append_text(out, info(f).type, found[i]);
  }
}

void append_text(std::string& out, field_type t, const field_value& v) {
  switch (t) {
    case field_type::none: out += '1'; break;
    case field_type::bytes: out += as_text(v.octets); break;
    case field_type::ip4: append_ipv4(out, v.octets); break;
    case field_type::ip6: append_ipv6(out, v.octets); break;
    case field_type::dur: {
      constexpr std::uint64_t second = 1'000'000'000;
      append_number(out, v.number / second);
      out += '.';
      for (std::uint64_t digit = second / 10; digit > 0; digit /= 10)
        out += static_cast<char>('0' + v.number / digit % 10);
      break;
    }
    default: append_number(out, v.number);
  }
}

}  // namespace midwire::fields
