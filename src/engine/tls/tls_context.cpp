#include "engine/tls/tls_context.hpp"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "engine/tls/tls_session.hpp"

namespace midwire {

namespace detail {

namespace {

// Forward secrecy and authenticated encryption only. What a client without AES in hardware likes best comes first for
// it (SSL_OP_PRIORITIZE_CHACHA).
constexpr const char* default_ciphers =
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"
    "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256";
constexpr const char* default_ciphersuites =
    "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";
constexpr const char* default_groups = "X25519:P-256:P-384:X448:P-521";

[[noreturn]] void refuse(const std::string& what) { throw std::system_error{tls_errc::bad_option, what}; }

int number_of(tls_version v) noexcept { return v == tls_version::tls1_2 ? TLS1_2_VERSION : TLS1_3_VERSION; }

/// A list as the wire has it: each name behind an octet that tells its length.
std::string on_the_wire(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) {
    if (name.empty() || name.size() > 255) refuse("ALPN: a name must have 1 to 255 octets");
    out += static_cast<char>(name.size());
    out += name;
  }
  if (out.size() > 65535) refuse("ALPN: too many names");
  return out;
}

std::vector<std::string> off_the_wire(byte_view list) {
  std::vector<std::string> names;
  while (!list.empty() && list.size() > list[0]) {
    names.emplace_back(as_text(list.subspan(1, list[0])));
    list = list.subspan(1 + std::size_t{list[0]});
  }
  return names;
}

// ---- what OpenSSL calls: nothing may be thrown through it

int choose_protocol(SSL* ssl, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                    unsigned in_size, void* self) noexcept {
  const auto& context = *static_cast<const tls_context_impl*>(self);
  const auto& options = context.as_server;
  try {
    if (!options.choose_alpn) {
      for (const auto& mine : options.alpn)
        for (byte_view list{in, in_size}; !list.empty() && list.size() > list[0];
             list = list.subspan(1 + std::size_t{list[0]}))
          if (as_text(list.subspan(1, list[0])) == mine) {
            *out = list.data() + 1, *out_size = list[0];
            return SSL_TLSEXT_ERR_OK;
          }
      return options.alpn.empty() ? SSL_TLSEXT_ERR_NOACK : SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    const std::string chosen = options.choose_alpn(off_the_wire({in, in_size}));
    for (byte_view list{in, in_size}; !list.empty() && list.size() > list[0];
         list = list.subspan(1 + std::size_t{list[0]}))
      if (as_text(list.subspan(1, list[0])) == chosen) {
        *out = list.data() + 1, *out_size = list[0];
        return SSL_TLSEXT_ERR_OK;
      }
  } catch (const std::exception& e) { session_of(ssl)->note(e.what()); } catch (...) {
    session_of(ssl)->note("unknown exception");
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/// The host_name of a server_name extension (RFC 6066 section 3); empty: none, or malformed (which OpenSSL tells the
/// client in a moment).
std::string server_name_in(byte_view extension) {
  if (extension.size() < 5 || extension[2] != TLSEXT_NAMETYPE_host_name) return {};
  const std::size_t size = std::size_t{extension[3]} << 8 | extension[4];
  if (size == 0 || size > 255 || extension.size() < 5 + size) return {};
  return std::string{as_text(extension.subspan(5, size))};
}

/// Before anything of the hello is used: what a ticket in it may resume depends on the context that is chosen here.
int choose_context(SSL* ssl, int* alert, void*) noexcept {
  tls_session& session = *session_of(ssl);
  const unsigned char* extension = nullptr;
  std::size_t size = 0;
  try {
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &extension, &size) == 1)
      session.asked_for = server_name_in({extension, size});
    const tls_context_impl* use = &session.context->impl();
    // Those that are chosen may choose on, a little.
    for (int hops = 0; use->as_server.choose; ++hops) {
      tls_choice choice = use->as_server.choose(session.asked_for);
      if (choice.refused() || hops == 4 || (choice.context() && !choice.context()->is_server())) {
        session.note(choice.refused() ? "the name '" + session.asked_for + "' was refused"
                                      : "no server's context was chosen");
        *alert = choice.refused() ? SSL_AD_UNRECOGNIZED_NAME : SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
      }
      if (!choice.context()) break;
      session.chosen = choice.context();
      use = &session.chosen->impl();
    }
    SSL_CTX* const with = use->for_name(session.asked_for);
    if (with != SSL_get_SSL_CTX(ssl)) use->take_over(ssl, with);
    return SSL_CLIENT_HELLO_SUCCESS;
  } catch (const std::exception& e) { session.note(e.what()); } catch (...) {
    session.note("unknown exception");
  }
  *alert = SSL_AD_INTERNAL_ERROR;
  return SSL_CLIENT_HELLO_ERROR;
}

int know_server_name(SSL*, int*, void*) noexcept { return SSL_TLSEXT_ERR_OK; }

/// Seals and opens tickets (RFC 5077 section 4).
int seal_ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                int sealing) noexcept {
  auto& keys = session_of(ssl)->context->impl().tickets;
  std::optional<ticket_keys::key> key;
  bool current = true;
  try {
    if (sealing) {
      key = keys.current();
    } else if (auto found = keys.find(name)) {
      key = found->first, current = found->second;
    }
  } catch (...) { return -1; }
  if (!key) return sealing ? -1 : 0;
  char digest[] = "SHA256";
  const OSSL_PARAM how[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac.data(), key->mac.size()),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end(),
  };
  bool good = EVP_MAC_CTX_set_params(mac, how) == 1;
  if (sealing) {
    std::memcpy(name, key->name.data(), key->name.size());
    good = good && RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 &&
           EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), nullptr, key->cipher.data(), iv) == 1;
  } else {
    good = good && EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), nullptr, key->cipher.data(), iv) == 1;
  }
  OPENSSL_cleanse(key->cipher.data(), key->cipher.size());
  OPENSSL_cleanse(key->mac.data(), key->mac.size());
  // 2 asks for a new ticket: TLS 1.3 clients use each once (RFC 8446 appendix C.4).
  return !good ? -1 : current && SSL_version(ssl) < TLS1_3_VERSION ? 1 : 2;
}

