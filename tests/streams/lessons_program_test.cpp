// Lessons that take the whole program: signals with many flows, reloads under load, memory that stays flat.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>

#include "program.hpp"

using namespace program_test;
using namespace std::chrono_literals;

namespace {

void raise_descriptor_limit() {
  rlimit l{};
  getrlimit(RLIMIT_NOFILE, &l);
  l.rlim_cur = l.rlim_max;
  setrlimit(RLIMIT_NOFILE, &l);
}

/// Resident KiB of a process.
long resident(pid_t pid) {
  std::ifstream f{"/proc/" + std::to_string(pid) + "/status"};
  for (std::string line; std::getline(f, line);)
    if (line.starts_with("VmRSS:")) return std::atol(line.c_str() + 6);
  return 0;
}

}  // namespace

TEST(Lesson14, SigtermWithAThousandFlowsDrainsAndEndsWith0InTime) {
  raise_descriptor_limit();
  server origin{echo};
  program p{{"proxy", origin.mode(), "--drain", "3s"}};
  const auto port = p.port();
  std::vector<client> clients;
  for (int i = 0; i < 1000; ++i) {
    clients.emplace_back(port);
    clients.back().send("x");
  }
  for (auto& c : clients) ASSERT_EQ(c.exactly(1), "x");
  const auto start = std::chrono::steady_clock::now();
  p.send(SIGTERM);
  // Half of them finish, the rest are reset when the time is over.
  for (std::size_t i = 0; i < 500; ++i) {
    clients[i].send("last");
    EXPECT_EQ(clients[i].exactly(4), "last");
    clients[i].end();
    EXPECT_EQ(clients[i].ending(), 0);
  }
  EXPECT_EQ(p.status(), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
  for (std::size_t i = 500; i < clients.size(); ++i) ASSERT_EQ(clients[i].ending(), ECONNRESET) << i;
}

TEST(Lesson16, AHundredReloadsUnderLoadRefuseAndResetNobody) {
  folder dir;
  dir.write("r.rules", "mark: when from.client do replace \"a\" with \"b\"\n");
  server origin{echo};
  program p{{"proxy", origin.mode(), "--rules", dir.file("r.rules")}};
  const auto port = p.port();
  std::atomic<bool> stop{false};
  std::atomic<int> done{0}, wrong{0};
  std::vector<std::thread> load;
  for (int t = 0; t < 3; ++t)
    load.emplace_back([&] {
      while (!stop) {
        client c{port};
        if (!c.connected()) {
          ++wrong;
          continue;
        }
        for (int i = 0; i < 5; ++i) {
          c.send("xax");
          const auto got = c.exactly(3);
          if (got != "xbx" && got != "xcx") ++wrong;
        }
        c.end();
        if (c.ending() != 0) ++wrong;
        ++done;
      }
    });
  for (int i = 0; i < 100; ++i) {
    // One in three is broken: it changes nothing.
    const char* text = i % 3 == 2 ? "mark: when from.clint do drop\n"
                       : i % 2    ? "mark: when from.client do replace \"a\" with \"b\"\n"
                                  : "mark: when from.client do replace \"a\" with \"c\"\n";
    dir.write("r.rules", text);
    p.send(SIGHUP);
    std::this_thread::sleep_for(10ms);
  }
  stop = true;
  for (auto& t : load) t.join();
  EXPECT_GT(done, 50);
  EXPECT_EQ(wrong, 0);
}

TEST(LessonS6, MemoryIsFlatHoweverMuchPasses) {
  std::atomic<std::size_t> taken{0};
  server origin{[&](client c) {
    for (std::string part; !(part = c.some(1 << 18)).empty();) taken += part.size();
  }};
#ifdef MIDWIRE_RELEASE
  const std::size_t gigabytes = 4;
#else
  const std::size_t gigabytes = 1;
#endif
  program p{{"proxy", origin.mode(), "--threads", "1", "-e", "when from.client do replace \"needle\" with \"a longer needle\""}};
  const auto port = p.port();
  client c{port};
  std::string piece(1 << 20, 'x');
  for (std::size_t at = 1000; at + 6 < piece.size(); at += 5000) piece.replace(at, 6, "needle");
  const auto send = [&](std::size_t octets) {
    for (std::size_t sent = 0; sent < octets; sent += piece.size()) c.send(piece);
  };
  send(std::size_t{100} << 20);
  const long before = resident(p.pid());
  send((gigabytes << 30) - (std::size_t{100} << 20));
  const long after = resident(p.pid());
  EXPECT_GT(taken, gigabytes << 29);
#ifndef MIDWIRE_SANITIZED  // a sanitizer's shadow and quarantine grow by themselves
  EXPECT_LT(after - before, 16 * 1024) << before << " KiB grew to " << after;
#else
  (void)before, (void)after;
#endif
}
