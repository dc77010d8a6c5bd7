// STARTTLS in protocols that get messages: no octet from before counts as one that TLS protects (CVE-2011-0411).
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include <midwire/engine/message_protocol.hpp>
#include <midwire/engine/reactor.hpp>
#include <midwire/engine/tls.hpp>
#include <midwire/testing/sim_reactor.hpp>

#include "engine/tls_rules.hpp"

using namespace midwire;
using namespace std::chrono_literals;
namespace kit = midwire::testing;

namespace {

struct notes {
  std::vector<std::string> server, client;
  std::vector<ending> ends;
  protocol* server_side = nullptr;
  protocol* client_side = nullptr;
};

/// Lines; says of each whether TLS protected it. Begins TLS when it is asked to.
struct talker : line_receiver {
  talker(notes* n, tls_ptr t, std::string opening) : all{n}, tls{std::move(t)}, opening_line{std::move(opening)} {}
  bool serves() const { return tls->is_server(); }
  void connection_made() override {
    (serves() ? all->server_side : all->client_side) = this;
    if (!opening_line.empty()) transport().write(chunk{opening_line});
  }
  void message_received(chunk line) override {
    (serves() ? all->server : all->client)
        .push_back((transport().tls().established ? "tls " : "plain ") + line.detach());
    if (line.text() == "STARTTLS") {
      send_message("go");
      transport().start_tls(tls);
    } else if (line.text() == "go") {
      transport().start_tls(tls, "localhost");
      send_message("secret");
    }
  }
  void connection_lost(const reason& why) override { all->ends.push_back(why.how()); }
  notes* all;
  tls_ptr tls;
  std::string opening_line;
};

using said = std::vector<std::string>;

struct fixture {
  explicit fixture(std::string opening, const kit::link_shape& shape = {}) : reactor{3, shape} {
    auto& port = reactor.listen_tcp(0, factory::of<talker>(&all, tls_server(tests::server_rules()), std::string{}));
    where = port.host();
    if (!opening.empty())
      reactor
          .connect_tcp("127.0.0.1", where.port(), factory::of<talker>(&all, tls_client(tests::client_rules()), opening))
          .then([](protocol*) {});
  }
  notes all;
  kit::sim_reactor reactor;
  address where;
};

}  // namespace

TEST(MessageTls, StartTlsBetweenTwoMessages) {
  for (const auto how : {kit::cut::as_sent, kit::cut::one_octet, kit::cut::primes, kit::cut::random}) {
    fixture f{"hello\r\nSTARTTLS\r\n", {.segments = how}};
    f.reactor.advance(1s);
    EXPECT_EQ(f.all.server, (said{"plain hello", "plain STARTTLS", "tls secret"}));
    EXPECT_EQ(f.all.client, (said{"plain go"}));
  }
}

TEST(MessageTls, WhatCameBehindStartTlsIsTlsOrNothing) {
  fixture f{""};
  kit::sim_peer attacker{f.reactor.network()};
  attacker.connect(f.where).send("STARTTLS\r\nEVIL\r\nEVIL\r\n");
  f.reactor.advance(1s);
  EXPECT_EQ(f.all.server, (said{"plain STARTTLS"}));
  EXPECT_EQ(f.all.ends.size(), 1u) << "it is no handshake";
}

TEST(MessageTls, AMessageBegunBeforeTlsIsNeverCompletedByIt) {
  fixture f{"EVI"};
  f.reactor.pump();
  ASSERT_TRUE(f.all.server_side && f.all.client_side);
  auto& server = static_cast<talker&>(*f.all.server_side);
  auto& client = static_cast<talker&>(*f.all.client_side);
  EXPECT_EQ(server.unfinished(), 3u);
  server.transport().start_tls(server.tls);
  client.transport().start_tls(client.tls, "localhost");
  client.send_message("L");
  client.send_message("more");
  f.reactor.advance(1s);
  EXPECT_EQ(f.all.server, said{});
  ASSERT_EQ(f.all.ends.size(), 2u);
  EXPECT_EQ(f.all.ends[0], ending::aborted);
}
