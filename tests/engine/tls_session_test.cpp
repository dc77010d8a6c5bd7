// Two sessions face to face, without sockets.
#include <gtest/gtest.h>

#include "engine/tls/tls_context.hpp"
#include "engine/tls/tls_session.hpp"
#include "engine/tls_rules.hpp"

using namespace midwire;
using detail::tls_session;
using status = tls_session::status;
using tests::client_rules;
using tests::identity_of;
using tests::make_certificate;
using tests::server_rules;

namespace {

struct pair_of_ends {
  pair_of_ends(const tls_ptr& c, const tls_ptr& s, const std::string& name = "localhost", const std::string& where = "")
      : client{c, name, where}, server{s, ""} {}
  tls_session client, server;

  static void carry(tls_session& from, tls_session& to, std::size_t piece) {
    buffer out = std::move(from.output());
    from.output().clear();
    while (!out.empty()) {
      buffer part = piece > 0 ? out.take_front(std::min(piece, out.size())) : std::move(out);
      if (piece == 0) out.clear();
      for (chunk& c : part) to.feed(std::move(c));
      if (!to.established()) to.handshake();
    }
  }
  void shake(std::size_t piece = 0) {
    client.handshake();
    for (int i = 0; i < 6; ++i) {
      carry(client, server, piece);
      if (!server.established()) server.handshake();
      carry(server, client, piece);
      if (!client.established()) client.handshake();
    }
  }
  bool up() const { return client.established() && server.established(); }
};

std::string read_all(tls_session& s, status* end = nullptr, std::size_t at_most = 16384) {
  std::string all;
  chunk c;
  status how;
  while ((how = s.read(at_most, c)) == status::ok) all += c.text();
  if (end) *end = how;
  return all;
}

status say(tls_session& from, tls_session& to, buffer octets, std::size_t piece = 0) {
  std::vector<tls_session::mark> marks;
  const status how = from.write(std::move(octets), marks);
  pair_of_ends::carry(from, to, piece);
  return how;
}

/// Both ends' failures after a handshake that must not succeed.
std::pair<reason, reason> refused(tls_client_options c, tls_server_options s, const std::string& name = "localhost") {
  pair_of_ends p{tls_client(std::move(c)), tls_server(std::move(s)), name};
  p.shake();
  chunk none;
  if (p.client.established()) p.client.read(1, none);  // TLS 1.3: the server's word on it comes after the handshake
  EXPECT_FALSE(p.up() && p.client.failure().text().empty());
  return {p.client.failure(), p.server.failure()};
}

}  // namespace

TEST(TlsSession, TheCutsOfTheHandshakeDoNotMatter) {
  const auto c = tls_client(client_rules()), s = tls_server(server_rules());
  for (const std::size_t piece : {0u, 1u, 2u, 3u, 5u, 7u, 100u, 1000u}) {
    pair_of_ends p{c, s};
    p.shake(piece);
    ASSERT_TRUE(p.up()) << piece;
    EXPECT_EQ(say(p.client, p.server, "hello", piece), status::ok);
    EXPECT_EQ(read_all(p.server), "hello");
    EXPECT_EQ(say(p.server, p.client, std::string(100000, 'x'), piece), status::ok);
    EXPECT_EQ(read_all(p.client), std::string(100000, 'x'));
  }
}

TEST(TlsSession, WritesOfOneCallShareRecords) {
  pair_of_ends p{tls_client(client_rules()), tls_server(server_rules())};
  p.shake();
  buffer many;
  std::string all;
  for (int i = 0; i < 3000; ++i) {
    std::string piece = "message " + std::to_string(i) + std::string(static_cast<std::size_t>(i % 97), '.');
    all += piece;
    many.append(chunk{piece});
  }
  many.append(chunk{std::string(50000, 'y')});
  all += std::string(50000, 'y');
  const std::uint64_t before = p.client.output_total();
  std::vector<tls_session::mark> marks;
  ASSERT_EQ(p.client.write(std::move(many), marks), status::ok);
  std::size_t plain = 0;
  std::uint64_t last = before;
  for (const auto& m : marks) {
    EXPECT_GT(m.output_end, last);
    last = m.output_end, plain += m.plain;
  }
  EXPECT_EQ(plain, all.size());
  EXPECT_EQ(last, p.client.output_total());
  EXPECT_LE(marks.size(), all.size() / tls_session::record_size + 4);
  pair_of_ends::carry(p.client, p.server, 0);
  EXPECT_EQ(read_all(p.server), all);
}

