// The driver's contract, over loopback TCP and unix sockets.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <fstream>

#include "engine/driver_rig.hpp"

namespace midwire {
namespace {

using namespace testing_driver;

INSTANTIATE_TEST_SUITE_P(both, driver_test, ::testing::Bool(),
                         [](const auto& row) { return row.param ? "unix" : "tcp"; });

TEST_P(driver_test, echoes_in_order_and_never_reads_more_than_the_room) {
  constexpr std::uint64_t high = 256 * 1024;
  rig r;
  auto [s, fd] = link(r);
  const auto first = seed();
  const std::string sent = pattern(scaled(24e6), first);
  std::string back;
  std::jthread writer{[&, fd = fd] {
    std::mt19937 random{first};
    for (std::size_t at = 0; at < sent.size();) {
      const std::size_t n = std::min<std::size_t>(1 + random() % (random() % 8 ? 3000 : 300000), sent.size() - at);
      write_all(fd, std::string_view{sent}.substr(at, n));
      at += n;
    }
    ::shutdown(fd, SHUT_WR);
  }};
  std::jthread reader{[&, fd = fd] { back = read_all(fd); }};
  std::uint64_t waiting = 0, most = 0;
  r.d->perform(s, command::start_reading(high));
  for (bool over = false; !over;) {
    r.d->wait(instant::max(), r.batch);
    for (auto& [id, e] : r.batch) {
      ASSERT_EQ(id, s);
      if (e.what() == event::kind::data_received) {
        waiting += e.data().size();
        r.d->perform(s, command::send(buffer{std::move(e.data())}));
      } else if (e.what() == event::kind::octets_sent) {
        waiting -= e.octets();
      } else if (e.what() == event::kind::end_received) {
        r.d->perform(s, command::send_end());
        over = true;
      }
    }
    r.batch.clear();
    most = std::max(most, waiting);
    if (!over) r.d->perform(s, command::start_reading(high - waiting));
  }
  EXPECT_LE(most, high);
  // The last octets go out from the queue.
  ASSERT_TRUE(r.until([&] { return r.of[s].sent >= waiting; }));
  writer.join(), reader.join();
  EXPECT_TRUE(back == sent);
  ::close(fd);
}

TEST_P(driver_test, keeps_the_order_of_many_writes_over_short_ones) {
  rig r;
  auto [s, fd] = link(r, 4096);
  std::mt19937 random{seed()};
  std::string all;
  for (std::size_t i = 0; i < scaled(300); ++i) {
    buffer b;
    for (std::size_t parts = 1 + random() % 100; parts > 0; --parts) {
      std::string text = pattern(1 + random() % (random() % 20 ? 50 : 20000), static_cast<std::uint32_t>(random()));
      all += text;
      b.append(chunk{std::move(text)});
    }
    r.d->perform(s, command::send(std::move(b)));
  }
  r.d->perform(s, command::send_end());
  std::string got;
  std::jthread reader{[&, fd = fd] { got = read_all(fd); }};
  EXPECT_TRUE(r.until([&] { return r.of[s].sent == all.size(); }));
  reader.join();
  EXPECT_TRUE(got == all);
  ::close(fd);
}

TEST_P(driver_test, tells_the_end_after_the_last_octet_and_keeps_the_other_way) {
  rig r;
  auto [s, fd] = link(r);
  r.d->perform(s, command::start_reading());
  const std::string text = pattern(100000, 1);
  std::jthread writer{[&, fd = fd] {
    write_all(fd, text);
    ::shutdown(fd, SHUT_WR);
  }};
  ASSERT_TRUE(r.until([&] { return r.of[s].over(); }));
  writer.join();
  EXPECT_EQ(r.of[s].ends, 1);
  EXPECT_TRUE(r.of[s].data == text);
  EXPECT_EQ(r.of[s].hangs + r.of[s].breaks, 0);
  EXPECT_LE(r.idle_turns(100ms), 3);  // a half-closed socket does not spin
  r.d->perform(s, command::send(buffer{"answer"}));
  r.d->perform(s, command::send_end());
  EXPECT_EQ(read_all(fd), "answer");
  EXPECT_LE(r.idle_turns(100ms), 5);  // nor does one that is closed both ways
  EXPECT_EQ(r.of[s].sent, 6u);
  EXPECT_EQ(r.of[s].resets, 0);
  ::close(fd);
}

TEST_P(driver_test, ends_its_own_way_and_goes_on_reading) {
  rig r;
  auto [s, fd] = link(r);
  r.d->perform(s, command::start_reading());
  r.d->perform(s, command::send(buffer{"question"}));
  r.d->perform(s, command::send_end());
  EXPECT_EQ(read_all(fd), "question");
  EXPECT_LE(r.idle_turns(50ms), 4);
  write_all(fd, "answer");
  ::close(fd);
  ASSERT_TRUE(r.until([&] { return r.of[s].over(); }));
  EXPECT_EQ(r.of[s].data, "answer");
  EXPECT_EQ(r.of[s].ends, 1);
}

TEST_P(driver_test, reset_comes_after_the_octets_before_it) {
  if (unix_socket()) GTEST_SKIP() << "a unix socket cannot reset";
  rig r;
  auto [s, fd] = link(r);
  const std::string text = pattern(200000, 2);
  r.d->perform(s, command::start_reading(180000));
  std::jthread writer{[&, fd = fd] { write_all(fd, std::string_view{text}.substr(0, 180000)); }};
  ASSERT_TRUE(r.until([&] { return r.of[s].data.size() == 180000; }));
  writer.join();
  write_all(fd, std::string_view{text}.substr(180000));
  wait_acknowledged(fd);
  reset(fd);
  ASSERT_TRUE(r.until([&] { return r.of[s].breaks == 1; }));
  EXPECT_EQ(r.of[s].data.size(), 180000u);
  EXPECT_LE(r.idle_turns(100ms), 3);  // epoll cannot mask the error: it must not spin
  EXPECT_FALSE(r.of[s].over());
  r.d->perform(s, command::start_reading(10000));
  EXPECT_LE(r.idle_turns(50ms), 4);
  EXPECT_EQ(r.of[s].data.size(), 190000u);
  r.d->perform(s, command::start_reading());
  ASSERT_TRUE(r.until([&] { return r.of[s].over(); }));
  EXPECT_EQ(r.of[s].resets, 1);
  EXPECT_EQ(r.of[s].error.value(), ECONNRESET);
  EXPECT_TRUE(r.of[s].data == text);
  EXPECT_EQ(r.of[s].breaks, 1);
}

TEST_P(driver_test, Lesson7_sees_the_peer_leave_while_reading_is_stopped) {
  rig r;
  std::vector<std::pair<socket_id, int>> links;
  for (std::size_t i = 0; i < scaled(100); ++i) links.push_back(link(r));
  for (auto& [s, fd] : links) {
    write_all(fd, std::string(50000, 'x'));
    ::close(fd);
  }
  const int before = r.turns;
  const auto hints = [&](socket_id s) { return r.of[s].hangs + r.of[s].breaks; };
  ASSERT_TRUE(
      r.until([&] { return std::all_of(links.begin(), links.end(), [&](auto& l) { return hints(l.first) > 0; }); }));
  EXPECT_LE(r.turns - before, 20);
  EXPECT_LE(r.idle_turns(200ms), 3);
  for (auto& [s, fd] : links) {
    EXPECT_EQ(hints(s), 1);
    EXPECT_EQ(r.of[s].breaks, unix_socket() ? 1 : 0);  // only there a close is more than a FIN
    EXPECT_FALSE(r.of[s].over());
    r.d->perform(s, command::start_reading());
  }
  ASSERT_TRUE(
      r.until([&] { return std::all_of(links.begin(), links.end(), [&](auto& l) { return r.of[l.first].over(); }); }));
  for (auto& [s, fd] : links) {
    EXPECT_EQ(r.of[s].data.size(), 50000u);
    EXPECT_EQ(r.of[s].ends, 1);
    EXPECT_EQ(hints(s), 1);
  }
}

TEST_P(driver_test, sending_to_a_peer_that_has_gone_is_a_reset_and_no_end) {
  for (const bool reading : {true, false}) {
    rig r;
    auto [s, fd] = link(r);
    if (reading) r.d->perform(s, command::start_reading());
    r.turn(0ms);
    unix_socket() ? void(::close(fd)) : reset(fd);
    std::this_thread::sleep_for(20ms);
    r.d->perform(s, command::send(buffer{"into the void"}));  // takes the error away from the read side
    r.idle_turns(50ms);
    if (!reading) {
      EXPECT_EQ(r.of[s].breaks, 1);
      EXPECT_FALSE(r.of[s].over());
      r.d->perform(s, command::start_reading());
    }
    ASSERT_TRUE(r.until([&] { return r.of[s].over(); }));
    EXPECT_EQ(r.of[s].ends, 0);
    EXPECT_EQ(r.of[s].resets, 1);
    EXPECT_TRUE(r.of[s].error.value() == ECONNRESET || r.of[s].error.value() == EPIPE) << r.of[s].error;
    EXPECT_EQ(r.of[s].sent, 0u);
    EXPECT_LE(r.idle_turns(50ms), 3);
  }
}

TEST_P(driver_test, a_reset_after_the_end_is_told_too) {
  rig r;
  auto [s, fd] = link(r);
  r.d->perform(s, command::start_reading());
  ::shutdown(fd, SHUT_WR);
  ASSERT_TRUE(r.until([&] { return r.of[s].ends == 1; }));
  unix_socket() ? void(::close(fd)) : reset(fd);
  r.idle_turns(50ms);
  if (unix_socket()) r.d->perform(s, command::send(buffer{"x"}));
  ASSERT_TRUE(r.until([&] { return r.of[s].resets == 1; }));
  EXPECT_LE(r.idle_turns(50ms), 3);
}

TEST_P(driver_test, accepts_at_most_a_batch_a_turn) {
  rig r{{.accept_batch = 10}};
  const socket_id l = r.d->listen(where(), {});
  std::vector<int> clients;
  for (int i = 0; i < 35; ++i) clients.push_back(dial(r.d->local(l)));
  ASSERT_TRUE(r.until([&] { return r.accepted.size() == 35; }));
  EXPECT_EQ(r.most_accepted, 10u);
  r.d->accept(l, 0);
  clients.push_back(dial(r.d->local(l)));
  EXPECT_LE(r.idle_turns(50ms), 3);
  EXPECT_EQ(r.accepted.size(), 35u);
  r.d->accept(l, 1);
  EXPECT_TRUE(r.until([&] { return r.accepted.size() == 36; }));
  if (!unix_socket()) { EXPECT_EQ(r.d->peer(r.accepted[0]).host(), "127.0.0.1"); }
  EXPECT_EQ(r.d->local(r.accepted[0]), r.d->local(l));
  for (const int fd : clients) ::close(fd);
}

TEST_P(driver_test, survives_the_lack_of_descriptors) {
  rig r;
  const socket_id l = r.d->listen(where(), {});
  auto [old, old_fd] = link(r);
  r.d->perform(old, command::start_reading());
  std::vector<int> clients;
  for (int i = 0; i < 60; ++i) clients.push_back(dial(r.d->local(l)));
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = ::dup(0);
  ::close(next);
  rlimit low = before;
  low.rlim_cur = static_cast<rlim_t>(next) + 5;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  const std::size_t had = r.accepted.size();
  const int turns = r.idle_turns(300ms);
  write_all(old_fd, "still here");
  EXPECT_TRUE(r.until([&] { return r.of[old].data == "still here"; }));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_LE(turns, 30);
  EXPECT_EQ(r.accepted.size(), had + 5);
  EXPECT_EQ(r.of[l].failures, 1);  // once a second at most
  EXPECT_EQ(r.of[l].error.value(), EMFILE);
  int closed = 0;
  for (const int fd : clients) {
    char c;
    const auto n = ::recv(fd, &c, 1, MSG_DONTWAIT);
    closed += n == 0 || (n < 0 && errno != EAGAIN);
    ::close(fd);
  }
  EXPECT_EQ(closed, 55);
  const int late = dial(r.d->local(l));
  EXPECT_TRUE(r.until([&] { return r.accepted.size() == had + 6; }, 1s));
  ::close(late), ::close(old_fd);
}

TEST_P(driver_test, a_closing_listener_takes_its_queue) {
  rig r;
  const address at = where();
  const socket_id l = r.d->listen(at, {});
  const address bound = r.d->local(l);
  std::vector<int> clients;
  for (int i = 0; i < 100; ++i) clients.push_back(dial(bound));
  r.d->close_listener(l);
  r.turn(0ms);
  ASSERT_EQ(r.accepted.size(), 100u);
  r.d->perform(r.accepted[99], command::send(buffer{"hello"}));
  EXPECT_EQ(read_all(clients[99], nullptr, 5), "hello");
  if (unix_socket()) { EXPECT_FALSE(std::filesystem::exists(std::string{bound.octets()})); }
  for (const int fd : clients) ::close(fd);
}

TEST_P(driver_test, connects_and_tells_failures) {
  rig r;
  const socket_id l = r.d->listen(where(), {});
  const address at = r.d->local(l);
  const socket_id c = r.d->connect(at, {});
  r.d->perform(c, command::send(buffer{"early"}));
  r.d->perform(c, command::send_end());
  ASSERT_TRUE(r.until([&] { return r.of[c].connected == 1 && r.accepted.size() == 1; }));
  EXPECT_EQ(r.d->peer(c), at);
  if (!unix_socket()) { EXPECT_EQ(r.d->local(c), r.d->peer(r.accepted[0])); }
  r.d->perform(r.accepted[0], command::start_reading());
  ASSERT_TRUE(r.until([&] { return r.of[r.accepted[0]].ends == 1; }));
  EXPECT_EQ(r.of[r.accepted[0]].data, "early");
  r.d->close_listener(l);
  r.turn(0ms);
  const socket_id failing = r.d->connect(at, {});
  const socket_id given_up = r.d->connect(at, {});
  r.d->perform(given_up, command::close());
  ASSERT_TRUE(r.until([&] { return r.of[failing].failures == 1; }));
  EXPECT_EQ(r.of[failing].error.value(), unix_socket() ? ENOENT : ECONNREFUSED);
  r.idle_turns(20ms);
  EXPECT_EQ(r.of.count(given_up), 0u);
}

TEST_P(driver_test, nothing_comes_for_a_name_that_was_given_up) {
  rig r;
  auto [s, fd] = link(r);
  r.d->perform(s, command::start_reading());
  write_all(fd, "too late");
  r.d->perform(s, command::send(buffer{"kept"}));  // octets_sent is on its way
  r.d->perform(s, command::close());
  const int other = ::eventfd(0, 0);
  const socket_id next = r.d->watch(other, true, false);
  EXPECT_NE(next, s);
  r.idle_turns(20ms);
  EXPECT_TRUE(r.of[s].data.empty());
  EXPECT_EQ(r.of[s].sent, 0u);
  r.d->perform(s, command::send(buffer{"nobody"}));  // harmless
  EXPECT_EQ(read_all(fd, nullptr, 4), "kept");
  ::close(fd), ::close(other);
}

TEST_P(driver_test, a_writer_without_end_does_not_shut_others_out) {
  rig r;
  auto [busy, sink] = link(r);
  auto [s, fd] = link(r);
  r.d->perform(s, command::start_reading());
  std::jthread reader{[sink = sink] {
    char part[65536];
    while (::recv(sink, part, sizeof part, 0) > 0) {}
  }};
  write_all(fd, "me too");
  int turns = 0;
  for (; r.of[s].data != "me too" && turns < 1000; ++turns) {
    r.d->perform(busy, command::send(buffer{"octet"}));  // there is always a result to give
    r.turn(1s);
  }
  EXPECT_LT(turns, 100);
  r.d->perform(busy, command::close());
  reader.join();
  ::close(sink), ::close(fd);
}

TEST_P(driver_test, reset_after_drain_delivers_everything) {
  rig r;
  auto [s, fd] = link(r, 8192);
  const std::string text = pattern(1000000, 3);
  r.d->perform(s, command::send(buffer{std::string_view{text}}));
  r.d->perform(s, command::reset_after_drain(10s));
  std::atomic<bool> done = false;
  std::string got;
  int error = 0;
  std::jthread reader{[&, fd = fd] {
    got = read_all(fd, &error, ~std::size_t{0}, 200us);
    done = true;
  }};
  EXPECT_TRUE(r.until([&] { return done.load(); }));
  reader.join();
  EXPECT_TRUE(got == text);
  EXPECT_EQ(error, unix_socket() ? 0 : ECONNRESET);
  EXPECT_EQ(r.of[s].sent, 0u);
  ::close(fd);
}

TEST_P(driver_test, reset_after_drain_does_not_wait_for_ever) {
  rig r;
  auto [s, fd] = link(r, 8192);
  r.d->perform(s, command::send(buffer{std::string(8 << 20, 'x')}));
  const instant start = r.d->now();
  r.d->perform(s, command::reset_after_drain(100ms));
  r.turn(20ms);
  pollfd p{fd, POLLRDHUP, 0};
  EXPECT_EQ(::poll(&p, 1, 0), 0);
  EXPECT_TRUE(r.until([&] { return ::poll(&p, 1, 0) == 1; }, 2s));
  EXPECT_GE(std::chrono::steady_clock::now() - start, 100ms);
  EXPECT_LE(r.idle_turns(50ms), 2);
  ::close(fd);
}

TEST_P(driver_test, descriptors_change_hands) {
  rig r, other;
  const socket_id l = r.d->listen(where(), {});
  const address at = r.d->local(l);
  const socket_id heir = other.d->adopt_listener(r.d->duplicate(l));
  r.d->close_listener(l);
  const int fd = dial(at);
  ASSERT_TRUE(other.until([&] { return other.accepted.size() == 1; }));
  EXPECT_EQ(other.d->local(heir), at);
  EXPECT_LE(r.idle_turns(50ms), 2);  // the old epoll has forgotten the shared listener
  const int released = other.d->release(other.accepted[0]);
  ASSERT_GE(released, 0);
  if (!unix_socket()) {
    int on = 0;
    socklen_t size = sizeof on;
    ::getsockopt(released, IPPROTO_TCP, TCP_NODELAY, &on, &size);
    EXPECT_EQ(on, 1);
    on = 0;
    ::getsockopt(released, SOL_SOCKET, SO_OOBINLINE, &on, &size);
    EXPECT_EQ(on, 1);
  }
  const socket_id s = r.d->adopt(released);
  r.d->perform(s, command::start_reading());
  write_all(fd, "moved");
  EXPECT_TRUE(r.until([&] { return r.of[s].data == "moved"; }));
  EXPECT_EQ(other.d->release(other.accepted[0]), -1);
  EXPECT_THROW(r.d->adopt(::eventfd(0, 0)), std::system_error);
  ::close(fd);
}

// ---- what is not a stream

TEST(driver, wakes_from_another_thread_and_loses_no_wake) {
  rig r;
  std::atomic<int> posted = 0;
  const int rounds = static_cast<int>(scaled(20000));
  std::jthread other{[&] {
    for (int i = 0; i < rounds; ++i) ++posted, r.d->wake();
  }};
  const auto start = std::chrono::steady_clock::now();
  while (posted < rounds) r.d->wait(instant::max(), r.batch);
  other.join();
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
  r.idle_turns(10ms);
  r.d->wake();
  r.d->wait(instant::max(), r.batch);  // one that came before is not lost
  EXPECT_TRUE(r.batch.empty());
}

TEST(driver, waits_until_the_instant_and_not_less) {
  rig r;
  duration best = 1s;
  for (int i = 0; i < 20; ++i) {
    const instant until = std::chrono::steady_clock::now() + 1500us;
    r.d->wait(until, r.batch);
    EXPECT_GE(r.d->now(), until);
    best = std::min(best, r.d->now() - until);
  }
  EXPECT_LE(best, 1ms);
  r.d->wait(instant::min(), r.batch);
  r.d->wait({}, r.batch);
  EXPECT_TRUE(r.batch.empty());
}

TEST(driver, tells_signals) {
  rig r;
  r.d->watch_signal(SIGUSR1);
  const socket_id second = r.d->watch_signal(SIGUSR2);
  ::kill(::getpid(), SIGUSR1);
  ::kill(::getpid(), SIGUSR2);
  EXPECT_TRUE(r.until([&] { return r.signals.size() == 2; }));
  EXPECT_NE(r.signals[0], r.signals[1]);
  r.d->unwatch(second);
  ::kill(::getpid(), SIGUSR1);
  EXPECT_TRUE(r.until([&] { return r.signals.size() == 3; }));
  EXPECT_EQ(r.signals[2], SIGUSR1);
  EXPECT_EQ(std::signal(SIGPIPE, SIG_IGN), SIG_IGN);
}

TEST(driver, watches_descriptors_level_by_level) {
  rig r;
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_NONBLOCK), 0);
  const socket_id reader = r.d->watch(ends[0], true, false);
  EXPECT_LE(r.idle_turns(20ms), 2);
  ASSERT_EQ(::write(ends[1], "x", 1), 1);
  r.turn(1s), r.turn(1s);
  ASSERT_EQ(r.ready.size(), 2u);
  EXPECT_EQ(r.ready[0], std::make_pair(reader, std::make_pair(true, false)));
  r.d->change_watch(reader, false, false);
  ::close(ends[1]);  // HUP, which epoll would not mask
  r.ready.clear();
  EXPECT_LE(r.idle_turns(20ms), 2);
  r.d->change_watch(reader, true, false);
  r.turn(1s);
  EXPECT_EQ(r.ready.size(), 1u);
  r.d->unwatch(reader);
  r.ready.clear();
  EXPECT_LE(r.idle_turns(20ms), 2);
  EXPECT_TRUE(r.ready.empty());
  ::close(ends[0]);
  temp_dir dir;
  const int file = ::open((dir.path + "/file").c_str(), O_CREAT | O_RDWR, 0600);
  const socket_id always = r.d->watch(file, true, true);  // epoll refuses files: they are always ready
  r.turn(1s), r.turn(1s);
  ASSERT_EQ(r.ready.size(), 2u);
  EXPECT_EQ(r.ready[1], std::make_pair(always, std::make_pair(true, true)));
  r.d->change_watch(always, false, false);
  EXPECT_LE(r.idle_turns(20ms), 2);
  ::close(file);
  EXPECT_THROW(r.d->watch(file, true, false), std::system_error);
}

