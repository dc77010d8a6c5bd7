#pragma once

#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <cstdio>

/// What a client of bench/echo prints: the requests that were answered, and the CPU time of its own process, between
/// begin() and end().
class report {
 public:
  /// Seconds of warming up before a window of so many.
  static double warm_up(double seconds) { return seconds < 1.6 ? seconds / 4 : 0.4; }
  void answered() { ++answered_; }
  void begin() { began_ = clock::now(), cpu_ = cpu_now(), before_ = answered_; }
  void end() const {
    const double took = std::chrono::duration<double>{clock::now() - began_}.count();
    const auto done = static_cast<double>(answered_ - before_);
    std::printf("{\"per_s\": %.0f, \"cpu_us_each\": %.3f}\n", done / took, (cpu_now() - cpu_) * 1e6 / done);
    std::fflush(stdout);
  }

 private:
  using clock = std::chrono::steady_clock;
  static double cpu_now() {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    const auto seconds = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
    };
    return seconds(used.ru_utime) + seconds(used.ru_stime);
  }
  clock::time_point began_;
  double cpu_ = 0;
  std::uint64_t answered_ = 0, before_ = 0;
};