TEST(TlsSession, ReadsNoMoreThanItIsAskedFor) {
  pair_of_ends p{tls_client(client_rules()), tls_server(server_rules())};
  p.shake();
  say(p.client, p.server, std::string(10000, 'a'));
  chunk c;
  ASSERT_EQ(p.server.read(3, c), status::ok);
  EXPECT_EQ(c.size(), 3u);
  EXPECT_EQ(p.server.readable(), 9997u);
  EXPECT_EQ(read_all(p.server, nullptr, 1000).size(), 9997u);
}

TEST(TlsSession, CloseNotifyEndsOneDirection) {
  for (const auto v : {tls_version::tls1_2, tls_version::tls1_3}) {
    auto c = client_rules();
    c.max_version = v;
    pair_of_ends p{tls_client(c), tls_server(server_rules())};
    p.shake();
    ASSERT_TRUE(p.up());
    EXPECT_EQ(p.client.info().version, v);
    say(p.client, p.server, "question");
    p.client.end();
    p.client.end();
    pair_of_ends::carry(p.client, p.server, 0);
    status end{};
    EXPECT_EQ(read_all(p.server, &end), "question");
    EXPECT_EQ(end, status::ended);
    EXPECT_EQ(say(p.server, p.client, "answer"), status::ok);
    EXPECT_EQ(read_all(p.client, &end), "answer");
    EXPECT_EQ(end, status::want_input);
    p.server.end();
    pair_of_ends::carry(p.server, p.client, 0);
    EXPECT_EQ(read_all(p.client, &end), "");
    EXPECT_EQ(end, status::ended);
    std::vector<tls_session::mark> marks;
    EXPECT_EQ(p.client.write("late", marks), status::failed);
  }
}

