// The lessons that TLS takes part in, over simulated wires.
#include <gtest/gtest.h>

#include <midwire/engine/core/message_stage.hpp>
#include <midwire/engine/relay.hpp>
#include <midwire/proto/line_framer.hpp>
#include <midwire/testing/sim_reactor.hpp>

#include "engine/scripted_protocol.hpp"
#include "engine/tls_peer.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using midwire::testing::sim_peer;
using midwire::testing::sim_reactor;
using tests::client_rules;
using tests::server_rules;
using tests::talk;
using tests::talkers;
using tests::tls_peer;

namespace {

struct passing_stage final : stage {};

struct line_stage final : message_stage<proto::line_framer> {
  verdict on_message(stage_context&, direction, chunk line) override { return verdict::pass(std::move(line)); }
};

enum class farewell { close_notify, fin_alone, reset };

void part(tls_peer& peer, farewell how) {
  switch (how) {
    case farewell::close_notify: peer.close_notify().peer.send_end(); break;
    case farewell::fin_alone: peer.peer.send_end(); break;
    case farewell::reset: peer.peer.reset(); break;
  }
}

/// A relay with TLS towards both, or as told, and a peer that the test moves at each end.
struct relayed {
  explicit relayed(bool client_tls = true, bool server_tls = true, int stages = 0, bool framed = false)
      : tls_client_side{client_tls}, tls_server_side{server_tls} {
    server.listen();
    plain_server.listen();
    const auto port = server_tls ? server.peer.host().port() : plain_server.host().port();
    one = std::make_unique<relay>(r, "tcp://127.0.0.1:0", "tcp://127.0.0.1:" + std::to_string(port));
    relay_options o;
    if (client_tls) o.client_tls = tls_server(server_rules());
    if (server_tls) o.server_tls = tls_client(client_rules());
    one->set_options(o).observe(watching);
    for (int i = 0; i < stages; ++i) one->add_stage<passing_stage>();
    if (framed) one->add_stage<line_stage>();
    one->start();
    if (client_tls)
      client.connect(address::loopback(one->host().port()));
    else
      plain_client.connect(address::loopback(one->host().port()));
    r.pump();
  }
  void client_says(const std::string& text) {
    if (tls_client_side)
      client.send(text);
    else
      plain_client.send(text);
  }
  void server_says(const std::string& text) {
    if (tls_server_side)
      server.send(text);
    else
      plain_server.send(text);
  }
  void client_ends() {
    if (tls_client_side)
      part(client, farewell::close_notify);
    else
      plain_client.send_end();
  }
  void server_ends() {
    if (tls_server_side)
      part(server, farewell::close_notify);
    else
      plain_server.send_end();
  }
  const std::string& client_got() const { return tls_client_side ? client.plain : plain_client.received(); }
  const std::string& server_got() const { return tls_server_side ? server.plain : plain_server.received(); }
  bool client_saw_end() const { return tls_client_side ? client.saw_close_notify : plain_client.saw_end(); }
  bool server_saw_end() const { return tls_server_side ? server.saw_close_notify : plain_server.saw_end(); }

  struct watcher final : relay_observer {
    void closed(const flow_info&, const flow_summary& s) override { ended.push_back({s.why, s.opened}); }
    std::vector<std::pair<reason, bool>> ended;
  };
  bool tls_client_side, tls_server_side;
  watcher watching;
  sim_reactor r{1, {.window = 1 << 20}};
  std::unique_ptr<relay> one;
  tls_peer server{r.network(), tls_server(server_rules())}, client{r.network(), tls_client(client_rules())};
  sim_peer plain_server{r.network()}, plain_client{r.network()};
};

}  // namespace

