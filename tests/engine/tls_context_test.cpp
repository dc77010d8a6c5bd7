// Contexts, certificates from files and texts, tickets, remembered sessions.
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <cstdlib>
#include <fstream>

#include "engine/sockets.hpp"
#include "engine/tls/tls_context.hpp"
#include "engine/tls_rules.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using tests::client_rules;
using tests::identity_of;
using tests::made_certificate;
using tests::make_certificate;
using tests::server_rules;

namespace {

template <class F>
std::string refusal(F&& f) {  // empty: it went well
  try {
    f();
  } catch (const std::system_error& e) { return e.what(); }
  return "";
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

void put(const std::string& file, const std::string& text) { std::ofstream{file} << text; }

}  // namespace

TEST(TlsContext, TakesFilesAndTexts) {
  tests::temp_folder folder;
  const auto& made = tests::test_server();
  put(folder / "cert.pem", made.certificate);
  put(folder / "key.pem", made.key);
  put(folder / "both.pem", made.key + made.certificate + tests::test_ca().certificate);
  EXPECT_TRUE(tls_server(tls_server_options{folder / "cert.pem", folder / "key.pem"})->is_server());
  EXPECT_TRUE(tls_server(tls_server_options{folder / "both.pem"})->is_server());
  EXPECT_TRUE(tls_server(server_rules())->is_server());
  EXPECT_FALSE(tls_client()->is_server());
  EXPECT_FALSE(tls_client(client_rules())->is_server());
}

TEST(TlsContext, SaysWhichFileCannotBeUsedAndWhy) {
  tests::temp_folder folder;
  const auto& made = tests::test_server();
  const auto other = make_certificate({});
  put(folder / "cert.pem", made.certificate);
  put(folder / "key.pem", made.key);
  put(folder / "other.pem", other.key);
  put(folder / "empty.pem", "");
  std::string broken = made.certificate;
  for (std::size_t i = 100; i < 200; ++i) broken[i] = '*';
  put(folder / "broken.pem", broken);
  const auto tried = [&](const std::string& c, const std::string& k) {
    return refusal([&] { tls_server(tls_server_options{folder / c, folder / k}); });
  };
  EXPECT_TRUE(has(tried("none.pem", "key.pem"), "none.pem: No such file"));
  EXPECT_TRUE(has(tried("cert.pem", "none.pem"), "none.pem: No such file"));
  EXPECT_TRUE(has(tried("empty.pem", "key.pem"), "empty.pem: no certificate"));
  EXPECT_TRUE(has(tried("cert.pem", "empty.pem"), "empty.pem: no private key"));
  EXPECT_TRUE(has(tried("broken.pem", "key.pem"), "broken.pem: a certificate that cannot be read"));
  EXPECT_TRUE(has(tried("cert.pem", "other.pem"), "other.pem: the key does not belong"));
  EXPECT_TRUE(has(tried("cert.pem", ""), "Is a directory"));
  EXPECT_TRUE(has(refusal([] { tls_server({}); }), "needs a certificate"));
  EXPECT_TRUE(has(refusal([] {
                    auto o = server_rules();
                    o.clients = client_certificate::require;
                    tls_server(o);
                  }),
                  "no CA"));
  const auto client = [](auto change) {
    return refusal([&] {
      auto o = client_rules();
      change(o);
      tls_client(o);
    });
  };
  EXPECT_TRUE(has(client([&](auto& o) { o.ca_file = folder / "empty.pem"; }), "empty.pem: no certificate"));
  EXPECT_TRUE(has(client([](auto& o) { o.ciphers = "NO-SUCH"; }), "NO-SUCH"));
  EXPECT_TRUE(has(client([](auto& o) { o.ciphersuites = "TLS_NO_SUCH"; }), "TLS_NO_SUCH"));
  EXPECT_TRUE(has(client([](auto& o) { o.groups = "P-257"; }), "P-257"));
  EXPECT_TRUE(has(client([](auto& o) { o.alpn = {"h2", ""}; }), "ALPN"));
  EXPECT_TRUE(has(client([](auto& o) { o.alpn = {std::string(256, 'x')}; }), "ALPN"));
  EXPECT_TRUE(has(client([](auto& o) { o.min_version = tls_version::tls1_3, o.max_version = tls_version::tls1_2; }),
                  "min_version"));
  EXPECT_TRUE(has(client([&](auto& o) { o.key_log_file = folder / "no/such"; }), "no/such"));
}

TEST(TlsContext, AnEncryptedKeyNeedsItsPassword) {
  const auto& made = tests::test_server();
  tls_identity i = identity_of(made);
  BIO* const out = BIO_new(BIO_s_mem());
  char password[] = "open sesame";
  PEM_write_bio_PrivateKey(out, made.pkey.get(), EVP_aes_256_cbc(), nullptr, 0, nullptr, password);
  char* data = nullptr;
  const long size = BIO_get_mem_data(out, &data);
  i.key.assign(data, static_cast<std::size_t>(size));
  BIO_free(out);
  const auto tried = [&](const char* with) {
    tls_server_options o;
    o.identities.push_back(i);
    o.identities.back().password = with;
    return refusal([&] { tls_server(o); });
  };
  EXPECT_EQ(tried("open sesame"), "");
  EXPECT_TRUE(has(tried("wrong"), "a key that cannot be read"));
  EXPECT_TRUE(has(tried(""), "a key that cannot be read")) << "and nobody is asked at the terminal";
}

TEST(TlsContext, OneSiteForEachSetOfNames) {
  const auto a = make_certificate({.names = "DNS:a.example"}),
             a_rsa = make_certificate({.names = "DNS:a.example", .rsa = true}),
             b = make_certificate({.names = "DNS:b.example,DNS:*.b.example"});
  tls_server_options o;
  for (const auto* c : {&a, &b, &a_rsa}) o.identities.push_back(identity_of(*c));
  const auto context = tls_server(o);
  const auto& impl = context->impl();
  ASSERT_EQ(impl.sites.size(), 2u);
  EXPECT_EQ(impl.sites[0].leaves.size(), 2u);
  EXPECT_EQ(impl.for_name("a.example"), impl.sites[0].ctx.get());
  EXPECT_EQ(impl.for_name("B.example"), impl.sites[1].ctx.get());
  EXPECT_EQ(impl.for_name("www.b.example"), impl.sites[1].ctx.get());
  EXPECT_EQ(impl.for_name("c.example"), impl.sites[0].ctx.get());
  EXPECT_EQ(impl.for_name(""), impl.sites[0].ctx.get());
}

TEST(TlsContext, AlternativeNamesAreRead) {
  const auto c = make_certificate({.names = "DNS:a.example,IP:10.0.0.1,IP:2001:db8::1,email:x@y.z,URI:urn:x"});
  EXPECT_EQ(detail::alternative_names(*c.x509),
            (std::vector<std::string>{"DNS:a.example", "IP:10.0.0.1", "IP:2001:db8::1", "email:x@y.z", "URI:urn:x"}));
}

TEST(TlsTickets, KeysAreNewEachPeriodAndForgottenAfterTwoMore) {
  detail::ticket_keys keys{1h};
  const detail::ticket_keys::clock::time_point start{1000h};
  const auto first = keys.current(start);
  ASSERT_TRUE(first);
  EXPECT_EQ(keys.current(start + 59min)->name, first->name);
  EXPECT_TRUE(keys.find(first->name.data(), start + 59min)->second);
  EXPECT_FALSE(keys.find(first->name.data(), start + 61min)->second) << "good, and to be renewed";
  const auto second = keys.current(start + 61min);
  EXPECT_NE(second->name, first->name);
  EXPECT_NE(second->cipher, first->cipher);
  EXPECT_TRUE(keys.find(first->name.data(), start + 179min));
  EXPECT_FALSE(keys.find(first->name.data(), start + 181min));
  EXPECT_TRUE(keys.find(second->name.data(), start + 181min));
  const unsigned char unknown[16] = {};
  EXPECT_FALSE(keys.find(unknown, start));
}

TEST(TlsSessions, TheLeastRecentlyUsedAreForgotten) {
  detail::session_store store{2};
  EXPECT_FALSE(store.take("a"));
  const auto session = [] {
    SSL_SESSION* const s = SSL_SESSION_new();
    SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION);
    const unsigned char id[] = {1, 2, 3};
    SSL_SESSION_set1_id(s, id, sizeof id);
    return detail::ssl_session_ptr{s};
  };
  for (int i = 0; i < 10; ++i) store.put("a", session());
  store.put("b", session());
  store.put("a", session());
  store.put("c", session());  // b goes
  EXPECT_EQ(store.size(), 2u);
  EXPECT_FALSE(store.take("b"));
  int given = 0;
  while (store.take("a")) ++given;
  EXPECT_EQ(given, 4) << "each ticket once, the newest four";
  EXPECT_EQ(store.size(), 1u);
  EXPECT_TRUE(store.take("c"));
  EXPECT_FALSE(store.take("c"));
  detail::session_store none{0};
  none.put("a", session());
  EXPECT_FALSE(none.take("a"));
}

