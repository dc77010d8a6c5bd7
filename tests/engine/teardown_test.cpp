// Things that go while others still look at them: producers, reactors, deferreds, relays, loops of a pool.
#include <gtest/gtest.h>

#include <filesystem>

#include "engine/loop_thread.hpp"
#include "engine/sockets.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using tests::loop_thread;
using tests::peer_socket;
using tests::temp_folder;
using outcome = peer_socket::outcome;

namespace {

struct quiet_log {
  quiet_log() {
    set_log([](int, std::string_view) {});
  }
  ~quiet_log() { set_log({}); }
};

/// A protocol made of closures, which is its own producer.
struct scripted : protocol, producer {
  struct script {
    std::function<void(scripted&)> made, read_lost, gone;
    std::function<void(scripted&, chunk)> data;
    std::function<void(const reason&)> lost;
    std::atomic<int> stops = 0, resumes = 0;
    bool lost_first = false;
  };
  explicit scripted(std::shared_ptr<script> s) : s_{std::move(s)} {}
  ~scripted() override {
    if (s_->gone) s_->gone(*this);
  }
  void connection_made() override {
    if (s_->made) s_->made(*this);
  }
  void data_received(chunk c) override {
    if (s_->data) s_->data(*this, std::move(c));
  }
  void read_connection_lost() override {
    if (s_->read_lost) s_->read_lost(*this);
  }
  void connection_lost(const reason& why) override {
    s_->lost_first = s_->stops == 0;
    if (s_->lost) s_->lost(why);
  }
  void pause_producing() override {}
  void resume_producing() override { ++s_->resumes; }
  void stop_producing() override { ++s_->stops; }
  std::shared_ptr<script> s_;
};

auto script() { return std::make_shared<scripted::script>(); }

std::size_t descriptors() {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator{"/proc/self/fd"}, std::filesystem::directory_iterator{}));
}

/// A resolver that answers when it is told to.
struct scripted_resolver : resolver {
  std::uint64_t ask(const std::string&, callback<void(answer)> got) override {
    asked.push_back(std::move(got));
    return asked.size();
  }
  void forget(std::uint64_t query) noexcept override { asked[query - 1].reset(); }
  void say(std::vector<address> found, bool last) { asked.back()(answer{std::move(found), {}, last}); }
  std::vector<callback<void(answer)>> asked;
};

template <class Done>
void turn_until(reactor& r, Done done, duration at_most = 5s) {
  const auto start = std::chrono::steady_clock::now();
  while (!done() && std::chrono::steady_clock::now() - start < at_most) r.turn(10ms);
}

}  // namespace

TEST(Teardown, AProducerIsStoppedBeforeItsConnectionIsLost) {  // lesson 8, E17
  auto how = script();
  scripted* live = nullptr;
  bool lost = false, ended = false;
  how->made = [&](scripted& p) {
    live = &p;
    p.transport().register_producer(p, producing::push);
  };
  how->read_lost = [&](scripted&) { ended = true; };
  how->lost = [&](const reason&) { lost = true; };
  reactor r;
  const auto port = r.listen_tcp(0, factory::of<scripted>(how), {.interface = "127.0.0.1"}).host().port();
  peer_socket c = peer_socket::connect_tcp(port);
  c.end();
  turn_until(r, [&] { return ended; });
  ASSERT_TRUE(live);
  // In a posted call: with the peer's end there already, the connection is over at once, and its protocol with it.
  r.call_from_thread([&] { live->transport().lose_connection(); });
  turn_until(r, [&] { return lost; });
  r.turn(0s), r.turn(0s);
  EXPECT_EQ(how->stops, 1);
  EXPECT_FALSE(how->lost_first);
}

TEST(Teardown, LosingTheWriteSideStopsItsProducer) {  // lesson 8
  for (const auto kind : {producing::push, producing::pull}) {
    auto how = script();
    how->made = [&](scripted& p) {
      p.transport().register_producer(p, kind);
      p.transport().write("bye");
      p.transport().lose_write_connection();
    };
    loop_thread loop{[](reactor&) {}};
    const auto port = loop.ask([&](reactor& r) {
      return r.listen_tcp(0, factory::of<scripted>(how), {.interface = "127.0.0.1"}).host().port();
    });
    peer_socket c = peer_socket::connect_tcp(port);
    const auto [got, end] = c.receive(2000);
    EXPECT_EQ(got, "bye");
    EXPECT_EQ(end, outcome::end) << "a producer whose octets nobody takes any more must not keep the FIN back";
    loop.stop();
    EXPECT_EQ(how->stops, 1);
  }
}

