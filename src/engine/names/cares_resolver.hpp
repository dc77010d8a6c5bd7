#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <midwire/engine/names.hpp>

namespace midwire::detail {

struct cares_options {
  /// Who the name servers are, and the search domains. A changed file is noticed at the next question.
  std::string resolv_conf = "/etc/resolv.conf";
  /// Names found here ask no server, for neither family. At most 16 MiB of it are read.
  std::string hosts = "/etc/hosts";
  /// The name servers' port, UDP and TCP.
  std::uint16_t port = 53;
  /// For the first try at a server; c-ares doubles it with each round. At least 1 ms.
  duration timeout = std::chrono::seconds{2};
  int tries = 2;
  /// How often the two files are looked at, at most.
  duration check_files = std::chrono::seconds{1};
  /// Answers kept: two a name, one for each family. The one that came first goes first.
  std::size_t cached_answers = 2048;
  /// Questions on their way to servers at once; those beyond fail.
  std::size_t lookups = 4096;
};

/// As midwire::make_cares_resolver(). Opens nothing before the first question.
std::unique_ptr<resolver> make_cares_resolver(reactor& r, cares_options options);

}  // namespace midwire::detail
