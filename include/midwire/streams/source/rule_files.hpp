#pragma once

#include <string>
#include <vector>

#include <midwire/base/export.hpp>
#include <midwire/rules/rule.hpp>

namespace midwire::streams {

/// The rules of a command line: files and single rules in the order they were given.
///
/// Threads  load() by one thread at a time.
class MIDWIRE_API rule_files {
 public:
  static constexpr std::size_t max_file = std::size_t{16} << 20;

  /// One `-e`; they are named `-e:1`, `-e:2`, …
  void add_rule(std::string text);
  void add_file(std::string path);
  bool empty() const noexcept { return sources_.empty(); }
  bool has_files() const noexcept { return has_files_; }

  struct loaded {
    rules::compiled result;
    std::vector<std::string> unreadable;  ///< "PATH: why": when there is one, nothing was compiled
    bool ok() const noexcept { return unreadable.empty() && result.ok(); }
  };
  /// Reads the files anew and compiles everything; what was loaded before stays as it is. A file that is none (a pipe
  /// of the shell) is read the first time only.
  loaded load();

 private:
  struct entry {
    rules::source source;
    bool read = false, again = true;
  };
  std::vector<entry> sources_;
  bool has_files_ = false;
  std::size_t rules_ = 0;
};

/// Everything in a file of at most `max` octets, or why not.
MIDWIRE_API std::optional<std::string> read_file(const std::string& path, std::size_t max, std::string& error,
                                                 bool* regular = nullptr);

}  // namespace midwire::streams