TEST(Teardown, ALosingConnectionThatIsPausedEndsWithItsPeer) {  // lesson 8
  auto how = script();
  std::promise<void> lost;
  how->made = [](scripted& p) {
    flow_limits never;
    never.linger = {};
    p.transport().set_limits(never);
    p.transport().pause_reading();
    p.transport().lose_connection();
  };
  how->lost = [&](const reason&) { lost.set_value(); };
  loop_thread loop{[](reactor&) {}};
  const auto port = loop.ask([&](reactor& r) {
    return r.listen_tcp(0, factory::of<scripted>(how), {.interface = "127.0.0.1"}).host().port();
  });
  peer_socket c = peer_socket::connect_tcp(port);
  EXPECT_EQ(c.receive().second, outcome::end);
  c.close();
  EXPECT_EQ(lost.get_future().wait_for(2s), std::future_status::ready);
}

TEST(Teardown, WhatAUnixPeerSaidBeforeItLeftIsHeard) {  // lesson 7
  temp_folder folder;
  auto how = script();
  std::promise<ending> lost;
  std::string got;
  scripted* live = nullptr;
  std::promise<void> made;
  how->made = [&](scripted& p) {
    live = &p;
    p.transport().write(std::string(8 << 20, 'x'));  // more than its socket takes
    made.set_value();
  };
  how->data = [&](scripted&, chunk c) { got += c.text(); };
  how->lost = [&](const reason& why) { lost.set_value(why.how()); };
  loop_thread loop{[&](reactor& r) { r.listen_unix(folder / "s", factory::of<scripted>(how)); }};
  peer_socket c = peer_socket::connect_unix(folder / "s");
  made.get_future().wait();
  loop.ask([&](reactor&) {  // meanwhile the loop sees nothing: both come at once
    c.send("last words");
    c.close();
  });
  EXPECT_EQ(lost.get_future().get(), ending::reset);
  loop.stop();
  EXPECT_EQ(got, "last words");
}

TEST(Teardown, AProtocolThatTalksWhileItsReactorGoesHarmsNobody) {
  auto how = script();
  bool made = false;
  how->made = [&](scripted&) { made = true; };
  how->gone = [](scripted& p) {
    auto& t = p.transport();
    t.write("too late"), t.pause_reading(), t.resume_reading(), t.lose_connection(), t.abort_connection();
    t.register_producer(p, producing::push);
    t.reactor().call_later(1s, [] {});
  };
  peer_socket c;
  {
    reactor r;
    const auto port = r.listen_tcp(0, factory::of<scripted>(how), {.interface = "127.0.0.1"}).host().port();
    c = peer_socket::connect_tcp(port);
    turn_until(r, [&] { return made; });
  }
  EXPECT_NE(c.receive(2000).second, outcome::open);
}

TEST(Teardown, ADeferredMayBeCancelledAfterItsReactor) {
  peer_socket silent = peer_socket::listen_tcp();
  deferred<protocol*> connecting;
  deferred<std::vector<address>> resolving;
  {
    reactor r;
    r.set_resolver(std::make_unique<scripted_resolver>());
    connecting = r.connect_tcp("127.0.0.1", silent.port(), factory::of<scripted>(script()));
    resolving = r.resolve("a.name");
  }
  connecting.cancel();
  resolving.cancel();
}

TEST(Teardown, AnOlderReactorOutlivesALaterOneOfTheSameThread) {
  reactor older;
  { reactor later; }
  std::vector<address> found;
  older.resolve("127.0.0.1").then([&](std::vector<address> a) { found = std::move(a); });
  older.turn(0s);
  EXPECT_EQ(found.size(), 1u);
}

TEST(Teardown, ATimerThatStartsItselfAtOnceLetsTheLoopTurn) {  // E23
  reactor r;
  int rounds = 0;
  std::function<void()> again = [&] {
    if (++rounds < 1000000) r.call_later(rounds % 2 ? 0s : -1s, [&] { again(); });
  };
  r.call_later(0s, [&] { again(); });
  timer own{r, [&] { own.start(-1ms); }};
  own.start(0s);
  bool called = false;
  r.call_from_thread([&] { called = true; });
  r.turn(0s), r.turn(0s);
  EXPECT_TRUE(called);
  EXPECT_LE(rounds, 2);
  r.call_later(duration::max(), [] { ADD_FAILURE() << "for ever is over"; });
  r.turn(0s);
}