int remember_session(SSL* ssl, SSL_SESSION* made) noexcept {
  tls_session* const session = session_of(ssl);
  if (!session || session->remember_as.empty()) return 0;
  ssl_session_ptr owned{made};
  try {
    session->context->impl().sessions.put(session->remember_as, std::move(owned));
  } catch (...) {}
  return 1;  // it is ours now
}

void log_keys(const SSL* ssl, const char* line) noexcept {
  const tls_session& session = *session_of(ssl);
  (session.chosen ? session.chosen : session.context)->impl().keys.write(line);
}

}  // namespace

int session_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}
tls_session* session_of(const SSL* ssl) noexcept {
  return static_cast<tls_session*>(SSL_get_ex_data(ssl, session_index()));
}

// ---- tickets

ticket_keys::~ticket_keys() {
  for (auto& k : keys_) OPENSSL_cleanse(&k, sizeof k);
}

void ticket_keys::forget_old(clock::time_point now) {
  const auto old = std::find_if(keys_.begin(), keys_.end(), [&](const key& k) { return now - k.made < 3 * period_; });
  for (auto k = keys_.begin(); k != old; ++k) OPENSSL_cleanse(&*k, sizeof *k);
  keys_.erase(keys_.begin(), old);
}

std::optional<ticket_keys::key> ticket_keys::current(clock::time_point now) {
  const std::lock_guard hold{lock_};
  forget_old(now);
  if (keys_.empty() || now - keys_.back().made >= period_) {
    key fresh;
    if (RAND_bytes(fresh.name.data(), static_cast<int>(fresh.name.size())) != 1 ||
        RAND_priv_bytes(fresh.cipher.data(), static_cast<int>(fresh.cipher.size())) != 1 ||
        RAND_priv_bytes(fresh.mac.data(), static_cast<int>(fresh.mac.size())) != 1)
      return std::nullopt;
    fresh.made = now;
    keys_.push_back(fresh);
    OPENSSL_cleanse(&fresh, sizeof fresh);
  }
  return keys_.back();
}

