#include <midwire/engine/endpoint.hpp>

#include "options.hpp"

namespace midwire::app {
namespace {

constexpr auto examples = R"(
examples:
  midwire serve
  midwire serve tcp://127.0.0.1:8888 -e 'do replace "ping" with "pong"'
  midwire serve unix:/tmp/midwire.sock --dump hex --no-answer
  midwire serve tcp://127.0.0.1:0 --json -q)";

}  // namespace

int serve_command(const words& arguments) {
  CLI::App app{"Ends connections here: prints what comes, edits it by rules, answers with the edited octets.", "serve"};
  stream_options options;
  std::string endpoint = "tcp://127.0.0.1:8888";
  bool silent = false;
  app.add_option("endpoint", endpoint, "where to listen (tcp://127.0.0.1:8888)")->type_name("ENDPOINT");
  app.add_flag("--no-answer", silent, "send nothing back");
  options.add_to(app);
  app.footer(examples);
  if (const auto status = parse(app, arguments)) return *status;
  if (const auto status = options.check(app)) return *status;
  auto parsed = parse_endpoint(endpoint);
  if (!parsed)
    return complain_at(wrong_usage, parsed.error().what, endpoint, parsed.error().offset,
                       "write tcp://HOST:PORT or unix:/path");
  streams::mode mode;
  mode.how = streams::mode::kind::serve;
  mode.spec = endpoint;
  mode.listen = std::move(*parsed);
  options.settings.modes.push_back(std::move(mode));
  options.settings.answer = !silent;
  if (!options.dump && !options.quiet) options.dump = streams::dump_style::text;
  return run_streams(options);
}

}  // namespace midwire::app
