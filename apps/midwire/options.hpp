#pragma once

#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <midwire/base/views.hpp>
#include <midwire/streams/sink/dump_format.hpp>
#include <midwire/streams/source/mode.hpp>
#include <midwire/streams/source/rule_files.hpp>
#include <midwire/streams/source/stream_proxy.hpp>

#include "commands.hpp"

namespace midwire::app {

/// An option of another tool, and what to do instead.
struct refused_option {
  std::string name, why;
};

/// Parses `arguments` with `app`: help, unknown options and words get their text here.
/// \return the exit status when the program ends with that
std::optional<int> parse(CLI::App& app, const words& arguments, const std::vector<refused_option>& refused = {});

/// `-e RULE` and `--rules FILE`, in the order of the command line over both, and files given as plain words when there
/// is such an option.
class rule_arguments {
 public:
  void add_to(CLI::App& app, bool plain_files = false);
  /// After parse().
  streams::rule_files in_order(const CLI::App& app) const;

 private:
  std::vector<std::string> rules_, files_, plain_;
  CLI::Option *rule_ = nullptr, *file_ = nullptr, *plain_file_ = nullptr;
};

/// What `proxy` and `serve` share.
struct stream_options {
  void add_to(CLI::App& app);
  /// After parse(): checks the values. \return the exit status when one is wrong
  std::optional<int> check(const CLI::App& app);

  rule_arguments rules;
  streams::rule_files rule_texts;
  streams::proxy_settings settings;
  std::optional<std::uint64_t> seed;
  std::optional<streams::dump_style> dump;
  bool json = false, quiet = false, colour = false, splice = true;
  int verbose = 0;
  unsigned threads = 0;
  duration drain = std::chrono::seconds{10};

 private:
  std::string seed_text_, dump_text_, color_text_ = "auto", window_text_, hold_text_, buffer_text_, drain_text_,
                                      idle_text_, threads_text_;
  bool no_splice_ = false;
};

/// Runs listeners until a signal ends them. `dump`: print what passes.
int run_streams(stream_options& options);

/// One value, or a complaint about it.
std::optional<std::uint64_t> size_value(const std::string& option, const std::string& text);
std::optional<duration> time_value(const std::string& option, const std::string& text);

}  // namespace midwire::app