std::optional<std::pair<ticket_keys::key, bool>> ticket_keys::find(const unsigned char* name, clock::time_point now) {
  const std::lock_guard hold{lock_};
  forget_old(now);
  for (const auto& k : keys_)
    if (std::memcmp(k.name.data(), name, k.name.size()) == 0)
      return std::pair{k, &k == &keys_.back() && now - k.made < period_};
  return std::nullopt;
}

// ---- sessions of a client

void session_store::put(const std::string& where, ssl_session_ptr session) {
  constexpr std::size_t for_one = 4;
  if (most_ == 0) return;
  const std::lock_guard hold{lock_};
  if (const auto it = by_name_.find(where); it != by_name_.end()) {
    used_.splice(used_.begin(), used_, it->second);
  } else {
    used_.push_front({where, {}});
    by_name_.emplace(used_.front().where, used_.begin());
  }
  auto& sessions = used_.front().sessions;
  if (sessions.size() == for_one) sessions.erase(sessions.begin());
  sessions.push_back(std::move(session));
  if (used_.size() > most_) {
    by_name_.erase(used_.back().where);
    used_.pop_back();
  }
}

ssl_session_ptr session_store::take(const std::string& where) {
  const std::lock_guard hold{lock_};
  const auto it = by_name_.find(where);
  if (it == by_name_.end()) return nullptr;
  used_.splice(used_.begin(), used_, it->second);
  auto& sessions = used_.front().sessions;
  ssl_session_ptr given;
  while (!given && !sessions.empty()) {
    SSL_SESSION* const newest = sessions.back().get();
    if (SSL_SESSION_is_resumable(newest) != 1) {
      sessions.pop_back();
    } else if (SSL_SESSION_get_protocol_version(newest) >= TLS1_3_VERSION) {
      given = std::move(sessions.back());
      sessions.pop_back();
    } else {
      given.reset(SSL_SESSION_dup(newest));  // several connections at once would share what they change
      if (!given) break;
    }
  }
  if (sessions.empty()) {
    by_name_.erase(used_.front().where);
    used_.pop_front();
  }
  return given;
}

std::size_t session_store::size() const {
  const std::lock_guard hold{lock_};
  return used_.size();
}

// ---- key log

key_log::~key_log() {
  for (const int fd : files_) ::close(fd);
}

void key_log::open(const std::string& file) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) throw std::system_error{errno, std::generic_category(), file};
  files_.push_back(fd);
}

void key_log::write(std::string_view line) noexcept {
  try {
    const std::lock_guard hold{lock_};
    if (to_) to_(line);
    const std::string whole = std::string{line} + '\n';
    for (const int fd : files_)
      if (::write(fd, whole.data(), whole.size()) < 0) continue;  // a full disk does not end connections
  } catch (...) {}
}

// ---- set-up

