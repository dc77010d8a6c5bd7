// Protocol, factory, transport and reactor over kernel sockets.
#include <gtest/gtest.h>

#include <csignal>
#include <set>

#include <midwire/base/chance.hpp>

#include "engine/loop_thread.hpp"
#include "engine/sockets.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using tests::loop_thread;
using tests::peer_socket;
using tests::seconds_since;
using outcome = peer_socket::outcome;

namespace {

struct echo : protocol {
  void data_received(chunk data) override { transport().write(std::move(data)); }
};

/// A protocol made of closures.
struct scripted : protocol {
  struct script {
    std::function<void(protocol&)> made, read_lost, write_lost;
    std::function<void(protocol&, chunk)> data;
    std::function<void(protocol&, const reason&)> lost;
  };
  explicit scripted(std::shared_ptr<script> s) : s_{std::move(s)} {}
  void connection_made() override {
    if (s_->made) s_->made(*this);
  }
  void data_received(chunk c) override {
    if (s_->data) s_->data(*this, std::move(c));
  }
  void read_connection_lost() override {
    if (s_->read_lost) s_->read_lost(*this);
    else protocol::read_connection_lost();
  }
  void write_connection_lost() override {
    if (s_->write_lost) s_->write_lost(*this);
  }
  void connection_lost(const reason& why) override {
    if (s_->lost) s_->lost(*this, why);
  }
  std::shared_ptr<script> s_;
};

struct served {
  explicit served(factory_ptr f) : loop{[&](reactor& r) { port = r.listen_tcp(0, std::move(f), {.interface = "127.0.0.1"}).host().port(); }} {}
  explicit served(std::shared_ptr<scripted::script> s) : served{factory::of<scripted>(std::move(s))} {}
  peer_socket connect(int receive_buffer = 0) { return peer_socket::connect_tcp(port, receive_buffer); }
  std::uint16_t port = 0;
  loop_thread loop;
};

std::shared_ptr<scripted::script> script() { return std::make_shared<scripted::script>(); }

}  // namespace

TEST(Transport, EchoesAndClosesAfterTheClientsEnd) {
  served s{factory::of<echo>()};
  peer_socket c = s.connect();
  std::string text(300000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / 255);
  std::thread sender{[&] {
    c.send(text);
    c.end();
  }};
  const auto [got, end] = c.receive();
  sender.join();
  EXPECT_TRUE(got == text);
  EXPECT_EQ(end, outcome::end) << "the default for the peer's FIN is to close, in order";
}

TEST(Transport, CallsComeInOrderAndTheLastOneOnce) {  // E17
  auto calls = std::make_shared<std::vector<std::string>>();
  auto how = script();
  how->made = [calls](protocol&) { calls->push_back("made"); };
  how->data = [calls](protocol&, chunk c) { calls->push_back("data " + c.detach()); };
  how->read_lost = [calls](protocol& p) {
    calls->push_back("read lost");
    p.transport().write("bye");
    p.transport().lose_write_connection();
  };
  how->write_lost = [calls](protocol&) { calls->push_back("write lost"); };
  std::promise<void> lost;
  how->lost = [&](protocol&, const reason& r) {
    calls->push_back("lost " + std::string{name_of(r.how())});
    lost.set_value();
  };
  served s{how};
  peer_socket c = s.connect();
  c.send("hi");
  std::this_thread::sleep_for(50ms);
  c.end();
  EXPECT_EQ(c.receive().first, "bye");
  c.close();
  EXPECT_EQ(lost.get_future().wait_for(5s), std::future_status::ready);
  s.loop.stop();
  std::vector<std::string> want{"made", "data hi", "read lost", "write lost", "lost done"};
  EXPECT_EQ(*calls, want);
}

TEST(Transport, AHalfClosedPeerStillGetsItsAnswer) {
  auto how = script();
  auto all = std::make_shared<std::string>();
  how->data = [all](protocol&, chunk c) { *all += c.text(); };
  how->read_lost = [all](protocol& p) {
    p.transport().write(std::string(500000, 'a') + *all);
    p.transport().lose_connection();
  };
  served s{how};
  peer_socket c = s.connect();
  c.send("question");
  c.end();
  const auto [got, end] = c.receive();
  EXPECT_EQ(got.size(), 500008u);
  EXPECT_TRUE(got.ends_with("question"));
  EXPECT_EQ(end, outcome::end);
}