TEST(driver, replaces_a_stale_socket_file_and_no_other) {
  temp_dir dir;
  rig r;
  const address at = address::unix_path(dir.path + "/socket");
  const detail::kernel_address name{at};
  const int stale = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(stale, name.get(), name.size), 0);
  ::close(stale);
  ASSERT_TRUE(std::filesystem::exists(dir.path + "/socket"));
  const socket_id l = r.d->listen(at, {});
  ::close(dial(at));
  try {
    r.d->listen(at, {});
    ADD_FAILURE();
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code().value(), EADDRINUSE);
    EXPECT_NE(std::string{e.what()}.find("listen unix:" + dir.path + "/socket"), std::string::npos) << e.what();
  }
  ::close(dial(at));  // the refused one has not harmed it
  r.d->close_listener(l);
  EXPECT_FALSE(std::filesystem::exists(dir.path + "/socket"));
  std::ofstream{dir.path + "/socket"} << "precious";
  EXPECT_THROW(r.d->listen(at, {}), std::system_error);
  EXPECT_TRUE(std::filesystem::is_regular_file(dir.path + "/socket"));
}

TEST(driver, listens_at_every_address_of_both_families) {
  rig r;
  socket_id l;
  try {
    l = r.d->listen(address::any_ipv6(0), {});
  } catch (const std::system_error& e) { GTEST_SKIP() << "no IPv6: " << e.what(); }
  ::close(dial(address::loopback(r.d->local(l).port())));
  ASSERT_TRUE(r.until([&] { return r.accepted.size() == 1; }));
  EXPECT_EQ(r.d->peer(r.accepted[0]).family(), address::kind::ipv4);
  EXPECT_THROW(r.d->listen(address::any_ipv6(r.d->local(l).port()), {}), std::system_error);
}

