// STARTTLS, in both roles: a connection that begins in the clear.
#include <gtest/gtest.h>

#include <midwire/testing/sim_reactor.hpp>

#include "engine/scripted_protocol.hpp"
#include "engine/tls_peer.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using midwire::testing::cut;
using midwire::testing::sim_peer;
using midwire::testing::sim_reactor;
using tests::client_rules;
using tests::server_rules;
using tests::talk;
using tests::talkers;
using tests::tls_peer;

namespace {

/// A server that goes over to TLS when it reads STARTTLS, and answers lines with themselves.
struct upgrading {
  explicit upgrading(cut how = cut::as_sent) : r{1, {.segments = how}} {
    c->data = [this](protocol& p, const std::string& text) {
      line += text;
      if (p.transport().tls().established) {
        p.transport().write("TLS " + std::exchange(line, {}));
      } else if (line == "STARTTLS\n") {
        line.clear();
        p.transport().write("220 ");
        p.transport().write("go\n");
        p.transport().start_tls(context);
        p.transport().write("hello behind TLS\n");
      }
    };
    c->secured = [this](protocol&) { ++secured; };
    at = address::loopback(r.listen_tcp(0, talkers(c)).host().port());
  }
  tls_ptr context = tls_server(server_rules());
  std::shared_ptr<tests::conversation> c = talk();
  sim_reactor r;
  address at;
  std::string line;
  int secured = 0;
};

}  // namespace

TEST(StartTls, AServerGoesOverToTls) {
  for (const cut how : {cut::as_sent, cut::one_octet, cut::primes}) {
    upgrading s{how};
    tls_peer peer{s.r.network(), tls_client(client_rules())};
    std::string clear;
    peer.in_the_clear = [&](std::string_view text) {
      clear += text;
      if (clear == "220 go\n") peer.start();
    };
    peer.peer.connect(s.at).send("STARTTLS\n");
    s.r.pump();
    EXPECT_EQ(clear, "220 go\n");
    EXPECT_EQ(s.secured, 1);
    EXPECT_EQ(peer.plain, "hello behind TLS\n");
    peer.send("x");
    s.r.pump();
    EXPECT_EQ(peer.plain, "hello behind TLS\nTLS x");
    EXPECT_EQ(s.c->live->transport().buffered(), 0u);
    peer.close_notify().peer.send_end();
    s.r.pump();
    ASSERT_EQ(s.c->lost, 1);
    EXPECT_EQ(s.c->why[0].how(), ending::done);
    EXPECT_TRUE(peer.saw_close_notify);
  }
}

TEST(StartTls, AClientGoesOverToTls) {
  sim_reactor r;
  tls_peer peer{r.network(), tls_server(server_rules())};
  std::string clear;
  peer.in_the_clear = [&](std::string_view text) {
    clear += text;
    if (!clear.ends_with("STARTTLS\n")) return;
    peer.in_the_clear = nullptr;
    peer.peer.send("go\n");
  };
  peer.listen();
  auto c = talk();
  c->made = [](protocol& p) { p.transport().write("EHLO\nSTARTTLS\n"); };
  c->data = [&](protocol& p, const std::string& text) {
    if (text != "go\n") return;
    p.transport().start_tls(tls_client(client_rules()), "localhost");
    p.transport().write("secret\n");
    EXPECT_THROW(p.transport().start_tls(tls_client(client_rules()), "localhost"), std::system_error) << "once only";
  };
  bool verified = false;
  c->secured = [&](protocol& p) { verified = p.transport().tls().peer_verified; };
  r.connect_tcp("127.0.0.1", peer.peer.host().port(), talkers(c));
  r.pump();
  EXPECT_EQ(clear, "EHLO\nSTARTTLS\n");
  EXPECT_EQ(peer.plain, "secret\n");
  EXPECT_TRUE(verified);
}