TEST(Lesson15, HowAPeersEndIsToldToAProtocol) {
  struct row {
    farewell how;
    bool inside;
    ending why;
    bool read_ended;
  };
  // A protocol knows itself whether it is inside of a message.
  const row table[] = {
      {farewell::close_notify, false, ending::done, true},
      {farewell::close_notify, true, ending::done, true},
      {farewell::fin_alone, false, ending::tls_truncated, false},
      {farewell::fin_alone, true, ending::tls_truncated, false},
      {farewell::reset, false, ending::reset, false},
      {farewell::reset, true, ending::reset, false},
  };
  for (const auto v : {tls_version::tls1_2, tls_version::tls1_3})
    for (const row& want : table)
      for (const bool as_server : {true, false}) {
        sim_reactor r;
        auto c = talk();
        auto theirs = client_rules();
        theirs.max_version = v;
        auto their_server = server_rules();
        their_server.max_version = v;
        tls_peer peer{r.network(), as_server ? tls_client(theirs) : tls_server(their_server)};
        if (as_server) {
          peer.connect(address::loopback(r.listen_tls(0, talkers(c), tls_server(server_rules())).host().port()));
        } else {
          peer.listen();
          r.connect_tls("127.0.0.1", peer.peer.host().port(), talkers(c), tls_client(client_rules()));
        }
        r.pump();
        peer.send(want.inside ? "a line\nhalf of anot" : "a line\n");
        part(peer, want.how);
        r.pump();
        EXPECT_EQ(c->got, want.inside ? "a line\nhalf of anot" : "a line\n") << "what came before is given";
        EXPECT_EQ(c->read_ended, want.read_ended);
        ASSERT_EQ(c->lost, 1);
        EXPECT_EQ(c->why[0].how(), want.why) << c->why[0].text();
        if (want.how == farewell::fin_alone) { EXPECT_TRUE(c->why[0].code() == tls_errc::truncated); }
        EXPECT_EQ(r.simulated().open_sockets(), as_server ? 1u : 0u);
      }
}

TEST(Lesson15, HowAPeersEndReachesTheFarSideOfARelay) {
  enum class seen { end, reset };
  struct row {
    farewell how;
    bool inside, framed;
    ending why;
    seen far;
  };
  const row table[] = {
      {farewell::close_notify, false, false, ending::done, seen::end},
      {farewell::close_notify, true, false, ending::done, seen::end},
      {farewell::close_notify, false, true, ending::done, seen::end},
      {farewell::close_notify, true, true, ending::done, seen::end},
      {farewell::fin_alone, false, false, ending::tls_truncated, seen::reset},
      {farewell::fin_alone, true, false, ending::tls_truncated, seen::reset},
      {farewell::fin_alone, false, true, ending::tls_truncated, seen::end},
      {farewell::fin_alone, true, true, ending::tls_truncated, seen::reset},
      {farewell::reset, false, false, ending::reset, seen::reset},
      {farewell::reset, true, false, ending::reset, seen::reset},
      {farewell::reset, false, true, ending::reset, seen::reset},
      {farewell::reset, true, true, ending::reset, seen::reset},
  };
  for (const row& want : table)
    for (const bool from_client : {true, false}) {
      SCOPED_TRACE(std::to_string(static_cast<int>(want.how)) + (want.inside ? " inside" : " between") +
                   (want.framed ? " framed" : " raw") + (from_client ? " client" : " server"));
      relayed t{true, true, 1, want.framed};
      tls_peer &near = from_client ? t.client : t.server, &far = from_client ? t.server : t.client;
      ASSERT_TRUE(near.up() && far.up());
      const std::string said = want.inside ? "a line\nhalf of anot" : "a line\n";
      near.send(said);
      t.r.pump();
      part(near, want.how);
      t.r.pump();
      EXPECT_EQ(far.plain, said);
      EXPECT_EQ(far.peer.saw_reset(), want.far == seen::reset);
      EXPECT_EQ(far.saw_close_notify, want.far == seen::end);
      if (want.how == farewell::close_notify) {
        EXPECT_EQ(t.one->flows(), 1u) << "the other direction lives on";
        far.send("answer\n");
        t.r.pump();
        EXPECT_EQ(near.plain, "answer\n");
      }
      if (want.far == seen::end) part(far, farewell::close_notify);
      t.r.pump();
      ASSERT_EQ(t.watching.ended.size(), 1u);
      EXPECT_EQ(t.watching.ended[0].first.how(), want.why);
      t.r.advance(2s);
      EXPECT_EQ(t.one->flows(), 0u);
    }
}

