#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <midwire/base/export.hpp>
#include <midwire/base/views.hpp>
#include <midwire/engine/core/tls_errc.hpp>

namespace midwire {

namespace detail {
class tls_context_impl;
}
class tls_context;
using tls_ptr = std::shared_ptr<const tls_context>;

enum class tls_version : std::uint8_t { tls1_2, tls1_3 };

/// Whether a server asks its clients for a certificate. One that is given must verify, in either case.
enum class client_certificate : std::uint8_t { none, request, require };

/// A certificate chain and its private key, both PEM (RFC 7468), each by the name of a file or as text. The chain is
/// the leaf first, then its issuers; the key may stand in the same file or text.
struct tls_identity {
  tls_identity() noexcept {}
  explicit tls_identity(std::string chain_file, std::string private_key_file = {})
      : certificate_file{std::move(chain_file)}, key_file{std::move(private_key_file)} {}
  std::string certificate_file, key_file;
  std::string certificate, key;
  std::string password;  ///< of an encrypted key
};

/// What a server does for the name that a client asked for (RFC 6066 section 3).
class tls_choice {
 public:
  /// Goes on with the listener's own context.
  static tls_choice keep() { return tls_choice{nullptr, false}; }
  /// Goes on with another one: its certificates, client certificates, versions, ciphers and ALPN. Null: keep().
  static tls_choice use(tls_ptr other) { return tls_choice{std::move(other), false}; }
  /// Ends the handshake with the alert unrecognized_name.
  static tls_choice refuse() { return tls_choice{nullptr, true}; }
  const tls_ptr& context() const noexcept { return context_; }
  bool refused() const noexcept { return refused_; }

 private:
  tls_choice(tls_ptr c, bool r) noexcept : context_{std::move(c)}, refused_{r} {}
  tls_ptr context_;
  bool refused_;
};

/// Callables in these are called from whichever loop has the handshake, on several threads at once when the context is
/// used on several; one that throws ends its handshake.
struct tls_server_options {
  tls_server_options() noexcept {}
  explicit tls_server_options(std::string certificate_file, std::string key_file = {}) {
    identities.emplace_back(std::move(certificate_file), std::move(key_file));
  }
  /// At least one. A client is shown the first one that fits the name it asked for (subjectAltName), else the first;
  /// several of the same names may have keys of different kinds (RSA, ECDSA).
  std::vector<tls_identity> identities;
  /// Asked before anything else is settled. The name is empty when the client gave none.
  std::function<tls_choice(std::string_view server_name)> choose;
  /// ALPN (RFC 7301) in order of preference; none: the extension is ignored. A client that offers nothing of it is
  /// refused with no_application_protocol; one that offers no ALPN at all is served.
  std::vector<std::string> alpn;
  /// Instead of `alpn`: one of those offered, or empty to refuse.
  std::function<std::string(const std::vector<std::string>& offered)> choose_alpn;
  client_certificate clients = client_certificate::none;
  /// Who may have issued client certificates; PEM. The system's trust store is not used for them.
  std::string ca_file, ca;
  /// Session tickets (RFC 5077, RFC 8446 section 4.6.1), whose key is new every `ticket_rotation`; a ticket is good
  /// for twice as long. Without them nothing is resumed: no session is kept in memory.
  bool tickets = true;
  duration ticket_rotation = std::chrono::hours{1};
  tls_version min_version = tls_version::tls1_2, max_version = tls_version::tls1_3;
  /// OpenSSL's notation. By default, for TLS 1.2 ECDHE with AES-GCM or ChaCha20 only, in the server's order.
  std::string ciphers, ciphersuites, groups;
  /// Key log lines (NSS format), which let others decrypt: appended to a file that only its owner can read, or given
  /// to a callable.
  std::string key_log_file;
  std::function<void(std::string_view line)> key_log;
  /// Also to the file that SSLKEYLOGFILE names.
  bool key_log_from_environment = false;
};

struct tls_client_options {
  tls_client_options() noexcept {}
  /// Shown to servers that ask for a certificate.
  std::vector<tls_identity> identities;
  /// For SNI and for the check of the certificate, in place of the host that is connected to. May be an IP address,
  /// which is checked but not sent (RFC 6066 section 3).
  std::string server_name;
  /// Whom to trust: the system's store (which SSL_CERT_FILE and SSL_CERT_DIR may replace), and these, PEM.
  bool system_trust = true;
  std::string ca_file, ca;
  /// DANGEROUS: neither chain nor name are checked, and anybody in between can read and change everything.
  bool insecure_accept_any_certificate = false;
  /// ALPN, in order of preference. What the server chose: transport::alpn().
  std::vector<std::string> alpn;
  /// Resume sessions with servers by host and port: as many are remembered. 0: none.
  std::size_t sessions = 1024;
  tls_version min_version = tls_version::tls1_2, max_version = tls_version::tls1_3;
  /// As in tls_server_options.
  std::string ciphers, ciphersuites, groups;
  std::string key_log_file;
  std::function<void(std::string_view line)> key_log;
  bool key_log_from_environment = false;
};

/// How one side of TLS behaves: TLS 1.2 and 1.3, no renegotiation, no compression, no early data. Immutable: one may
/// serve any number of listeners and connections, on several loops and threads.
class MIDWIRE_API tls_context {
 public:
  explicit tls_context(std::unique_ptr<detail::tls_context_impl> impl) noexcept;
  tls_context(const tls_context&) = delete;
  tls_context& operator=(const tls_context&) = delete;
  ~tls_context();
  /// The role: made by tls_server().
  bool is_server() const noexcept;
  /// For the engine's own parts.
  detail::tls_context_impl& impl() const noexcept { return *impl_; }

 private:
  std::unique_ptr<detail::tls_context_impl> impl_;
};

/// Files are read here, and not again. What cannot be used (no such file, a key that does not fit its certificate, an
/// unknown cipher) throws std::system_error with the file and the reason in its text.
MIDWIRE_API tls_ptr tls_server(tls_server_options options);
MIDWIRE_API tls_ptr tls_client(tls_client_options options = {});

/// What a handshake came to.
struct tls_info {
  tls_info() noexcept {}
  bool established = false;  ///< false: plain, or not done yet
  bool resumed = false;
  tls_version version = tls_version::tls1_3;
  std::string cipher;       ///< its standard name, e.g. TLS_AES_256_GCM_SHA384
  std::string alpn;         ///< empty: none
  std::string server_name;  ///< what the client asked for (SNI)
  /// The peer's certificate; all empty when it showed none (a client; with a resumed session too, what it showed then).
  bool peer_verified = false;             ///< chain and, for a server's, name
  std::string peer_problem;               ///< why not
  std::string peer_subject, peer_issuer;  ///< RFC 2253
  std::vector<std::string> peer_names;    ///< "DNS:a.example", "IP:127.0.0.1", "email:…", "URI:…"
  std::string peer_der;                   ///< the leaf
};

}  // namespace midwire
