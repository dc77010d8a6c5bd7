#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

/// What end-to-end tests need: the built program as a child, sockets without the engine, a folder that goes away.
namespace program_test {

constexpr std::chrono::seconds patience{20};

/// Collects what a descriptor gives, on a thread of its own.
class collector {
 public:
  explicit collector(int fd) : fd_{fd}, thread_{[this] { work(); }} {}
  ~collector() {
    thread_.join();
    close(fd_);
  }
  /// Waits until `text` was seen `times` times; empty when it was not. \return everything so far
  std::string wait_for(std::string_view text, std::size_t times = 1) {
    std::unique_lock lock{mutex_};
    const bool seen = more_.wait_for(lock, patience, [&] {
      std::size_t n = 0;
      for (auto at = all_.find(text); at != all_.npos; at = all_.find(text, at + text.size())) ++n;
      return n >= times || ended_;
    });
    EXPECT_TRUE(seen) << "waited in vain for '" << text << "' in: " << all_;
    return all_;
  }
  std::string all() {
    std::lock_guard lock{mutex_};
    return all_;
  }
  /// Until everything was read: the program has ended, what it wrote may still lie in the pipe.
  void wait_for_end() {
    std::unique_lock lock{mutex_};
    EXPECT_TRUE(more_.wait_for(lock, patience, [&] { return ended_; }));
  }

 private:
  void work() {
    char block[65536];
    for (ssize_t n; (n = read(fd_, block, sizeof block)) > 0;) {
      std::lock_guard lock{mutex_};
      all_.append(block, static_cast<std::size_t>(n));
      more_.notify_all();
    }
    std::lock_guard lock{mutex_};
    ended_ = true;
    more_.notify_all();
  }
  int fd_;
  std::mutex mutex_;
  std::condition_variable more_;
  std::string all_;
  bool ended_ = false;
  std::thread thread_;
};

struct closed_output_t {};
/// The program starts without descriptor 1.
constexpr closed_output_t closed_output;

/// `midwire ARGUMENTS`, killed at the latest when this goes.
class program {
 public:
  explicit program(std::vector<std::string> arguments, bool read_stdout = true)
      : program{std::move(arguments), read_stdout, false} {}
  program(std::vector<std::string> arguments, closed_output_t) : program{std::move(arguments), true, true} {}

  program(const program&) = delete;
  program& operator=(const program&) = delete;
  ~program() {
    if (!status_ && pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close_stdout();
  }

  void send(int number) const { kill(pid_, number); }
  pid_t pid() const { return pid_; }
  /// The exit status, or 1000 + the signal that ended it, or -1: it did not end in time.
  int status() {
    for (const auto until = std::chrono::steady_clock::now() + patience; !status_;) {
      int how = 0;
      if (waitpid(pid_, &how, WNOHANG) == pid_)
        status_ = WIFEXITED(how) ? WEXITSTATUS(how) : 1000 + WTERMSIG(how);
      else if (std::chrono::steady_clock::now() > until)
        return -1;
      else
        std::this_thread::sleep_for(std::chrono::milliseconds{2});
    }
    if (output_) output_->wait_for_end();
    if (errors_) errors_->wait_for_end();
    return *status_;
  }
  bool running() {
    int how = 0;
    if (!status_ && waitpid(pid_, &how, WNOHANG) == pid_)
      status_ = WIFEXITED(how) ? WEXITSTATUS(how) : 1000 + WTERMSIG(how);
    return !status_;
  }
  collector& out() { return *output_; }
  collector& err() { return *errors_; }
  int stdout_end() const { return stdout_; }
  void close_stdout() {
    if (stdout_ >= 0) close(std::exchange(stdout_, -1));
  }
  /// The port of the n-th "listening on HOST:PORT".
  std::uint16_t port(std::size_t n = 1) {
    const std::string mark = "listening on ";
    const auto text = err().wait_for(mark, n);
    std::size_t at = 0;
    for (std::size_t i = 0; i < n && at != text.npos; ++i) at = text.find(mark, i == 0 ? 0 : at + 1);
    if (at == text.npos) return 0;
    // The rest of the line may still be on its way.
    const auto whole = err().wait_for("\n", n);
    const auto line = whole.substr(at, whole.find_first_of(" \n", at + mark.size()) - at);
    return static_cast<std::uint16_t>(std::atoi(line.c_str() + line.rfind(':') + 1));
  }

 private:
  program(std::vector<std::string> arguments, bool read_stdout, bool no_stdout) {
    arguments.insert(arguments.begin(), std::string{MIDWIRE_BIN_DIR} + "/midwire");
    int out[2], err[2];
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) std::abort();
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (no_stdout)
      posix_spawn_file_actions_addclose(&actions, 1);
    else
      posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    std::vector<char*> words;
    for (auto& a : arguments) words.push_back(a.data());
    words.push_back(nullptr);
    if (posix_spawn(&pid_, words[0], &actions, nullptr, words.data(), environ) != 0) pid_ = -1;
    EXPECT_GT(pid_, 0) << "cannot start " << words[0];
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]), close(err[1]);
    errors_.emplace(err[0]);
    if (read_stdout)
      output_.emplace(out[0]);
    else
      stdout_ = out[0];
  }

  pid_t pid_ = -1;
  std::optional<int> status_;
  int stdout_ = -1;
  std::optional<collector> output_, errors_;
};

