#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace midwire::tests {

/// Certificates of the test's own, made as it runs. PEM texts.
struct made_certificate {
  std::string certificate, key;
  std::shared_ptr<X509> x509;
  std::shared_ptr<EVP_PKEY> pkey;
};

struct wanted_certificate {
  std::string common_name = "midwire test";
  std::string names = "DNS:localhost,IP:127.0.0.1";  // subjectAltName, as in openssl.cnf; empty: none
  bool ca = false, rsa = false;
  long starts = -3600, ends = 86400;  // seconds from now
};

inline made_certificate make_certificate(const wanted_certificate& want, const made_certificate* issuer = nullptr) {
  const auto need = [](auto* p) {
    if (!p) throw std::runtime_error{"OpenSSL refuses to make a certificate"};
    return p;
  };
  made_certificate made;
  made.pkey.reset(need(want.rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256")), EVP_PKEY_free);
  made.x509.reset(need(X509_new()), X509_free);
  X509* const x = made.x509.get();
  static long serial = 1000;
  X509_set_version(x, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(x), want.starts);
  X509_gmtime_adj(X509_getm_notAfter(x), want.ends);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(want.common_name.c_str()), -1, -1, 0);
  X509* const by = issuer ? issuer->x509.get() : x;
  X509_set_issuer_name(x, X509_get_subject_name(by));
  X509_set_pubkey(x, made.pkey.get());
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, by, x, nullptr, nullptr, 0);
  const auto add = [&](int nid, const std::string& value) {
    X509_EXTENSION* const e = need(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
  };
  add(NID_basic_constraints, want.ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
  add(NID_subject_key_identifier, "hash");
  if (want.ca) add(NID_key_usage, "critical,keyCertSign,cRLSign");
  if (!want.names.empty()) add(NID_subject_alt_name, want.names);
  if (X509_sign(x, issuer ? issuer->pkey.get() : made.pkey.get(), EVP_sha256()) == 0)
    throw std::runtime_error{"OpenSSL refuses to sign a certificate"};
  const auto text_of = [&](auto write) {
    BIO* const out = need(BIO_new(BIO_s_mem()));
    write(out);
    char* data = nullptr;
    const long size = BIO_get_mem_data(out, &data);
    std::string text{data, static_cast<std::size_t>(size)};
    BIO_free(out);
    return text;
  };
  made.certificate = text_of([&](BIO* out) { PEM_write_bio_X509(out, x); });
  made.key =
      text_of([&](BIO* out) { PEM_write_bio_PrivateKey(out, made.pkey.get(), nullptr, nullptr, 0, nullptr, nullptr); });
  return made;
}

/// A CA and a server's certificate for localhost and 127.0.0.1: made once for each process, as it takes a while.
inline const made_certificate& test_ca() {
  static const made_certificate one = make_certificate({.common_name = "test CA", .names = "", .ca = true});
  return one;
}
inline const made_certificate& test_server() {
  static const made_certificate one = make_certificate({}, &test_ca());
  return one;
}
inline const made_certificate& test_client() {
  static const made_certificate one =
      make_certificate({.common_name = "a client", .names = "email:client@example.org"}, &test_ca());
  return one;
}

}  // namespace midwire::tests
