// defer_to_thread: work on threads, results on the loop.
#include <midwire/engine/thread_work.hpp>

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <future>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <midwire/engine.hpp>

namespace midwire {
namespace {

using namespace std::chrono_literals;

int twice(int n) { return 2 * n; }

/// Runs one coroutine on a reactor of the kernel to its end.
void run(task<> (*body)(reactor&)) {
  reactor r;
  bool ended = false;
  r.spawn([](reactor& l, task<> (*f)(reactor&), bool& e) -> task<> {
    try {
      co_await f(l);
    } catch (const std::exception& x) { ADD_FAILURE() << x.what(); }
    e = true;
    l.stop();
  }(r, body, ended));
  r.call_later(60s, [&] { r.stop(); });
  r.run();
  EXPECT_TRUE(ended);
}

}  // namespace

TEST(ThreadWork, ResultsAndExceptionsComeBackToTheLoop) {
  run([](reactor& r) -> task<> {
    const auto home = std::this_thread::get_id();
    EXPECT_EQ(co_await r.defer_to_thread(twice, 21), 42);
    EXPECT_EQ(std::this_thread::get_id(), home);
    const std::string text = "a text that is long enough to live on the heap";
    auto work = [text](const std::string& more) { return text + more; };
    EXPECT_EQ(co_await r.defer_to_thread(work, "!"), text + "!");
    const auto id = co_await r.defer_to_thread([] { return std::this_thread::get_id(); });
    EXPECT_NE(id, home);
    auto thrower = [] { throw std::out_of_range{"far away"}; };
    try {
      co_await r.defer_to_thread(thrower);
      ADD_FAILURE();
    } catch (const std::out_of_range& e) { EXPECT_STREQ(e.what(), "far away"); }
    EXPECT_EQ(std::this_thread::get_id(), home);
    auto owned = [](std::unique_ptr<int> p) {
      ++*p;
      return p;
    };
    const auto p = co_await r.defer_to_thread(owned, std::make_unique<int>(1));
    EXPECT_EQ(*p, 2);
  });
}

TEST(ThreadWork, ToCallbacksAnExceptionIsAReason) {
  reactor r;
  std::string got;
  r.defer_to_thread([]() -> int { throw std::runtime_error{"thrown over there"}; })
      .then([&](int) { r.stop(); },
            [&](const reason& why) {
              got = std::string{name_of(why.how())} + ": " + why.text();
              r.stop();
            });
  EXPECT_EQ(got, "") << "E16";
  r.run();
  EXPECT_EQ(got, "failed: thrown over there");
}

TEST(ThreadWork, FourThreadsWorkAtTheSameTime) {
  run([](reactor& r) -> task<> {
    static std::atomic<int> inside{0};
    inside = 0;
    // Each waits for the other three.
    auto meet = [] {
      ++inside;
      const auto end = std::chrono::steady_clock::now() + 30s;
      while (inside < 4 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
      return std::this_thread::get_id();
    };
    const auto one = [](reactor& l, auto& work) -> task<std::thread::id> {
      co_return co_await l.defer_to_thread(work);
    };
    const auto all = co_await when_all(one(r, meet), one(r, meet), one(r, meet), one(r, meet));
    const std::set<std::thread::id> different{std::get<0>(all), std::get<1>(all), std::get<2>(all), std::get<3>(all)};
    EXPECT_EQ(inside, 4);
    EXPECT_EQ(different.size(), 4u);
  });
}

TEST(ThreadWork, ManyFromSeveralLoops) {
  std::vector<std::thread> loops;
  std::atomic<long> sum{0};
  for (int i = 0; i < 3; ++i)
    loops.emplace_back([&] {
      reactor r;
      int left = 500;
      for (int n = 0; n < 500; ++n)
        r.defer_to_thread(twice, n).then([&](int got) {
          sum += got;
          if (--left == 0) r.stop();
        });
      r.run();
    });
  for (auto& t : loops) t.join();
  EXPECT_EQ(sum, 3 * 499 * 500);
}

TEST(ThreadWork, TheReactorMayGoWhileWorkRuns) {
  for (int round = 0; round < 50; ++round) {
    auto release = std::make_shared<std::promise<void>>();
    auto released = std::make_shared<std::shared_future<void>>(release->get_future());
    auto ended = std::make_shared<std::atomic<int>>(0);
    bool told = false;
    {
      reactor r;
      auto work = [released, ended] {
        released->wait_for(10s);
        ++*ended;
        return 1;
      };
      r.defer_to_thread(work).then([&](int) { told = true; });
      r.spawn([](reactor& l, auto w, bool& t) -> task<> {
        co_await l.defer_to_thread(w);
        t = true;
      }(r, work, told));
      for (int i = 0; i < 3; ++i) r.turn(1ms);
      if (round % 2) release->set_value();
    }
    if (round % 2 == 0) release->set_value();
    EXPECT_FALSE(told && round % 2 == 0);
  }
}

TEST(ThreadWork, CancelledWorkIsNotBegunOrNobodyIsTold) {
  run([](reactor& r) -> task<> {
    static std::atomic<int> begun{0}, release{0};
    begun = release = 0;
    auto block = [] {
      ++begun;
      while (!release) std::this_thread::sleep_for(1ms);
    };
    const auto one = [](reactor& l, auto& work) -> task<> { co_await l.defer_to_thread(work); };
    {
      task<> a = one(r, block), b = one(r, block), c = one(r, block), d = one(r, block), e = one(r, block);
      co_await within(100ms, when_any(a, b, c, d, e));
      while (begun < 4) co_await r.sleep(1ms);
    }
    release = 1;
    // Behind them in the queue: when these have run, the fifth would have.
    auto nothing = [] {};
    for (int i = 0; i < 8; ++i) co_await r.defer_to_thread(nothing);
    EXPECT_EQ(begun, 4);
  });
}

TEST(ThreadWork, ItsThreadsTakeNoSignals) {  // lesson 14
  run([](reactor& r) -> task<> {
    const bool blocked = co_await r.defer_to_thread([] {
      sigset_t mask;
      pthread_sigmask(SIG_SETMASK, nullptr, &mask);
      return sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGUSR1) == 1;
    });
    EXPECT_TRUE(blocked);
  });
}

}  // namespace midwire