TEST(Lesson15, AFarewellIsSentAndAnAnswerAwaitedASecond) {
  for (const bool answers : {true, false}) {
    sim_reactor r;
    auto c = talk();
    tls_peer peer{r.network(), tls_client(client_rules())};
    peer.connect(address::loopback(r.listen_tls(0, talkers(c), tls_server(server_rules())).host().port()));
    r.pump();
    c->live->transport().write("bye");
    c->live->transport().lose_connection();
    r.pump();
    EXPECT_EQ(peer.plain, "bye");
    EXPECT_TRUE(peer.saw_close_notify);
    EXPECT_TRUE(peer.peer.saw_end()) << "and a FIN behind it";
    EXPECT_EQ(c->lost, 0);
    if (answers) {
      part(peer, farewell::fin_alone);  // after ours nobody is cut short by it
      r.pump();
    } else {
      r.advance(900ms);
      EXPECT_EQ(c->lost, 0);
      r.advance(200ms);
    }
    ASSERT_EQ(c->lost, 1);
    EXPECT_EQ(c->why[0].how(), ending::done) << c->why[0].text();
    EXPECT_EQ(r.simulated().open_sockets(), 1u);
  }
}

TEST(Lesson15, ARelayThatIsClosedByAStageWaitsASecondToo) {
  struct closing_stage final : stage {
    verdict on_data(stage_context&, direction, chunk data) override {
      return verdict::pass(std::move(data)).then_close();
    }
  };
  relayed t;
  t.one->add_stage<closing_stage>();
  tls_peer second{t.r.network(), tls_server(server_rules())}, late{t.r.network(), tls_client(client_rules())};
  second.peer.listen(t.server.peer.host());
  late.connect(address::loopback(t.one->host().port()));
  t.r.pump();
  late.send("last");
  t.r.pump();
  EXPECT_TRUE(late.saw_close_notify);
  EXPECT_EQ(t.one->flows(), 2u);
  t.r.advance(1100ms);
  EXPECT_EQ(t.one->flows(), 1u);
}

TEST(Lesson3, TlsOnOneSideKeepsTheHalfCloseBothWaysRound) {
  for (const bool client_tls : {true, false})
    for (const bool from_client : {true, false})
      for (const int stages : {0, 1, 4}) {
        relayed t{client_tls, !client_tls, stages};
        const std::string question(1000, 'q'), answer(1000000, 'a');
        if (from_client) {
          t.client_says(question);
          t.client_ends();
        } else {
          t.server_says(question);
          t.server_ends();
        }
        t.r.pump();
        EXPECT_EQ(from_client ? t.server_got() : t.client_got(), question);
        EXPECT_TRUE(from_client ? t.server_saw_end() : t.client_saw_end());
        if (from_client) {
          t.server_says(answer);
          t.server_ends();
        } else {
          t.client_says(answer);
          t.client_ends();
        }
        t.r.pump();
        EXPECT_TRUE((from_client ? t.client_got() : t.server_got()) == answer);
        EXPECT_TRUE(from_client ? t.client_saw_end() : t.server_saw_end());
        ASSERT_EQ(t.watching.ended.size(), 1u);
        EXPECT_EQ(t.watching.ended[0].first.how(), ending::done);
      }
}

TEST(Lesson6, WhatTlsHoldsComesOnResumeWithNoNewOctets) {
  sim_reactor r;
  auto c = talk();
  std::vector<std::string> messages;
  c->made = [](protocol& p) {
    flow_limits l;
    l.high = 8, l.low = 4;  // the link is asked for one message at a time
    p.transport().set_limits(l);
  };
  c->data = [&](protocol& p, const std::string& text) {
    messages.push_back(text);
    if (messages.size() > 1) return;
    p.transport().pause_reading();
    p.transport().reactor().call_later(1s, [&] { c->live->transport().resume_reading(); });
  };
  tls_peer peer{r.network(), tls_client(client_rules())};
  peer.connect(address::loopback(r.listen_tls(0, talkers(c), tls_server(server_rules())).host().port()));
  r.pump();
  peer.send("message1message2message3");  // one record
  r.pump();
  EXPECT_EQ(messages, std::vector<std::string>{"message1"});
  r.advance(2s);
  EXPECT_EQ(messages, (std::vector<std::string>{"message1", "message2", "message3"}));
}

