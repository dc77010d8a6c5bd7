// The relay on kernel sockets: whatever the ends do, the other end sees what it would see without us.
#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "engine/loop_thread.hpp"
#include "engine/sockets.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using tests::loop_thread;
using tests::peer_socket;
using tests::temp_folder;
using outcome = peer_socket::outcome;

namespace {

struct pass_stage : stage {
  verdict on_data(stage_context&, direction, chunk data) override { return verdict::pass(std::move(data)); }
};
/// Keeps the last octet of everything for a while: what is kept has to leave before an end.
struct tail_stage : stage {
  verdict on_data(stage_context&, direction, chunk data) override {
    chunk front = data.take_front(data.size() - 1);
    return verdict::keep(std::move(front), std::move(data), 1, 1ms);
  }
};

struct setting {
  const char* name;
  int stages;
  bool tail, splice, unix_client, unix_server;
};
constexpr setting settings[] = {
    {"no stage", 0, false, true, false, false},        {"no stage, no splice", 0, false, false, false, false},
    {"one stage", 1, false, true, false, false},       {"four stages", 4, false, true, false, false},
    {"a stage that keeps", 1, true, true, false, false}, {"unix client", 0, false, true, true, false},
    {"unix server", 0, false, true, false, true},      {"unix both", 1, false, true, true, true},
};

/// A relay with the given setting in front of an origin that the test plays.
class relayed {
 public:
  explicit relayed(const setting& s, relay_options options = {}, relay_observer* watcher = nullptr) : how{s} {
    origin = s.unix_server ? peer_socket::listen_unix(folder / "origin") : peer_socket::listen_tcp();
    const std::string to = s.unix_server ? "unix:" + (folder / "origin")
                                         : "tcp://127.0.0.1:" + std::to_string(origin.port());
    const std::string at = s.unix_client ? "unix:" + (folder / "front") : "tcp://127.0.0.1:0";
    reactor_options reactor_how;
    reactor_how.splice = s.splice;
    loop = std::make_unique<loop_thread>(
        [&](reactor& r) {
          relay_ = std::make_unique<relay>(r, at, to);
          relay_->set_options(options);
          if (watcher) relay_->observe(*watcher);
          for (int i = 0; i < s.stages; ++i) {
            if (s.tail) relay_->add_stage<tail_stage>();
            else relay_->add_stage<pass_stage>();
          }
          relay_->start();
          port = relay_->host().port();
        },
        reactor_how);
  }
  ~relayed() {
    loop->ask([&](reactor&) { relay_.reset(); });
    loop->stop();
  }
  std::pair<peer_socket, peer_socket> connect() {
    peer_socket c = how.unix_client ? peer_socket::connect_unix(folder / "front") : peer_socket::connect_tcp(port);
    peer_socket s = origin.accept();
    return {std::move(c), std::move(s)};
  }
  std::size_t flows() {
    return loop->ask([&](reactor&) { return relay_->flows(); });
  }

