// TLS between transports and simulated wires.
#include "engine/tls/tls_link.hpp"

#include <gtest/gtest.h>

#include <tuple>

#include <midwire/testing/sim_reactor.hpp>

#include "engine/scripted_protocol.hpp"
#include "engine/tls_peer.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using midwire::testing::cut;
using midwire::testing::link_shape;
using midwire::testing::sim_peer;
using midwire::testing::sim_reactor;
using tests::client_rules;
using tests::conversation;
using tests::server_rules;
using tests::talk;
using tests::talkers;
using tests::tls_peer;

namespace {

std::string pattern(std::size_t octets, unsigned step = 7) {
  std::string text(octets, '\0');
  for (std::size_t i = 0; i < octets; ++i) text[i] = static_cast<char>(i * step + i / 255);
  return text;
}

/// A server with a conversation on a simulated reactor.
struct served {
  explicit served(tls_server_options rules = server_rules(), const link_shape& shape = {}, std::uint64_t seed = 1)
      : r{seed, shape},
        at{address::loopback(r.listen_tls(0, talkers(c), tls_server(std::move(rules))).host().port())} {}
  std::shared_ptr<conversation> c = talk();
  sim_reactor r;
  address at;
};

/// A client with a conversation, connected to a peer that the test moves.
struct dialled {
  explicit dialled(tls_client_options rules = client_rules()) {
    peer.listen();
    r.connect_tls("127.0.0.1", peer.peer.host().port(), talkers(c), tls_client(std::move(rules)))
        .then([this](protocol* p) { answered = p; }, [this](const reason& why) { refused = why; });
    r.pump();
  }
  std::shared_ptr<conversation> c = talk();
  sim_reactor r;
  tls_peer peer{r.network(), tls_server(server_rules())};
  protocol* answered = nullptr;
  std::optional<reason> refused;
};

}  // namespace

TEST(TlsLink, BothEndsOverEveryCut) {
  const std::string up = pattern(70000), down = pattern(90000, 11);
  const auto server_context = tls_server(server_rules());
  const auto client_context = tls_client(client_rules());
  for (const cut how : {cut::as_sent, cut::one_octet, cut::primes, cut::random}) {
    sim_reactor r{5, {.segments = how, .window = 30000}};
    auto server = talk(), client = talk();
    server->made = [](protocol& p) { EXPECT_TRUE(p.transport().tls().established); };
    server->close_on_end = false;
    server->read_lost = [&](protocol& p) {
      p.transport().write(down);
      p.transport().lose_connection();
    };
    client->made = [&](protocol& p) {
      for (std::size_t i = 0; i < up.size(); i += 7000) p.transport().write(up.substr(i, 7000));
      p.transport().lose_write_connection();
    };
    const auto port = r.listen_tls(0, talkers(server), server_context).host().port();
    protocol* answered = nullptr;
    r.connect_tls("127.0.0.1", port, talkers(client), client_context).then([&](protocol* p) { answered = p; });
    r.pump();
    EXPECT_TRUE(answered);
    EXPECT_TRUE(server->got == up) << server->got.size();
    EXPECT_TRUE(client->got == down) << client->got.size();
    EXPECT_TRUE(client->write_ended);
    ASSERT_EQ(client->lost, 1);
    ASSERT_EQ(server->lost, 1);
    EXPECT_EQ(client->why[0].how(), ending::done);
    EXPECT_EQ(server->why[0].how(), ending::done);
    EXPECT_EQ(r.simulated().open_sockets(), 1u) << "the listener";
  }
}

TEST(TlsLink, EveryPositionOfACutGivesOneResult) {
  const auto server_context = tls_server(server_rules());
  const auto client_context = tls_client(client_rules());
  const std::uint64_t most = 1800;  // past the handshake and the exchange
  const std::uint64_t step = MIDWIRE_TEST_SCALE < 1 ? 13 : 1;
  for (std::uint64_t at = 1; at < most; at += step) {
    sim_reactor r{1, {.segments = cut::every_position, .position = at}};
    auto server = talk(), client = talk();
    server->data = [](protocol& p, std::string text) { p.transport().write("echo " + text); };
    client->made = [](protocol& p) {
      p.transport().write("hello");
      p.transport().lose_write_connection();
    };
    const auto port = r.listen_tls(0, talkers(server), server_context).host().port();
    r.connect_tls("127.0.0.1", port, talkers(client), client_context);
    r.pump();
    ASSERT_EQ(server->got, "hello") << at;
    ASSERT_EQ(client->got, "echo hello") << at;
    ASSERT_EQ(client->lost + server->lost, 2) << at;
    ASSERT_EQ(client->why[0].how(), ending::done) << at;
  }
}

