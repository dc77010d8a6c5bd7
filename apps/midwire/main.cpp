#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>

#include <midwire/streams/sink/dump_format.hpp>

#include "commands.hpp"

#ifndef MIDWIRE_VERSION
#error "the build defines MIDWIRE_VERSION"
#endif

namespace midwire::app {
namespace {

constexpr std::string_view help_text =
    R"(midwire - inspect, modify and inject network traffic while it crosses the network

usage: midwire COMMAND [OPTIONS]

commands:
  proxy MODE...      put midwire between clients and a server, and let rules edit what passes
  serve [ENDPOINT]   end connections here: print what comes, edit it, answer with it
  rules check FILE   check rule files          rules fields [PATTERN]   list the fields filters know

  midwire COMMAND --help tells more; midwire --version tells the version.

exit status: 0 done, 1 the work failed, 2 wrong usage or rule, 3 a privilege is missing

examples:
  midwire proxy reverse:tcp://127.0.0.1:5432@15432
  midwire proxy reverse:tcp://example.org:80@8888 -e 'do replace "Example" with "Edited example"' --dump text
  midwire serve tcp://127.0.0.1:8888 -e 'do replace "ping" with "pong"'
  midwire rules check edits.rules

Touch only traffic that you are allowed to touch.
)";

std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t corner = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const auto up = row[j];
      row[j] = std::min({up + 1, row[j - 1] + 1, corner + (a[i - 1] == b[j - 1] ? 0 : 1)});
      corner = up;
    }
  }
  return row[b.size()];
}

}  // namespace

int complain(status how, std::string_view what, std::string_view hint) {
  auto text = "midwire: error: " + std::string{what} + '\n';
  if (!hint.empty()) text += "  hint: " + std::string{hint} + '\n';
  std::fwrite(text.data(), 1, text.size(), stderr);
  return how;
}

int complain_at(status how, std::string_view what, std::string_view text, std::size_t offset, std::string_view hint) {
  // The caret stands below the octet also when octets before it are shown escaped.
  const auto front = streams::printable(text.substr(0, std::min(offset, text.size())));
  const auto width =
      static_cast<std::size_t>(std::count_if(front.begin(), front.end(), [](char c) { return (c & 0xc0) != 0x80; }));
  auto shown = "midwire: error: " + streams::printable(what) + "\n  " + streams::printable(text) + "\n  " +
               std::string(width, ' ') + "^\n";
  if (!hint.empty()) shown += "  hint: " + streams::printable(hint) + '\n';
  std::fwrite(shown.data(), 1, shown.size(), stderr);
  return how;
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  if (word.size() < 3) return best;  // every short option is near every other
  std::size_t least = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const auto& c : candidates)
    if (const auto d = distance(word, c); d < least) least = d, best = c;
  return best;
}

namespace {

int run(const words& arguments) {
  if (arguments.empty()) return complain(wrong_usage, "no command", "midwire --help lists the commands");
  const auto& command = arguments.front();
  const words rest{arguments.begin() + 1, arguments.end()};
  if (command == "--help" || command == "-h" || command == "help") {
    if (command == "help" && !rest.empty()) return run({rest.front(), "--help"});
    std::fwrite(help_text.data(), 1, help_text.size(), stdout);
    return done;
  }
  if (command == "--version") return std::puts("midwire " MIDWIRE_VERSION), done;
  if (command == "proxy") return proxy_command(rest);
  if (command == "serve") return serve_command(rest);
  if (command == "rules") return rules_command(rest);
  static const std::vector<std::string> later{"edit",   "inspect", "inline", "capture",   "replay", "send",
                                              "merge",  "split",   "diff",   "anonymize", "ca",     "run",
                                              "config", "script",  "doctor", "cleanup"};
  if (std::find(later.begin(), later.end(), command) != later.end())
    return complain(wrong_usage, "command '" + command + "' is not available yet", "available: proxy, serve, rules");
  const auto near = nearest(command, {"proxy", "serve", "rules", "help", "--help", "--version"});
  const auto kind = command.starts_with('-') ? "unknown option '" : "unknown command '";
  return complain(wrong_usage, kind + streams::printable(command) + "'",
                  near.empty() ? "midwire --help lists the commands" : "did you mean 'midwire " + near + "'?");
}

// A descriptor of ours in the place of one that was closed before us would get what we print.
void fill_standard_descriptors() {
  int fd = 0;
  while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO) {}
  if (fd >= 0) close(fd);
}

}  // namespace
}  // namespace midwire::app

int main(int count, char** arguments) {
  midwire::app::fill_standard_descriptors();
  // A reader of our output that goes away must not take the connections with it.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    const int status = midwire::app::run({arguments + std::min(count, 1), arguments + count});
    std::fflush(stdout);
    return status;
  } catch (const std::exception& e) { return midwire::app::complain(midwire::app::work_failed, e.what()); }
}