TEST(Transport, AbortIsAReset) {
  auto how = script();
  std::promise<ending> lost;
  how->data = [](protocol& p, chunk) { p.transport().abort_connection(); };
  how->lost = [&](protocol&, const reason& r) { lost.set_value(r.how()); };
  served s{how};
  peer_socket c = s.connect();
  c.send("x");
  EXPECT_EQ(c.receive().second, outcome::reset);
  EXPECT_EQ(lost.get_future().get(), ending::aborted);
}

TEST(Transport, ThePeersResetIsTold) {
  auto how = script();
  std::promise<ending> lost;
  auto got = std::make_shared<std::string>();
  how->data = [got](protocol&, chunk c) { *got += c.text(); };
  how->lost = [&](protocol&, const reason& r) { lost.set_value(r.how()); };
  served s{how};
  peer_socket c = s.connect();
  c.send(std::string(100000, 'x'));
  c.reset();
  EXPECT_EQ(lost.get_future().get(), ending::reset);
}

TEST(Lesson7, APausedReaderLearnsOfAReset) {
  auto how = script();
  std::promise<ending> lost;
  how->made = [](protocol& p) { p.transport().pause_reading(); };
  how->lost = [&](protocol&, const reason& r) { lost.set_value(r.how()); };
  served s{how};
  peer_socket c = s.connect();
  c.send("unread");
  std::this_thread::sleep_for(50ms);
  c.reset();
  auto told = lost.get_future();
  ASSERT_EQ(told.wait_for(2s), std::future_status::ready);
  EXPECT_EQ(told.get(), ending::reset);
}

TEST(Lesson7, WhatCameBeforeTheEndIsDeliveredOnResume) {
  auto how = script();
  auto got = std::make_shared<std::atomic<std::size_t>>(0);
  std::promise<void> ended;
  protocol* paused = nullptr;
  how->made = [&](protocol& p) {
    p.transport().pause_reading();
    paused = &p;
  };
  how->data = [got](protocol&, chunk c) { *got += c.size(); };
  how->read_lost = [&](protocol& p) {
    ended.set_value();
    p.transport().lose_connection();
  };
  served s{how};
  peer_socket c = s.connect();
  c.send(std::string(100000, 'x'));
  c.close();
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(got->load(), 0u);
  s.loop.ask([&](reactor&) { paused->transport().resume_reading(); });
  ASSERT_EQ(ended.get_future().wait_for(2s), std::future_status::ready);
  EXPECT_EQ(got->load(), 100000u);
}

TEST(Lesson9, ASlowReaderGetsEverythingThoughWeClosed) {
  auto how = script();
  how->made = [](protocol& p) {
    flow_limits limits;
    limits.linger = 300ms;
    p.transport().set_limits(limits);
    p.transport().write(std::string(1000000, 'x'));
    p.transport().lose_connection();
  };
  served s{how};
  peer_socket c = s.connect(4096);
  std::size_t got = 0;
  outcome end = outcome::open;
  while (end == outcome::open) {
    const auto [text, now] = c.receive(3000, 25000);
    if (text.empty() && now == outcome::open) break;
    got += text.size(), end = now;
    std::this_thread::sleep_for(20ms);
  }
  EXPECT_EQ(got, 1000000u);
  EXPECT_EQ(end, outcome::end);
}

TEST(Lesson9, APeerThatGoesOnSendingStillGetsOurLastOctets) {
  auto how = script();
  how->data = [](protocol& p, chunk) {
    p.transport().write("last words");
    p.transport().lose_connection();
  };
  served s{how};
  peer_socket c = s.connect();
  c.send("x");
  std::thread talker{[&] {
    for (int i = 0; i < 50; ++i) {
      c.send_now(std::string(2000, 'y'));
      std::this_thread::sleep_for(5ms);
    }
  }};
  std::this_thread::sleep_for(150ms);
  const auto [text, end] = c.receive(2000);
  talker.join();
  EXPECT_EQ(text, "last words");
  EXPECT_EQ(end, outcome::end);
}