TEST(TlsLink, TheHandshakeIsToldOf) {
  auto rules = server_rules();
  rules.alpn = {"proto/1"};
  rules.clients = client_certificate::require, rules.ca = tests::test_ca().certificate;
  served s{rules};
  s.c->made = [](protocol& p) {
    const tls_info info = p.transport().tls();
    EXPECT_TRUE(info.established);
    EXPECT_EQ(info.alpn, "proto/1");
    EXPECT_EQ(p.transport().alpn(), "proto/1");
    EXPECT_EQ(info.version, tls_version::tls1_3);
    EXPECT_EQ(info.cipher, "TLS_AES_256_GCM_SHA384");
    EXPECT_EQ(info.server_name, "localhost");
    EXPECT_TRUE(info.peer_verified);
    EXPECT_EQ(info.peer_subject, "CN=a client");
  };
  auto client = client_rules();
  client.alpn = {"proto/1"};
  client.identities.push_back(tests::identity_of(tests::test_client()));
  tls_peer peer{s.r.network(), tls_client(client)};
  peer.connect(s.at);
  s.r.pump();
  ASSERT_TRUE(s.c->live);
  s.c->gone = [](protocol& p, const reason&) { EXPECT_EQ(p.transport().alpn(), "proto/1") << "to the last call"; };
  peer.close_notify().peer.send_end();
  s.r.pump();
  EXPECT_EQ(s.c->lost, 1);
}

TEST(TlsLink, WritesOfOneCallbackLeaveAsOneRecord) {  // E18
  served s;
  tls_peer peer{s.r.network(), tls_client(client_rules())};
  peer.connect(s.at);
  s.r.pump();
  std::size_t before = peer.peer.received().size();
  s.c->data = [](protocol& p, const std::string&) {
    for (int i = 0; i < 100; ++i) p.transport().write("0123456789");
  };
  peer.send("x");
  s.r.pump();
  EXPECT_EQ(peer.plain.size(), 1000u);
  EXPECT_EQ(peer.peer.received().size() - before, 1000u + 5 + 1 + 16) << "header, content type and tag, once";
}

TEST(TlsLink, BufferedFallsAsTheKernelTakes) {
  served s{server_rules(), {.window = 20000}};
  tls_peer peer{s.r.network(), tls_client(client_rules())};
  peer.connect(s.at);
  s.r.pump();
  peer.peer.stop_reading();
  s.c->live->transport().write(pattern(100000));
  s.r.pump();
  const std::size_t held = s.c->live->transport().buffered();
  EXPECT_GT(held, 70000u);
  EXPECT_LE(held, 100000u);
  peer.peer.start_reading();
  s.r.pump();
  EXPECT_EQ(s.c->live->transport().buffered(), 0u);
  EXPECT_TRUE(peer.plain == pattern(100000));
}

TEST(TlsLink, APausedReaderHoldsNoMoreThanItsWatermarkAndARecord) {  // E13
  served s{server_rules(), {.window = 1 << 20}};
  s.c->made = [](protocol& p) {
    flow_limits l;
    l.high = 50000, l.low = 20000;
    p.transport().set_limits(l);
  };
  tls_peer peer{s.r.network(), tls_client(client_rules())};
  peer.connect(s.at);
  s.r.pump();
  s.c->data = [](protocol& p, const std::string&) { p.transport().pause_reading(); };
  peer.send(pattern(600000));
  s.r.pump();
  const std::size_t first = s.c->got.size();
  EXPECT_LE(first, 16384u) << "one call, then it paused";
  s.c->data = nullptr;
  s.c->live->transport().resume_reading();
  s.r.pump();
  EXPECT_TRUE(s.c->got == pattern(600000));
}

TEST(TlsLink, HandshakeFailuresReachBothFactories) {
  {
    auto rules = client_rules();
    rules.ca = tests::make_certificate({.names = "", .ca = true}).certificate;
    dialled d{rules};
    ASSERT_TRUE(d.refused);
    EXPECT_EQ(d.refused->how(), ending::refused);
    EXPECT_TRUE(d.refused->code() == tls_errc::certificate_rejected);
    ASSERT_EQ(d.c->failed.size(), 1u);
    EXPECT_NE(d.c->failed[0].text().find("unable to get local issuer certificate"), std::string::npos);
    EXPECT_TRUE(d.peer.broken) << "it got the alert";
    EXPECT_EQ(d.peer.session().failure().code(), tls_alert(48));
    EXPECT_FALSE(d.answered);
  }
  {
    served s;
    auto rules = client_rules();
    rules.ca = tests::make_certificate({.names = "", .ca = true}).certificate;
    tls_peer peer{s.r.network(), tls_client(rules)};
    peer.connect(s.at);
    s.r.pump();
    ASSERT_EQ(s.c->failed.size(), 1u);
    EXPECT_EQ(s.c->failed[0].text(), "the peer sent the TLS alert unknown_ca");
    EXPECT_FALSE(s.c->live);
  }
  // OpenSSL has no alert for what is no TLS at all.
  const std::tuple<std::string, const char*, std::size_t> nonsense[] = {
      {"GET / HTTP/1.0\r\n\r\n", "http request", 0},
      {"SSH-2.0-x\r\n", "wrong version number", 0},
      {std::string{"\x16\x03\x01\x00\x04\x05\x00\x00\x00", 9}, "unexpected message", 7}};
  for (const auto& [said, words, alert] : nonsense) {
    served s;
    sim_peer peer{s.r.network()};
    peer.connect(s.at).send(said);
    s.r.pump();
    ASSERT_EQ(s.c->failed.size(), 1u);
    EXPECT_NE(s.c->failed[0].text().find(words), std::string::npos) << s.c->failed[0].text();
    EXPECT_TRUE(peer.saw_end()) << "behind an alert, not a reset";
    EXPECT_EQ(peer.received().size(), alert);
    s.r.advance(2s);
    EXPECT_EQ(s.r.simulated().open_sockets(), 1u);
  }
  for (const bool reset : {false, true}) {
    served s;
    sim_peer peer{s.r.network()};
    peer.connect(s.at).send("\x16\x03");
    s.r.pump();
    if (reset)
      peer.reset();
    else
      peer.send_end();
    s.r.pump();
    ASSERT_EQ(s.c->failed.size(), 1u);
    EXPECT_EQ(s.c->failed[0].how(), reset ? ending::reset : ending::refused);
    EXPECT_EQ(s.r.simulated().open_sockets(), 1u);
  }
}

