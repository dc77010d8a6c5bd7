#pragma once

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <midwire/engine/tls.hpp>

namespace midwire::detail {

template <auto Free>
struct freed_by {
  template <class T>
  void operator()(T* p) const noexcept {
    Free(p);
  }
};
template <class T, auto Free>
using owned_by_openssl = std::unique_ptr<T, freed_by<Free>>;

using ssl_ctx_ptr = owned_by_openssl<SSL_CTX, &SSL_CTX_free>;
using ssl_ptr = owned_by_openssl<SSL, &SSL_free>;
using ssl_session_ptr = owned_by_openssl<SSL_SESSION, &SSL_SESSION_free>;
using x509_ptr = owned_by_openssl<X509, &X509_free>;
using key_ptr = owned_by_openssl<EVP_PKEY, &EVP_PKEY_free>;
using bio_ptr = owned_by_openssl<BIO, &BIO_free_all>;

/// What the error queue of this thread says first, in words; empties it.
std::string openssl_reason();

/// A certificate chain and its key, ready to be used.
struct loaded_identity {
  std::vector<x509_ptr> chain;  // leaf first, never empty
  key_ptr key;
  std::string from;  // a file's name, or what stands for it
};
/// Throws std::system_error.
loaded_identity load_identity(const tls_identity& identity);
/// The certificates in a file and in a text; either may be empty. Throws std::system_error.
std::vector<x509_ptr> load_certificates(const std::string& file, const std::string& text);

/// "DNS:a.example", "IP:127.0.0.1" and the like.
std::vector<std::string> alternative_names(X509& certificate);
std::string one_line(const X509_NAME* name);

}  // namespace midwire::detail