// CVE-2011-0411 and its kind: what is put behind STARTTLS in the clear must not be taken for protected.
TEST(StartTls, ClearOctetsBehindTheCommandAreNeverShown) {
  for (const bool paused : {false, true}) {
    upgrading s;
    if (paused)
      s.c->data = [&s](protocol& p, const std::string& text) {
        if (text != "STARTTLS\n") return;
        p.transport().pause_reading();  // what comes in the same turn waits in the transport
        p.transport().reactor().call_later(1s, [&s] {
          s.c->live->transport().start_tls(s.context);
          s.c->live->transport().resume_reading();
        });
      };
    sim_peer peer{s.r.network()};
    peer.connect(s.at).send("STARTTLS\n").send("EVIL COMMAND\n");
    s.r.pump();
    s.r.advance(3s);
    EXPECT_EQ(s.c->got, "STARTTLS\n");
    ASSERT_EQ(s.c->lost, 1);
    EXPECT_TRUE(s.c->why[0].code() == tls_errc::handshake_failed) << s.c->why[0].text();
    EXPECT_EQ(s.secured, 0);
  }
}

TEST(StartTls, AHelloThatCameAlreadyIsNotLost) {
  upgrading s;
  s.c->data = [&s](protocol& p, const std::string& text) {
    if (text != "STARTTLS\n") return;
    p.transport().pause_reading();
    p.transport().reactor().call_later(1s, [&s] {
      s.c->live->transport().start_tls(s.context);
      s.c->live->transport().write("welcome");
      s.c->live->transport().resume_reading();
    });
  };
  tls_peer peer{s.r.network(), tls_client(client_rules())};
  peer.peer.connect(s.at).send("STARTTLS\n");
  peer.start();  // without waiting for an answer
  s.r.pump();
  s.r.advance(2s);
  EXPECT_TRUE(peer.up());
  EXPECT_EQ(peer.plain, "welcome");
}

TEST(StartTls, ARefusedCertificateEndsTheConnection) {
  sim_reactor r;
  tls_peer peer{r.network(), tls_server(server_rules())};
  peer.listen();
  auto c = talk();
  c->made = [](protocol& p) {
    EXPECT_THROW(p.transport().start_tls(tls_client(client_rules())), std::system_error) << "no name to check";
    p.transport().start_tls(tls_client(client_rules()), "other.example");
  };
  r.connect_tcp("127.0.0.1", peer.peer.host().port(), talkers(c));
  r.pump();
  ASSERT_EQ(c->lost, 1);
  EXPECT_TRUE(c->why[0].code() == tls_errc::certificate_rejected);
  EXPECT_NE(c->why[0].text().find("ostname mismatch"), std::string::npos) << c->why[0].text();
  EXPECT_TRUE(peer.broken);
  r.advance(2s);
  EXPECT_EQ(r.simulated().open_sockets(), 0u);
}

TEST(StartTls, Lesson11TheHandshakeHasALimit) {
  upgrading s;
  s.c->made = [](protocol& p) {
    flow_limits l;
    l.handshake = 3s;
    p.transport().set_limits(l);
  };
  sim_peer peer{s.r.network()};
  peer.connect(s.at).send("STARTTLS\n");
  s.r.advance(2900ms);
  EXPECT_EQ(s.c->lost, 0);
  s.r.advance(200ms);
  ASSERT_EQ(s.c->lost, 1);
  EXPECT_EQ(s.c->why[0].how(), ending::timed_out);
}

TEST(StartTls, AClosingConnectionFinishesItsHandshakeFirst) {
  upgrading s;
  s.c->data = [&s](protocol& p, const std::string&) {
    p.transport().start_tls(s.context);
    p.transport().write("bye");
    p.transport().lose_connection();
  };
  tls_peer peer{s.r.network(), tls_client(client_rules())};
  peer.peer.connect(s.at).send("x");
  peer.start();
  s.r.pump();
  EXPECT_EQ(peer.plain, "bye");
  EXPECT_TRUE(peer.saw_close_notify);
}
