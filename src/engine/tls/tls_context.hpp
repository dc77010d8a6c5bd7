#pragma once

#include <array>
#include <chrono>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <midwire/engine/tls.hpp>

#include "engine/tls/openssl.hpp"

namespace midwire::detail {

/// The keys that session tickets are sealed with: a new one every period, good for two more after its own.
class ticket_keys {
 public:
  using clock = std::chrono::steady_clock;
  struct key {
    std::array<unsigned char, 16> name{};
    std::array<unsigned char, 32> cipher{}, mac{};
    clock::time_point made{};
  };
  explicit ticket_keys(duration period) noexcept : period_{period} {}
  ~ticket_keys();
  /// The key for new tickets. Nothing when the system gives no randomness.
  std::optional<key> current(clock::time_point now = clock::now());
  /// The key of that name, and whether it is the current one.
  std::optional<std::pair<key, bool>> find(const unsigned char* name, clock::time_point now = clock::now());

 private:
  void forget_old(clock::time_point now);
  duration period_;
  std::mutex lock_;
  std::vector<key> keys_;  // newest last
};

/// What a client remembers of servers, the least recently used forgotten first.
class session_store {
 public:
  explicit session_store(std::size_t most) noexcept : most_{most} {}
  void put(const std::string& where, ssl_session_ptr session);
  /// A TLS 1.3 ticket is given out once (RFC 8446 appendix C.4), a session of TLS 1.2 again and again.
  ssl_session_ptr take(const std::string& where);
  std::size_t size() const;

 private:
  struct entry {
    std::string where;
    std::vector<ssl_session_ptr> sessions;  // newest last
  };
  std::size_t most_;
  mutable std::mutex lock_;
  std::list<entry> used_;  // most recent first
  std::unordered_map<std::string_view, std::list<entry>::iterator> by_name_;
};

/// Where key log lines go.
class key_log {
 public:
  explicit key_log(std::function<void(std::string_view)> to) : to_{std::move(to)} {}
  ~key_log();
  /// Throws std::system_error.
  void open(const std::string& file);
  bool wanted() const noexcept { return to_ || !files_.empty(); }
  void write(std::string_view line) noexcept;

 private:
  std::function<void(std::string_view)> to_;
  std::mutex lock_;
  std::vector<int> files_;
};

class tls_session;

/// The set-up behind a tls_context: one SSL_CTX for each set of names, all with the same rules.
class tls_context_impl {
 public:
  struct site {
    ssl_ctx_ptr ctx;
    std::vector<x509_ptr> leaves;
    std::vector<std::string> names;
  };
  explicit tls_context_impl(tls_server_options options);
  explicit tls_context_impl(tls_client_options options);

  bool server;
  tls_server_options as_server;
  tls_client_options as_client;
  std::vector<site> sites;
  std::array<unsigned char, 32> id{};  // of sessions: they are resumed in the context that made them
  ticket_keys tickets;
  session_store sessions;
  key_log keys;

  /// The SSL_CTX whose certificate bears the name; the first one where none does.
  SSL_CTX* for_name(const std::string& name) const;
  /// Makes a handshake that has only just begun go on by these rules.
  void take_over(SSL* ssl, SSL_CTX* with) const;

 private:
  template <class Options>
  ssl_ctx_ptr make(const Options& options);
  static void add(site& to, loaded_identity identity);
  void trust(SSL_CTX* ctx, const std::string& file, const std::string& text, bool system, bool name_issuers);
};

/// Where an SSL keeps the tls_session around it.
int session_index();
tls_session* session_of(const SSL* ssl) noexcept;

}  // namespace midwire::detail
