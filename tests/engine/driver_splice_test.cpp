// driver::splice over loopback TCP and unix sockets.
#include <sys/resource.h>

#include <atomic>

#include "engine/driver_rig.hpp"

namespace midwire {
namespace {

using namespace testing_driver;

class driver_splice_test : public driver_test {};

INSTANTIATE_TEST_SUITE_P(both, driver_splice_test, ::testing::Bool(),
                         [](const auto& row) { return row.param ? "unix" : "tcp"; });

TEST_P(driver_splice_test, splices_exactly_its_budget_and_reads_on) {
  rig r;
  auto [from, in] = link(r);
  auto [to, out] = link(r);
  ASSERT_TRUE(r.d->can_splice(from, to));
  const std::string text = pattern(scaled(100e6), seed());
  const std::uint64_t budget = text.size() * 6 / 10 + 1;
  std::jthread writer{[&, in = in] {
    write_all(in, text);
    ::shutdown(in, SHUT_WR);
  }};
  std::string got;
  std::jthread reader{[&, out = out] { got = read_all(out); }};
  r.d->splice(from, to, budget);
  EXPECT_TRUE(r.until([&] { return r.of[from].spliced == budget; }, 30s));
  r.idle_turns(20ms);
  EXPECT_EQ(r.of[from].spliced, budget);
  EXPECT_TRUE(r.of[from].data.empty());
  r.d->perform(from, command::start_reading(1000));
  EXPECT_TRUE(r.until([&] { return r.of[from].data.size() == 1000; }));
  EXPECT_EQ(r.of[from].data, text.substr(budget, 1000));
  r.d->perform(to, command::send(buffer{std::string_view{r.of[from].data}}));
  r.d->splice(from, to, ~std::uint64_t{0});
  EXPECT_TRUE(r.until([&] { return r.of[from].over(); }, 30s));
  EXPECT_EQ(r.of[from].ends, 1);
  r.d->perform(to, command::send_end());
  EXPECT_TRUE(r.until([&] { return r.of[to].sent == text.size(); }));
  writer.join(), reader.join();
  EXPECT_TRUE(got == text);
  EXPECT_EQ(r.of[from].spliced, text.size() - 1000);
  EXPECT_EQ(r.of[to].sent, text.size());
  ::close(in), ::close(out);
}

TEST_P(driver_splice_test, what_is_sent_later_goes_behind_the_pipe) {
  rig r;
  auto [from, in] = link(r);
  auto [to, out] = link(r, 4096);
  const int small = 4096;
  const int bare = r.d->release(to);
  ::setsockopt(bare, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  to = r.d->adopt(bare);
  const std::string text = pattern(400000, 4);
  std::jthread writer{[&, in = in] { write_all(in, text); }};
  r.d->splice(from, to, ~std::uint64_t{0});
  ASSERT_TRUE(r.until([&] { return r.of[from].spliced > 30000; }));
  r.idle_turns(20ms);
  const auto spliced = r.of[from].spliced;
  r.d->splice(from, to, 0);
  r.d->perform(to, command::send(buffer{"behind"}));
  r.d->perform(to, command::send_end());
  std::string got;
  std::jthread reader{[&, out = out] { got = read_all(out, nullptr, ~std::size_t{0}, 1ms); }};
  EXPECT_TRUE(r.until([&] { return r.of[to].sent == spliced + 6; }));
  reader.join();
  EXPECT_EQ(r.of[from].spliced, spliced);  // none was taken after the stop
  EXPECT_TRUE(got == text.substr(0, spliced) + "behind");
  r.d->perform(from, command::start_reading());
  EXPECT_TRUE(r.until([&] { return r.of[from].data.size() == text.size() - spliced; }));
  writer.join();
  EXPECT_TRUE(r.of[from].data == text.substr(spliced));
  ::close(in), ::close(out);
}

TEST_P(driver_splice_test, small_segments_do_not_stall_a_splice) {
  rig r;
  auto [from, in] = link(r);
  auto [to, out] = link(r);
  const std::string text = pattern(scaled(20e6), 5);
  std::jthread writer{[&, in = in] {
    for (std::size_t at = 0; at < text.size(); at += 1448) write_all(in, std::string_view{text}.substr(at, 1448));
    ::shutdown(in, SHUT_WR);
  }};
  std::string got;
  duration longest{};
  std::jthread reader{[&, out = out] {
    std::string part(65536, 0);
    for (std::size_t pause_at = 1000000;;) {
      const auto start = std::chrono::steady_clock::now();
      const auto n = ::recv(out, part.data(), part.size(), 0);
      if (n <= 0) break;
      longest = std::max<duration>(longest, std::chrono::steady_clock::now() - start);
      got.append(part.data(), static_cast<std::size_t>(n));
      if (got.size() > pause_at) pause_at += 1000000, std::this_thread::sleep_for(5ms);
    }
  }};
  r.d->splice(from, to, ~std::uint64_t{0});
  EXPECT_TRUE(r.until([&] { return r.of[from].over(); }, 30s));
  r.d->perform(to, command::send_end());
  r.turn(0ms);
  writer.join(), reader.join();
  EXPECT_TRUE(got == text);
#ifndef MIDWIRE_SANITIZED
  EXPECT_LT(longest, 100ms);
#endif
  ::close(in), ::close(out);
}

TEST_P(driver_splice_test, copies_where_there_is_no_pipe_to_be_had) {
  rig r;
  auto [from, in] = link(r);
  auto [to, out] = link(r);
  const std::string text = pattern(scaled(10e6), seed());
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low = before;
  low.rlim_cur = 3;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  std::jthread writer{[&, in = in] {
    write_all(in, text);
    ::shutdown(in, SHUT_WR);
  }};
  std::string got;
  std::jthread reader{[&, out = out] { got = read_all(out); }};
  r.d->splice(from, to, text.size() - 5);
  EXPECT_TRUE(r.until([&] { return r.of[from].spliced >= text.size() / 2; }));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);  // from now on there are pipes
  EXPECT_TRUE(r.until([&] { return r.of[from].spliced >= text.size() - 5; }));
  r.d->perform(from, command::start_reading());
  EXPECT_TRUE(r.until([&] { return r.of[from].over(); }));
  EXPECT_EQ(r.of[from].data, text.substr(text.size() - 5));
  r.d->perform(to, command::send(buffer{std::string_view{r.of[from].data}}));
  r.d->perform(to, command::send_end());
  EXPECT_TRUE(r.until([&] { return r.of[to].sent >= text.size(); }));
  writer.join(), reader.join();
  EXPECT_TRUE(got == text);
  EXPECT_EQ(r.of[to].sent, text.size());
  EXPECT_EQ(r.of[from].spliced, text.size() - 5);
  ::close(in), ::close(out);
}

TEST_P(driver_splice_test, splice_delivers_what_came_before_a_reset) {
  if (unix_socket()) GTEST_SKIP() << "a unix socket cannot reset";
  rig r;
  auto [from, in] = link(r);
  auto [to, out] = link(r);
  r.d->splice(from, to, ~std::uint64_t{0});
  const std::string text = pattern(50000, 6);
  write_all(in, text);
  wait_acknowledged(in);
  reset(in);
  ASSERT_TRUE(r.until([&] { return r.of[from].over(); }));
  EXPECT_EQ(r.of[from].resets, 1);
  EXPECT_EQ(r.of[from].spliced, text.size());
  EXPECT_TRUE(read_all(out, nullptr, text.size()) == text);
  ::close(out);
}

TEST_P(driver_splice_test, a_sink_that_goes_during_a_splice_is_told_as_reset) {
  rig r;
  auto [from, in] = link(r);
  auto [to, out] = link(r);
  r.d->perform(to, command::start_reading());
  r.d->splice(from, to, ~std::uint64_t{0});
  std::atomic<bool> stop = false;
  std::jthread writer{[&, in = in] {
    const std::string part(10000, 'x');
    while (!stop && ::send(in, part.data(), part.size(), MSG_NOSIGNAL | MSG_DONTWAIT) != 0) std::this_thread::yield();
  }};
  ASSERT_TRUE(r.until([&] { return r.of[from].spliced > 100000; }));
  unix_socket() ? void(::close(out)) : reset(out);
  EXPECT_TRUE(r.until([&] { return r.of[to].over(); }));
  EXPECT_EQ(r.of[to].resets, 1);
  EXPECT_EQ(r.of[to].ends, 0);
  EXPECT_FALSE(r.of[from].over());
  EXPECT_LE(r.idle_turns(50ms), 5);
  stop = true;
  writer.join();
  r.d->perform(to, command::close());
  ::close(in);
  r.d->perform(from, command::start_reading());
  EXPECT_TRUE(r.until([&] { return r.of[from].ends == 1; }));
}

TEST_P(driver_splice_test, either_end_can_be_closed_during_a_splice) {
  for (const bool source : {true, false}) {
    rig r;
    auto [from, in] = link(r);
    auto [to, out] = link(r, 4096);
    const std::string text(2000000, 'x');
    r.d->splice(from, to, ~std::uint64_t{0});
    std::jthread writer{[&, in = in] { write_all(in, text); }};
    r.until([&] { return r.of[from].spliced > 100000; });
    r.d->perform(source ? from : to, command::close());
    r.idle_turns(20ms);
    r.d->perform(source ? to : from, command::reset());
    r.turn(0ms);
    writer.join();
    ::close(in), ::close(out);
  }
}

}  // namespace
}  // namespace midwire