  setting how;
  temp_folder folder;
  peer_socket origin;
  std::uint16_t port = 0;
  std::unique_ptr<relay> relay_;
  std::unique_ptr<loop_thread> loop;
};

enum class act : char { send = 's', end = 'f', reset = 'r', close = 'c' };
struct step {
  side who;
  act what;
};
using script = std::vector<step>;

std::string text_of(const script& s) {
  std::string t;
  for (const auto& [who, what] : s) t += std::string{who == side::client ? "C" : "S"} + static_cast<char>(what) + ' ';
  return t;
}

/// Every order of up to `length` steps that the two ends can take.
std::vector<script> all_scripts(std::size_t length) {
  std::vector<script> all{{}}, last{{}};
  for (std::size_t n = 0; n < length; ++n) {
    std::vector<script> next;
    for (const auto& s : last)
      for (const side who : {side::client, side::server})
        for (const act what : {act::send, act::end, act::reset, act::close}) {
          bool gone = false, ended = false;
          for (const auto& [w, a] : s)
            if (w == who) gone |= a == act::reset || a == act::close, ended |= a == act::end;
          if (gone || (ended && (what == act::send || what == act::end))) continue;
          script longer = s;
          longer.push_back({who, what});
          next.push_back(longer);
        }
    all.insert(all.end(), next.begin(), next.end());
    last = std::move(next);
  }
  return all;
}

struct seen {
  std::string client, server;
  outcome client_end = outcome::open, server_end = outcome::open;
  friend bool operator==(const seen&, const seen&) = default;
};
std::ostream& operator<<(std::ostream& o, const seen& s) {
  static constexpr const char* names[] = {"open", "end", "reset"};
  return o << "client got '" << s.client << "' then " << names[static_cast<int>(s.client_end)] << ", server got '"
           << s.server << "' then " << names[static_cast<int>(s.server_end)];
}

/// Plays all scripts side by side, a step at a time with a pause after each, so that orders are what they say.
std::vector<seen> play(const std::vector<script>& scripts, const std::function<std::pair<peer_socket, peer_socket>()>& connect) {
  std::vector<std::pair<peer_socket, peer_socket>> pairs;
  for (std::size_t i = 0; i < scripts.size(); ++i) pairs.push_back(connect());
  std::size_t longest = 0;
  for (const auto& s : scripts) longest = std::max(longest, s.size());
  for (std::size_t n = 0; n < longest; ++n) {
    for (std::size_t i = 0; i < scripts.size(); ++i) {
      if (n >= scripts[i].size()) continue;
      const auto [who, what] = scripts[i][n];
      auto& socket = who == side::client ? pairs[i].first : pairs[i].second;
      switch (what) {
        case act::send: socket.send_now(std::string(3, static_cast<char>('0' + n))); break;
        case act::end: socket.end(); break;
        case act::reset: socket.reset(); break;
        case act::close: socket.close(); break;
      }
    }
    std::this_thread::sleep_for(120ms);
  }
  std::vector<seen> results;
  for (auto& [c, s] : pairs) {
    seen r;
    if (c.valid()) std::tie(r.client, r.client_end) = c.receive(0);
    if (s.valid()) std::tie(r.server, r.server_end) = s.receive(0);
    results.push_back(std::move(r));
  }
  return results;
}

}  // namespace

/// The matrix: every order of up to three of send, FIN, RST and close on either side, against a direct connection.
TEST(Relay, EveryOrderOfEndsLooksLikeADirectConnection) {
  const auto scripts = all_scripts(3);
  ASSERT_GT(scripts.size(), 200u);
  temp_folder folder;
  for (const setting& how : settings) {
    SCOPED_TRACE(how.name);
    const bool is_unix = how.unix_client || how.unix_server;
    if (is_unix && how.unix_client != how.unix_server) continue;  // no such direct connection: see the next test
    peer_socket listener = is_unix ? peer_socket::listen_unix(folder / "direct") : peer_socket::listen_tcp();
    const auto direct = play(scripts, [&] {
      peer_socket c = is_unix ? peer_socket::connect_unix(folder / "direct") : peer_socket::connect_tcp(listener.port());
      peer_socket s = listener.accept();
      return std::pair{std::move(c), std::move(s)};
    });
    unlink((folder / "direct").c_str());
    relayed r{how};
    const auto through = play(scripts, [&] { return r.connect(); });
    for (std::size_t i = 0; i < scripts.size(); ++i) {
      // A unix socket tells its peer of unread octets by a reset of its own kind: a close is what is promised there.
      if (is_unix) {
        EXPECT_EQ(through[i].client, direct[i].client) << text_of(scripts[i]);
        EXPECT_EQ(through[i].server, direct[i].server) << text_of(scripts[i]);
        EXPECT_EQ(through[i].client_end == outcome::open, direct[i].client_end == outcome::open) << text_of(scripts[i]);
        EXPECT_EQ(through[i].server_end == outcome::open, direct[i].server_end == outcome::open) << text_of(scripts[i]);
      } else {
        EXPECT_EQ(through[i], direct[i]) << text_of(scripts[i]);
      }
    }
  }
}

TEST(Relay, AResetLeavesAUnixSocketAsAClose) {
  for (const setting& how : {settings[5], settings[6]}) {
    SCOPED_TRACE(how.name);
    relayed r{how};
    auto [c, s] = r.connect();
    c.send("to server"), s.send("to client");
    EXPECT_EQ(c.receive(2000, 9).first, "to client");
    EXPECT_EQ(s.receive(2000, 9).first, "to server");
    peer_socket& tcp = how.unix_client ? s : c;
    peer_socket& local = how.unix_client ? c : s;
    tcp.send("last");
    tcp.reset();
    const auto [text, end] = local.receive();
    EXPECT_EQ(text, "last");
    EXPECT_EQ(end, outcome::end);
  }
}

