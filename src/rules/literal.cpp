#include "rules/literal.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

#include <midwire/base/address.hpp>

#include "rules/parser.hpp"

namespace midwire::rules::detail {

namespace {

using fields::field_type;

std::string shown(const literal& l) {
  const std::string sign = l.negative ? "-" : "";
  return l.how == literal::form::word ? quoted(sign + l.value) : sign + "\"" + l.value.substr(0, 40) + "\"";
}

/// A word where a value was wanted is often a misspelt field.
std::string field_hint(const literal& l, std::string otherwise) {
  if (l.how != literal::form::word || l.value.empty() || !is_letter(l.value[0]) || l.value.find('.') == l.value.npos)
    return otherwise;
  const auto near = fields::nearest(l.value);
  return near.empty() ? otherwise : did_you_mean(near);
}

struct bounds {
  wide low, high;
};
bounds bounds_of(field_type t) noexcept {
  switch (t) {
    case field_type::boolean: return {0, 1};
    case field_type::u8: return {0, 0xff};
    case field_type::u16: return {0, 0xffff};
    case field_type::u24: return {0, 0xffffff};
    case field_type::u32:
    case field_type::fnum: return {0, 0xffffffff};
    case field_type::i8: return {-128, 127};
    case field_type::i32: return {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()};
    default: return {0, std::numeric_limits<std::uint64_t>::max()};
  }
}

std::string decimal(wide n) {
  return n < 0 ? "-" + std::to_string(static_cast<std::uint64_t>(-n)) : std::to_string(static_cast<std::uint64_t>(n));
}

constant number(const literal& l, const expected& want) {
  constant c;
  c.type = kind::number;
  if (l.how == literal::form::text) {
    const bool digits = !l.value.empty() && std::all_of(l.value.begin(), l.value.end(), is_digit);
    fail(l.at, want.name + " is a number, and " + shown(l) + " is text",
         digits ? "write " + l.value + " without quotes" : "");
  }
  if (l.how == literal::form::character) {
    c.number = static_cast<unsigned char>(l.value[0]);
  } else if (want.field == field_type::boolean &&
             (l.value == "True" || l.value == "TRUE" || l.value == "False" || l.value == "FALSE")) {
    c.number = l.value[0] == 'T';
  } else {
    std::string_view digits = l.value;
    int base = 10;
    if (digits.size() > 1 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X'))
      base = 16;
    else if (digits.size() > 1 && digits[0] == '0' && (digits[1] == 'b' || digits[1] == 'B'))
      base = 2;
    else if (digits.size() > 1 && digits[0] == '0')
      base = 8;
    digits.remove_prefix(base == 16 || base == 2 ? 2 : base == 8 ? 1 : 0);
    std::uint64_t n = 0;
    const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), n, base);
    const std::string_view unit{stop, static_cast<std::size_t>(digits.data() + digits.size() - stop)};
    const bool counts_octets = want.name == "'conn.octets'" || want.name == "'unit.len'";
    const std::uint64_t factor = base == 10 && counts_octets ? size_of_unit(unit) : unit.empty() ? 1 : 0;
    if (error == std::errc::invalid_argument || factor == 0) {
      std::string hint = field_hint(l, "");
      if (base == 8 && std::all_of(digits.begin(), digits.end(), is_digit))
        hint = "a leading 0 makes it octal; write it without";
      else if (hint.empty() && is_digit(l.value[0]) &&
               (l.value.find('.') != l.value.npos || l.value.find('e') != l.value.npos))
        hint = "write a whole number";
      else if (hint.empty() && counts_octets && is_digit(l.value[0]) && !unit.empty() && is_letter(unit[0]))
        hint = "units are KB MB GB (1000) and KiB MiB GiB (1024)";
      else if (hint.empty() && is_letter(l.value[0]))
        hint = want.name.ends_with("port'") ? "names of ports are not looked up: write the number" : "write a number";
      fail(l.at, shown(l) + " is not a number", hint);
    }
    if (error != std::errc{} || n > std::numeric_limits<std::uint64_t>::max() / factor)
      fail(l.at, shown(l) + " is too large for " + want.name);
    n *= factor;
    c.number = l.negative ? -static_cast<wide>(n) : static_cast<wide>(n);
  }
  bounds b = bounds_of(want.field);
  if (want.signed_number) b = {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::uint64_t>::max()};
  if (c.number > b.high) fail(l.at, shown(l) + " is too large for " + want.name, "at most " + decimal(b.high));
  if (c.number < b.low) fail(l.at, shown(l) + " is too small for " + want.name, "at least " + decimal(b.low));
  return c;
}

constant span(const literal& l, const expected& want) {
  static const char* const form = "times are written 10s, 3.5, 1m, 100ms";
  if (l.how != literal::form::word) fail(l.at, want.name + " is a time, and " + shown(l) + " is text", form);
  constant c;
  c.type = kind::time;
  if (!parse_span(l.value, c.number)) fail(l.at, shown(l) + " is not a time", field_hint(l, form));
  if (l.negative) c.number = -c.number;
  return c;
}

constant address_of(const literal& l, const expected& want) {
  const bool four = want.type == kind::ip4;
  const std::string what = four ? "an IPv4 address" : "an IPv6 address";
  if (l.how == literal::form::text)
    fail(l.at, want.name + " is " + what + ", and " + shown(l) + " is text", "write the address without quotes");
  const auto slash = l.value.find('/');
  const std::string host = l.value.substr(0, slash);
  const auto parsed = address::parse_ip(host, 0);
  const std::string form = four ? "four numbers of 0 to 255, with /bits for a network: 10.0.0.0/8"
                                : "as in ::1, or 2001:db8::/32 for a network";
  if (!parsed || l.negative || host.find('%') != host.npos) {
    const bool name = !host.empty() && is_letter(host[0]) && host.find(':') == host.npos;
    fail(l.at, shown(l) + " is not " + what,
         field_hint(l, name ? "host names are not looked up, a filter never waits for DNS: write the address" : form));
  }
  if (four != (parsed->family() == address::kind::ipv4)) {
    const bool mapped = host.find(':') != host.npos && !four;
    if (mapped)
      fail(l.at, shown(l) + " never appears in " + want.name,
           "an IPv4 address is never shown mapped: compare an ip.* field with " + parsed->host());
    fail(l.at, shown(l) + " is not " + what,
         four ? "IPv6 addresses are in ipv6.src, ipv6.dst and ipv6.addr"
              : "IPv4 addresses are in ip.src, ip.dst and ip.addr");
  }
  if (four && host.find(':') != host.npos) fail(l.at, shown(l) + " is not " + what, "write it as " + parsed->host());
  constant c;
  c.type = want.type;
  const unsigned most = four ? 32 : 128;
  unsigned bits = most;
  if (slash != l.value.npos) {
    const char* const end = l.value.data() + l.value.size();
    const auto [stop, error] = std::from_chars(l.value.data() + slash + 1, end, bits);
    if (error != std::errc{} || stop != end || bits > most)
      fail(l.at, shown(l) + " is not a network", "at most /" + std::to_string(most));
  }
  c.bits = static_cast<std::uint8_t>(bits);
  c.octets = parsed->octets();
  return c;
}

constant octets(const literal& l, const expected& want) {
  constant c;
  c.type = kind::octets;
  if (l.how != literal::form::word) {
    if (want.field == field_type::mac)
      fail(l.at, want.name + " is a MAC address, and " + shown(l) + " is text",
           "write it without quotes: 02:00:00:00:00:01");
    c.octets = l.value;
    if (c.octets.empty())
      fail(l.at, "empty text: it is never equal and always contained", "write the octets to compare with");
    return c;
  }
  if (want.field == field_type::mac) {
    std::string digits = l.value;
    std::erase_if(digits, [](char d) { return d == ':' || d == '-' || d == '.'; });
    const bool shape = parse_octets(l.value, c.octets) || (l.value.size() == 14 && l.value[4] == '.' &&
                                                           l.value[9] == '.' && parse_octets(digits, c.octets));
    if (!shape || c.octets.size() != 6 || l.negative)
      fail(l.at, shown(l) + " is not a MAC address", field_hint(l, "six octets: 02:00:00:00:00:01"));
    return c;
  }
  if (l.negative || !parse_octets(l.value, c.octets)) {
    const bool hex = l.value.size() > 4 && l.value.starts_with("0x");
    fail(l.at, shown(l) + " are not octets",
         hex ? "0x stands before one octet only: write 78:78"
             : field_hint(l, "octets are hex with two digits each, 47:45:54, or text: \"GET\""));
  }
  return c;
}

}  // namespace

