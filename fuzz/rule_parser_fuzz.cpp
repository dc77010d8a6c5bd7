#include <midwire/rules/rule.hpp>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <midwire/fields/facts.hpp>

namespace {

void require(bool good) {
  if (!good) std::abort();
}

}  // namespace

/// Whatever a rule file holds is refused with a place that exists, or makes filters that can be asked about any unit.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace midwire;
  const std::string text{reinterpret_cast<const char*>(data), size};
  const rules::file_reader read = [](const std::string& path, std::string& error) -> std::optional<std::string> {
    if (path.size() % 2 == 0) return "file $1";
    error = "not there";
    return std::nullopt;
  };
  const rules::compiled c = rules::compile({{"f", text, "d", size % 2 == 0}}, read);
  bool errors = false;
  for (const rules::diagnostic& d : c.diagnostics) {
    errors |= d.how == rules::diagnostic::severity::error;
    require(d.place.line >= 1 && d.place.column >= 1 && d.place.column <= d.line.size() + 1);
    require(format(d).ends_with('\n'));
  }
  require(errors != c.ok());
  if (!c.ok()) return 0;

  fields::connection_facts ends[3];
  ends[0].client = address::ipv4({10, 1, 0, 5}, 40000), ends[0].server = address::ipv4({192, 168, 1, 2}, 80);
  ends[1].client = *address::parse_ip("2001:db8::1", 5), ends[1].server = address::unix_path("/run/x");
  ends[2].id = ~0ull;
  const std::string_view payloads[] = {"", "GET / HTTP/1.1\r\n\r\n", std::string_view{"\0\xff\x80", 3}};
  for (const rules::rule& r : c.rules->rules) {
    if (r.when.empty()) continue;
    for (const fields::connection_facts& conn : ends)
      for (const direction dir : {direction::to_server, direction::to_client}) {
        const rules::tri known = r.when.decide(conn, dir);
        for (const std::string_view payload : payloads) {
          fields::stream_unit unit;
          unit.conn = &conn, unit.dir = dir, unit.payload = as_bytes(payload),
          unit.age = std::chrono::seconds{payload.size()};
          const bool holds = r.when.holds(unit);
          require(known == rules::tri::depends || holds == (known == rules::tri::yes));
          require(!holds || r.when.can_hold(dir));
        }
      }
  }
  return 0;
}