TEST(Lesson3, HalfCloseCarriesTheWholeAnswerBothWaysRound) {
  std::string answer(1000000, '\0');
  for (std::size_t i = 0; i < answer.size(); ++i) answer[i] = static_cast<char>(i * 31 + i / 251);
  for (const setting& how : settings) {
    SCOPED_TRACE(how.name);
    relayed r{how};
    for (const bool client_first : {true, false}) {
      auto [c, s] = r.connect();
      peer_socket& asks = client_first ? c : s;
      peer_socket& answers = client_first ? s : c;
      ASSERT_EQ(asks.send(std::string(1000, 'q')), 1000u);
      asks.end();
      const auto [question, question_end] = answers.receive();
      EXPECT_EQ(question.size(), 1000u);
      EXPECT_EQ(question_end, outcome::end);
      std::thread sender{[&] {
        answers.send(answer);
        answers.end();
      }};
      const auto [got, end] = asks.receive();
      sender.join();
      EXPECT_TRUE(got == answer);
      EXPECT_EQ(end, outcome::end);
    }
  }
}

TEST(Lesson4, AResetFollowsTheOctetsBeforeIt) {
  for (const setting& how : {settings[0], settings[1], settings[2], settings[4]}) {
    SCOPED_TRACE(how.name);
    relayed r{how};
    auto [c, s] = r.connect();
    const std::string data(100000, 'd');
    std::size_t before = 0;
    std::thread reader{[&, &client = c] { before = client.receive(5000, 50000).first.size(); }};
    ASSERT_EQ(s.send(data), data.size());
    reader.join();
    std::this_thread::sleep_for(100ms);  // the relay has all of it by now
    s.reset();
    const auto [rest, end] = c.receive();
    EXPECT_EQ(before + rest.size(), data.size());
    EXPECT_EQ(end, outcome::reset);
  }
}

TEST(Relay, NothingIsLeftBehind) {
  relayed r{settings[0]};
  {
    std::vector<std::pair<peer_socket, peer_socket>> many;
    for (int i = 0; i < 50; ++i) many.push_back(r.connect());
    for (std::size_t i = 0; i < many.size(); ++i) {
      if (i % 3 == 0) many[i].first.reset();
      if (i % 3 == 1) many[i].second.close();
      if (i % 3 == 2) many[i].first.end(), many[i].second.end();
    }
  }
  for (int i = 0; i < 100 && r.flows() > 0; ++i) std::this_thread::sleep_for(20ms);
  EXPECT_EQ(r.flows(), 0u);
}

/// Notes how flows ended.
struct ending_noted final : relay_observer {
  void closed(const flow_info&, const flow_summary& s) override {
    const std::lock_guard lock{mutex};
    ends.push_back(s);
  }
  std::mutex mutex;
  std::vector<flow_summary> ends;
};

TEST(Relay, AnOrderlyCloseLosesNothingThatASpliceHolds) {  // E13
  // The client has said all it will say, and is slow: the close of our own time limit must wait for what is on its way.
  for (const bool splice : {true, false}) {
    setting how = settings[0];
    how.splice = splice;
    ending_noted noted;
    relay_options options;
    options.limits.idle = 400ms, options.limits.linger = 20s;
    relayed r{how, options, &noted};
    peer_socket c = peer_socket::connect_tcp(r.port, 4096);
    peer_socket s = r.origin.accept();
    c.end();
    std::thread writer{[&, &server = s] { server.send(std::string(8 << 20, 'd')); }};
    std::this_thread::sleep_for(1500ms);  // by now the relay has begun to close
    const auto [got, end] = c.receive(20000);
    EXPECT_EQ(end, peer_socket::outcome::end);
    writer.join();
    s.close();
    for (int i = 0; i < 100 && r.flows() > 0; ++i) std::this_thread::sleep_for(20ms);
    const std::lock_guard lock{noted.mutex};
    ASSERT_EQ(noted.ends.size(), 1u);
    const flow_count& n = noted.ends[0].counts[index_of(direction::to_client)];
    EXPECT_GT(n.out, 0u);
    EXPECT_LT(n.out, std::uint64_t{8 << 20}) << "the close came too late to tell";
    EXPECT_EQ(n.out, got.size());
    EXPECT_EQ(n.in, n.out + n.dropped);
  }
}

TEST(Relay, ASuccessorNeedsARunningPredecessorOfItsLoop) {
  loop_thread other{[](reactor&) {}};
  relayed r{settings[0]};
  r.loop->ask([&](reactor& loop) {
    relay fresh{loop, "tcp://127.0.0.1:0", "tcp://127.0.0.1:1"}, unstarted{loop, "tcp://127.0.0.1:0", "tcp://127.0.0.1:1"};
    fresh.succeed(unstarted);
    EXPECT_THROW(fresh.start(), std::system_error);
  });
  other.ask([&](reactor& loop) {
    relay fresh{loop, "tcp://127.0.0.1:0", "tcp://127.0.0.1:1"};
    fresh.succeed(*r.relay_);
    EXPECT_THROW(fresh.start(), std::system_error);
  });
  auto [c, s] = r.connect();
  EXPECT_TRUE(s.valid());
}