TEST(Dialer, AThrowingCheckRefusesTheServer) {  // E22, E25
  const quiet_log quiet;
  peer_socket origin = peer_socket::listen_tcp();
  relay_options options;
  options.refuse_server = [](const address&) -> std::optional<std::string> { throw std::runtime_error{"no"}; };
  loop_thread loop{[](reactor&) {}};
  std::unique_ptr<relay> one;
  const auto port = loop.ask([&](reactor& r) {
    one = std::make_unique<relay>(r, "127.0.0.1:0", "127.0.0.1:" + std::to_string(origin.port()));
    one->set_options(options).start();
    return one->host().port();
  });
  peer_socket c = peer_socket::connect_tcp(port);
  EXPECT_EQ(c.receive(2000).second, outcome::end);
  c.close();
  for (int i = 0; i < 100 && one->flows() > 0; ++i) std::this_thread::sleep_for(20ms);
  EXPECT_EQ(one->flows(), 0u);
  loop.ask([&](reactor&) { one.reset(); });
}

TEST(Dialer, AnAddressThatComesLateIsTriedWhileAnotherHangs) {  // RFC 8305
  // The backlog of this one is full: connecting to it hangs.
  peer_socket full{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in at{};
  at.sin_family = AF_INET, at.sin_addr.s_addr = htonl(0x7f000002);
  ASSERT_EQ(bind(full.fd(), reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  ASSERT_EQ(listen(full.fd(), 0), 0);
  const auto port = full.port();
  at.sin_port = htons(port);
  std::vector<peer_socket> fillers;
  for (int i = 0; i < 3; ++i) {
    fillers.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ::connect(fillers.back().fd(), reinterpret_cast<sockaddr*>(&at), sizeof at);
  }
  peer_socket open = peer_socket::listen_tcp(port);
  ASSERT_TRUE(open.valid());
  auto names = std::make_unique<scripted_resolver>();
  auto* const n = names.get();
  reactor r;
  r.set_resolver(std::move(names));
  protocol* made = nullptr;
  r.connect_tcp("a.name", port, factory::of<scripted>(script()), {.timeout = 20s}).then([&](protocol* p) { made = p; });
  n->say({*address::parse_ip("127.0.0.2", 0)}, false);
  turn_until(
      r, [] { return false; }, 400ms);  // 50 ms for the other family, then it is tried, and hangs
  ASSERT_FALSE(made);
  n->say({*address::parse_ip("127.0.0.1", 0)}, true);
  const auto start = std::chrono::steady_clock::now();
  turn_until(r, [&] { return made != nullptr; });
  EXPECT_TRUE(made);
  EXPECT_LT(tests::seconds_since(start), 2.0);
}

TEST(Teardown, AStopIsShortenedByAnother) {
  peer_socket origin = peer_socket::listen_tcp();
  loop_thread loop{[](reactor&) {}};
  std::unique_ptr<relay> one;
  const auto port = loop.ask([&](reactor& r) {
    one = std::make_unique<relay>(r, "127.0.0.1:0", "127.0.0.1:" + std::to_string(origin.port()));
    one->start();
    return one->host().port();
  });
  peer_socket c = peer_socket::connect_tcp(port);
  peer_socket s = origin.accept();
  ASSERT_TRUE(s.valid());
  std::promise<void> first, second, third;
  loop.ask([&](reactor&) { one->stop(1h, [&] { first.set_value(); }); });
  one->stop({}, [&] { second.set_value(); });  // from another thread
  EXPECT_EQ(c.receive(2000).second, outcome::reset);
  EXPECT_EQ(first.get_future().wait_for(2s), std::future_status::ready);
  EXPECT_EQ(second.get_future().wait_for(2s), std::future_status::ready);
  loop.ask([&](reactor&) { one->stop({}, [&] { third.set_value(); }); });
  EXPECT_EQ(third.get_future().wait_for(2s), std::future_status::ready);
  loop.ask([&](reactor&) { one.reset(); });
}

TEST(Teardown, ARelayThatCannotStartKeepsNoPort) {
  temp_folder folder;
  reactor r;
  relay one{r, "127.0.0.1:0", "127.0.0.1:1"};
  one.start();
  const auto first = one.host().port();
  one.start();  // anew: the port before is closed
  EXPECT_NE(one.host().port(), first);
  turn_until(
      r, [] { return false; }, 20ms);
  EXPECT_FALSE(peer_socket::connect_tcp(first).valid());
  EXPECT_TRUE(peer_socket::connect_tcp(one.host().port()).valid());
}

TEST(Teardown, FlowsThatAreDialledWhenTheirRelayGoesDoNotPassUnseen) {
  struct observer : relay_observer {
    std::vector<std::unique_ptr<stage>> build_stages(const flow_info&) override { return {}; }
  } watching;
  peer_socket origin = peer_socket::listen_tcp();
  auto names = std::make_unique<scripted_resolver>();
  auto* const n = names.get();
  reactor r;
  r.set_resolver(std::move(names));
  auto one = std::make_unique<relay>(r, "127.0.0.1:0", "a.name:" + std::to_string(origin.port()));
  one->observe(watching).start();
  peer_socket c = peer_socket::connect_tcp(one->host().port());
  c.send("secret");
  turn_until(r, [&] { return !n->asked.empty(); });
  one.reset();
  n->say({*address::parse_ip("127.0.0.1", 0)}, true);
  turn_until(
      r, [] { return false; }, 200ms);
  EXPECT_EQ(c.receive(100).second, outcome::end);
  peer_socket s = origin.accept(500);
  if (s.valid()) { EXPECT_EQ(s.receive(500).first, ""); }
}

TEST(Teardown, AStagesExceptionIsCountedByItsLoop) {  // E22
  const quiet_log quiet;
  peer_socket origin = peer_socket::listen_tcp();
  loop_thread loop{[](reactor&) {}};
  std::unique_ptr<relay> one;
  const auto port = loop.ask([&](reactor& r) {
    one = std::make_unique<relay>(r, "127.0.0.1:0", "127.0.0.1:" + std::to_string(origin.port()));
    one->add_stage([](stage_context&, direction, chunk) -> verdict { throw std::runtime_error{"boom"}; });
    one->add_stage_maker([] { return std::unique_ptr<stage>{}; });
    one->start();
    return one->host().port();
  });
  peer_socket c = peer_socket::connect_tcp(port);
  c.send("x");
  EXPECT_EQ(c.receive(2000).second, outcome::reset);
  EXPECT_EQ(loop.ask([](reactor& r) { return r.failures(); }), 1u);
  loop.ask([&](reactor&) { one.reset(); });
}

TEST(Teardown, ConnectionsOnTheirWayToALoopThatHasEndedAreClosed) {  // lesson 16
  const std::size_t before = descriptors();
  std::vector<peer_socket> clients;
  {
    reactor_pool pool{2};
    struct counted : factory {
      std::unique_ptr<protocol> build_protocol(const address&) override { return std::make_unique<scripted>(script()); }
      void started() override { ++starts; }
      int starts = 0;
    };
    auto f = std::make_shared<counted>();
    const address at = pool.listen(
        "127.0.0.1:0", [&](reactor&) { return f; }, reactor_pool::balance::least_loaded);
    EXPECT_EQ(f->starts, 1);
    // Only the first loop turns: what is handed to the second never arrives.
    for (int i = 0; i < 10; ++i) clients.push_back(peer_socket::connect_tcp(at.port()));
    turn_until(
        pool.loop(0), [] { return false; }, 200ms);
  }
  for (auto& c : clients) EXPECT_NE(c.receive(1000).second, outcome::open);
  clients.clear();
  EXPECT_EQ(descriptors(), before);
}

TEST(Teardown, APoolStopsWhileConnectionsAreHandedOver) {  // lesson 16
  peer_socket origin = peer_socket::listen_tcp();
  const std::string to = "127.0.0.1:" + std::to_string(origin.port());
  for (int round = 0; round < 10; ++round) {
    reactor_pool pool{3};
    relay one{pool, "127.0.0.1:0", to, reactor_pool::balance::least_loaded};
    one.start();
    std::thread runner{[&] { pool.run(); }};
    std::atomic<bool> over = false;
    std::thread knocking{[&] {
      while (!over) {
        peer_socket c = peer_socket::connect_tcp(one.host().port());
        c.send_now("x");
      }
    }};
    std::thread serving{[&] {
      while (!over) origin.accept(10);
    }};
    std::this_thread::sleep_for(std::chrono::milliseconds{5 + 5 * round});
    std::promise<void> done;
    one.stop(round % 2 ? duration{20ms} : duration{}, [&] { done.set_value(); });
    EXPECT_EQ(done.get_future().wait_for(10s), std::future_status::ready);
    pool.stop();
    runner.join();
    over = true;
    knocking.join(), serving.join();
  }
}

TEST(Teardown, AWatchThatCannotChangeKeepsItsHandler) {
  reactor r;
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
  int copy = dup(ends[0]);  // keeps the open file, and so epoll's knowledge of it
  r.watch(ends[0], true, false, [](bool, bool) {});
  close(ends[0]);
  EXPECT_THROW(r.watch(ends[0], true, true, [](bool, bool) {}), std::system_error);
  ASSERT_EQ(write(ends[1], "x", 1), 1);
  r.turn(0s), r.turn(10ms), r.turn(10ms);
  r.unwatch(ends[0]);
  close(copy), close(ends[1]);
}

TEST(Address, LiteralsEndWhereTheyEnd) {
  using namespace std::string_view_literals;
  EXPECT_FALSE(address::parse_ip("127.0.0.1\0.example"sv, 1));
  EXPECT_FALSE(address::parse_ip("::1\0"sv, 1));
}