TEST(driver, never_connects_to_itself) {
  rig r;
  // A port that is bound by the very socket that dials it: the kernel lets TCP meet itself there.
  const int probe = ::socket(AF_INET, SOCK_STREAM, 0);
  const detail::kernel_address any{address::loopback(0)};
  ASSERT_EQ(::bind(probe, any.get(), any.size), 0);
  detail::kernel_address name;
  name.prepare();
  ASSERT_EQ(::getsockname(probe, name.get(), &name.size), 0);
  ::close(probe);
  connect_options options;
  options.bind = name.value();
  const socket_id s = r.d->connect(name.value(), options);
  ASSERT_TRUE(r.until([&] { return r.of[s].failures + r.of[s].connected > 0; }));
  EXPECT_EQ(r.of[s].connected, 0);
  EXPECT_EQ(r.of[s].error.value(), ECONNREFUSED);
}

TEST(driver, urgent_octets_stay_in_the_stream) {
  rig r;
  const socket_id l = r.d->listen(address::loopback(0), {});
  const int fd = dial(r.d->local(l));
  ASSERT_TRUE(r.until([&] { return r.accepted.size() == 1; }));
  r.d->perform(r.accepted[0], command::start_reading());
  write_all(fd, "ab");
  ::send(fd, "!", 1, MSG_OOB);
  write_all(fd, "cd");
  EXPECT_TRUE(r.until([&] { return r.of[r.accepted[0]].data == "ab!cd"; }));
  ::close(fd);
}

}  // namespace
}  // namespace midwire
