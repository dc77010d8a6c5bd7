#include <midwire/base/parse_error.hpp>

namespace midwire {

std::string_view name_of(parse_errc code) noexcept {
  switch (code) {
    case parse_errc::truncated: return "truncated";
    case parse_errc::bad_length: return "bad length";
    case parse_errc::bad_value: return "bad value";
    case parse_errc::too_long: return "too long";
  }
  return "unknown";
}

std::string_view name_of(layer_id layer) noexcept {
  switch (layer) {
    case layer_id::none: return "input";
    case layer_id::framer: return "message";
    case layer_id::line: return "line";
    case layer_id::delimiter: return "delimited message";
    case layer_id::fixed: return "fixed-size message";
    case layer_id::length: return "length-prefixed message";
    case layer_id::netstring: return "netstring";
    case layer_id::varint: return "varint message";
  }
  return "input";
}

std::string text_of(const parse_error& e) {
  std::string text{name_of(e.layer)};
  text += " at octet " + std::to_string(e.offset) + ": ";
  text += name_of(e.code);
  switch (e.code) {
    case parse_errc::too_long:
      text += ": " + std::to_string(e.need) + " octets, at most " + std::to_string(e.have);
      break;
    case parse_errc::truncated:
    case parse_errc::bad_length: text += ": need " + std::to_string(e.need) + ", have " + std::to_string(e.have); break;
    case parse_errc::bad_value: break;
  }
  return text;
}

}  // namespace midwire
