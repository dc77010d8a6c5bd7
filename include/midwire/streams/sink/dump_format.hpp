#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include <midwire/base/export.hpp>
#include <midwire/base/views.hpp>

namespace midwire::streams {

using wall_time = std::chrono::time_point<std::chrono::system_clock, duration>;

enum class dump_style : std::uint8_t { hex, text };

/// A run of octets that passed in one direction.
struct piece {
  enum class kind : std::uint8_t {
    as_it_came,  ///< came and left like this
    before,      ///< came like this, and was edited
    after,       ///< left like this instead
  };
  kind how = kind::as_it_came;
  direction dir = direction::to_server;
  std::uint64_t offset = 0;  ///< of the first octet in its direction: in what came for `before`, else in what left
  byte_view octets;
};

struct dump_options {
  dump_style style = dump_style::text;
  bool colour = false;     ///< before red, after green
  std::uint64_t conn = 0;  ///< shown behind the offsets unless 0, to tell connections apart
};

/// Appends one piece as `socat -x -v` (hex) or `socat -v` (text) shows it: `>` to the server, `<` to the client, `>-`
/// and `>+` for what was edited, local time, length and offsets; a line feed is put behind text that lacks one.
/// Nothing in the output can move a terminal's cursor but its line feeds and tabs.
MIDWIRE_API void append_dump(std::string& out, const piece& p, wall_time when, const dump_options& options);

/// Text from outside as one line for a terminal: printable ASCII and valid UTF-8 as they are, all control octets (C0,
/// C1, DEL, bidirectional overrides) and invalid octets as `\xNN`.
MIDWIRE_API std::string printable(std::string_view text);
/// Appends text as it stands between the quotes of a JSON string: controls, quotes and backslashes escaped, octets that
/// are no UTF-8 as U+FFFD.
MIDWIRE_API void append_json_text(std::string& out, std::string_view text);
/// `2026-11-22T20:32:13.000510251Z`.
MIDWIRE_API std::string rfc3339(wall_time when);
/// Two lower-case digits an octet.
MIDWIRE_API std::string hex(byte_view octets);

}  // namespace midwire::streams