TEST(TlsLink, Lesson11AHandshakeHasADeadlineThatNoDripMoves) {
  for (const bool drips : {false, true}) {
    served s;
    sim_peer peer{s.r.network()};
    peer.connect(s.at);
    const std::string hello{"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03", 11};
    for (int second = 0; second < 9; ++second) {
      if (drips) peer.send(hello.substr(static_cast<std::size_t>(second), 1));
      s.r.advance(1s);
    }
    EXPECT_TRUE(s.c->failed.empty());
    s.r.advance(1500ms);
    ASSERT_EQ(s.c->failed.size(), 1u);
    EXPECT_EQ(s.c->failed[0].how(), ending::timed_out);
    s.r.advance(2s);
    EXPECT_EQ(s.r.simulated().open_sockets(), 1u);
  }
}

TEST(TlsLink, AConnectingHandshakeCanBeCancelled) {
  sim_reactor r;
  sim_peer silent{r.network()};
  silent.listen();
  auto c = talk();
  bool told = false;
  auto connecting = r.connect_tls("127.0.0.1", silent.host().port(), talkers(c), tls_client(client_rules()));
  r.pump();
  EXPECT_GT(silent.received().size(), 100u) << "the hello";
  connecting.cancel();
  std::move(connecting).then([&](protocol*) { told = true; }, [&](const reason&) { told = true; });
  r.pump();
  EXPECT_EQ(r.simulated().open_sockets(), 0u);
  r.advance(20s);
  EXPECT_FALSE(told);
  EXPECT_TRUE(c->failed.empty());
}

TEST(TlsLink, ReactorsMayGoInAnyState) {
  {
    auto c = talk();
    sim_reactor r;
    const auto port = r.listen_tls(0, talkers(c), tls_server(server_rules())).host().port();
    sim_peer half{r.network()};
    half.connect(address::loopback(port)).send("\x16\x03");
    tls_peer whole{r.network(), tls_client(client_rules())};
    whole.connect(address::loopback(port));
    sim_peer silent{r.network()};
    silent.listen();
    auto connecting = r.connect_tls("127.0.0.1", silent.host().port(), talkers(c), tls_client(client_rules()));
    r.pump();
    c->live->transport().write("x");
    c->live->transport().lose_connection();
    r.turn(0s);
    whole.send("more");
  }
}

TEST(TlsLink, RolesAreChecked) {
  sim_reactor r;
  EXPECT_THROW(r.listen_tls(0, talkers(talk()), tls_client(client_rules())), std::system_error);
  EXPECT_THROW(r.listen_tls(0, talkers(talk()), nullptr), std::system_error);
  EXPECT_THROW(r.connect_tls("localhost", 1, talkers(talk()), tls_server(server_rules())), std::system_error);
}

TEST(TlsLink, AConnectedClientTalks) {
  dialled d;
  ASSERT_TRUE(d.answered);
  EXPECT_EQ(d.answered->transport().tls().peer_names, (std::vector<std::string>{"DNS:localhost", "IP:127.0.0.1"}));
  d.c->live->transport().write("question");
  d.r.pump();
  EXPECT_EQ(d.peer.plain, "question");
  d.peer.send("answer");
  d.r.pump();
  EXPECT_EQ(d.c->got, "answer");
}

TEST(TlsLink, SessionsAreResumedByHostAndPort) {
  const auto client = tls_client(client_rules());
  served s;
  s.c->data = [](protocol& p, const std::string& text) { p.transport().write(text); };
  std::vector<bool> resumed;
  for (int i = 0; i < 3; ++i) {
    auto c = talk();
    c->made = [](protocol& p) { p.transport().write("x"); };
    c->data = [&](protocol& p, const std::string&) {
      resumed.push_back(p.transport().tls().resumed);
      p.transport().lose_connection();
    };
    s.r.connect_tls("127.0.0.1", s.at.port(), talkers(c), client);
    s.r.pump();
  }
  EXPECT_EQ(resumed, (std::vector<bool>{false, true, true}));
}