template <class Options>
ssl_ctx_ptr tls_context_impl::make(const Options& options) {
  ERR_clear_error();
  ssl_ctx_ptr ctx{SSL_CTX_new(server ? TLS_server_method() : TLS_client_method())};
  if (!ctx) refuse("OpenSSL: " + openssl_reason());
  SSL_CTX_set_options(ctx.get(), SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                     SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_QUERY_MTU);
  SSL_CTX_clear_options(ctx.get(), SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_LEGACY_SERVER_CONNECT |
                                       SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
  SSL_CTX_set_mode(ctx.get(), SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
  if (options.min_version > options.max_version) refuse("TLS: min_version is above max_version");
  SSL_CTX_set_min_proto_version(ctx.get(), number_of(options.min_version));
  SSL_CTX_set_max_proto_version(ctx.get(), number_of(options.max_version));
  const auto or_default = [](const std::string& mine, const char* otherwise) {
    return mine.empty() ? otherwise : mine.c_str();
  };
  if (SSL_CTX_set_cipher_list(ctx.get(), or_default(options.ciphers, default_ciphers)) != 1)
    refuse("TLS ciphers '" + options.ciphers + "': " + openssl_reason());
  if (SSL_CTX_set_ciphersuites(ctx.get(), or_default(options.ciphersuites, default_ciphersuites)) != 1)
    refuse("TLS ciphersuites '" + options.ciphersuites + "': " + openssl_reason());
  if (SSL_CTX_set1_groups_list(ctx.get(), or_default(options.groups, default_groups)) != 1)
    refuse("TLS groups '" + options.groups + "': " + openssl_reason());
  SSL_CTX_set_default_passwd_cb(ctx.get(), [](char*, int, int, void*) { return -1; });
  if (keys.wanted()) SSL_CTX_set_keylog_callback(ctx.get(), log_keys);
  return ctx;
}

void tls_context_impl::add(site& to, loaded_identity identity) {
  STACK_OF(X509)* const chain = sk_X509_new_null();
  for (std::size_t i = 1; i < identity.chain.size(); ++i) sk_X509_push(chain, identity.chain[i].get());
  ERR_clear_error();
  const bool good =
      SSL_CTX_use_cert_and_key(to.ctx.get(), identity.chain.front().get(), identity.key.get(), chain, 0) == 1;
  sk_X509_free(chain);
  if (!good) refuse(identity.from + ": " + openssl_reason());
  to.leaves.push_back(std::move(identity.chain.front()));
}

void tls_context_impl::trust(SSL_CTX* ctx, const std::string& file, const std::string& text, bool system,
                             bool name_issuers) {
  ERR_clear_error();
  if (system && SSL_CTX_set_default_verify_paths(ctx) != 1) refuse("the system's trust store: " + openssl_reason());
  for (auto& one : load_certificates(file, text)) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), one.get()) != 1)
      refuse((file.empty() ? "the CA given as text" : file) + ": " + openssl_reason());
    if (name_issuers && SSL_CTX_add_client_CA(ctx, one.get()) != 1) refuse(file + ": " + openssl_reason());
  }
  // Who is named here is trusted itself, whoever issued it.
  X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
}

tls_context_impl::tls_context_impl(tls_server_options options)
    : server{true},
      as_server{std::move(options)},
      tickets{std::max<duration>(as_server.ticket_rotation, std::chrono::seconds{1})},
      sessions{0},
      keys{as_server.key_log} {
  auto& o = as_server;
  if (o.identities.empty() && !o.choose) refuse("a TLS server needs a certificate");
  if (o.clients != client_certificate::none && o.ca_file.empty() && o.ca.empty())
    refuse("client certificates are asked for, and no CA is named that issues them");
  on_the_wire(o.alpn);
  if (!o.key_log_file.empty()) keys.open(o.key_log_file);
  if (const char* const named = o.key_log_from_environment ? std::getenv("SSLKEYLOGFILE") : nullptr; named && *named)
    keys.open(named);
  if (RAND_bytes(id.data(), static_cast<int>(id.size())) != 1) refuse("no randomness");
  const auto lifetime = std::chrono::duration_cast<std::chrono::seconds>(2 * o.ticket_rotation).count();
  const auto add_site = [&]() -> site& {
    site s;
    s.ctx = make(o);
    SSL_CTX* const ctx = s.ctx.get();
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(ctx, id.data(), static_cast<unsigned>(id.size()));
    // Also without tickets of its own: a context that is chosen later may have them.
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, seal_ticket);
    if (o.tickets) {
      SSL_CTX_set_timeout(ctx, static_cast<long>(std::clamp<std::int64_t>(lifetime, 1, 604800)));
    } else {
      SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
      SSL_CTX_set_num_tickets(ctx, 0);
    }
    SSL_CTX_set_client_hello_cb(ctx, choose_context, nullptr);
    SSL_CTX_set_tlsext_servername_callback(ctx, know_server_name);
    if (!o.alpn.empty() || o.choose_alpn) SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, this);
    if (o.clients != client_certificate::none) {
      trust(ctx, o.ca_file, o.ca, false, true);
      SSL_CTX_set_verify(ctx,
                         o.clients == client_certificate::require ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                                                                  : SSL_VERIFY_PEER,
                         nullptr);
    }
    sites.push_back(std::move(s));
    return sites.back();
  };
  for (const auto& identity : o.identities) {
    auto loaded = load_identity(identity);
    auto names = alternative_names(*loaded.chain.front());
    std::sort(names.begin(), names.end());
    const int kind = EVP_PKEY_get_base_id(loaded.key.get());
    site* fits = nullptr;
    for (auto& s : sites) {
      const bool taken = std::any_of(s.leaves.begin(), s.leaves.end(), [&](const x509_ptr& other) {
        return EVP_PKEY_get_base_id(X509_get0_pubkey(other.get())) == kind;
      });
      if (s.names == names && !taken) fits = &s;
    }
    if (!fits) {
      fits = &add_site();
      fits->names = std::move(names);
    }
    add(*fits, std::move(loaded));
  }
  if (sites.empty()) add_site();  // `choose` has all certificates
}

