#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include <midwire/fields/registry.hpp>

#include "options.hpp"

namespace midwire::app {
namespace {

int check_command(const words& arguments) {
  CLI::App app{"Checks rules: prints OK and what is worth knowing, or what is wrong and where.", "rules check"};
  rule_arguments rules;
  bool quiet = false;
  rules.add_to(app, true);
  app.add_flag("-q,--quiet", quiet, "print nothing when all is well");
  app.footer(R"(
examples:
  midwire rules check edits.rules
  midwire rules check -e 'when tcp.port == 80 do replace "a" with "b"')");
  if (const auto status = parse(app, arguments)) return *status;
  auto texts = rules.in_order(app);
  if (texts.empty()) return complain(wrong_usage, "no rules", "write: midwire rules check FILE, or -e 'RULE'");
  const auto loaded = texts.load();
  for (const auto& why : loaded.unreadable) complain(work_failed, streams::printable(why));
  if (!loaded.unreadable.empty()) return work_failed;
  for (const auto& d : loaded.result.diagnostics) {
    const bool note = d.how == rules::diagnostic::severity::note;
    if (quiet && note) continue;
    auto* to = d.how == rules::diagnostic::severity::error ? stderr : stdout;
    std::fputs(rules::format(d, isatty(fileno(to)) == 1).c_str(), to);
  }
  if (!loaded.ok()) return wrong_usage;
  const auto number = loaded.result.rules->rules.size();
  if (!quiet) std::printf("OK: %zu %s\n", number, number == 1 ? "rule" : "rules");
  return done;
}

std::string_view level_text(fields::level l) {
  return l == fields::level::both ? "stream, packet" : l == fields::level::stream ? "stream" : "packet";
}

int fields_command(const words& arguments) {
  CLI::App app{"Lists the fields that filters and actions know.", "rules fields"};
  std::string pattern;
  app.add_option("pattern", pattern, "only names that contain this")->type_name("PATTERN");
  app.footer(R"(
examples:
  midwire rules fields
  midwire rules fields tcp.)");
  if (const auto status = parse(app, arguments)) return *status;
  std::size_t width = 0;
  const auto fits = [&](const fields::field_info& f) { return f.name.find(pattern) != f.name.npos; };
  for (const auto& f : fields::all())
    if (fits(f)) width = std::max(width, f.name.size());
  if (width == 0) {
    const auto near = fields::nearest(pattern);
    return complain(work_failed, "no field contains '" + streams::printable(pattern) + "'",
                    near.empty() ? "midwire rules fields lists all" : "did you mean '" + std::string{near} + "'?");
  }
  for (const auto& f : fields::all())
    if (fits(f))
      std::printf("%-*s  %-5s  %-14s  %s\n", static_cast<int>(width), std::string{f.name}.c_str(),
                  std::string{fields::name_of(f.type)}.c_str(), std::string{level_text(f.levels)}.c_str(),
                  std::string{f.description}.c_str());
  return done;
}

constexpr auto help = R"(usage: midwire rules check [-e RULE] [FILE...]   check rules
       midwire rules fields [PATTERN]           list the fields that filters know

examples:
  midwire rules check edits.rules
  midwire rules fields tcp.
)";

}  // namespace

int rules_command(const words& arguments) {
  if (arguments.empty())
    return complain(wrong_usage, "what about the rules?", "midwire rules check FILE, or midwire rules fields");
  const words rest{arguments.begin() + 1, arguments.end()};
  const auto& word = arguments.front();
  if (word == "check") return check_command(rest);
  if (word == "fields") return fields_command(rest);
  if (word == "--help" || word == "-h") return std::fputs(help, stdout), done;
  if (word == "explain" || word == "convert")
    return complain(wrong_usage, "'rules " + word + "' is not available yet", "available: rules check, rules fields");
  const auto near = nearest(word, {"check", "fields"});
  return complain(wrong_usage, "unknown word 'rules " + streams::printable(word) + "'",
                  near.empty() ? "midwire rules --help" : "did you mean 'midwire rules " + near + "'?");
}

}  // namespace midwire::app