TEST(Lesson9, ASilentPeerIsWaitedForNoLongerThanLinger) {
  auto how = script();
  std::promise<ending> lost;
  how->made = [](protocol& p) {
    flow_limits limits;
    limits.linger = 200ms;
    p.transport().set_limits(limits);
    p.transport().write("x");
    p.transport().lose_connection();
  };
  how->lost = [&](protocol&, const reason& r) { lost.set_value(r.how()); };
  served s{how};
  peer_socket c = s.connect();
  const auto start = std::chrono::steady_clock::now();
  auto told = lost.get_future();
  ASSERT_EQ(told.wait_for(3s), std::future_status::ready);
  EXPECT_GE(seconds_since(start), 0.15);
  EXPECT_EQ(told.get(), ending::done);
}

TEST(Transport, ProducersArePausedAndResumed) {
  struct source : producer {
    explicit source(protocol& o, bool pulled) : owner{o}, pull{pulled} {}
    void pause_producing() override { ++pauses; paused = true; }
    void resume_producing() override {
      ++resumes, paused = false;
      go();
    }
    void stop_producing() override { ++stops; }
    void go() {
      for (int i = 0; i < (pull ? 1 : 1000) && !paused && made < 20 << 20; ++i) {
        owner.transport().write(std::string(10000, 'p'));
        made += 10000;
        if (!pull && owner.transport().buffered() > 400000) break;
      }
      if (made >= 20 << 20 && !done) {
        done = true;
        owner.transport().unregister_producer();
        owner.transport().lose_connection();
      }
    }
    protocol& owner;
    bool pull, paused = false, done = false;
    int pauses = 0, resumes = 0, stops = 0, made = 0;
  };
  for (const bool pull : {false, true}) {
    SCOPED_TRACE(pull ? "pull" : "push");
    auto how = script();
    auto src = std::make_shared<std::unique_ptr<source>>();
    how->made = [src, pull](protocol& p) {
      *src = std::make_unique<source>(p, pull);
      p.transport().register_producer(**src, pull ? producing::pull : producing::push);
      if (!pull) (*src)->go();
    };
    served s{how};
    peer_socket c = s.connect();
    std::this_thread::sleep_for(100ms);
    s.loop.ask([&](reactor&) { EXPECT_LT((*src)->made, 20 << 20) << "a stopped reader stops its producer"; });
    const auto [got, end] = c.receive(5000);
    EXPECT_GE(got.size(), std::size_t{20} << 20);
    EXPECT_EQ(end, outcome::end);
    s.loop.stop();
    if (!pull) {
      EXPECT_GT((*src)->pauses, 0);
    }
    EXPECT_GT((*src)->resumes, 0);
  }
}

TEST(Lesson8, LosingAConnectionStopsItsProducer) {
  struct endless : producer {
    void pause_producing() override {}
    void resume_producing() override {}
    void stop_producing() override { stopped = true; }
    std::atomic<bool> stopped = false;
  } source;
  auto how = script();
  std::promise<void> lost;
  how->data = [&](protocol& p, chunk) {
    p.transport().register_producer(source, producing::push);
    p.transport().lose_connection();
  };
  how->lost = [&](protocol&, const reason&) { lost.set_value(); };
  served s{how};
  peer_socket c = s.connect();
  c.send("x");
  EXPECT_EQ(c.receive().second, outcome::end);
  c.close();
  ASSERT_EQ(lost.get_future().wait_for(3s), std::future_status::ready);
  EXPECT_TRUE(source.stopped);
}

TEST(Transport, AnExceptionEndsItsConnectionOnly) {  // E22
  set_log([](int, std::string_view) {});
  auto how = script();
  how->data = [](protocol& p, chunk c) {
    if (c.text() == "throw") throw std::runtime_error{"boom"};
    p.transport().write(std::move(c));
  };
  std::promise<ending> lost;
  how->lost = [&](protocol&, const reason& r) {
    if (r.how() == ending::failed) lost.set_value(r.how());
  };
  served s{how};
  peer_socket good = s.connect(), bad = s.connect();
  bad.send("throw");
  EXPECT_EQ(bad.receive().second, outcome::reset);
  EXPECT_EQ(lost.get_future().get(), ending::failed);
  good.send("ping");
  EXPECT_EQ(good.receive(2000, 4).first, "ping");
  EXPECT_EQ(s.loop.ask([](reactor& r) { return r.failures(); }), 1u);
  set_log({});
}

