#include <charconv>

#include <midwire/streams/source/mode.hpp>
#include <midwire/streams/source/units.hpp>

#include "options.hpp"

namespace midwire::app {
namespace {

constexpr auto examples = R"(
modes: reverse:tcp://HOST:PORT[@[HOST:]PORT], reverse:unix:/path[@…], serve[@[HOST:]PORT]; @unix:/path listens on a
unix socket. They listen on 127.0.0.1 unless told; port 0 takes a free one, which is printed.

examples:
  midwire proxy reverse:tcp://127.0.0.1:5432@15432
  midwire proxy reverse:tcp://example.org:80@8888 -e 'do replace "Example" with "Edited example"'
  midwire proxy reverse:tcp://127.0.0.1:6379@16379 --rules edits.rules --dump text
  midwire proxy reverse:unix:/run/db@0.0.0.0:5432 --json -e 'when from.client do replace /secret=\w+/ with "secret=***"'
  midwire proxy reverse:tcp://127.0.0.1:80@8080 reverse:tcp://127.0.0.1:443@8443 --threads 4)";

const std::vector<refused_option>& refused() {
  static const std::vector<refused_option> table = [] {
    const std::string script = "scripts are not available yet: write a rule (-e, --rules)";
    const std::string record = "recording is not available yet: --json --dump hex prints all octets";
    const std::string tls = "TLS is not taken apart: its octets pass as they are";
    const std::string hosts = "write a filter instead, for example: -e 'when ip.addr == 10.0.0.0/8 do stop'";
    const std::string replay = "replaying is not available yet";
    const std::string http =
        "HTTP is not parsed: write a rule on its octets, for example: -e 'do replace \"old\" with \"new\"'";
    return std::vector<refused_option>{
        {"-s", script},
        {"--scripts", script},
        {"--script", script},
        {"-w", record},
        {"--record", record},
        {"--save-stream-file", record},
        {"--set", "settings are options of their own here: see midwire proxy --help"},
        {"-k", tls},
        {"--ssl-insecure", tls},
        {"--certs", tls},
        {"--ignore-hosts", hosts},
        {"--allow-hosts", hosts},
        {"--tcp-hosts", hosts},
        {"--udp-hosts", hosts},
        {"-n", "a proxy without a listener does nothing: midwire rules check FILE checks rules"},
        {"--no-server", "midwire rules check FILE checks rules"},
        {"-r", replay},
        {"--rfile", replay},
        {"-C", replay},
        {"--client-replay", replay},
        {"-S", replay},
        {"--server-replay", replay},
        {"-M", "write another mode instead of a mapped URL: reverse:tcp://HOST:PORT@PORT"},
        {"--map-remote", "write another mode instead of a mapped URL: reverse:tcp://HOST:PORT@PORT"},
        {"-B", http},
        {"--modify-body", http},
        {"-H", http},
        {"--modify-headers", http},
        {"--anticache", http},
        {"--stickycookie", http},
        {"--stickyauth", http},
        {"--anticomp", http}};
  }();
  return table;
}

}  // namespace

int proxy_command(const words& arguments) {
  CLI::App app{"Puts midwire between clients and a server, and lets rules edit what passes.", "proxy"};
  stream_options options;
  std::vector<std::string> plain, named;
  std::string host, port, on_error = "close", connect_timeout;
  app.add_option("modes", plain, "where to listen, and what happens there")->type_name("MODE");
  app.add_option("-m,--mode", named, "the same, as an option (repeat)")->allow_extra_args(false)->type_name("MODE");
  app.add_option("-p,--listen-port", port, "port of modes that name none")->type_name("PORT");
  app.add_option("--listen-host", host, "address of modes that name none (127.0.0.1)")->type_name("HOST");
  app.add_option("--on-connect-error", on_error,
                 "what the client sees when the server cannot be reached: close or reset")
      ->type_name("HOW");
  app.add_option("--connect-timeout", connect_timeout, "how long connecting may take (30s)")->type_name("TIME");
  options.add_to(app);
  app.footer(examples);
  if (const auto status = parse(app, arguments, refused())) return *status;
  if (const auto status = options.check(app)) return *status;

  streams::listen_defaults defaults;
  if (!host.empty()) defaults.host = host.front() == '[' && host.back() == ']' ? host.substr(1, host.size() - 2) : host;
  if (!port.empty()) {
    unsigned number = 65536;
    const auto [at, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc{} || at != port.data() + port.size() || number > 65535)
      return complain(wrong_usage, "invalid port: " + streams::printable(port),
                      "a port is 0 to 65535; 0 takes a free one");
    defaults.port = static_cast<std::uint16_t>(number);
  }
  if (on_error != "close" && on_error != "reset")
    return complain(wrong_usage, "--on-connect-error: '" + streams::printable(on_error) + "' is unknown",
                    "write close or reset");
  options.settings.reset_on_connect_error = on_error == "reset";
  if (!connect_timeout.empty()) {
    const auto time = time_value("--connect-timeout", connect_timeout);
    if (!time) return wrong_usage;
    options.settings.connect_timeout = *time;
  }
  plain.insert(plain.end(), named.begin(), named.end());
  if (plain.empty())
    return complain(wrong_usage, "no mode",
                    "write where to listen and to connect: midwire proxy reverse:tcp://HOST:PORT@PORT");
  for (const auto& spec : plain) {
    auto mode = streams::parse_mode(spec, defaults);
    if (!mode) return complain_at(wrong_usage, mode.error().what, spec, mode.error().offset, mode.error().hint);
    options.settings.modes.push_back(std::move(*mode));
  }
  if (const auto clash = streams::find_clash(options.settings.modes))
    return complain(wrong_usage, streams::printable(*clash), "give each mode a port of its own: …@PORT");
  return run_streams(options);
}

}  // namespace midwire::app