bool parse_octets(std::string_view word, std::string& out) {
  out.clear();
  if (word.starts_with("0x") || word.starts_with("0X")) {
    word.remove_prefix(2);
    if (word.size() > 2) return false;
  }
  if (word.empty()) return false;
  if (word.size() == 1) {
    if (hex_digit(word[0]) < 0) return false;
    out = static_cast<char>(hex_digit(word[0]));
    return true;
  }
  const char separator = word.size() > 2 && hex_digit(word[2]) < 0 ? word[2] : '\0';
  if (separator != '\0' && separator != ':' && separator != '-' && separator != '.') return false;
  for (std::size_t i = 0;; ++i) {
    if (i + 1 >= word.size() || hex_digit(word[i]) < 0 || hex_digit(word[i + 1]) < 0) return false;
    out += static_cast<char>(hex_digit(word[i]) * 16 + hex_digit(word[i + 1]));
    i += 2;
    if (i >= word.size()) return true;
    if (separator != '\0' && word[i] != separator) return false;
    if (separator == '\0') --i;
  }
}

std::uint64_t size_of_unit(std::string_view unit) noexcept {
  static constexpr std::pair<std::string_view, std::uint64_t> units[] = {{"", 1},
                                                                         {"KB", 1000},
                                                                         {"MB", 1'000'000},
                                                                         {"GB", 1'000'000'000},
                                                                         {"KiB", 1ull << 10},
                                                                         {"MiB", 1ull << 20},
                                                                         {"GiB", 1ull << 30}};
  for (const auto& [name, octets] : units)
    if (name == unit) return octets;
  return 0;
}

bool parse_span(std::string_view word, wide& nanoseconds) {
  std::size_t i = 0;
  std::uint64_t whole = 0, fraction = 0, scale = 1'000'000'000;
  for (; i < word.size() && is_digit(word[i]); ++i) {
    if (whole > 10'000'000'000'000'000ull) return false;
    whole = whole * 10 + static_cast<std::uint64_t>(word[i] - '0');
  }
  std::size_t digits = i;
  if (i < word.size() && word[i] == '.') {
    for (++i; i < word.size() && is_digit(word[i]); ++i, ++digits) {
      scale /= 10;
      fraction += static_cast<std::uint64_t>(word[i] - '0') * scale;
    }
  }
  if (digits == 0) return false;
  const std::string_view unit = word.substr(i);
  wide factor = 0;
  if (unit.empty() || unit == "s")
    factor = 1'000'000'000;
  else if (unit == "ns")
    factor = 1;
  else if (unit == "us")
    factor = 1'000;
  else if (unit == "ms")
    factor = 1'000'000;
  else if (unit == "m")
    factor = 60'000'000'000;
  else if (unit == "h")
    factor = 3'600'000'000'000;
  else
    return false;
  nanoseconds = static_cast<wide>(whole) * factor + static_cast<wide>(fraction) * factor / 1'000'000'000;
  return nanoseconds <= std::numeric_limits<std::int64_t>::max();
}

constant convert(const literal& l, const expected& want) {
  switch (want.type) {
    case kind::number: return number(l, want);
    case kind::time: return span(l, want);
    case kind::ip4:
    case kind::ip6: return address_of(l, want);
    case kind::octets: return octets(l, want);
    case kind::text: {
      if (l.how == literal::form::word)
        fail(l.at, want.name + " is text, and " + shown(l) + " is not", "write \"" + l.value + "\"");
      constant c;
      c.type = kind::text, c.octets = l.value;
      return c;
    }
    case kind::nothing: break;
  }
  fail(l.at, want.name + " has no value to compare with", "it is present or not: write it bare");
}

int compare(const constant& a, const constant& b) noexcept {
  if (!is_octets(a.type)) return a.number < b.number ? -1 : a.number > b.number ? 1 : 0;
  const int order = std::memcmp(a.octets.data(), b.octets.data(), std::min(a.octets.size(), b.octets.size()));
  if (order != 0) return order;
  return a.octets.size() < b.octets.size() ? -1 : a.octets.size() > b.octets.size() ? 1 : 0;
}

}  // namespace midwire::rules::detail