TEST(Lesson20, NoMemberCallsAProtocolBeforeItReturns) {
  auto depth = std::make_shared<int>(0), deepest = std::make_shared<int>(0);
  const auto enter = [=](protocol& p, auto&& f) {
    *deepest = std::max(*deepest, ++*depth);
    auto& t = p.transport();
    t.pause_reading(), t.resume_reading();
    t.write(std::string(100000, 'x'));
    f(t);
    --*depth;
  };
  auto how = script();
  how->made = [=](protocol& p) { enter(p, [](transport&) {}); };
  auto n = std::make_shared<int>(0);
  how->data = [=](protocol& p, chunk) {
    enter(p, [=](transport& t) {
      switch (++*n % 4) {
        case 0: t.lose_connection(); break;
        case 1: t.lose_write_connection(); break;
        case 2: t.abort_connection(); break;
        default: t.pause_reading(), t.resume_reading();
      }
    });
  };
  how->read_lost = [=](protocol& p) { enter(p, [](transport& t) { t.lose_connection(); }); };
  how->write_lost = [=](protocol& p) { enter(p, [](transport& t) { t.resume_reading(); }); };
  how->lost = [=](protocol& p, const reason&) { enter(p, [](transport& t) { t.abort_connection(); }); };
  served s{how};
  for (int i = 0; i < 20; ++i) {
    peer_socket c = s.connect();
    c.send("x");
    c.end();
    c.receive(1000);
  }
  s.loop.stop();
  EXPECT_EQ(*depth, 0);
  EXPECT_EQ(*deepest, 1);
}

TEST(Lesson21, ManyWritersOverShortWritesKeepTheirOrder) {
  const std::uint64_t seed = 4711;
  random_source sizes{seed};
  std::vector<std::size_t> writes;
  std::size_t total = 0;
  for (int i = 0; i < 1000; ++i) {
    writes.push_back(1 + (sizes.one_in(100) ? sizes.below(1 << 20) : sizes.below(5000)));
    total += writes.back();
  }
  auto how = script();
  how->made = [&](protocol& p) {
    for (std::size_t i = 0; i < writes.size(); ++i) p.transport().write(std::string(writes[i], static_cast<char>('a' + i % 26)));
    p.transport().lose_connection();
  };
  served s{how};
  peer_socket c = s.connect(8192);
  const auto [got, end] = c.receive();
  ASSERT_EQ(got.size(), total) << "seed " << seed;
  EXPECT_EQ(end, outcome::end);
  std::size_t at = 0;
  for (std::size_t i = 0; i < writes.size(); ++i) {
    ASSERT_EQ(got.compare(at, writes[i], std::string(writes[i], static_cast<char>('a' + i % 26))), 0) << "write " << i;
    at += writes[i];
  }
}

TEST(Reactor, ConnectsByAddressAndByPath) {
  peer_socket listener = peer_socket::listen_tcp();
  tests::temp_folder folder;
  peer_socket local = peer_socket::listen_unix(folder / "s");
  auto how = script();
  how->made = [](protocol& p) { p.transport().write("hello"); };
  loop_thread loop{[&](reactor& r) {
    r.connect_tcp("127.0.0.1", listener.port(), factory::of<scripted>(how)).then([](protocol* p) {
      p->transport().write(" tcp");
    });
    r.connect_unix(folder / "s", factory::of<scripted>(how)).then([](protocol* p) { p->transport().write(" unix"); });
  }};
  peer_socket a = listener.accept(), b = local.accept();
  EXPECT_EQ(a.receive(2000, 9).first, "hello tcp");
  EXPECT_EQ(b.receive(2000, 10).first, "hello unix");
}

TEST(Reactor, FailedConnectsAreToldOnce) {
  std::uint16_t nobody = 0;
  { nobody = peer_socket::listen_tcp().port(); }
  struct failing : factory {
    std::unique_ptr<protocol> build_protocol(const address&) override { return std::make_unique<echo>(); }
    void connection_failed(const reason& r) override { ++failures, last = r.how(); }
    int failures = 0;
    ending last = ending::done;
  };
  auto f = std::make_shared<failing>();
  std::promise<std::string> told;
  loop_thread loop{[&](reactor& r) {
    r.connect_tcp("127.0.0.1", nobody, f).then([](protocol*) { FAIL(); },
                                              [&](const reason& why) { told.set_value(why.text()); });
  }};
  EXPECT_NE(told.get_future().get().find("refused"), std::string::npos);
  loop.stop();
  EXPECT_EQ(f->failures, 1);
  EXPECT_EQ(f->last, ending::refused);
}

