#include "options.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <map>

#include <midwire/streams/source/units.hpp>

namespace midwire::app {
namespace {

std::string option_word(const std::string& word) {
  // --name=value, and -nVALUE.
  if (word.starts_with("--")) return word.substr(0, word.find('='));
  return word.substr(0, 2);
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const auto* o : app.get_options([](const CLI::Option*) { return true; })) {
    for (const auto& name : o->get_lnames()) names.push_back("--" + name);
    for (const auto& name : o->get_snames()) names.push_back("-" + name);
  }
  return names;
}

std::optional<std::uint64_t> number_value(const std::string& option, const std::string& text) {
  std::uint64_t number = 0;
  const auto end = text.data() + text.size();
  const bool hexadecimal = text.starts_with("0x");
  const auto [at, error] = std::from_chars(text.data() + (hexadecimal ? 2 : 0), end, number, hexadecimal ? 16 : 10);
  if (error == std::errc{} && at == end) return number;
  complain(wrong_usage, option + ": '" + streams::printable(text) + "' is not a number",
           "write decimal digits, or 0x and hex digits");
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> size_value(const std::string& option, const std::string& text) {
  const auto size = streams::parse_size(text);
  if (!size)
    complain(wrong_usage, option + ": '" + streams::printable(text) + "' is not a size",
             "write octets, or 64KiB, 10MB, 1GiB");
  return size;
}

std::optional<duration> time_value(const std::string& option, const std::string& text) {
  const auto time = streams::parse_time(text);
  if (!time)
    complain(wrong_usage, option + ": '" + streams::printable(text) + "' is not a time", "write 50ms, 1.5s or 2m");
  return time;
}

std::optional<int> parse(CLI::App& app, const words& arguments, const std::vector<refused_option>& refused) {
  app.allow_extras();
  app.get_formatter()->column_width(30);
  app.set_help_flag("-h,--help", "show this text");
  words reversed{arguments.rbegin(), arguments.rend()};
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    auto text = app.help();
    if (const auto at = text.find("Usage: "); at != text.npos) text.insert(at + 7, "midwire ");
    for (auto at = text.find("\n\n\n"); at != text.npos; at = text.find("\n\n\n")) text.erase(at, 1);
    std::fputs(text.c_str(), stdout);
    return done;
  } catch (const CLI::ParseError& e) {
    // Asked for before all else: an option of another tool that took our value must not be explained as ours.
    return complain(wrong_usage, streams::printable(e.what()), "see: midwire " + app.get_name() + " --help");
  }
  for (const auto& word : app.remaining()) {
    if (!word.starts_with('-') || word == "-") continue;
    const auto name = option_word(word);
    for (const auto& r : refused)
      if (r.name == name) return complain(wrong_usage, "option '" + name + "' is not available", r.why);
    const auto near = nearest(name, option_names(app));
    return complain(wrong_usage, "unknown option '" + streams::printable(name) + "'",
                    near.empty() ? "see: midwire " + app.get_name() + " --help" : "did you mean '" + near + "'?");
  }
  if (const auto extra = app.remaining(); !extra.empty())
    return complain(wrong_usage, "unexpected word '" + streams::printable(extra.front()) + "'",
                    "see: midwire " + app.get_name() + " --help");
  return std::nullopt;
}

void rule_arguments::add_to(CLI::App& app, bool plain_files) {
  rule_ = app.add_option("-e", rules_, "a rule, such as 'do replace \"a\" with \"b\"' (repeat)")
              ->allow_extra_args(false)
              ->type_name("RULE");
  file_ = app.add_option("--rules", files_, "a file of rules (repeat); read again on SIGHUP")
              ->allow_extra_args(false)
              ->type_name("FILE");
  if (plain_files) plain_file_ = app.add_option("files", plain_, "files of rules")->type_name("FILE");
}

streams::rule_files rule_arguments::in_order(const CLI::App& app) const {
  streams::rule_files out;
  std::size_t rule = 0, file = 0, plain = 0;
  for (const auto* o : app.parse_order()) {
    if (o == rule_ && rule < rules_.size()) out.add_rule(rules_[rule++]);
    if (o == file_ && file < files_.size()) out.add_file(files_[file++]);
    if (plain_file_ != nullptr && o == plain_file_ && plain < plain_.size()) out.add_file(plain_[plain++]);
  }
  return out;
}

void stream_options::add_to(CLI::App& app) {
  rules.add_to(app);
  app.add_option("--seed", seed_text_, "seed of all chance (default: random, printed when a rule uses chance)")
      ->type_name("N");
  app.add_flag("--json", json, "print events as JSON, one object a line");
  app.add_flag("-q,--quiet", quiet, "say nothing on stderr but errors");
  app.add_flag("-v,--verbose", verbose, "say more: each connection");
  app.add_option("--color", color_text_, "auto, always or never (auto: on a terminal, unless NO_COLOR is set)")
      ->type_name("WHEN");
  app.add_option("--dump", dump_text_, "print what passes, before and after where they differ: hex or text")
      ->type_name("STYLE");
  app.add_option("--window", window_text_, "what a rule may hold back of a direction (64KiB)")->type_name("SIZE");
  app.add_option("--hold", hold_text_, "how long it may hold it (50ms); strict: until decided")->type_name("TIME");
  app.add_option("--buffer", buffer_text_, "memory for a direction of a connection (256KiB)")->type_name("SIZE");
  app.add_option("--drain", drain_text_, "how long connections may finish after SIGTERM (10s)")->type_name("TIME");
  app.add_option("--idle-timeout", idle_text_, "end connections that were silent for so long (never)")
      ->type_name("TIME");
  app.add_option("--threads", threads_text_, "loops (one for each core this process may use)")->type_name("N");
  app.add_flag("--no-splice", no_splice_, "copy also what no rule touches");
}

std::optional<int> stream_options::check(const CLI::App& app) {
  rule_texts = rules.in_order(app);
  splice = !no_splice_;
  if (!seed_text_.empty()) {
    seed = number_value("--seed", seed_text_);
    if (!seed) return wrong_usage;
  }
  if (!dump_text_.empty()) {
    if (dump_text_ != "hex" && dump_text_ != "text")
      return complain(wrong_usage, "--dump: '" + streams::printable(dump_text_) + "' is not a style",
                      "write --dump hex or --dump text");
    dump = dump_text_ == "hex" ? streams::dump_style::hex : streams::dump_style::text;
  }
  if (color_text_ == "auto") {
    const char* no = std::getenv("NO_COLOR");
    colour = isatty(STDOUT_FILENO) == 1 && (no == nullptr || *no == 0);
  } else if (color_text_ == "always" || color_text_ == "never") {
    colour = color_text_ == "always";
  } else {
    return complain(wrong_usage, "--color: '" + streams::printable(color_text_) + "' is unknown",
                    "write auto, always or never");
  }
  auto& limits = settings.limits;
  if (!buffer_text_.empty()) {
    const auto size = size_value("--buffer", buffer_text_);
    if (!size) return wrong_usage;
    if (*size < 4096 || *size > (std::uint64_t{1} << 30))
      return complain(wrong_usage, "--buffer: " + buffer_text_ + " is out of range", "4KiB to 1GiB");
    limits.high = static_cast<std::size_t>(*size), limits.low = limits.high / 2;
    settings.window = std::min(settings.window, limits.low);
  }
  if (!window_text_.empty()) {
    const auto size = size_value("--window", window_text_);
    if (!size) return wrong_usage;
    if (*size < 1 || *size > (std::uint64_t{1} << 29))
      return complain(wrong_usage, "--window: " + window_text_ + " is out of range", "1 to 512MiB");
    settings.window = static_cast<std::size_t>(*size);
  }
  if (hold_text_ == "strict") {
    settings.hold_strict = true;
  } else if (!hold_text_.empty()) {
    const auto time = time_value("--hold", hold_text_);
    if (!time) return wrong_usage;
    if (time->count() == 0)
      return complain(wrong_usage, "--hold: 0 would find no match that TCP cut in two",
                      "write a time above zero, or strict");
    settings.hold = *time;
  }
  for (const auto& [name, text, to] :
       {std::tuple{"--drain", &drain_text_, &drain}, std::tuple{"--idle-timeout", &idle_text_, &limits.idle}}) {
    if (text->empty()) continue;
    const auto time = time_value(name, *text);
    if (!time) return wrong_usage;
    *to = *time;
  }
  if (!threads_text_.empty()) {
    const auto number = number_value("--threads", threads_text_);
    if (!number) return wrong_usage;
    if (*number < 1 || *number > 1024)
      return complain(wrong_usage, "--threads: " + threads_text_ + " is out of range", "1 to 1024");
    threads = static_cast<unsigned>(*number);
  }
  return std::nullopt;
}

}  // namespace midwire::app
