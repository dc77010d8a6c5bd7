// Certificates and keys from files and texts.
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>

#include <midwire/base/address.hpp>

#include "engine/tls/openssl.hpp"

namespace midwire::detail {

namespace {

constexpr std::size_t most_octets = std::size_t{16} << 20;

[[noreturn]] void refuse(const std::string& what) { throw std::system_error{tls_errc::bad_option, what}; }

std::string read_file(const std::string& name) {
  errno = 0;
  std::ifstream in{name, std::ios::binary};
  std::string text;
  std::array<char, 16384> piece;
  while (in && text.size() <= most_octets) {
    in.read(piece.data(), piece.size());
    text.append(piece.data(), static_cast<std::size_t>(in.gcount()));
  }
  if (!in.eof()) {
    if (text.size() > most_octets) refuse(name + ": more than 16 MiB");
    throw std::system_error{errno != 0 ? errno : EIO, std::generic_category(), name};
  }
  return text;
}

bio_ptr reader(const std::string& text) {
  return bio_ptr{BIO_new_mem_buf(text.data(), static_cast<int>(std::min(text.size(), most_octets)))};
}

/// Without this OpenSSL would ask for a password at the terminal.
int give_password(char* into, int room, int, void* password) {
  const auto& p = *static_cast<const std::string*>(password);
  if (p.empty() || p.size() > static_cast<std::size_t>(room)) return -1;
  std::memcpy(into, p.data(), p.size());
  return static_cast<int>(p.size());
}

std::vector<x509_ptr> certificates_in(const std::string& text, const std::string& from) {
  std::vector<x509_ptr> found;
  const auto in = reader(text);
  std::string none;
  ERR_clear_error();
  while (X509* one = PEM_read_bio_X509_AUX(in.get(), nullptr, give_password, &none)) found.emplace_back(one);
  const auto last = ERR_peek_last_error();
  if (ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE)
    ERR_clear_error();  // that was the last one
  else if (last != 0)
    refuse(from + ": a certificate that cannot be read (" + openssl_reason() + ")");
  if (found.empty()) refuse(from + ": no certificate (PEM) in it");
  return found;
}

}  // namespace

std::string openssl_reason() {
  const auto error = ERR_peek_error();
  const char* const words = ERR_reason_error_string(error);
  std::string said = words ? words : error != 0 ? "error " + std::to_string(error) : "unknown error";
  ERR_clear_error();
  return said;
}

loaded_identity load_identity(const tls_identity& identity) {
  loaded_identity made;
  const bool by_file = identity.certificate.empty();
  made.from = by_file ? identity.certificate_file : "the certificate given as text";
  if (by_file && identity.certificate_file.empty()) refuse("a TLS identity without a certificate");
  const std::string text = by_file ? read_file(identity.certificate_file) : identity.certificate;
  made.chain = certificates_in(text, made.from);
  std::string key_from = made.from, key_text;
  if (!identity.key.empty()) {
    key_from = "the key given as text", key_text = identity.key;
  } else if (!identity.key_file.empty()) {
    key_from = identity.key_file, key_text = read_file(identity.key_file);
  } else {
    key_text = text;
  }
  const bool has_key = key_text.find("PRIVATE KEY-----") != std::string::npos;
  std::string password = identity.password;
  ERR_clear_error();
  made.key.reset(PEM_read_bio_PrivateKey(reader(key_text).get(), nullptr, give_password, &password));
  OPENSSL_cleanse(key_text.data(), key_text.size());
  OPENSSL_cleanse(password.data(), password.size());
  if (!made.key) {
    const std::string why =
        !has_key ? "no private key (PEM) in it" : "a key that cannot be read (" + openssl_reason() + ")";
    ERR_clear_error();
    refuse(key_from + ": " + why);
  }
  if (X509_check_private_key(made.chain.front().get(), made.key.get()) != 1) {
    ERR_clear_error();
    refuse(key_from + ": the key does not belong to the certificate of " + made.from);
  }
  return made;
}

std::vector<x509_ptr> load_certificates(const std::string& file, const std::string& text) {
  std::vector<x509_ptr> all;
  if (!file.empty()) all = certificates_in(read_file(file), file);
  if (!text.empty())
    for (auto& one : certificates_in(text, "the CA given as text")) all.push_back(std::move(one));
  return all;
}

std::string one_line(const X509_NAME* name) {
  const bio_ptr out{BIO_new(BIO_s_mem())};
  if (!name || !out || X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_RFC2253) < 0) return {};
  char* data = nullptr;
  const auto size = BIO_get_mem_data(out.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

std::vector<std::string> alternative_names(X509& certificate) {
  std::vector<std::string> names;
  auto* const all = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; all && i < sk_GENERAL_NAME_num(all); ++i) {
    int kind = 0;
    const auto* const value =
        static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(all, i), &kind));
    if (kind != GEN_DNS && kind != GEN_IPADD && kind != GEN_EMAIL && kind != GEN_URI) continue;
    const byte_view octets{ASN1_STRING_get0_data(value), static_cast<std::size_t>(ASN1_STRING_length(value))};
    if (kind == GEN_DNS) names.push_back("DNS:" + std::string{as_text(octets)});
    if (kind == GEN_EMAIL) names.push_back("email:" + std::string{as_text(octets)});
    if (kind == GEN_URI) names.push_back("URI:" + std::string{as_text(octets)});
    if (kind == GEN_IPADD && octets.size() == 4) {
      std::array<std::uint8_t, 4> four{};
      std::copy(octets.begin(), octets.end(), four.begin());
      names.push_back("IP:" + address::ipv4(four, 0).host());
    }
    if (kind == GEN_IPADD && octets.size() == 16) {
      std::array<std::uint8_t, 16> sixteen{};
      std::copy(octets.begin(), octets.end(), sixteen.begin());
      names.push_back("IP:" + address::ipv6(sixteen, 0).host());
    }
  }
  GENERAL_NAMES_free(all);
  return names;
}

}  // namespace midwire::detail