TEST(Reactor, ListenSaysWhereItFails) {
  peer_socket taken = peer_socket::listen_tcp();
  reactor r;
  try {
    r.listen_tcp(taken.port(), factory::of<echo>(), {.interface = "127.0.0.1"});
    FAIL() << "the address is in use";
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code(), std::errc::address_in_use);
    EXPECT_NE(std::string{e.what()}.find("127.0.0.1:" + std::to_string(taken.port())), std::string::npos) << e.what();
  }
  EXPECT_THROW(r.listen_tcp(0, factory::of<echo>(), {.interface = "no.such.host"}), std::system_error);
}

TEST(Reactor, TimersPostedCallsAndStop) {
  reactor r;
  std::string order;
  r.call_later(20ms, [&] { order += 'c'; });
  r.call_later(10ms, [&] { order += 'b'; });
  r.call_later(0ms, [&] { order += 'a'; });
  timer_ref cancelled = r.call_later(5ms, [&] { order += 'x'; });
  EXPECT_TRUE(cancelled.cancel());
  int rounds = 0;
  timer_ref again;
  again = r.every(3ms, [&] {
    if (++rounds == 5) again.cancel();
  });
  timer restarted{r, [&] { order += 'd'; }};
  restarted.start(5ms);
  restarted.start(30ms);
  r.call_when_running([&] { order += '0'; });
  r.call_later(60ms, [&] { r.stop(); });
  std::thread other{[&] { r.call_from_thread([&] { order += 't'; }); }};
  other.join();
  r.run();
  order.erase(std::remove(order.begin(), order.end(), 't'), order.end());
  EXPECT_EQ(order, "0abcd");
  EXPECT_EQ(rounds, 5);
  r.call_later(1ms, [&] { r.stop(); });
  r.run();  // can run again
}

TEST(Reactor, WatchesDescriptors) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
  reactor r;
  std::string got;
  r.watch(ends[0], true, false, [&](bool readable, bool) {
    char c;
    if (readable && read(ends[0], &c, 1) == 1) got += c;
    if (got.size() == 3) {
      r.unwatch(ends[0]);
      r.stop();
    }
  });
  ASSERT_EQ(write(ends[1], "abcd", 4), 4);
  r.run();
  EXPECT_EQ(got, "abc");
  close(ends[0]), close(ends[1]);
}

TEST(Reactor, SignalsComeOnTheLoop) {
  reactor r;
  int hups = 0;
  r.on_signal(SIGHUP, [&] {
    ++hups;
    r.stop();
  });
  kill(getpid(), SIGHUP);
  r.run();
  EXPECT_EQ(hups, 1);
}

TEST(Lesson16, ConnectionsAreSharedEvenly) {
  struct counting : protocol {
    explicit counting(std::atomic<int>* n) : n_{n} {}
    void connection_made() override { ++*n_; }
    void data_received(chunk) override {}
    std::atomic<int>* n_;
  };
  for (const auto how : {reactor_pool::balance::kernel, reactor_pool::balance::least_loaded}) {
    std::array<std::atomic<int>, 4> counts{};
    reactor_pool pool{4};
    std::size_t next = 0;
    const address at = pool.listen(
        "tcp://127.0.0.1:0", [&](reactor&) { return factory::of<counting>(&counts[next++]); }, how);
    std::thread runner{[&] { pool.run(); }};
    std::vector<peer_socket> clients;
    for (int i = 0; i < 1000; ++i) clients.push_back(peer_socket::connect_tcp(at.port()));
    for (int i = 0; i < 200; ++i) {
      if (counts[0] + counts[1] + counts[2] + counts[3] == 1000) break;
      std::this_thread::sleep_for(10ms);
    }
    for (const auto& n : counts) {
      if (how == reactor_pool::balance::kernel) {
        EXPECT_GE(n, 150);
        EXPECT_LE(n, 350);
      } else {
        EXPECT_NEAR(n, 250, 1);
      }
    }
    pool.stop();
    runner.join();
  }
}