tls_context_impl::tls_context_impl(tls_client_options options)
    : server{false}, as_client{std::move(options)}, tickets{{}}, sessions{as_client.sessions}, keys{as_client.key_log} {
  auto& o = as_client;
  if (!o.key_log_file.empty()) keys.open(o.key_log_file);
  if (const char* const named = o.key_log_from_environment ? std::getenv("SSLKEYLOGFILE") : nullptr; named && *named)
    keys.open(named);
  site s;
  s.ctx = make(o);
  SSL_CTX* const ctx = s.ctx.get();
  trust(ctx, o.ca_file, o.ca, o.system_trust, false);
  SSL_CTX_set_verify(ctx, o.insecure_accept_any_certificate ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, nullptr);
  const std::string alpn = on_the_wire(o.alpn);
  if (!alpn.empty() && SSL_CTX_set_alpn_protos(ctx, as_bytes(alpn).data(), static_cast<unsigned>(alpn.size())) != 0)
    refuse("ALPN: " + openssl_reason());
  if (o.sessions > 0) {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, remember_session);
  } else {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  }
  for (const auto& identity : o.identities) add(s, load_identity(identity));
  sites.push_back(std::move(s));
}

SSL_CTX* tls_context_impl::for_name(const std::string& name) const {
  if (!name.empty() && sites.size() > 1)
    for (const auto& s : sites)
      for (const auto& leaf : s.leaves)
        if (X509_check_host(leaf.get(), name.data(), name.size(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, nullptr) == 1)
          return s.ctx.get();
  return sites.front().ctx.get();
}

void tls_context_impl::take_over(SSL* ssl, SSL_CTX* with) const {
  const auto& o = as_server;
  SSL_set_SSL_CTX(ssl, with);  // certificates, trust, ALPN; the rest is the connection's own
  SSL_set_verify(ssl, SSL_CTX_get_verify_mode(with), nullptr);
  SSL_set_session_id_context(ssl, id.data(), static_cast<unsigned>(id.size()));
  SSL_set_min_proto_version(ssl, number_of(o.min_version));
  SSL_set_max_proto_version(ssl, number_of(o.max_version));
  SSL_set_cipher_list(ssl, o.ciphers.empty() ? default_ciphers : o.ciphers.c_str());
  SSL_set_ciphersuites(ssl, o.ciphersuites.empty() ? default_ciphersuites : o.ciphersuites.c_str());
  SSL_set1_groups_list(ssl, o.groups.empty() ? default_groups : o.groups.c_str());
  if (o.tickets)
    SSL_clear_options(ssl, SSL_OP_NO_TICKET);
  else
    SSL_set_options(ssl, SSL_OP_NO_TICKET);
  SSL_set_num_tickets(ssl, SSL_CTX_get_num_tickets(with));
}

}  // namespace detail

tls_context::tls_context(std::unique_ptr<detail::tls_context_impl> impl) noexcept : impl_{std::move(impl)} {}
tls_context::~tls_context() = default;
bool tls_context::is_server() const noexcept { return impl_->server; }

tls_ptr tls_server(tls_server_options options) {
  return std::make_shared<const tls_context>(std::make_unique<detail::tls_context_impl>(std::move(options)));
}
tls_ptr tls_client(tls_client_options options) {
  return std::make_shared<const tls_context>(std::make_unique<detail::tls_context_impl>(std::move(options)));
}

}  // namespace midwire
