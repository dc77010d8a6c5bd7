#include <algorithm>
#include <string>
#include <string_view>

#include <midwire/rules/rule.hpp>

namespace midwire::rules {

namespace {

constexpr std::size_t widest = 100;  // columns of a line that are shown

/// One character of a source line as it is shown.
struct glyph {
  std::size_t octets = 1, columns = 1;
  std::string_view raw;
  bool escaped = false;
};

constexpr bool between(char32_t c, char32_t low, char32_t high) noexcept { return c >= low && c <= high; }

/// Columns of a terminal: combining marks take none, East Asian wide characters and emoji two.
std::size_t columns_of(char32_t c) noexcept {
  if (between(c, 0x300, 0x36f) || between(c, 0x200b, 0x200d) || between(c, 0xfe00, 0xfe0f) ||
      between(c, 0x20d0, 0x20ff))
    return 0;
  const bool wide = between(c, 0x1100, 0x115f) || between(c, 0x2e80, 0x303e) || between(c, 0x3041, 0xa4cf) ||
                    between(c, 0xac00, 0xd7a3) || between(c, 0xf900, 0xfaff) || between(c, 0xfe30, 0xfe6f) ||
                    between(c, 0xff00, 0xff60) || between(c, 0xffe0, 0xffe6) || between(c, 0x1f300, 0x1f64f) ||
                    between(c, 0x1f900, 0x1f9ff) || between(c, 0x20000, 0x3fffd);
  return wide ? 2 : 1;
}

glyph glyph_at(std::string_view line, std::size_t at) noexcept {
  const auto octet = [&](std::size_t i) { return static_cast<unsigned char>(at + i < line.size() ? line[at + i] : 0); };
  const unsigned char first = octet(0);
  glyph g;
  g.raw = line.substr(at, 1);
  if (first < 0x80) {
    g.escaped = (first < 0x20 && first != '\t') || first == 0x7f;
    g.columns = g.escaped ? 4 : 1;
    return g;
  }
  const std::size_t size = first >= 0xf0 && first < 0xf5   ? 4
                           : first >= 0xe0 && first < 0xf0 ? 3
                           : first >= 0xc2 && first < 0xe0 ? 2
                                                           : 0;
  char32_t c = size == 4 ? first & 0x07u : size == 3 ? first & 0x0fu : first & 0x1fu;
  bool whole = size != 0;
  for (std::size_t i = 1; i < size && whole; ++i) {
    whole = (octet(i) & 0xc0) == 0x80;
    c = c << 6 | (octet(i) & 0x3fu);
  }
  whole = whole && !(size == 3 && (c < 0x800 || between(c, 0xd800, 0xdfff))) &&
          !(size == 4 && (c < 0x10000 || c > 0x10ffff));
  // Controls, line separators and what turns the direction of text round would make the line show something else.
  const bool tricky =
      c < 0xa0 || between(c, 0x200e, 0x200f) || between(c, 0x2028, 0x202e) || between(c, 0x2066, 0x2069) || c == 0xfeff;
  g.octets = whole ? size : 1;
  g.raw = line.substr(at, g.octets);
  g.escaped = !whole || tricky;
  g.columns = g.escaped ? 4 * g.octets : columns_of(c);
  return g;
}

void append(std::string& out, const glyph& g) {
  static constexpr char digits[] = "0123456789abcdef";
  if (!g.escaped) {
    out += g.raw;
    return;
  }
  for (const char c : g.raw) {
    const auto octet = static_cast<unsigned char>(c);
    (out += "\\x") += {digits[octet >> 4], digits[octet & 15]};
  }
}

/// Messages hold pieces of the source, so they are made safe for a terminal as the line is.
void append_safe(std::string& out, std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const glyph g = glyph_at(text, i);
    append(out, g);
    i += g.octets;
  }
}

}  // namespace

std::string format(const diagnostic& d, bool colour) {
  const auto paint = [&](const char* code) { return colour ? std::string_view{code} : std::string_view{}; };
  static constexpr std::string_view names[] = {"error", "warning", "note"};
  static constexpr const char* codes[] = {"\x1b[1;31m", "\x1b[1;35m", "\x1b[1;36m"};
  const auto severity = static_cast<std::size_t>(d.how);
  const std::string_view tint = paint(codes[severity]), plain = paint("\x1b[0m"), bold = paint("\x1b[1m");

  std::string out{bold};
  append_safe(out, d.place.file);
  // One -e is one line, so its line is left out: -e:1:9.
  if (!(d.place.file.starts_with("-e:") && d.place.line == 1)) (out += ':') += std::to_string(d.place.line);
  ((out += ':') += std::to_string(d.place.column)) += ": ";
  ((((out += plain) += tint) += names[severity]) += ": ") += plain;
  ((out += bold), append_safe(out, d.message), out += plain) += '\n';

  const std::size_t caret = std::min(d.place.column - std::min<std::size_t>(d.place.column, 1), d.line.size());
  if (!d.line.empty()) {
    // A window of at most `widest` columns: from a third of it before the caret, unless the line fits or ends there.
    std::size_t before = 0, all = 0;
    for (std::size_t i = 0; i < d.line.size();) {
      const glyph g = glyph_at(d.line, i);
      if (i < caret) before += g.columns;
      all += g.columns;
      i += g.octets;
    }
    std::size_t from = 0;
    if (all > widest && before > widest / 3) from = std::min(before - widest / 3, all - widest);
    std::string shown = from > 0 ? "…" : "", marks = from > 0 ? " " : "";
    std::size_t column = 0, i = 0;
    for (; i < d.line.size() && column < from + widest;) {
      const glyph g = glyph_at(d.line, i);
      if (column >= from) {
        append(shown, g);
        if (i < caret)
          marks += g.raw == "\t" ? "\t" : std::string(g.columns, ' ');
        else if (i < caret + d.length)
          marks.append(std::max<std::size_t>(g.columns, i == caret), i == caret ? '^' : '~');
        if (i == caret && g.columns > 1)
          std::fill(marks.end() - static_cast<std::ptrdiff_t>(g.columns) + 1, marks.end(), '~');
      }
      column += g.columns;
      i += g.octets;
    }
    if (i < d.line.size()) shown += "…";
    if (caret >= d.line.size()) marks += '^';
    (((out += "    ") += shown) += "\n    ") += tint;
    ((out += marks) += plain) += '\n';
  }
  if (!d.hint.empty()) {
    out += "hint: ";
    append_safe(out, d.hint);
    out += '\n';
  }
  return out;
}

}  // namespace midwire::rules
