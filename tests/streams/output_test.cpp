#include <midwire/streams/sink/output.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

namespace {

using namespace std::chrono_literals;
using midwire::streams::output;

struct pipe_ends {
  int read = -1, write = -1;
  pipe_ends() {
    std::signal(SIGPIPE, SIG_IGN);
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) == 0) read = fds[0], write = fds[1];
  }
  ~pipe_ends() {
    if (read >= 0) close(read);
    if (write >= 0) close(write);
  }
  std::string all() {
    if (write >= 0) close(std::exchange(write, -1));
    std::string out;
    char block[65536];
    for (ssize_t n; (n = ::read(read, block, sizeof block)) > 0;) out.append(block, static_cast<std::size_t>(n));
    return out;
  }
};

TEST(output, writes_in_order) {
  pipe_ends p;
  std::string want;
  {
    output out{p.write};
    for (int i = 0; i < 1000; ++i) {
      const auto line = std::to_string(i) + '\n';
      want += line;
      EXPECT_TRUE(out.write(line));
    }
    out.finish(2s);
    EXPECT_EQ(out.lost(), 0u);
  }
  EXPECT_EQ(p.all(), want);
}

TEST(output, lines_of_several_threads_stay_whole) {
  pipe_ends p;
  std::string got;
  std::thread reader{[&] {
    char block[65536];
    for (ssize_t n; (n = ::read(p.read, block, sizeof block)) > 0;) got.append(block, static_cast<std::size_t>(n));
  }};
  {
    output out{p.write};
    std::vector<std::thread> writers;
    for (int t = 0; t < 4; ++t)
      writers.emplace_back([&out, t] {
        for (int i = 0; i < 500; ++i) out.write(std::string(50, static_cast<char>('a' + t)) + '\n');
      });
    for (auto& w : writers) w.join();
  }
  close(std::exchange(p.write, -1));
  reader.join();
  EXPECT_EQ(got.size(), 4 * 500 * 51u);
  for (std::size_t at = 0; at < got.size(); at += 51) EXPECT_EQ(got.substr(at, 51), std::string(50, got[at]) + '\n');
}

// Nobody reads: the writer never waits, what does not fit is dropped, and the gap is told once somebody reads again.
TEST(output, a_reader_that_stops_costs_lines_and_no_time) {
  pipe_ends p;
  output out{p.write, [](std::uint64_t lost) { return "gap " + std::to_string(lost) + "\n"; }, 1 << 20};
  const std::string line = std::string(999, 'x') + '\n';
  const auto start = std::chrono::steady_clock::now();
  std::uint64_t taken = 0;
  for (int i = 0; i < 4000; ++i) taken += out.write(line);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 2s);
  EXPECT_GT(out.lost(), 2000u);
  EXPECT_EQ(taken + out.lost(), 4000u);
  const auto lost = out.lost();
  std::string got;
  std::thread reader{[&] {
    char block[65536];
    for (ssize_t n; (n = ::read(p.read, block, sizeof block)) > 0;) got.append(block, static_cast<std::size_t>(n));
  }};
  while (!out.write("again\n")) std::this_thread::sleep_for(1ms);
  const auto more = out.lost() - lost;
  out.finish(5s);
  close(std::exchange(p.write, -1));
  reader.join();
  EXPECT_TRUE(got.ends_with("gap " + std::to_string(lost + more) + "\nagain\n")) << got.substr(got.size() - 60);
  EXPECT_EQ(got.size(), taken * line.size() + ("gap " + std::to_string(lost + more) + "\nagain\n").size());
}

TEST(output, a_reader_that_is_gone_ends_output_and_nothing_else) {
  pipe_ends p;
  close(std::exchange(p.read, -1));
  output out{p.write};
  out.write("a\n");
  for (int i = 0; i < 1000 && !out.closed(); ++i) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(out.closed());
  EXPECT_TRUE(out.write("b\n"));
  EXPECT_EQ(out.lost(), 0u);
}

TEST(output, finishing_waits_for_a_slow_reader_but_not_for_a_dead_one) {
  pipe_ends p;
  output out{p.write};
  for (int i = 0; i < 400; ++i) out.write(std::string(1000, 'x'));
  const auto start = std::chrono::steady_clock::now();
  out.finish(200ms);
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_GE(took, 200ms);
  EXPECT_LT(took, 3s);
}

TEST(output, a_file_gets_everything) {
  char name[] = "/tmp/midwire-output-XXXXXX";
  const int fd = mkstemp(name);
  ASSERT_GE(fd, 0);
  {
    output out{fd};
    for (int i = 0; i < 5; ++i) out.write(std::string(std::size_t{1} << 20, 'x'));
  }
  EXPECT_EQ(lseek(fd, 0, SEEK_END), 5 << 20);
  close(fd);
  unlink(name);
}

}  // namespace