TEST(TlsContext, TheKeyLogIsItsOwnersAlone) {
  tests::temp_folder folder;
  auto o = client_rules();
  o.key_log_file = folder / "keys";
  tls_client(o)->impl().keys.write("LINE");
  struct stat s {};
  ASSERT_EQ(stat((folder / "keys").c_str(), &s), 0);
  EXPECT_EQ(s.st_mode & 0777, 0600u);
  std::ifstream in{folder / "keys"};
  std::string line;
  std::getline(in, line);
  EXPECT_EQ(line, "LINE");
  // SSLKEYLOGFILE only when asked for.
  setenv("SSLKEYLOGFILE", (folder / "other").c_str(), 1);
  auto unasked = client_rules();
  EXPECT_FALSE(tls_client(unasked)->impl().keys.wanted());
  unasked.key_log_from_environment = true;
  EXPECT_TRUE(tls_client(unasked)->impl().keys.wanted());
  unsetenv("SSLKEYLOGFILE");
}

TEST(TlsErrors, AlertsHaveTheirNames) {
  EXPECT_EQ(tls_alert(48).message(), "the peer sent the TLS alert unknown_ca");
  EXPECT_EQ(tls_alert(201).message(), "the peer sent the TLS alert 201");
  EXPECT_TRUE(make_error_code(tls_errc::truncated) == tls_errc::truncated);
  EXPECT_STREQ(tls_alert(0).category().name(), "tls");
}