/// A blocking TCP or unix socket with a time limit.
class client {
 public:
  client() = default;
  explicit client(std::uint16_t port, const char* host = "127.0.0.1") {
    sockaddr_in at{};
    at.sin_family = AF_INET, at.sin_port = htons(port);
    inet_pton(AF_INET, host, &at.sin_addr);
    open(AF_INET, reinterpret_cast<const sockaddr*>(&at), sizeof at);
  }
  explicit client(const std::string& path) {
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    std::strncpy(at.sun_path, path.c_str(), sizeof at.sun_path - 1);
    open(AF_UNIX, reinterpret_cast<const sockaddr*>(&at), sizeof at);
  }
  explicit client(int fd, int) : fd_{fd} { limit(); }
  client(client&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  client& operator=(client&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~client() {
    if (fd_ >= 0) close(fd_);
  }
  bool connected() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  void send(std::string_view text) const {
    while (!text.empty()) {
      const auto n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  void end() const { shutdown(fd_, SHUT_WR); }
  /// The next octets; empty at the end.
  std::string some(std::size_t most = 65536) const {
    std::string block(most, '\0');
    const auto n = recv(fd_, block.data(), block.size(), 0);
    block.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return block;
  }
  std::string exactly(std::size_t octets) const {
    std::string all;
    while (all.size() < octets) {
      const auto part = some(octets - all.size());
      if (part.empty()) break;
      all += part;
    }
    return all;
  }
  std::string rest() const {
    std::string all;
    for (std::string part; !(part = some()).empty();) all += part;
    return all;
  }
  /// What ended it: 0 a FIN, else errno.
  int ending() const {
    char octet;
    ssize_t n;
    while ((n = recv(fd_, &octet, 1, 0)) > 0) {}
    return n == 0 ? 0 : errno;
  }

 private:
  void open(int family, const sockaddr* at, socklen_t size) {
    fd_ = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    limit();
    if (connect(fd_, at, size) != 0) close(std::exchange(fd_, -1));
  }
  void limit() const {
    const timeval most{20, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
  }
  int fd_ = -1;
};

/// A listener whose connections each get a thread with `talk`.
class server {
 public:
  explicit server(std::function<void(client)> talk) : talk_{std::move(talk)} {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET, at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    if (bind(fd_, reinterpret_cast<sockaddr*>(&at), size) != 0 || listen(fd_, 1024) != 0 ||
        getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size) != 0)
      std::abort();
    port_ = ntohs(at.sin_port);
    accepting_ = std::thread{[this] {
      while (true) {
        const int fd = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0) return;
        talking_.emplace_back([this, c = client{fd, 0}]() mutable { talk_(std::move(c)); });
      }
    }};
  }
  ~server() {
    shutdown(fd_, SHUT_RDWR);
    accepting_.join();
    close(fd_);
    for (auto& t : talking_) t.join();
  }
  std::uint16_t port() const { return port_; }
  /// `reverse:tcp://127.0.0.1:PORT`.
  std::string mode(const std::string& listen = "@0") const {
    return "reverse:tcp://127.0.0.1:" + std::to_string(port_) + listen;
  }

 private:
  std::function<void(client)> talk_;
  int fd_ = -1;
  std::uint16_t port_ = 0;
  std::thread accepting_;
  std::vector<std::thread> talking_;
};

inline void echo(client c) {
  for (std::string part; !(part = c.some()).empty();) c.send(part);
}

/// A folder under /tmp, removed with its files.
class folder {
 public:
  folder() {
    if (mkdtemp(path_) == nullptr) std::abort();
  }
  ~folder() {
    const std::string command = std::string{"rm -rf '"} + path_ + "'";
    EXPECT_EQ(std::system(command.c_str()), 0);
  }
  std::string file(const std::string& name) const { return std::string{path_} + "/" + name; }
  std::string write(const std::string& name, std::string_view text) const {
    std::ofstream{file(name)} << text;
    return file(name);
  }

 private:
  char path_[32] = "/tmp/midwire-test-XXXXXX";
};

}  // namespace program_test
