#include <pthread.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <thread>

#include <midwire/engine/pool.hpp>
#include <midwire/engine/reactor.hpp>
#include <midwire/streams/sink/event_writers.hpp>

#include "options.hpp"

namespace midwire::app {
namespace {

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// For this thread and all that it starts: only the reactor takes them, from a descriptor.
void block_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int s : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, s);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
    seed = static_cast<std::uint64_t>(streams::wall_now().time_since_epoch().count());
  // Readers of JSON take numbers for doubles: below 2^53 the printed seed is the seed.
  return seed >> 11;
}

std::string diagnostics_text(const std::vector<rules::diagnostic>& all, rules::diagnostic::severity least,
                             bool colour) {
  std::string text;
  for (const auto& d : all)
    if (d.how <= least) text += rules::format(d, colour);
  return text;
}

/// Rereads rule files on a thread of its own: a slow disk must not stop connections.
class reloader {
 public:
  reloader(streams::rule_files& files, streams::stream_proxy& proxy, streams::output& talk, bool quiet)
      : files_{files}, proxy_{proxy}, talk_{talk}, quiet_{quiet} {}
  ~reloader() {
    if (!thread_.joinable()) return;
    {
      std::lock_guard lock{mutex_};
      stop_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  void ask() {
    std::lock_guard lock{mutex_};
    asked_ = true;
    if (!thread_.joinable()) thread_ = std::thread{[this] { work(); }};
    changed_.notify_one();
  }

 private:
  void work() {
    std::unique_lock lock{mutex_};
    while (true) {
      changed_.wait(lock, [this] { return asked_ || stop_; });
      if (stop_) return;
      asked_ = false;
      lock.unlock();
      reload();
      lock.lock();
    }
  }
  void reload() {
    const auto loaded = files_.load();
    if (!loaded.ok()) {
      std::string text;
      for (const auto& why : loaded.unreadable) text += "midwire: error: " + streams::printable(why) + '\n';
      text += diagnostics_text(loaded.result.diagnostics, rules::diagnostic::severity::error, false);
      talk_.write(text + "rules not reloaded: the old ones stay\n");
      return;
    }
    proxy_.reload(loaded.result.rules);
    if (!quiet_) talk_.write("rules reloaded: " + std::to_string(loaded.result.rules->rules.size()) + "\n");
  }

  streams::rule_files& files_;
  streams::stream_proxy& proxy_;
  streams::output& talk_;
  const bool quiet_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool asked_ = false, stop_ = false;
  std::thread thread_;
};

int explain_listen_error(const std::system_error& e, const std::vector<streams::mode>& modes) {
  const auto what = streams::printable(e.what());
  if (e.code() == std::errc::address_in_use)
    return complain(work_failed, what,
                    "another program listens there: choose another port (…@PORT, 0 takes a free one), or stop it");
  const bool low = std::any_of(modes.begin(), modes.end(), [](const streams::mode& m) {
    return m.listen.how == endpoint::scheme::tcp && m.listen.port != 0 && m.listen.port < 1024;
  });
  if ((e.code() == std::errc::permission_denied || e.code() == std::errc::operation_not_permitted) && low)
    return complain(privilege_missing, what,
                    "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher port, or give it to the program");
  if (e.code() == std::errc::address_not_available)
    return complain(work_failed, what, "this machine has no such address: 127.0.0.1 is itself, 0.0.0.0 every address");
  return complain(work_failed, what);
}

/// Everything between start and end of a run; what the signal handlers share.
class run {
 public:
  explicit run(stream_options& options) : options_{options} {}
  int operator()();

 private:
  void signalled(int number);
  void end_at_once(int number);

  stream_options& options_;
  streams::output talk_{STDERR_FILENO};
  std::optional<streams::output> results_;
  std::unique_ptr<streams::json_writer> json_;
  std::unique_ptr<streams::text_writer> text_;
  std::optional<reactor_pool> pool_;
  std::optional<streams::stream_proxy> proxy_;
  bool stopping_ = false;
};

int run::operator()() {
  auto& settings = options_.settings;
  const auto loaded = options_.rule_texts.load();
  for (const auto& why : loaded.unreadable) complain(work_failed, streams::printable(why));
  if (!loaded.unreadable.empty()) return work_failed;
  const auto least = options_.verbose > 0 ? rules::diagnostic::severity::note
                     : options_.quiet     ? rules::diagnostic::severity::error
                                          : rules::diagnostic::severity::warning;
  const auto said = diagnostics_text(loaded.result.diagnostics, least, isatty(STDERR_FILENO) == 1);
  std::fputs(said.c_str(), stderr);
  if (!loaded.ok()) return wrong_usage;
  settings.rules_can_change = options_.rule_texts.has_files();
  settings.seed = options_.seed ? *options_.seed : random_seed();
  const bool many = settings.modes.size() > 1;

  results_.emplace(STDOUT_FILENO, [this](std::uint64_t lost) {
    if (options_.json) return streams::json_lines::gap(lost, streams::wall_now());
    talk_.write(std::to_string(lost) + " lines of output dropped: nobody read them in time\n");
    return std::string{};
  });
  streams::event_sink* sink = nullptr;
  if (options_.json) {
    json_ = std::make_unique<streams::json_writer>(*results_, options_.dump.has_value(), many);
    sink = json_.get();
  } else {
    streams::text_options how;
    how.data = options_.dump.has_value(), how.style = options_.dump.value_or(streams::dump_style::text);
    how.colour = options_.colour, how.talk = options_.quiet ? 0 : 1 + options_.verbose, how.many_listeners = many;
    text_ = std::make_unique<streams::text_writer>(*results_, talk_, how);
    sink = text_.get();
  }
  set_log([this](int level, std::string_view line) {
    if (level + options_.verbose >= 2 && !(options_.quiet && level < 3))
      talk_.write("midwire: " + streams::printable(line) + '\n');
  });

  reactor_options how;
  how.splice = options_.splice, how.seed = settings.seed;
  pool_.emplace(options_.threads, how);
  proxy_.emplace(*pool_, settings, loaded.result.rules, *sink);
  auto& first = pool_->loop(0);
  reloader reload{options_.rule_texts, *proxy_, talk_, options_.quiet};
  for (const int number : {SIGINT, SIGTERM}) first.on_signal(number, [this, number] { signalled(number); });
  first.on_signal(SIGHUP, [this, &reload] {
    if (options_.rule_texts.has_files())
      reload.ask();
    else if (!options_.quiet)
      talk_.write("nothing to reload: no --rules FILE was given\n");
  });
  if (loaded.result.rules->uses_chance() && !options_.seed && !options_.quiet)
    talk_.write("seed " + std::to_string(settings.seed) + "\n");
  try {
    proxy_->start();
  } catch (const std::system_error& e) {
    return explain_listen_error(e, settings.modes);
  } catch (const std::invalid_argument& e) {
    return complain(wrong_usage, streams::printable(e.what()), "connect to another address, or listen on another port");
  }
  pool_->run();

  auto summary = proxy_->totals();
  summary.lost = results_->lost();
  if (json_)
    json_->take(summary);
  else if (!options_.quiet)
    talk_.write(streams::summary_text(summary) + '\n');
  results_->finish(std::chrono::seconds{2});
  talk_.finish(std::chrono::seconds{1});
  return done;
}

void run::signalled(int number) {
  if (std::exchange(stopping_, true)) end_at_once(number);
  proxy_->stop(options_.drain, [this] { pool_->stop(); });
}

void run::end_at_once(int number) {
  results_->finish(std::chrono::milliseconds{100});
  talk_.finish(std::chrono::milliseconds{100});
  // Connections are still up on other threads: nothing of theirs may be torn down here. The kernel resets them.
  std::_Exit(128 + number);
}

}  // namespace

int run_streams(stream_options& options) {
  raise_descriptor_limit();
  block_signals();
  run job{options};
  return job();
}

}  // namespace midwire::app