TEST(Lesson6, AnEndBehindHeldOctetsComesAfterThem) {
  for (const auto how : {farewell::close_notify, farewell::fin_alone, farewell::reset}) {
    sim_reactor r;
    auto c = talk();
    c->made = [](protocol& p) { p.transport().pause_reading(); };
    tls_peer peer{r.network(), tls_client(client_rules())};
    peer.connect(address::loopback(r.listen_tls(0, talkers(c), tls_server(server_rules())).host().port()));
    r.pump();
    peer.send("held");
    part(peer, how);
    r.pump();
    if (how == farewell::reset) {
      EXPECT_EQ(c->lost, 1) << "the death of a peer is seen while paused";
      continue;
    }
    EXPECT_EQ(c->lost, 0);
    c->live->transport().resume_reading();
    r.pump();
    EXPECT_EQ(c->got, "held");
    ASSERT_EQ(c->lost, 1);
    EXPECT_EQ(c->why[0].how(), how == farewell::close_notify ? ending::done : ending::tls_truncated);
  }
}

TEST(Lesson8, EveryCloseEndsOnceAndInTime) {
  struct source final : producer {
    void pause_producing() override { paused = true; }
    void resume_producing() override {
      paused = false;
      if (to) to->write(std::string(10000, 'p'));
    }
    void stop_producing() override { stopped = true, to = nullptr; }
    transport* to = nullptr;
    bool paused = false, stopped = false;
  };
  enum class then { silent, closes, resets };
  for (const bool tls : {false, true})
    for (const int kind : {0, 1, 2})  // no producer, push, pull
      for (const bool paused : {false, true})
        for (const bool reads : {true, false})  // what we send
          for (const auto peer_does : {then::silent, then::closes, then::resets}) {
            SCOPED_TRACE(std::string{tls ? "tls " : "plain "} + std::to_string(kind) + (paused ? " paused " : " ") +
                         (reads ? "reads " : "deaf ") + std::to_string(static_cast<int>(peer_does)));
            sim_reactor r{1, {.window = 20000}};
            auto c = talk();
            source produced;
            const auto port = tls ? r.listen_tls(0, talkers(c), tls_server(server_rules())).host().port()
                                  : r.listen_tcp(0, talkers(c)).host().port();
            tls_peer peer{r.network(), tls_client(client_rules())};
            peer.peer.connect(address::loopback(port));
            if (tls)
              peer.start();
            else
              peer.in_the_clear = [](std::string_view) {};
            r.pump();
            ASSERT_TRUE(c->live);
            auto& t = c->live->transport();
            if (!reads) peer.peer.stop_reading();
            if (paused) t.pause_reading();
            if (kind > 0) {
              produced.to = &t;
              if (kind == 1) t.write(std::string(100000, 'p'));
              t.register_producer(produced, kind == 1 ? producing::push : producing::pull);
            }
            for (int i = 0; i < 3; ++i) r.turn(0s);
            t.lose_connection();
            for (int i = 0; i < 3; ++i) r.turn(0s);
            EXPECT_EQ(produced.stopped, kind > 0);
            if (peer_does == then::closes) {
              if (tls) peer.close_notify();
              peer.peer.send_end();
            }
            if (peer_does == then::resets) peer.peer.reset();
            r.advance(5500ms);  // the linger, and what little comes of it
            ASSERT_EQ(c->lost, 1);
            r.advance(20s);
            EXPECT_EQ(c->lost, 1);
            EXPECT_EQ(r.simulated().open_sockets(), 1u);
          }
}