TEST(TlsSession, OctetsThatAreNoTlsAreRefused) {
  tls_session server{tls_server(server_rules()), ""};
  server.feed("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(server.handshake(), status::failed);
  EXPECT_TRUE(server.failure().code() == tls_errc::handshake_failed);
  EXPECT_EQ(server.handshake(), status::failed);
}

TEST(TlsSession, AChangedRecordIsRefused) {
  pair_of_ends p{tls_client(client_rules()), tls_server(server_rules())};
  p.shake();
  std::vector<tls_session::mark> marks;
  p.client.write("good", marks);
  pair_of_ends::carry(p.client, p.server, 0);
  p.client.write("bad", marks);
  chunk record = std::move(p.client.output()).join();
  record.writable()[10] ^= 1;
  p.server.feed(std::move(record));
  status end{};
  EXPECT_EQ(read_all(p.server, &end), "good") << "what came before is given";
  EXPECT_EQ(end, status::failed);
  EXPECT_TRUE(p.server.failure().code() == tls_errc::record_failed);
  EXPECT_FALSE(p.server.output().empty()) << "the alert";
  pair_of_ends::carry(p.server, p.client, 0);
  read_all(p.client, &end);
  EXPECT_EQ(end, status::failed);
  EXPECT_EQ(p.client.failure().code(), tls_alert(20));
}

TEST(TlsSession, CertificatesAreChecked) {
  {
    auto c = client_rules();
    c.ca = make_certificate({.names = "", .ca = true}).certificate;
    const auto [client, server] = refused(std::move(c), server_rules());
    EXPECT_TRUE(client.code() == tls_errc::certificate_rejected) << client.text();
    EXPECT_NE(client.text().find("unable to get local issuer"), std::string::npos) << client.text();
    EXPECT_EQ(server.code(), tls_alert(48)) << server.text();
  }
  {
    const auto [client, server] = refused(client_rules(), server_rules(), "other.example");
    EXPECT_TRUE(client.code() == tls_errc::certificate_rejected);
    EXPECT_NE(client.text().find("ostname mismatch"), std::string::npos) << client.text();
    EXPECT_EQ(server.how(), ending::refused);
  }
  {
    const auto [client, server] = refused(client_rules(), server_rules(), "127.0.0.2");
    EXPECT_NE(client.text().find("IP address mismatch"), std::string::npos) << client.text();
  }
  {
    tls_server_options late;
    late.identities.push_back(identity_of(make_certificate({.starts = -7200, .ends = -3600}, &tests::test_ca())));
    const auto [client, server] = refused(client_rules(), std::move(late));
    EXPECT_NE(client.text().find("expired"), std::string::npos) << client.text();
    EXPECT_EQ(server.code(), tls_alert(45));
  }
  for (const char* name : {"localhost", "LOCALHOST.", "127.0.0.1"}) {
    pair_of_ends p{tls_client(client_rules()), tls_server(server_rules()), name};
    p.shake();
    EXPECT_TRUE(p.up()) << name << ' ' << p.client.failure().text();
    EXPECT_TRUE(p.client.info().peer_verified);
  }
  EXPECT_THROW((tls_session{tls_client(client_rules()), ""}), std::system_error) << "nothing to check against";
}

TEST(TlsSession, TheInsecureSwitchAcceptsAnything) {
  tls_client_options c;
  c.system_trust = false, c.insecure_accept_any_certificate = true;
  for (const char* name : {"", "other.example"}) {
    pair_of_ends p{tls_client(c), tls_server(server_rules()), name};
    p.shake();
    ASSERT_TRUE(p.up());
    EXPECT_FALSE(p.client.info().peer_verified);
    EXPECT_FALSE(p.client.info().peer_problem.empty());
  }
}

TEST(TlsSession, ClientCertificates) {
  for (const auto v : {tls_version::tls1_2, tls_version::tls1_3}) {
    for (const auto wanted : {client_certificate::none, client_certificate::request, client_certificate::require}) {
      for (const int shown : {0, 1, 2}) {  // nothing, a good one, one that nobody knows
        auto s = server_rules();
        s.clients = wanted, s.ca = tests::test_ca().certificate, s.max_version = v;
        auto c = client_rules();
        if (shown == 1) c.identities.push_back(identity_of(tests::test_client()));
        if (shown == 2) c.identities.push_back(identity_of(make_certificate({})));
        const bool fails =
            (wanted == client_certificate::require && shown == 0) || (wanted != client_certificate::none && shown == 2);
        pair_of_ends p{tls_client(c), tls_server(s)};
        p.shake();
        EXPECT_EQ(p.server.established(), !fails);
        if (fails) {
          EXPECT_TRUE(p.server.failure().code() == tls_errc::certificate_rejected) << p.server.failure().text();
          chunk none;
          EXPECT_EQ(p.client.established() ? p.client.read(1, none) : status::failed, status::failed);
          EXPECT_GE(p.client.failure().code().value(), 1000) << "an alert said so";
        } else if (wanted != client_certificate::none && shown == 1) {
          const auto info = p.server.info();
          EXPECT_TRUE(info.peer_verified);
          EXPECT_EQ(info.peer_subject, "CN=a client");
          EXPECT_EQ(info.peer_issuer, "CN=test CA");
          EXPECT_EQ(info.peer_names, std::vector<std::string>{"email:client@example.org"});
          EXPECT_GT(info.peer_der.size(), 100u);
        } else {
          EXPECT_TRUE(p.server.info().peer_subject.empty());
        }
      }
    }
  }
}

TEST(TlsSession, AlpnByListAndByCallback) {
  const auto chosen = [](std::vector<std::string> offered, auto change) -> std::string {
    auto c = client_rules();
    c.alpn = std::move(offered);
    auto s = server_rules();
    change(s);
    pair_of_ends p{tls_client(c), tls_server(s)};
    p.shake();
    if (!p.up()) return p.client.failure().code() == tls_alert(120) ? "refused" : p.client.failure().text();
    EXPECT_EQ(p.client.alpn(), p.server.alpn());
    return std::string{p.client.alpn()};
  };
  const auto list = [](auto& s) { s.alpn = {"h2", "http/1.1"}; };
  EXPECT_EQ(chosen({"http/1.1", "h2"}, list), "h2") << "the server's order";
  EXPECT_EQ(chosen({"http/1.1"}, list), "http/1.1");
  EXPECT_EQ(chosen({"smtp"}, list), "refused");
  EXPECT_EQ(chosen({}, list), "");
  EXPECT_EQ(chosen({"h2"}, [](auto&) {}), "");
  const auto asks = [](auto& s) {
    s.choose_alpn = [](const std::vector<std::string>& offered) { return offered.back(); };
  };
  EXPECT_EQ(chosen({"a", "b", "c"}, asks), "c");
  EXPECT_EQ(chosen({"a"}, [](auto& s) { s.choose_alpn = [](const auto&) { return std::string{}; }; }), "refused");
  EXPECT_EQ(chosen({"a"}, [](auto& s) { s.choose_alpn = [](const auto&) { return std::string{"never offered"}; }; }),
            "refused");
  EXPECT_EQ(chosen({"a"},
                   [](auto& s) { s.choose_alpn = [](const auto&) -> std::string { throw std::runtime_error{"no"}; }; }),
            "refused");
}

TEST(TlsSession, TheServerNameChoosesACertificate) {
  const auto a = make_certificate({.common_name = "a", .names = "DNS:a.example"}, &tests::test_ca());
  const auto b = make_certificate({.common_name = "b", .names = "DNS:*.b.example"}, &tests::test_ca());
  tls_server_options o;
  o.identities = {identity_of(a), identity_of(b)};
  const auto s = tls_server(o);
  for (const auto& [name, subject] : {std::pair{"a.example", "CN=a"}, std::pair{"www.b.example", "CN=b"}}) {
    pair_of_ends p{tls_client(client_rules()), s, name};
    p.shake();
    ASSERT_TRUE(p.up()) << p.client.failure().text();
    EXPECT_EQ(p.client.info().peer_subject, subject);
    EXPECT_EQ(p.server.info().server_name, name);
  }
}

TEST(TlsSession, ACallbackChoosesByNameOrRefuses) {
  auto strict = server_rules();
  strict.identities = {
      identity_of(make_certificate({.common_name = "strict", .names = "DNS:strict.example"}, &tests::test_ca()))};
  strict.clients = client_certificate::require, strict.ca = tests::test_ca().certificate;
  strict.alpn = {"strict"};
  const auto other = tls_server(strict);
  auto o = server_rules();
  o.choose = [other](std::string_view name) {
    if (name == "strict.example") return tls_choice::use(other);
    if (name == "throw.example") throw std::runtime_error{"the choice failed"};
    if (name == "refused.example") return tls_choice::refuse();
    return tls_choice::keep();
  };
  const auto s = tls_server(o);
  auto c = client_rules();
  c.alpn = {"x", "strict"};
  {
    pair_of_ends p{tls_client(c), s};
    p.shake();
    EXPECT_TRUE(p.up());
    EXPECT_EQ(p.client.alpn(), "");
  }
  {
    pair_of_ends p{tls_client(c), s, "strict.example"};
    p.shake();
    EXPECT_FALSE(p.server.established()) << "it has no certificate";
    auto with = c;
    with.identities.push_back(identity_of(tests::test_client()));
    pair_of_ends q{tls_client(with), s, "strict.example"};
    q.shake();
    ASSERT_TRUE(q.up()) << q.client.failure().text() << q.server.failure().text();
    EXPECT_EQ(q.client.info().peer_subject, "CN=strict");
    EXPECT_EQ(q.client.alpn(), "strict");
    EXPECT_EQ(q.server.info().peer_subject, "CN=a client");
  }
  {
    pair_of_ends p{tls_client(c), s, "refused.example"};
    p.shake();
    EXPECT_EQ(p.client.failure().code(), tls_alert(112));
    EXPECT_NE(p.server.failure().text().find("'refused.example' was refused"), std::string::npos)
        << p.server.failure().text();
  }
  {
    pair_of_ends p{tls_client(c), s, "throw.example"};
    p.shake();
    EXPECT_EQ(p.client.failure().code(), tls_alert(80));
    EXPECT_NE(p.server.failure().text().find("the choice failed"), std::string::npos);
  }
}

TEST(TlsSession, SessionsAreResumedWithTicketsAlone) {
  for (const auto v : {tls_version::tls1_2, tls_version::tls1_3}) {
    auto c = client_rules();
    c.max_version = v;
    const auto client = tls_client(c), server = tls_server(server_rules());
    auto without = server_rules();
    without.tickets = false;
    const auto ticketless = tls_server(without);
    const auto connect = [&](const tls_ptr& to, const std::string& where) {
      pair_of_ends p{client, to, "localhost", where};
      p.shake();
      EXPECT_TRUE(p.up());
      read_all(p.client);
      EXPECT_EQ(p.client.info().resumed, p.server.info().resumed);
      EXPECT_TRUE(p.client.info().peer_verified) << "a resumed session, too";
      p.client.end(), p.server.end();
      return p.client.info().resumed;
    };
    EXPECT_FALSE(connect(server, "a:1"));
    EXPECT_TRUE(connect(server, "a:1"));
    EXPECT_TRUE(connect(server, "a:1"));
    EXPECT_FALSE(connect(server, "b:1")) << "another host";
    EXPECT_FALSE(connect(tls_server(server_rules()), "a:1")) << "another server does not know the ticket's key";
    EXPECT_FALSE(connect(ticketless, "c:1"));
    EXPECT_FALSE(connect(ticketless, "c:1"));
  }
}

// A session made where no client certificate is asked for must not open a place where one is (CVE-2025-23048's kind).
TEST(TlsSession, ASessionOfOneNameDoesNotOpenAnother) {
  for (const auto v : {tls_version::tls1_2, tls_version::tls1_3}) {
    auto strict = server_rules();
    strict.clients = client_certificate::require, strict.ca = tests::test_ca().certificate;
    const auto other = tls_server(strict);
    auto o = server_rules();
    o.choose = [other](std::string_view name) {
      return name == "localhost" ? tls_choice::keep() : tls_choice::use(other);
    };
    const auto s = tls_server(o);
    auto c = client_rules();
    c.max_version = v, c.insecure_accept_any_certificate = true;
    const auto client = tls_client(c);
    pair_of_ends open{client, s, "localhost", "a:1"};
    open.shake();
    ASSERT_TRUE(open.up());
    read_all(open.client);
    // The thief takes the ticket along to the other name.
    auto ticket = client->impl().sessions.take("a:1/localhost");
    ASSERT_TRUE(ticket);
    client->impl().sessions.put("a:1/secret.example", std::move(ticket));
    pair_of_ends p{client, s, "secret.example", "a:1"};
    p.shake();
    EXPECT_FALSE(p.server.established());
  }
}

TEST(TlsSession, RenegotiationIsRefused) {
  auto c = client_rules();
  c.max_version = tls_version::tls1_2;
  const auto client = tls_client(c);
  SSL_CTX_clear_options(client->impl().sites[0].ctx.get(), SSL_OP_NO_RENEGOTIATION);
  pair_of_ends p{client, tls_server(server_rules())};
  p.shake();
  ASSERT_TRUE(p.up());
  ASSERT_EQ(SSL_renegotiate(p.client.ssl()), 1);
  SSL_do_handshake(p.client.ssl());
  EXPECT_FALSE(p.client.output().empty());
  pair_of_ends::carry(p.client, p.server, 0);
  status end{};
  read_all(p.server, &end);
  pair_of_ends::carry(p.server, p.client, 0);
  read_all(p.client, &end);
  EXPECT_EQ(end, status::failed);
  EXPECT_NE(p.client.failure().text().find("no renegotiation"), std::string::npos) << p.client.failure().text();
}

TEST(TlsSession, OldVersionsAndWeakCiphersFindNobody) {
  auto c = client_rules();
  c.max_version = tls_version::tls1_2, c.ciphers = "AES128-SHA:AES256-GCM-SHA384:ECDHE-ECDSA-AES128-SHA";
  const auto [client, server] = refused(std::move(c), server_rules());
  EXPECT_EQ(client.code(), tls_alert(40)) << client.text();
  EXPECT_TRUE(server.code() == tls_errc::handshake_failed);
  auto s = server_rules();
  s.min_version = tls_version::tls1_3;
  auto old = client_rules();
  old.max_version = tls_version::tls1_2;
  EXPECT_EQ(refused(std::move(old), std::move(s)).first.code(), tls_alert(70));
}

TEST(TlsSession, KeyLogLinesComeAndFit) {
  auto c = client_rules();
  auto lines = std::make_shared<std::vector<std::string>>();
  c.key_log = [lines](std::string_view line) { lines->emplace_back(line); };
  auto s = server_rules();
  auto others = std::make_shared<std::vector<std::string>>();
  s.key_log = [others](std::string_view line) { others->emplace_back(line); };
  pair_of_ends p{tls_client(c), tls_server(s)};
  p.shake();
  ASSERT_TRUE(p.up());
  EXPECT_GE(lines->size(), 4u);
  std::sort(lines->begin(), lines->end());
  std::sort(others->begin(), others->end());
  EXPECT_EQ(*lines, *others);
  EXPECT_EQ(lines->front().rfind("CLIENT_", 0), 0u);
}
