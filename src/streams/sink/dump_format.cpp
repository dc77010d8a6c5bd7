#include <midwire/streams/sink/dump_format.hpp>

#include <algorithm>
#include <cstdio>
#include <ctime>

namespace midwire::streams {
namespace {

constexpr std::string_view red = "\x1b[31m", green = "\x1b[32m", plain = "\x1b[0m";
constexpr char digits[] = "0123456789abcdef";
constexpr std::size_t columns = 16;

bool prints(std::uint8_t octet) noexcept { return octet >= 0x20 && octet < 0x7f; }

struct split_time {
  std::tm parts{};
  long nanoseconds = 0;
};
split_time split(wall_time when, bool utc) {
  split_time out;
  const auto seconds = std::chrono::floor<std::chrono::seconds>(when);
  out.nanoseconds = static_cast<long>((when - seconds).count());
  const auto t = static_cast<std::time_t>(seconds.time_since_epoch().count());
  if (utc)
    gmtime_r(&t, &out.parts);
  else
    localtime_r(&t, &out.parts);
  return out;
}

void append_header(std::string& out, const piece& p, wall_time when, std::uint64_t conn) {
  const auto t = split(when, false);
  const char mark = p.how == piece::kind::before ? '-' : p.how == piece::kind::after ? '+' : ' ';
  char text[160];
  const auto size = p.octets.size();
  const int n =
      std::snprintf(text, sizeof text, "%c%s %04d/%02d/%02d %02d:%02d:%02d.%09ld  length=%zu from=%llu to=%llu",
                    p.dir == direction::to_server ? '>' : '<',
                    mark == '-'   ? "-"
                    : mark == '+' ? "+"
                                  : "",
                    t.parts.tm_year + 1900, t.parts.tm_mon + 1, t.parts.tm_mday, t.parts.tm_hour, t.parts.tm_min,
                    t.parts.tm_sec, t.nanoseconds, size, static_cast<unsigned long long>(p.offset),
                    static_cast<unsigned long long>(p.offset + size - 1));
  out.append(text, static_cast<std::size_t>(n));
  if (conn != 0) out += " conn=" + std::to_string(conn);
  out += '\n';
}

void append_hex(std::string& out, byte_view octets) {
  while (!octets.empty()) {
    std::size_t n = 0;
    while (n < std::min(columns, octets.size()) && (n == 0 || octets[n - 1] != '\n')) ++n;
    for (std::size_t i = 0; i < columns; ++i) {
      out += ' ';
      out += i < n ? digits[octets[i] >> 4] : ' ';
      out += i < n ? digits[octets[i] & 15] : ' ';
    }
    out += "  ";
    for (std::size_t i = 0; i < n; ++i) out += prints(octets[i]) ? static_cast<char>(octets[i]) : '.';
    out += '\n';
    octets = octets.subspan(n);
  }
  out += "--\n";
}

void append_text(std::string& out, byte_view octets) {
  for (const auto octet : octets) {
    switch (octet) {
      case '\a': out += "\\a"; break;
      case '\b': out += "\\b"; break;
      case '\v': out += "\\v"; break;
      case '\f': out += "\\f"; break;
      case '\r': out += "\\r"; break;
      case '\\': out += "\\\\"; break;
      case '\t':
      case '\n': out += static_cast<char>(octet); break;
      default: out += prints(octet) ? static_cast<char>(octet) : '.';
    }
  }
  if (octets.back() != '\n') out += '\n';
}

// The code point at the front and its length in octets; length 0 when it is not UTF-8 (overlong, surrogate, cut).
std::pair<std::uint32_t, std::size_t> utf8_front(std::string_view text) noexcept {
  const auto octet = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t first = octet(0);
  if (first < 0x80) return {first, 1};
  const std::size_t n = first >= 0xf0 && first < 0xf5   ? 4
                        : first >= 0xe0 && first < 0xf0 ? 3
                        : first >= 0xc2 && first < 0xe0 ? 2
                                                        : 0;
  if (n == 0 || text.size() < n) return {0, 0};
  std::uint32_t point = first & (0x7fu >> n);
  for (std::size_t i = 1; i < n; ++i) {
    if ((octet(i) & 0xc0) != 0x80) return {0, 0};
    point = point << 6 | (octet(i) & 0x3f);
  }
  constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  if (point < least[n] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return {0, 0};
  return {point, n};
}

bool moves_terminal(std::uint32_t point) noexcept {
  return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x61c || point == 0x200e || point == 0x200f ||
         (point >= 0x2028 && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069) || point == 0xfeff;
}

}  // namespace

void append_dump(std::string& out, const piece& p, wall_time when, const dump_options& options) {
  if (p.octets.empty()) return;
  const auto start = out.size();
  const bool coloured = options.colour && p.how != piece::kind::as_it_came;
  if (coloured) out += p.how == piece::kind::before ? red : green;
  append_header(out, p, when, options.conn);
  out.reserve(out.size() + (options.style == dump_style::hex ? p.octets.size() * 5 + 80 : p.octets.size() + 32));
  if (options.style == dump_style::hex)
    append_hex(out, p.octets);
  else
    append_text(out, p.octets);
  if (coloured && out.size() > start) out.insert(out.size() - 1, plain);
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto [point, n] = utf8_front(text);
    if (n != 0 && !moves_terminal(point)) {
      out += text.substr(0, n);
      text.remove_prefix(n);
      continue;
    }
    for (std::size_t i = 0; i < std::max<std::size_t>(n, 1); ++i) {
      const auto octet = static_cast<std::uint8_t>(text[i]);
      out += "\\x", out += digits[octet >> 4], out += digits[octet & 15];
    }
    text.remove_prefix(std::max<std::size_t>(n, 1));
  }
  return out;
}

void append_json_text(std::string& out, std::string_view text) {
  while (!text.empty()) {
    const auto [point, n] = utf8_front(text);
    if (n == 0) {
      out += "\xef\xbf\xbd";
    } else if (point < 0x20) {
      const std::string_view known = "\bb\tt\nn\ff\rr";
      const auto at = known.find(static_cast<char>(point));
      if (at != known.npos)
        out += '\\', out += known[at + 1];
      else
        out += "\\u00", out += digits[point >> 4], out += digits[point & 15];
    } else {
      if (point == '"' || point == '\\') out += '\\';
      out += text.substr(0, n);
    }
    text.remove_prefix(n == 0 ? 1 : n);
  }
}

std::string rfc3339(wall_time when) {
  const auto t = split(when, true);
  char text[64];
  const int n = std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", t.parts.tm_year + 1900,
                              t.parts.tm_mon + 1, t.parts.tm_mday, t.parts.tm_hour, t.parts.tm_min, t.parts.tm_sec,
                              t.nanoseconds);
  return {text, static_cast<std::size_t>(n)};
}

std::string hex(byte_view octets) {
  std::string out(octets.size() * 2, '0');
  for (std::size_t i = 0; i < octets.size(); ++i)
    out[2 * i] = digits[octets[i] >> 4], out[2 * i + 1] = digits[octets[i] & 15];
  return out;
}

}  // namespace midwire::streams
