// Datagrams: what holds on the kernel and on a simulated one alike, and what only a simulation can show.
#include <midwire/engine/datagram.hpp>

#include <stdexcept>

#include "engine/datagram_rig.hpp"
#include "engine/sockets.hpp"

namespace midwire::datagram_tests {
namespace {

const listen_options here{.interface = "127.0.0.1"};

class Datagrams : public ::testing::TestWithParam<bool> {
 protected:
  bool simulated() const { return GetParam(); }
  std::string path(const std::string& name) const { return simulated() ? "/run/" + name : folder / name; }
  /// A port of this machine at which nobody listens.
  address unused() {
    const auto p = std::make_shared<recorder>();
    w->listen_udp(0, p, here);
    const address where = p->host();
    p->stop();
    w.settle();
    return where;
  }
  std::shared_ptr<recorder> connected(const address& to) {
    auto p = std::make_shared<recorder>();
    w->connect_udp(to.host(), to.port(), p)
        .then([](datagram_protocol*) {}, [](const reason& why) { ADD_FAILURE() << why.text(); });
    EXPECT_TRUE(w.until([&] { return p->count("started") == 1; }));
    return p;
  }
  tests::temp_folder folder;
  world w{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(both, Datagrams, ::testing::Bool(),
                         [](const auto& row) { return row.param ? "simulated" : "kernel"; });

TEST_P(Datagrams, KeepTheirBordersTheirOrderAndTheirSender) {
  const auto server = std::make_shared<echo>();
  auto& port = w->listen_udp(0, server, here);
  EXPECT_EQ(port.host(), address::loopback(port.host().port()));
  EXPECT_NE(port.host().port(), 0);
  EXPECT_EQ(server->host(), port.host());
  const auto client = connected(port.host());
  EXPECT_EQ(client->peer(), port.host());
  client->send("one");
  client->send({});  // of 0 octets
  client->send({"th", "re", "e"});
  client->send_to("four", port.host());
  ASSERT_TRUE(w.until([&] { return client->received.size() == 4; }));
  EXPECT_EQ(server->log, (lines{"started", "got one", "got ", "got three", "got four"}));
  EXPECT_EQ(client->log, (lines{"started", "got one", "got ", "got three", "got four"}));
  EXPECT_EQ(server->sender, client->host());
  EXPECT_EQ(client->sender, port.host());
  EXPECT_EQ(server->counts().received, 4u);
  EXPECT_EQ(server->counts().sent, 4u);
}

TEST_P(Datagrams, OfAllSizes) {
  const auto server = std::make_shared<echo>(), client = std::make_shared<echo>();
  auto& port = w->listen_udp(0, server, here);
  const auto sender = std::make_shared<recorder>();
  w->listen_udp(0, sender, here);
  for (const std::size_t size : {1u, 511u, 513u, 1472u, 4096u, 16385u, 65507u}) {
    std::string octets(size, '\0');
    for (std::size_t i = 0; i < size; ++i) octets[i] = static_cast<char>(i * 31 + size);
    buffer b;
    for (std::size_t at = 0; at < size;) {  // of more chunks than one call of the kernel takes
      const std::size_t n = std::min<std::size_t>(size - at, 1 + size / 1500);
      b.append(chunk{octets.substr(at, n)});
      at += n;
    }
    sender->received.clear();
    sender->send_to(std::move(b), port.host());
    ASSERT_TRUE(w.until([&] { return !sender->received.empty(); })) << size;
    EXPECT_TRUE(sender->received[0] == octets) << size;
  }
  EXPECT_EQ(sender->counts().failed, 0u);
  sender->send_to(std::string(65508, 'x'), port.host());
  sender->send_to("behind it", port.host());
  ASSERT_TRUE(w.until([&] { return sender->received.size() == 2; }));
  EXPECT_EQ(sender->count("failed " + port.host().text()), 1u);
  EXPECT_EQ(sender->failure, std::errc::message_size);
  EXPECT_EQ(sender->counts().failed, 1u);
}

TEST_P(Datagrams, ARefusedOneIsTold) {
  const address nobody = unused();
  const auto open = std::make_shared<echo>();
  auto& port = w->listen_udp(0, open, here);
  const auto p = std::make_shared<recorder>();
  w->listen_udp(0, p, here);
  p->send_to("x", nobody);
  ASSERT_TRUE(w.until([&] { return p->count("refused " + nobody.text()) == 1; }));
  // The next ones suffer nothing from it.
  for (int i = 0; i < 5; ++i) p->send_to("bad", nobody), p->send_to("good", port.host());
  ASSERT_TRUE(w.until([&] { return p->received.size() == 5 && p->count("refused " + nobody.text()) == 6; }));
  EXPECT_EQ(p->counts().failed, 6u);
  const auto c = connected(nobody);
  c->send("x");
  ASSERT_TRUE(w.until([&] { return c->count("refused " + nobody.text()) == 1; }));
  c->send("x");
  ASSERT_TRUE(w.until([&] { return c->count("refused " + nobody.text()) == 2; }));
  EXPECT_EQ(p->count("refused " + nobody.text()), 6u);
}

TEST_P(Datagrams, WhatCannotBeSentIsTold) {
  const auto p = std::make_shared<recorder>();
  w->listen_udp(0, p, here);
  const address six = *address::parse_ip("::1", 9);
  p->send_to("x", six);  // by an IPv4 socket
  p->send("x");          // which is not connected
  p->send_to("x", address::ipv4({255, 255, 255, 255}, 9));
  ASSERT_TRUE(w.until([&] { return p->counts().failed == 3; }));
  w.settle();
  EXPECT_EQ(p->count("failed " + six.text()), 1u);
  EXPECT_EQ(p->count("failed -"), 1u);
  EXPECT_EQ(p->count("failed 255.255.255.255:9"), 1u);
  EXPECT_EQ(p->failure, std::errc::permission_denied);
  EXPECT_FALSE(p->set_broadcast(true));
  EXPECT_EQ(p->counts().sent, 0u);
}

TEST_P(Datagrams, AConnectedOneHearsItsPeerAlone) {
  const auto server = std::make_shared<recorder>(), stranger = std::make_shared<recorder>();
  auto& port = w->listen_udp(0, server, here);
  w->listen_udp(0, stranger, here);
  const auto client = connected(port.host());
  stranger->send_to("not for you", client->host());
  server->send_to("for you", client->host());
  ASSERT_TRUE(w.until([&] { return !client->received.empty(); }));
  w.settle();
  EXPECT_EQ(client->received, lines{"for you"});
}

TEST_P(Datagrams, TheOwnAddressMayBeChosen) {
  const auto server = std::make_shared<echo>();
  const auto client = std::make_shared<recorder>();
  auto& port = w->listen_udp(0, server, here);
  const address own = unused();
  w->connect_udp("127.0.0.1", port.host().port(), client, {.bind = own});
  ASSERT_TRUE(w.until([&] { return client->is_open(); }));
  EXPECT_EQ(client->host(), own);
  client->send("x");
  ASSERT_TRUE(w.until([&] { return client->received == lines{"x"}; }));
  EXPECT_EQ(server->sender, own);
  const auto other = std::make_shared<echo>();
  const auto named = std::make_shared<recorder>();
  w->listen_unix_datagram(path("s"), other);
  for (int i = 0; i < 2; ++i) {  // the file goes with the socket
    named->received.clear();
    w->connect_unix_datagram(path("s"), named, {.bind = address::unix_path(path("c"))});
    ASSERT_TRUE(w.until([&] { return named->is_open(); }));
    named->send("x");
    ASSERT_TRUE(w.until([&] { return named->received == lines{"x"}; }));
    EXPECT_EQ(other->sender, address::unix_path(path("c")));
    named->stop();
    w.settle();
  }
}

TEST_P(Datagrams, BothFamiliesComeToAnEmptyHost) {
  const auto server = std::make_shared<echo>();
  auto& port = w->listen_udp(0, server);
  const auto four = connected(address::loopback(port.host().port()));
  four->send("four");
  ASSERT_TRUE(w.until([&] { return four->received == lines{"four"}; }));
  EXPECT_EQ(server->sender, four->host());
  EXPECT_EQ(server->sender.family(), address::kind::ipv4);
  if (port.host().family() != address::kind::ipv6) GTEST_SKIP() << "SKIPPED: no IPv6 here";
  const auto six = connected(*address::parse_ip("::1", port.host().port()));
  six->send("six");
  ASSERT_TRUE(w.until([&] { return six->received == lines{"six"}; }));
  EXPECT_EQ(server->sender, six->host());
  // Refusals come back from both.
  server->stop();
  w.settle();
  four->send("x"), six->send("x");
  EXPECT_TRUE(w.until([&] {
    return four->count("refused " + four->peer().text()) == 1 && six->count("refused " + six->peer().text()) == 1;
  }));
}

TEST_P(Datagrams, StopIsLastWhateverWaits) {  // E17
  const auto server = std::make_shared<recorder>(), sender = std::make_shared<recorder>();
  auto& port = w->listen_udp(0, server, here);
  w->listen_udp(0, sender, here);
  server->then = [&](const std::string& what) {
    if (what != "got 3") return;
    server->send_to("thanks", server->sender);
    server->stop();
    server->stop();
    server->send_to("too late", server->sender);
    EXPECT_TRUE(server->is_open());
    EXPECT_EQ(server->count("stopped"), 0u);
  };
  for (int i = 0; i < 10; ++i) sender->send_to(std::to_string(i), port.host());
  ASSERT_TRUE(w.until([&] { return server->count("stopped") == 1; }));
  w.settle();
  EXPECT_EQ(server->log, (lines{"started", "got 0", "got 1", "got 2", "got 3", "stopped"}));
  EXPECT_EQ(sender->received, lines{"thanks"});
  EXPECT_FALSE(server->is_open());
  EXPECT_TRUE(server->host().empty());
  EXPECT_GE(server->counts().received, 4u);
  EXPECT_EQ(server->counts().sent, 1u);
  EXPECT_EQ(server.use_count(), 1);  // the reactor has let go of it
  // Nothing is left to be asked for.
  server->send_to("x", port.host());
  server->pause_reading(), server->resume_reading(), server->stop();
  port.stop_listening();
  EXPECT_EQ(server->join_group(address::ipv4({239, 1, 2, 3}, 0)), std::errc::not_connected);
  // The port is free, and the protocol may be used again.
  server->then = nullptr, server->log.clear();
  w->listen_udp(port.host().port(), server, here);
  sender->send_to("again", port.host());
  ASSERT_TRUE(w.until([&] { return server->count("got again") == 1; }));
  EXPECT_EQ(server->log, (lines{"started", "got again"}));
}

TEST_P(Datagrams, AListenerStopsItAndStartedComesFirst) {
  const auto p = std::make_shared<recorder>();
  auto& port = w->listen_udp(0, p, here);
  EXPECT_TRUE(p->log.empty());  // E16
  port.stop_listening();
  EXPECT_TRUE(p->log.empty());
  w.settle();
  EXPECT_EQ(p->log, (lines{"started", "stopped"}));
}

TEST_P(Datagrams, NoMemberCallsBackBeforeItReturns) {  // E16, lesson 20
  const auto server = std::make_shared<recorder>(), sender = std::make_shared<recorder>();
  const address nobody = unused();
  auto& port = w->listen_udp(0, server, here);
  w->listen_udp(0, sender, here);
  const auto poke = [&](recorder& p) {
    p.send_to("x", nobody);
    p.send_to(std::string(70'000, 'x'), nobody);
    p.pause_reading(), p.resume_reading();
    p.join_group(address::ipv4({239, 1, 2, 3}, 0), address::loopback(0));
    p.leave_group(address::ipv4({239, 1, 2, 3}, 0), address::loopback(0));
    p.set_multicast_ttl(1);
  };
  server->then = [&](const std::string& what) {
    if (what == "started" || what == "got go" || what.starts_with("failed") || what == "stopped")
      if (server->log.size() < 100) poke(*server);
    if (what == "got end") poke(*server), server->stop();
  };
  sender->send_to("go", port.host()), sender->send_to("go", port.host());
  ASSERT_TRUE(w.until([&] { return server->log.size() >= 100; }));
  sender->send_to("end", port.host());
  ASSERT_TRUE(w.until([&] { return server->count("stopped") == 1; }));
  EXPECT_EQ(server->deepest, 1);
  EXPECT_EQ(server->log.front(), "started");
  EXPECT_EQ(server->log.back(), "stopped");
}

TEST_P(Datagrams, AnExceptionCostsItsDatagramOnly) {  // E22
  set_log([](int, std::string_view) {});
  const auto server = std::make_shared<recorder>(), sender = std::make_shared<recorder>();
  const address nobody = unused();
  auto& port = w->listen_udp(0, server, here);
  w->listen_udp(0, sender, here);
  server->then = [](const std::string& what) {
    if (what != "got fine") throw std::runtime_error{what};
  };
  sender->send_to("boom", port.host()), sender->send_to("fine", port.host());
  server->send_to("x", nobody);
  ASSERT_TRUE(w.until([&] { return server->log.size() == 4; }));
  server->stop();
  ASSERT_TRUE(w.until([&] { return server->log.size() == 5; }));
  EXPECT_EQ(w->failures(), 4u);
  EXPECT_EQ(server->count("got fine"), 1u);
  EXPECT_FALSE(server->is_open());
  set_log({});
}

TEST_P(Datagrams, NothingComesWhilePaused) {
  const auto server = std::make_shared<recorder>(), sender = std::make_shared<recorder>();
  auto& port = w->listen_udp(0, server, here);
  w->listen_udp(0, sender, here);
  server->then = [&](const std::string& what) {
    if (what == "got 2") server->pause_reading();
  };
  for (int i = 0; i < 6; ++i) sender->send_to(std::to_string(i), port.host());
  ASSERT_TRUE(w.until([&] { return server->received.size() >= 3; }));
  sender->send_to("6", port.host());
  w.settle();
  EXPECT_EQ(server->received, (lines{"0", "1", "2"}));
  server->resume_reading();
  EXPECT_EQ(server->received.size(), 3u);
  ASSERT_TRUE(w.until([&] { return server->received.size() == 7; }));
  EXPECT_EQ(server->received, (lines{"0", "1", "2", "3", "4", "5", "6"}));
}

TEST_P(Datagrams, OneProtocolHasOneSocketAtATime) {
  const auto p = std::make_shared<recorder>();
  auto& port = w->listen_udp(0, p, here);
  const auto code = [&](auto f) {
    try {
      f();
    } catch (const std::system_error& e) { return e.code(); }
    return std::error_code{};
  };
  EXPECT_EQ(code([&] { w->listen_udp(0, p, here); }), std::errc::already_connected);
  EXPECT_EQ(code([&] { w->connect_udp("127.0.0.1", 9, p); }), std::errc::already_connected);
  EXPECT_EQ(code([&] { w->listen_udp(0, nullptr, here); }), std::errc::invalid_argument);
  EXPECT_EQ(code([&] { w->listen_udp(port.host().port(), std::make_shared<recorder>(), here); }),
            std::errc::address_in_use);
  EXPECT_EQ(code([&] { w->listen_udp(0, std::make_shared<recorder>(), {.interface = "no literal"}); }),
            std::errc::invalid_argument);
  EXPECT_EQ(code([&] { w->listen_unix_datagram(std::string(200, 'x'), std::make_shared<recorder>()); }),
            std::errc::filename_too_long);
  w.settle();
  EXPECT_EQ(p->log, lines{"started"});
}

TEST_P(Datagrams, SharedPortsAreAskedFor) {
  const listen_options share{.interface = "127.0.0.1", .reuse_port = true};
  const auto a = std::make_shared<recorder>(), b = std::make_shared<recorder>();
  auto& port = w->listen_udp(0, a, share);
  w->listen_udp(port.host().port(), b, share);
  std::vector<std::shared_ptr<recorder>> senders;
  for (int i = 0; i < 40; ++i) {
    senders.push_back(std::make_shared<recorder>());
    w->listen_udp(0, senders.back(), here);
    senders.back()->send_to("x", port.host());
  }
  ASSERT_TRUE(w.until([&] { return a->received.size() + b->received.size() == 40; }));
  EXPECT_GT(a->received.size(), 0u);
  EXPECT_GT(b->received.size(), 0u);
}

TEST_P(Datagrams, OverUnixSockets) {
  const auto server = std::make_shared<echo>();
  auto& port = w->listen_unix_datagram(path("s"), server);
  EXPECT_EQ(port.host().text(), "unix:" + path("s"));
  // Without a path of its own it has a name all the same, so that it is answered.
  const auto client = std::make_shared<recorder>();
  datagram_protocol* up = nullptr;
  w->connect_unix_datagram(path("s"), client).then([&](datagram_protocol* p) { up = p; });
  ASSERT_TRUE(w.until([&] { return up != nullptr; }));
  EXPECT_EQ(up, client.get());
  client->send("hello"), client->send({});
  ASSERT_TRUE(w.until([&] { return client->received.size() == 2; }));
  EXPECT_EQ(client->received, (lines{"hello", ""}));
  const std::string large(150'000, 'x');
  client->send(large);
  ASSERT_TRUE(w.until([&] { return client->received.size() == 3; }));
  EXPECT_TRUE(client->received[2] == large);
  // With one.
  const auto named = std::make_shared<recorder>();
  w->listen_unix_datagram(path("c"), named);
  named->send_to("by name", port.host());
  ASSERT_TRUE(w.until([&] { return named->received == lines{"by name"}; }));
  EXPECT_EQ(server->sender, address::unix_path(path("c")));
  // Nobody there, and nobody any more.
  named->send_to("x", address::unix_path(path("never")));
  server->stop();
  w.settle();
  named->send_to("x", address::unix_path(path("s")));
  EXPECT_TRUE(w.until([&] {
    return named->count("refused unix:" + path("never")) == 1 && named->count("refused unix:" + path("s")) == 1;
  }));
  std::string why;
  w->connect_unix_datagram(path("never"), std::make_shared<recorder>())
      .then([](datagram_protocol*) {}, [&](const reason& r) { why = name_of(r.how()); });
  ASSERT_TRUE(w.until([&] { return !why.empty(); }));
  EXPECT_EQ(why, "refused");
  EXPECT_EQ(server->set_broadcast(true), std::errc::not_connected);
  EXPECT_EQ(named->set_broadcast(true), std::errc::operation_not_supported);
  // The path is free again.
  w->listen_unix_datagram(path("s"), std::make_shared<recorder>());
}

TEST_P(Datagrams, GroupsAreJoinedAndLeft) {
  const address group = address::ipv4({239, 255, 77, 77}, 0), lo = address::loopback(0);
  const listen_options share{.reuse_port = true};
  const auto a = std::make_shared<recorder>(), b = std::make_shared<recorder>(), sender = std::make_shared<recorder>();
  auto& port = w->listen_udp(0, a, share);
  const address where = group.with_port(port.host().port());
  w->listen_udp(where.port(), b, share);
  w->listen_udp(0, sender, here);
  if (const auto error = a->join_group(group, lo))
    GTEST_SKIP() << "SKIPPED: no multicast on the loopback here: " << error.message();
  EXPECT_TRUE(a->join_group(group, lo));
  EXPECT_TRUE(a->join_group(lo));  // no group
  EXPECT_FALSE(b->join_group(group, lo));
  EXPECT_FALSE(sender->set_multicast_interface(lo));
  EXPECT_FALSE(sender->set_multicast_ttl(0));
  EXPECT_EQ(sender->set_multicast_ttl(256), std::errc::invalid_argument);
  sender->send_to("to all", where);
  ASSERT_TRUE(w.until([&] { return a->received.size() + b->received.size() == 2; }));
  EXPECT_EQ(b->received, lines{"to all"});
  EXPECT_EQ(a->sender, sender->host());
  EXPECT_FALSE(b->leave_group(group, lo));
  EXPECT_TRUE(b->leave_group(group, lo));
  sender->send_to("to one", where);
  ASSERT_TRUE(w.until([&] { return a->received.size() == 2; }));
  w.settle();
  EXPECT_EQ(b->received.size(), 1u);  // though it is bound to the port, and the machine is in the group
  if (!simulated()) return;           // the loopback interface brings back everything
  EXPECT_FALSE(sender->set_multicast_loopback(false));
  sender->send_to("to nobody here", where);
  w.settle();
  EXPECT_EQ(a->received, (lines{"to all", "to one"}));
  EXPECT_FALSE(sender->set_multicast_loopback(true));
  sender->send_to("again", where);
  EXPECT_TRUE(w.until([&] { return a->received.size() == 3; }));
}

TEST_P(Datagrams, AProtocolOutlivesItsReactor) {
  const auto p = std::make_shared<recorder>();
  w->listen_udp(0, p, here);
  w.settle();
  p->stop();
  w.loop.reset();
  EXPECT_EQ(p->log, lines{"started"});  // the loop is gone: nobody tells it
  EXPECT_FALSE(p->is_open());
  p->send_to("x", address::loopback(9));
  EXPECT_EQ(p.use_count(), 1);
}

TEST_P(Datagrams, AProtocolThatGoesClosesItsSocket) {
  address where;
  {
    recorder on_the_stack;
    w->listen_udp(0, {std::shared_ptr<void>{}, &on_the_stack}, here);
    where = on_the_stack.host();
    w.settle();
  }
  w.settle();
  w->listen_udp(where.port(), std::make_shared<recorder>(), here);
}

TEST_P(Datagrams, ConnectingCanBeGivenUp) {
  const auto p = std::make_shared<recorder>();
  auto d = w->connect_udp("127.0.0.1", 9, p);
  d.cancel();
  w.settle();
  EXPECT_TRUE(p->log.empty());
  EXPECT_FALSE(p->is_open());
  EXPECT_EQ(p.use_count(), 1);
}

// ---- simulated only

TEST(SimDatagrams, NamesAreResolvedIpv4First) {
  testing::sim_reactor r;
  r.names().add("both.test", {*address::parse_ip("::1", 0)}).add("both.test", {address::loopback(0)}, 100ms);
  r.names().never("mute.test");
  std::vector<std::string> told;
  const auto dial = [&](const std::string& host) {
    const auto p = std::make_shared<recorder>();
    r.connect_udp(host, 53, p, {.timeout = 5s})
        .then([&told, host](datagram_protocol* up) { told.push_back(host + " up " + up->peer().text()); },
              [&told, host](const reason& why) { told.push_back(host + ' ' + std::string{name_of(why.how())}); });
    return p;
  };
  const auto kept = dial("both.test");
  dial("mute.test"), dial("none.test");
  r.advance(4s);
  EXPECT_EQ(told, (lines{"none.test refused", "both.test up 127.0.0.1:53"}));
  r.advance(1s);
  EXPECT_EQ(told.back(), "mute.test timed_out");
  EXPECT_EQ(kept->log, lines{"started"});
  auto cancelled = std::make_shared<recorder>();
  r.connect_udp("both.test", 53, cancelled).cancel();
  r.advance(10s);
  EXPECT_TRUE(cancelled->log.empty());
}

struct sim_pair {
  explicit sim_pair(const testing::link_shape& shape, std::uint64_t seed = 1) : r{seed, shape} {
    r.listen_udp(0, receiver), r.listen_udp(0, sender);
    to = address::loopback(receiver->host().port());
    r.pump();
  }
  testing::sim_reactor r;
  std::shared_ptr<recorder> receiver = std::make_shared<recorder>(), sender = std::make_shared<recorder>();
  address to;
};

TEST(SimDatagrams, AreLostReorderedAndDoubledBySeed) {
  const testing::link_shape shape{.latency = 5ms, .loss = 0.2, .reordered = 0.2, .duplicated = 0.1};
  const auto run = [&](std::uint64_t seed) {
    sim_pair p{shape, seed};
    for (int i = 0; i < 1000; ++i) {
      p.sender->send_to(std::to_string(i), p.to);
      if (i % 10 == 9) p.r.advance(1ms);
    }
    p.r.pump();
    return p.receiver->received;
  };
  const auto first = run(1);
  EXPECT_EQ(first, run(1));
  EXPECT_NE(first, run(2));
  std::vector<std::string> unique = first;
  std::sort(unique.begin(), unique.end());
  unique.erase(std::unique(unique.begin(), unique.end()), unique.end());
  EXPECT_NEAR(static_cast<double>(unique.size()), 800, 60);
  EXPECT_NEAR(static_cast<double>(first.size()) / static_cast<double>(unique.size()), 1.1, 0.05);
  std::size_t overtaken = 0;
  for (std::size_t i = 1; i < first.size(); ++i) overtaken += std::stoi(first[i]) < std::stoi(first[i - 1]);
  EXPECT_GT(overtaken, 50u);
}

TEST(SimDatagrams, LatencyRateAndOrder) {
  sim_pair p{{.latency = 30ms, .rate = 1000}};
  const instant start = p.r.now();
  std::vector<int> at;
  p.receiver->then = [&](const std::string&) { at.push_back(static_cast<int>((p.r.now() - start) / 1ms)); };
  for (int i = 0; i < 3; ++i) p.sender->send_to(std::string(100, static_cast<char>('a' + i)), p.to);
  p.r.pump();
  EXPECT_EQ(at, (std::vector<int>{130, 230, 330}));
  EXPECT_EQ(p.receiver->received[2], std::string(100, 'c'));
  // A refusal comes back after both ways.
  p.receiver->stop();
  p.r.advance(1s);
  const instant sent = p.r.now();
  int refused = 0;
  p.sender->then = [&](const std::string&) { refused = static_cast<int>((p.r.now() - sent) / 1ms); };
  p.sender->send_to({}, p.to);
  p.r.pump();
  EXPECT_EQ(refused, 60);
}

TEST(SimDatagrams, VanishAsTold) {
  sim_pair p{{}};
  p.r.network().lose_datagrams(p.to, 2);
  for (const char* text : {"a", "b", "c", "d"}) p.sender->send_to(text, p.to);
  p.r.pump();
  EXPECT_EQ(p.receiver->received, (lines{"c", "d"}));
  EXPECT_EQ(p.sender->counts().sent, 4u);  // who sends never knows
}

TEST(SimDatagrams, QueuesAreBoundedOnBothSides) {
  sim_pair p{{.rate = 1'000'000}};
  for (int i = 0; i < 1000; ++i) p.sender->send_to(std::string(1000, 'x'), p.to);
  p.r.pump();
  EXPECT_GE(p.sender->counts().dropped, 700u);
  EXPECT_EQ(p.sender->counts().dropped + p.sender->counts().sent, 1000u);
  EXPECT_EQ(p.receiver->received.size(), p.sender->counts().sent);
  sim_pair q{{.window = 10'000}};
  q.receiver->pause_reading();
  for (int i = 0; i < 100; ++i) q.sender->send_to(std::string(1000, 'x'), q.to);
  q.r.pump();
  q.receiver->resume_reading();
  q.r.pump();
  EXPECT_EQ(q.receiver->received.size(), 40u);
  EXPECT_EQ(q.receiver->counts().overrun, 60u);
  EXPECT_FALSE(q.receiver->set_receive_buffer(100'000));
  for (int i = 0; i < 100; ++i) q.sender->send_to(std::string(1000, 'x'), q.to);
  q.r.pump();
  EXPECT_EQ(q.receiver->received.size(), 140u);
  EXPECT_EQ(q.receiver->counts().overrun, 60u);
}

TEST(SimDatagrams, SizesAreTheInterfaces) {
  sim_pair p{{.largest_datagram = 1472}};
  p.sender->send_to(std::string(1472, 'x'), p.to);
  p.sender->send_to(std::string(1473, 'x'), p.to);
  p.r.pump();
  EXPECT_EQ(p.receiver->received.size(), 1u);
  EXPECT_EQ(p.sender->failure, std::errc::message_size);
}

TEST(SimDatagrams, MachinesOfANetworkMeet) {
  const auto net = std::make_shared<testing::sim_network>();
  testing::sim_reactor here_too{net}, there{net};
  const auto a = std::make_shared<recorder>(), b = std::make_shared<recorder>();
  const address group = address::ipv4({239, 0, 0, 1}, 0);
  here_too.listen_udp(7000, a, {.reuse_port = true}), there.listen_udp(7000, b, {.reuse_port = true});
  a->join_group(group), b->join_group(group);
  a->set_multicast_loopback(false);
  a->send_to("hello", group.with_port(7000));
  for (int i = 0; i < 3; ++i) here_too.pump(), there.pump();
  EXPECT_EQ(b->received, lines{"hello"});
  EXPECT_TRUE(a->received.empty());
  b->set_multicast_ttl(0);
  b->send_to("not far", group.with_port(7000));
  for (int i = 0; i < 3; ++i) here_too.pump(), there.pump();
  EXPECT_TRUE(a->received.empty());
  EXPECT_EQ(b->received, (lines{"hello", "not far"}));
}

}  // namespace
}  // namespace midwire::datagram_tests