TEST(TlsRelay, CarriesBothWaysWithTlsAtEitherSideOrBoth) {
  for (const auto& [client_tls, server_tls] : {std::pair{true, true}, {true, false}, {false, true}}) {
    relayed t{client_tls, server_tls, 1};
    t.client_says("up");
    t.server_says("down");
    t.r.pump();
    EXPECT_EQ(t.server_got(), "up");
    EXPECT_EQ(t.client_got(), "down");
    t.client_ends(), t.server_ends();
    t.r.pump();
    ASSERT_EQ(t.watching.ended.size(), 1u);
    EXPECT_EQ(t.watching.ended[0].first.how(), ending::done);
    EXPECT_TRUE(t.watching.ended[0].second);
  }
}

TEST(TlsRelay, AServerThatIsNotTrustedRefusesTheClient) {
  sim_reactor r;
  tls_peer server{r.network(), tls_server(server_rules())};
  server.listen();
  relay one{r, "tcp://127.0.0.1:0", "tcp://127.0.0.1:" + std::to_string(server.peer.host().port())};
  relay_options o;
  o.server_tls = tls_client();  // the system trusts others
  relayed::watcher watching;
  one.set_options(o).observe(watching).start();
  sim_peer client{r.network()};
  client.connect(address::loopback(one.host().port())).send("secret");
  r.pump();
  EXPECT_TRUE(client.saw_end());
  EXPECT_TRUE(server.broken) << "it was told why";
  EXPECT_EQ(server.plain, "");
  client.send_end();
  r.pump();
  ASSERT_EQ(watching.ended.size(), 1u);
  EXPECT_EQ(watching.ended[0].first.how(), ending::refused);
  EXPECT_EQ(watching.ended[0].first.text().rfind("server: the peer's certificate was rejected", 0), 0u)
      << watching.ended[0].first.text();
  EXPECT_FALSE(watching.ended[0].second);
  r.advance(3s);
  EXPECT_EQ(r.simulated().open_sockets(), 1u);
}

TEST(TlsRelay, AClientThatDoesNotShakeHandsIsClosed) {
  for (const bool silent : {true, false}) {
    sim_reactor r;
    sim_peer server{r.network()};
    server.listen();
    relay one{r, "tcp://127.0.0.1:0", "tcp://127.0.0.1:" + std::to_string(server.host().port())};
    relay_options o;
    o.client_tls = tls_server(server_rules());
    o.limits.handshake = 2s;
    relayed::watcher watching;
    one.set_options(o).observe(watching).start();
    sim_peer client{r.network()};
    client.connect(address::loopback(one.host().port()));
    if (!silent) client.send("GET / HTTP/1.1\r\n\r\n");
    r.pump();
    if (silent) r.advance(2100ms);
    ASSERT_EQ(watching.ended.size(), 1u);
    EXPECT_EQ(watching.ended[0].first.how(), silent ? ending::timed_out : ending::refused);
    r.advance(2s);
    EXPECT_TRUE(server.saw_end() || server.saw_reset());
    EXPECT_EQ(server.received(), "");
    EXPECT_EQ(r.simulated().open_sockets(), 1u);
  }
  sim_reactor r;
  relay one{r, "tcp://127.0.0.1:0", "tcp://127.0.0.1:1"};
  relay_options wrong;
  wrong.client_tls = tls_client();
  EXPECT_THROW(one.set_options(wrong), std::system_error);
}

TEST(TlsRelay, ASlowReaderBoundsWhatIsHeld) {  // E13
  relayed t;
  t.server.peer.stop_reading();
  t.client_says(std::string(3 << 20, 'x'));
  t.r.pump();
  const std::size_t unsent = t.client.peer.unsent();
  EXPECT_GT(unsent, 0u) << "the client is stopped";
  // Its own window (1 MiB), the server's, and what the relay holds: the watermark and a record or two.
  EXPECT_GT(unsent, (3u << 20) - (2u << 20) - 400000u);
  t.server.peer.start_reading();
  t.r.pump();
  EXPECT_EQ(t.server_got().size(), std::size_t{3} << 20);
}
