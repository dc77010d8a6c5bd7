#include "engine/spawn_child.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <system_error>
#include <utility>

namespace midwire::detail {

void owned_fd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

namespace {

constexpr int max_number = 255;

[[noreturn]] void refuse(int error, const std::string& what) {
  throw std::system_error{error, std::system_category(), what};
}

enum class step : int { descriptors, directory, exec };

/// What the child tells of a step that failed. Smaller than PIPE_BUF: it arrives whole.
struct failure {
  step where;
  int error;
};

/// All that the child needs, ready: between vfork and exec it only makes system calls.
struct plan {
  std::vector<const char*> argv, candidates;
  const char* const* environment = nullptr;
  const char* directory = nullptr;
  /// A descriptor of ours and the child's number for it. Ours are all above `errors_at`, so none is overwritten.
  std::vector<std::pair<int, int>> places;
  std::vector<int> unused;  // numbers below errors_at that the child does not get
  int errors = -1, errors_at = -1, open_max = 1024;
  bool new_session = false;
};

[[noreturn]] void give_up(const plan& p, step where, int error) noexcept {
  const failure f{where, error};
  [[maybe_unused]] const auto n = ::write(p.errors_at, &f, sizeof f);
  ::_exit(127);
}

/// Runs in the child, on the memory of its parent, which waits: it changes nothing there.
[[noreturn]] void become(const plan& p) noexcept {
  // Handlers first, while everything is blocked: none may run here. Ignored signals would stay so through exec.
  struct sigaction by_default {};
  by_default.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &by_default, nullptr);
  if (p.new_session) ::setsid();
  if (::dup3(p.errors, p.errors_at, O_CLOEXEC) < 0) ::_exit(127);
  for (const auto& [ours, number] : p.places)
    if (::dup2(ours, number) < 0) give_up(p, step::descriptors, errno);
  for (const int number : p.unused) ::close(number);
  if (::close_range(static_cast<unsigned>(p.errors_at) + 1, ~0u, 0) != 0)
    for (int fd = p.errors_at + 1; fd < p.open_max; ++fd) ::close(fd);
  if (p.directory && ::chdir(p.directory) != 0) give_up(p, step::directory, errno);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  int error = ENOENT;
  for (const char* const candidate : p.candidates) {
    ::execve(candidate, const_cast<char* const*>(p.argv.data()), const_cast<char* const*>(p.environment));
    // The next folder may have it; but that one was there and may not be run is worth telling.
    if (errno != ENOENT && errno != ENOTDIR) error = errno;
    if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) break;
  }
  give_up(p, step::exec, error);
}

/// With no signal handler able to run, because the child has the parent's memory until it is another program.
int fork_into(const plan& p) noexcept {
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const int pid = ::vfork();
  if (pid == 0) become(p);
  const int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return pid;
}

std::vector<std::string> programs(const std::string& name) {
  if (name.find('/') != std::string::npos) return {name};
  std::vector<std::string> found;
  if (name.empty()) return found;
  const char* const path = ::getenv("PATH");
  std::string rest = path ? path : "/usr/local/bin:/usr/bin:/bin";
  for (;;) {
    const std::size_t colon = rest.find(':');
    const std::string folder = rest.substr(0, colon);
    found.push_back((folder.empty() ? "." : folder) + '/' + name);
    if (colon == std::string::npos) return found;
    rest.erase(0, colon + 1);
  }
}

std::vector<const char*> pointers(const std::vector<std::string>& texts) {
  std::vector<const char*> all;
  for (const auto& t : texts) all.push_back(t.c_str());
  all.push_back(nullptr);
  return all;
}

/// The descriptors of the child, gathered above `floor`.
class descriptor_set {
 public:
  descriptor_set(int floor, std::string what) : floor_{floor}, what_{std::move(what)} {}

  /// Our end of a pipe whose other end the child gets.
  owned_fd pipe(int number, bool child_writes) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) refuse(errno, what_);
    owned_fd theirs{ends[child_writes ? 1 : 0]}, ours{ends[child_writes ? 0 : 1]};
    // Only our end: the child expects one that blocks.
    if (::fcntl(ours.get(), F_SETFL, O_NONBLOCK) != 0) refuse(errno, what_);
    copy(number, theirs.get());
    return ours;
  }
  void null(int number) {
    const owned_fd opened{::open("/dev/null", (number == 0 ? O_RDONLY : O_WRONLY) | O_CLOEXEC)};
    if (!opened) refuse(errno, what_);
    copy(number, opened.get());
  }
  /// Ours, or /dev/null where we have none.
  void inherit(int number) {
    if (::fcntl(number, F_GETFD) < 0) {
      null(number);
    } else {
      copy(number, number);
    }
  }
  void copy(int number, int ours) {
    owned_fd high{::fcntl(ours, F_DUPFD_CLOEXEC, floor_)};
    if (!high) refuse(errno, what_ + ": descriptor " + std::to_string(number));
    places.emplace_back(high.get(), number);
    held_.push_back(std::move(high));
  }
  owned_fd take_above(owned_fd fd) {
    owned_fd high{::fcntl(fd.get(), F_DUPFD_CLOEXEC, floor_)};
    if (!high) refuse(errno, what_);
    return high;
  }
  /// What `number` was given, once more.
  int given(int number) const noexcept {
    for (const auto& [ours, n] : places)
      if (n == number) return ours;
    return -1;
  }

  std::vector<std::pair<int, int>> places;

 private:
  int floor_;
  std::string what_;
  std::vector<owned_fd> held_;
};

