#include <midwire/fields/registry.hpp>

#include <algorithm>
#include <array>
#include <iterator>

#include "fields/distance.hpp"
#include "fields/packet_fields.hpp"
#include "fields/stream_fields.hpp"

namespace midwire::fields {

namespace {

constexpr std::size_t stream_count = static_cast<std::size_t>(stream_field::count_);
constexpr std::size_t packet_count = std::size(packet_fields);

using enum field_type;
// name, type, levels, writable, many, per_unit, description; rows in the order of stream_field.
constexpr field_info stream_table[] = {
    {"from.client", none, level::both, false, false, false, "present in units from the client, and only there"},
    {"from.server", none, level::both, false, false, false, "present in units from the server, and only there"},
    {"conn.id", u64, level::both, false, false, false, "number of the connection, from 1, for each listener"},
    {"conn.age", dur, level::both, false, false, true, "time since the connection began: 10s, 1m, 500ms"},
    {"conn.octets", u64, level::both, false, false, true, "octets that came before this unit in its direction"},
    {"unit.index", u64, level::both, false, false, true, "number of the unit in its direction, from 1"},
    {"unit.len", u64, level::both, false, false, true, "octets in the unit"},
    {"payload", bytes, level::both, false, false, true, "the unit's octets; absent when there are none"},
    {"ip", none, level::both, false, false, false, "present when an end has an IPv4 address"},
    {"ip.src", ip4, level::both, false, false, false, "IPv4 address of the end that the unit comes from"},
    {"ip.dst", ip4, level::both, false, false, false, "IPv4 address of the end that the unit goes to"},
    {"ip.addr", ip4, level::both, false, true, false, "IPv4 addresses of both ends, source first"},
    {"ip.version", u8, level::both, false, false, false, "4 when an end has an IPv4 address"},
    {"ipv6", none, level::both, false, false, false, "present when an end has an IPv6 address"},
    {"ipv6.src", ip6, level::both, false, false, false, "IPv6 address of the end that the unit comes from"},
    {"ipv6.dst", ip6, level::both, false, false, false, "IPv6 address of the end that the unit goes to"},
    {"ipv6.addr", ip6, level::both, false, true, false, "IPv6 addresses of both ends, source first"},
    {"ipv6.version", u8, level::both, false, false, false, "6 when an end has an IPv6 address"},
    {"tcp", none, level::both, false, false, false, "present when an end is a TCP socket (not a unix socket)"},
    {"tcp.srcport", u16, level::both, false, false, false, "TCP port of the end that the unit comes from"},
    {"tcp.dstport", u16, level::both, false, false, false, "TCP port of the end that the unit goes to"},
    {"tcp.port", u16, level::both, false, true, false, "TCP ports of both ends, source first"},
};
static_assert(std::size(stream_table) == stream_count);
static_assert(stream_table[static_cast<std::size_t>(stream_field::payload)].name == "payload");
static_assert(stream_table[static_cast<std::size_t>(stream_field::ip_version)].name == "ip.version");
static_assert(stream_table[static_cast<std::size_t>(stream_field::ipv6_src)].name == "ipv6.src");
static_assert(stream_table[static_cast<std::size_t>(stream_field::tcp_port)].name == "tcp.port");

constexpr auto table = [] {
  std::array<field_info, stream_count + packet_count> rows{};
  std::copy(std::begin(stream_table), std::end(stream_table), rows.begin());
  for (std::size_t i = 0; i < packet_count; ++i) {
    const packet_field& f = packet_fields[i];
    const bool both_ends = f.name.ends_with(".addr") || f.name.ends_with(".port");
    rows[stream_count + i] = {f.name, f.type, level::packet, false, both_ends, true, f.protocol};
  }
  return rows;
}();

constexpr auto by_name = [] {
  std::array<std::uint16_t, table.size()> order{};
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::uint16_t>(i);
  std::sort(order.begin(), order.end(), [](std::uint16_t a, std::uint16_t b) { return table[a].name < table[b].name; });
  return order;
}();
static_assert(std::adjacent_find(by_name.begin(), by_name.end(),
                                 [](auto a, auto b) { return table[a].name == table[b].name; }) == by_name.end(),
              "a field is listed twice");

static_assert(std::all_of(table.begin(), table.end(),
                          [](const field_info& f) { return f.name.size() <= max_compared; }));

/// `dst` abbreviates `destination`: same beginning, the rest in order.
bool abbreviates(std::string_view brief, std::string_view full) noexcept {
  if (brief.size() < 2 || full.empty() || lower(brief[0]) != lower(full[0])) return false;
  std::size_t at = 0;
  for (const char c : full)
    if (at < brief.size() && lower(c) == lower(brief[at])) ++at;
  return at == brief.size();
}

}  // namespace

std::string_view name_of(field_type t) noexcept {
  static constexpr std::string_view names[] = {"none", "bool", "u8",  "u16",   "u24", "u32", "u64", "i8",   "i32",
                                               "fnum", "f64",  "str", "bytes", "mac", "ip4", "ip6", "time", "dur"};
  static_assert(std::size(names) == static_cast<std::size_t>(field_type::dur) + 1);
  return names[static_cast<std::size_t>(t)];
}

std::span<const field_info> all() noexcept { return table; }

std::span<const field_info> at_stream_level() noexcept { return std::span{table}.first(stream_count); }

const field_info* find(std::string_view name) noexcept {
  const auto at = std::lower_bound(by_name.begin(), by_name.end(), name,
                                   [](std::uint16_t i, std::string_view n) { return table[i].name < n; });
  return at != by_name.end() && table[*at].name == name ? &table[*at] : nullptr;
}

field_id id_of(const field_info& f) noexcept { return static_cast<field_id>(&f - table.data()); }

const field_info& info(field_id id) noexcept { return table[static_cast<std::size_t>(id)]; }

std::string_view nearest(std::string_view name) {
  if (name.size() < 2 || name.size() > max_compared) return {};
  const auto split = [](std::string_view n) {
    const auto dot = n.rfind('.');
    return dot == n.npos ? std::pair{std::string_view{}, n} : std::pair{n.substr(0, dot), n.substr(dot + 1)};
  };
  const auto [parent, leaf] = split(name);
  const std::size_t limit = std::clamp<std::size_t>(name.size() / 3, 1, 3);
  std::size_t best = limit + 1;
  std::string_view found;
  for (const field_info& f : table) {  // stream fields come first, so they win a tie
    const std::size_t longer = std::max(name.size(), f.name.size()) - std::min(name.size(), f.name.size());
    std::size_t score = longer > limit ? longer : distance(name, f.name);
    const auto [p, l] = split(f.name);
    if (p == parent && !p.empty() && abbreviates(l, leaf)) score = std::min<std::size_t>(score, 2);  // `ip.destination`
    if (p == parent && !p.empty() && abbreviates(leaf, l)) score = std::min<std::size_t>(score, 1);  // `tcp.dport`
    if (parent.empty() && !p.empty() && l == name) score = 1;  // `srcport` for `tcp.srcport`
    if (score < best) best = score, found = f.name;
  }
  return found;
}

}  // namespace midwire::fields
