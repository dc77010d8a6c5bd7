// Programs from outside: openssl and curl, in both roles, over loopback.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <future>

#include "engine/loop_thread.hpp"
#include "engine/scripted_protocol.hpp"
#include "engine/sockets.hpp"
#include "engine/tls_rules.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using tests::client_rules;
using tests::loop_thread;
using tests::server_rules;
using tests::talk;
using tests::talkers;

namespace {

/// What a command prints, with its errors; it gets 30 s.
std::string run(const std::string& command) {
  const std::string whole = "timeout 30 sh -c '" + command + "' 2>&1";
  FILE* const out = popen(whole.c_str(), "r");
  std::string all;
  char piece[4096];
  for (std::size_t n = 0; out && (n = fread(piece, 1, sizeof piece, out)) > 0;) all.append(piece, n);
  if (out) pclose(out);
  return all;
}

bool there(const char* program) { return !run("command -v " + std::string{program}).empty(); }
bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }
std::size_t times(const std::string& text, std::string_view part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

#define NEEDS(program) \
  if (!there(program)) GTEST_SKIP() << program " is not installed"

/// Files with the test's certificates.
struct files {
  files() {
    put("ca.pem", tests::test_ca().certificate);
    put("server.pem", tests::test_server().certificate + tests::test_server().key);
    put("client.pem", tests::test_client().certificate + tests::test_client().key);
  }
  void put(const std::string& name, const std::string& text) { std::ofstream{folder / name} << text; }
  std::string operator/(const std::string& name) const { return folder / name; }
  tests::temp_folder folder;
};

/// Answers each line with itself and says how it came; "bye" closes.
struct line_server {
  explicit line_server(tls_server_options rules = server_rules()) {
    c->data = [buffered = std::string{}](protocol& p, const std::string& text) mutable {
      buffered += text;
      for (auto end = buffered.find('\n'); end != std::string::npos; end = buffered.find('\n')) {
        const std::string line = buffered.substr(0, end);
        buffered.erase(0, end + 1);
        const tls_info info = p.transport().tls();
        p.transport().write("[" + line + " " + info.server_name + " " + info.alpn + " " + info.peer_subject + "]\n");
        if (line.starts_with("bye")) p.transport().lose_connection();
      }
    };
    auto context = tls_server(std::move(rules));
    loop = std::make_unique<loop_thread>(
        [&](reactor& r) { port = r.listen_tls(0, talkers(c), context, {.interface = "127.0.0.1"}).host().port(); });
  }
  std::string client(const files& f, const std::string& more, const std::string& say = "bye") const {
    return run("(echo " + say + "; sleep 2) | openssl s_client -connect 127.0.0.1:" + std::to_string(port) +
               " -servername localhost -verify_return_error -CAfile " + (f / "ca.pem") + " " + more);
  }
  std::shared_ptr<tests::conversation> c = talk();
  std::uint16_t port = 0;
  std::unique_ptr<loop_thread> loop;
};

std::uint16_t free_port() { return tests::peer_socket::listen_tcp().port(); }

/// A program that serves for the test, and goes with it.
struct server_program {
  explicit server_program(const std::string& command) {
    std::string line = "exec " + command + " >" + (folder / "out") + " 2>&1";
    pid = fork();
    if (pid == 0) {
      execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      _exit(127);
    }
  }
  ~server_program() {
    if (pid <= 0) return;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  static bool wait_for(std::uint16_t port) {
    for (int i = 0; i < 200; ++i) {
      if (tests::peer_socket::connect_tcp(port).valid()) return true;
      std::this_thread::sleep_for(50ms);
    }
    return false;
  }
  std::string output() const {
    std::ifstream in{folder / "out"};
    return {std::istreambuf_iterator<char>{in}, {}};
  }
  tests::temp_folder folder;
  pid_t pid = -1;
};

/// Connects to an `openssl s_server -rev`, which answers lines backwards: its answer, or the failure's text.
std::string ask_backwards(std::uint16_t port, tls_client_options rules, const std::string& host = "localhost",
                          tls_info* info = nullptr) {
  std::promise<std::string> answer;
  bool answered = false;
  const auto say = [&](std::string text) {
    if (!std::exchange(answered, true)) answer.set_value(std::move(text));
  };
  auto c = talk();
  c->made = [&](protocol& p) {
    if (info) *info = p.transport().tls();
    p.transport().write("drawkcab\n");
  };
  c->data = [&](protocol& p, const std::string&) {
    if (c->got.ends_with('\n')) p.transport().lose_connection();
  };
  c->gone = [&](protocol&, const reason& why) {
    say(c->got + "/" + std::string{name_of(why.how())} + " " + why.text());
  };
  auto context = tls_client(std::move(rules));
  loop_thread loop{[&](reactor& r) {
    r.connect_tls(host, port, talkers(c), context)
        .then([](protocol*) {}, [&](const reason& why) { say("failed: " + why.text()); });
  }};
  auto got = answer.get_future();
  if (got.wait_for(20s) != std::future_status::ready) return "nothing within 20 s";
  return got.get();
}

}  // namespace

TEST(TlsPrograms, AnOpensslClientIsServed) {
  NEEDS("openssl");
  const files f;
  auto rules = server_rules();
  rules.alpn = {"proto/1"};
  line_server s{rules};
  const std::string modern = s.client(f, "-ign_eof -alpn other,proto/1");
  EXPECT_TRUE(has(modern, "[bye localhost proto/1 ]")) << modern;
  EXPECT_TRUE(has(modern, "Verify return code: 0 (ok)")) << modern;
  EXPECT_TRUE(has(modern, "ALPN protocol: proto/1"));
  EXPECT_TRUE(has(modern, "TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384"));
  EXPECT_TRUE(has(modern, "closed")) << "our close_notify ended it: " << modern;
  const std::string old = s.client(f, "-ign_eof -tls1_2");
  EXPECT_TRUE(has(old, "[bye localhost  ]")) << old;
  EXPECT_TRUE(has(old, "Secure Renegotiation IS supported"));
  EXPECT_TRUE(has(old, "Compression: NONE"));
  EXPECT_TRUE(has(s.client(f, "-alpn nothing"), "no application protocol"));
  EXPECT_TRUE(has(s.client(f, "-tls1_1 -cipher ALL:@SECLEVEL=0"), "alert protocol version"));
  EXPECT_TRUE(has(s.client(f, "-tls1_2 -cipher AES256-SHA"), "alert handshake failure"));
}

TEST(TlsPrograms, AnOpensslClientResumes) {
  NEEDS("openssl");
  const files f;
  line_server s;
  for (const std::string version : {"-tls1_2", "-tls1_3"}) {
    EXPECT_TRUE(has(s.client(f, "-ign_eof " + version + " -sess_out " + (f / "session")), "New, TLSv1."));
    const std::string again = s.client(f, "-ign_eof " + version + " -sess_in " + (f / "session"));
    EXPECT_TRUE(has(again, "Reused, TLSv1.")) << again;
    EXPECT_TRUE(has(again, "[bye localhost  ]")) << again;
  }
  const std::string five = s.client(f, "-tls1_2 -reconnect");
  EXPECT_EQ(times(five, "Reused, TLSv1.2"), 5u) << five;
}

TEST(TlsPrograms, AnOpensslClientMayNotRenegotiate) {
  NEEDS("openssl");
  const files f;
  line_server s;
  const std::string said = s.client(f, "-tls1_2", "R");
  EXPECT_TRUE(has(said, "RENEGOTIATING")) << said;
  EXPECT_TRUE(has(said, "no renegotiation") || has(said, "no_renegotiation")) << said;
}

TEST(TlsPrograms, AnOpensslClientShowsItsCertificate) {
  NEEDS("openssl");
  const files f;
  auto rules = server_rules();
  rules.clients = client_certificate::require, rules.ca = tests::test_ca().certificate;
  line_server s{rules};
  const std::string with = s.client(f, "-ign_eof -cert " + (f / "client.pem"));
  EXPECT_TRUE(has(with, "[bye localhost  CN=a client]")) << with;
  EXPECT_TRUE(has(with, "CN = test CA")) << "named as acceptable: " << with;
  const std::string without = s.client(f, "-ign_eof");
  EXPECT_TRUE(has(without, "alert certificate required") || has(without, "alert number 116")) << without;
}

TEST(TlsPrograms, AnOpensslClientGoesOverByStartTls) {
  NEEDS("openssl");
  const files f;
  auto c = talk();
  const auto context = tls_server(server_rules());
  std::uint16_t port = 0;
  c->made = [](protocol& p) { p.transport().write("220 mail.example ESMTP\r\n"); };
  c->data = [&](protocol& p, const std::string& text) {
    if (p.transport().tls().established) {
      p.transport().write("221 over TLS\r\n");
      p.transport().lose_connection();
    } else if (text.starts_with("EHLO")) {
      p.transport().write("250-mail.example\r\n250 STARTTLS\r\n");
    } else if (text == "STARTTLS\r\n") {
      p.transport().write("220 go ahead\r\n");
      p.transport().start_tls(context);
    }
  };
  loop_thread loop{[&](reactor& r) { port = r.listen_tcp(0, talkers(c), {.interface = "127.0.0.1"}).host().port(); }};
  const std::string said =
      run("(echo QUIT; sleep 2) | openssl s_client -ign_eof -starttls smtp -crlf -connect 127.0.0.1:" +
          std::to_string(port) + " -verify_return_error -CAfile " + (f / "ca.pem"));
  EXPECT_TRUE(has(said, "221 over TLS")) << said;
  EXPECT_TRUE(has(said, "Verify return code: 0 (ok)"));
}

TEST(TlsPrograms, AnOpensslServerIsUnderstood) {
  NEEDS("openssl");
  const files f;
  const auto port = free_port();
  server_program server{"openssl s_server -accept 127.0.0.1:" + std::to_string(port) + " -rev -alpn proto/1 -cert " +
                        (f / "server.pem")};
  ASSERT_TRUE(server_program::wait_for(port)) << server.output();
  auto rules = client_rules();
  rules.alpn = {"proto/1"};
  tls_info info;
  EXPECT_EQ(ask_backwards(port, rules, "localhost", &info), "backward\n/done ");
  EXPECT_EQ(info.alpn, "proto/1");
  EXPECT_TRUE(info.peer_verified);
  rules.max_version = tls_version::tls1_2;
  EXPECT_EQ(ask_backwards(port, rules, "127.0.0.1", &info), "backward\n/done ");
  EXPECT_EQ(info.version, tls_version::tls1_2);
  auto distrusting = client_rules();
  distrusting.ca = tests::make_certificate({.names = "", .ca = true}).certificate;
  EXPECT_TRUE(has(ask_backwards(port, distrusting), "failed: the peer's certificate was rejected"));
  auto misled = client_rules();
  misled.server_name = "other.example";
  EXPECT_TRUE(has(ask_backwards(port, misled), "ostname mismatch"));
}

TEST(TlsPrograms, AnOpensslServerChecksOurCertificate) {
  NEEDS("openssl");
  const files f;
  const auto port = free_port();
  server_program server{"openssl s_server -accept 127.0.0.1:" + std::to_string(port) +
                        " -rev -verify_return_error -Verify 2 -CAfile " + (f / "ca.pem") + " -cert " +
                        (f / "server.pem")};
  ASSERT_TRUE(server_program::wait_for(port)) << server.output();
  auto rules = client_rules();
  EXPECT_TRUE(has(ask_backwards(port, rules), "the peer sent the TLS alert certificate_required"));
  rules.max_version = tls_version::tls1_2;
  EXPECT_TRUE(has(ask_backwards(port, rules), "failed: the peer sent the TLS alert handshake_failure"));
  rules = client_rules();
  rules.identities.push_back(tests::identity_of(tests::test_client()));
  EXPECT_EQ(ask_backwards(port, rules), "backward\n/done ");
}

TEST(TlsPrograms, CurlFetchesOverHttps) {
  NEEDS("curl");
  const files f;
  auto c = talk();
  const std::string body(300000, 'b');
  c->data = [&, asked = std::string{}](protocol& p, const std::string& text) mutable {
    asked += text;
    if (asked.find("\r\n\r\n") == std::string::npos) return;
    asked.clear();
    p.transport().write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body);
    p.transport().lose_connection();
  };
  auto rules = server_rules();
  rules.alpn = {"http/1.1"};
  std::uint16_t port = 0;
  const auto context = tls_server(rules);
  loop_thread loop{
      [&](reactor& r) { port = r.listen_tls(0, talkers(c), context, {.interface = "127.0.0.1"}).host().port(); }};
  const std::string url = "https://localhost:" + std::to_string(port) + "/";
  for (const std::string version : {"1.2", "1.3"}) {
    const std::string said =
        run("curl -sS --ipv4 --noproxy \"*\" --tls-max " + version + " --cacert " + (f / "ca.pem") + " -o " +
            (f / "got") + " -w \"%{http_code} %{ssl_verify_result} %{size_download}\" " + url);
    EXPECT_EQ(said, "200 0 300000") << "an end without Content-Length: a truncation would be an error";
  }
  EXPECT_TRUE(has(run("curl -sS --ipv4 --noproxy \"*\" -o /dev/null " + url), "curl: (60)"))
      << "it does not know our CA";
}