std::string words(const failure& f, const std::vector<std::string>& arguments, const process_options& options) {
  switch (f.where) {
    case step::directory: return "start '" + arguments.front() + "' in '" + options.directory + "'";
    case step::descriptors: return "start '" + arguments.front() + "': descriptors";
    case step::exec: break;
  }
  return "start '" + arguments.front() + "'";
}

void reap(int pid) noexcept {
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {}
}

}  // namespace

spawned_child spawn_child(const std::vector<std::string>& arguments, const process_options& options,
                          bool has_protocol) {
  if (arguments.empty()) refuse(EINVAL, "start a process without a name");
  const std::string what = "start '" + arguments.front() + "'";
  const auto has_nul = [](const std::string& s) { return s.find('\0') != std::string::npos; };
  bool nul = has_nul(options.directory) || std::any_of(arguments.begin(), arguments.end(), has_nul);
  if (options.environment) nul = nul || std::any_of(options.environment->begin(), options.environment->end(), has_nul);
  if (nul) refuse(EINVAL, "start a process: a NUL in a text for it");

  int highest = 2;
  for (const auto& d : options.descriptors) {
    const auto same = [&](const process_descriptor& other) { return other.number == d.number; };
    if (d.number < 3 || d.number > max_number ||
        std::count_if(options.descriptors.begin(), options.descriptors.end(), same) != 1)
      refuse(EINVAL, what + ": descriptor number " + std::to_string(d.number));
    highest = std::max(highest, d.number);
  }

  plan p;
  p.errors_at = highest + 1;
  descriptor_set theirs{p.errors_at + 1, what};
  spawned_child child;
  const auto connect = [&](int number, process_stream how) {
    if (how == process_stream::automatic)
      how = has_protocol ? process_stream::pipe : number == 0 ? process_stream::null : process_stream::inherit;
    switch (how) {
      case process_stream::pipe:
        if (number == 0) {
          child.input = theirs.pipe(number, false);
        } else {
          child.outputs.push_back({number, theirs.pipe(number, true)});
        }
        break;
      case process_stream::inherit: theirs.inherit(number); break;
      case process_stream::joined:
        if (number == 2) {
          theirs.copy(2, theirs.given(1));
          break;
        }
        refuse(EINVAL, what + ": only standard error joins another stream");
      case process_stream::automatic:
      case process_stream::null: theirs.null(number); break;
    }
  };
  connect(0, options.input), connect(1, options.output), connect(2, options.error);
  for (const auto& d : options.descriptors) {
    if (d.ours >= 0) {
      theirs.copy(d.number, d.ours);
    } else {
      child.outputs.push_back({d.number, theirs.pipe(d.number, true)});
    }
  }
  p.places = theirs.places;
  for (int number = 3; number < p.errors_at; ++number)
    if (theirs.given(number) < 0) p.unused.push_back(number);

  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) refuse(errno, what);
  const owned_fd told{ends[0]};
  owned_fd errors = theirs.take_above(owned_fd{ends[1]});
  p.errors = errors.get();

  const auto candidates = programs(arguments.front());
  for (const auto& c : candidates) p.candidates.push_back(c.c_str());
  p.argv = pointers(arguments);
  std::vector<const char*> environment;
  if (options.environment) {
    environment = pointers(*options.environment);
    p.environment = environment.data();
  } else {
    p.environment = ::environ;
  }
  if (!options.directory.empty()) p.directory = options.directory.c_str();
  p.new_session = options.new_session;
  p.open_max = static_cast<int>(std::clamp(::sysconf(_SC_OPEN_MAX), 1024l, 1l << 20));

  child.pid = fork_into(p);
  if (child.pid < 0) refuse(errno, what);
  errors.reset();
  failure f{};
  ssize_t n;
  do n = ::read(told.get(), &f, sizeof f);
  while (n < 0 && errno == EINTR);
  if (n != 0) {
    reap(child.pid);
    refuse(n == sizeof f ? f.error : EIO, words(f, arguments, options));
  }
  // By number: that header of glibc 2.36 is for C alone. Such descriptors are close-on-exec by themselves.
  child.handle.reset(static_cast<int>(::syscall(SYS_pidfd_open, child.pid, 0)));
  if (!child.handle) {
    const int error = errno;
    ::kill(child.pid, SIGKILL);
    reap(child.pid);
    refuse(error, what + ": pidfd");
  }
  return child;
}

void send_signal(const owned_fd& handle, int number) noexcept {
  ::syscall(SYS_pidfd_send_signal, handle.get(), number, nullptr, 0);
}

}  // namespace midwire::detail