TEST(Relay, WhenDiallingFailsTheClientSeesAnEndOrAReset) {  // E25
  for (const bool reset : {false, true}) {
    relay_options options;
    options.reset_on_connect_error = reset;
    relayed r{settings[0], options};
    r.origin.close();
    for (const char* first : {"", "GET / HTTP/1.0\r\n\r\n"}) {
      peer_socket c = peer_socket::connect_tcp(r.port);
      c.send(first);
      EXPECT_EQ(c.receive().second, reset ? outcome::reset : outcome::end);
    }
    for (int i = 0; i < 100 && r.flows() > 0; ++i) std::this_thread::sleep_for(20ms);
    EXPECT_EQ(r.flows(), 0u);
  }
}

TEST(Relay, AServerThatResetsBeforeWeLookIsHeardOut) {
  relayed r{settings[2]};
  for (int i = 0; i < 300; ++i) {
    peer_socket c = peer_socket::connect_tcp(r.port);
    peer_socket s = r.origin.accept();
    ASSERT_TRUE(s.valid());
    const bool speaks = i % 2;
    if (speaks) s.send("hello");
    s.reset();
    const auto [text, end] = c.receive();
    ASSERT_EQ(text, speaks ? "hello" : "") << i;
    ASSERT_EQ(end, outcome::reset) << i;
  }
}

TEST(Relay, APortInUseIsAnErrorThoughLoopsShareIt) {
  reactor_pool first{2}, second{2};
  relay one{first, "tcp://127.0.0.1:0", "tcp://127.0.0.1:1"};
  one.start();
  const std::string taken = "tcp://127.0.0.1:" + std::to_string(one.host().port());
  relay two{second, taken, "tcp://127.0.0.1:1"};
  EXPECT_THROW(two.start(), std::system_error);
  EXPECT_THROW(second.listen(taken, [](reactor&) { return factory_ptr{}; }), std::system_error);
}

TEST(Relay, AnUrgentOctetStaysInTheStream) {
  relayed r{settings[2]};
  auto [c, s] = r.connect();
  c.send("abc");
  ASSERT_EQ(::send(c.fd(), "U", 1, MSG_OOB), 1);
  c.send("def");
  c.end();
  EXPECT_EQ(s.receive().first, "abcUdef");
}

TEST(Lesson5, ASlowReaderStopsItsOwnWriterOnly) {
  flow_limits limits;
  relay_options options;
  options.limits = limits;
  relayed r{settings[2], options};
  auto [c, s] = r.connect();
  auto [c2, s2] = r.connect();
  // Nobody reads at s: the writer is stopped after the kernel's buffers and ours are full.
  const std::string piece(1 << 16, 'x');
  std::size_t sent = 0;
  for (auto last = std::chrono::steady_clock::now(); tests::seconds_since(last) < 0.3;) {
    const auto n = c.send_now(piece);
    sent += n;
    if (n > 0) last = std::chrono::steady_clock::now();
    ASSERT_LT(sent, std::size_t{64} << 20);
  }
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 200; ++i) {
    c2.send("ping");
    ASSERT_EQ(s2.receive(2000, 4).first, "ping");
  }
  EXPECT_LT(tests::seconds_since(start), 2.0);
  std::thread reader{[&, &server = s] { EXPECT_EQ(server.receive(2000, sent).first.size(), sent); }};
  reader.join();
}

TEST(Relay, StopLetsFlowsFinishThenResetsTheRest) {
  relayed r{settings[0]};
  auto [c, s] = r.connect();
  auto [c2, s2] = r.connect();
  std::promise<void> stopped;
  r.loop->ask([&](reactor&) { r.relay_->stop(400ms, [&] { stopped.set_value(); }); });
  c.send("still works");
  EXPECT_EQ(s.receive(2000, 11).first, "still works");
  EXPECT_FALSE(peer_socket::connect_tcp(r.port).valid());
  c.end(), s.end();
  EXPECT_EQ(c.receive().second, outcome::end);
  EXPECT_EQ(c2.receive().second, outcome::reset);
  EXPECT_EQ(s2.receive().second, outcome::reset);
  EXPECT_EQ(stopped.get_future().wait_for(5s), std::future_status::ready);
}
