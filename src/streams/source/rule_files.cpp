#include <midwire/streams/source/rule_files.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace midwire::streams {

std::optional<std::string> read_file(const std::string& path, std::size_t max, std::string& error, bool* regular) {
  const auto failed = [&](int code) {
    error = std::generic_category().message(code);
    return std::nullopt;
  };
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed(errno);
  struct closing {
    int fd;
    ~closing() { close(fd); }
  } const at_end{fd};
  struct stat about {};
  if (fstat(fd, &about) != 0) return failed(errno);
  if (regular != nullptr) *regular = S_ISREG(about.st_mode);
  std::string content;
  char block[16384];
  while (true) {
    const auto n = read(fd, block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed(errno);
    if (n == 0) return content;
    content.append(block, static_cast<std::size_t>(n));
    if (content.size() > max) {
      error = "larger than " + std::to_string(max) + " octets";
      return std::nullopt;
    }
  }
}

void rule_files::add_rule(std::string text) {
  entry e;
  e.source = {"-e:" + std::to_string(++rules_), std::move(text), {}, false};
  e.read = true, e.again = false;
  sources_.push_back(std::move(e));
}

void rule_files::add_file(std::string path) {
  entry e;
  const auto slash = path.rfind('/');
  e.source = {path,
              {},
              slash == path.npos ? std::string{}
              : slash == 0       ? std::string{"/"}
                                 : path.substr(0, slash),
              true};
  sources_.push_back(std::move(e));
  has_files_ = true;
}

rule_files::loaded rule_files::load() {
  loaded out;
  std::vector<rules::source> now;
  for (auto& e : sources_) {
    if (!e.read || e.again) {
      std::string error;
      bool regular = true;
      auto content = read_file(e.source.name, max_file, error, &regular);
      if (!content) {
        out.unreadable.push_back(e.source.name + ": " + error);
        continue;
      }
      e.source.text = std::move(*content);
      e.read = true, e.again = regular;
    }
    now.push_back(e.source);
  }
  if (out.unreadable.empty())
    out.result = rules::compile(
        now, [](const std::string& path, std::string& error) { return read_file(path, max_file, error); });
  return out;
}

}  // namespace midwire::streams
