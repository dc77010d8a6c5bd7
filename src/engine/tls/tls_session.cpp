#include "engine/tls/tls_session.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <system_error>

#include <midwire/base/address.hpp>

#include "engine/tls/tls_context.hpp"

namespace midwire::detail {

namespace {

// ---- the BIO: both ways to the session's own buffers, with no memory between

int bio_read(BIO* bio, char* into, std::size_t room, std::size_t* got) noexcept {
  BIO_clear_retry_flags(bio);
  auto* const session = static_cast<tls_session*>(BIO_get_data(bio));
  *got = session->give({reinterpret_cast<std::uint8_t*>(into), room});
  if (*got > 0) return 1;
  BIO_set_retry_read(bio);
  return 0;
}

int bio_write(BIO* bio, const char* octets, std::size_t size, std::size_t* taken) noexcept {
  BIO_clear_retry_flags(bio);
  auto* const session = static_cast<tls_session*>(BIO_get_data(bio));
  if (!session->take({reinterpret_cast<const std::uint8_t*>(octets), size})) return 0;
  *taken = size;
  return 1;
}

long bio_control(BIO*, int what, long, void*) noexcept { return what == BIO_CTRL_FLUSH ? 1 : 0; }

BIO_METHOD* bio_method() {
  static BIO_METHOD* const one = [] {
    BIO_METHOD* const m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "midwire");
    BIO_meth_set_read_ex(m, bio_read);
    BIO_meth_set_write_ex(m, bio_write);
    BIO_meth_set_ctrl(m, bio_control);
    BIO_meth_set_create(m, [](BIO* b) {
      BIO_set_init(b, 1);
      return 1;
    });
    return m;
  }();
  return one;
}

std::array<std::uint8_t, tls_session::record_size>& gathering_place() {
  thread_local std::array<std::uint8_t, tls_session::record_size> place;
  return place;
}

}  // namespace

tls_session::tls_session(tls_ptr with, std::string server_name, std::string where)
    : context{std::move(with)}, remember_as{std::move(where)} {
  const auto& rules = context->impl();
  ERR_clear_error();
  ssl_.reset(SSL_new(rules.sites.front().ctx.get()));
  BIO* const bio = ssl_ ? BIO_new(bio_method()) : nullptr;
  if (!bio) throw std::system_error{make_error_code(tls_errc::bad_option), "OpenSSL: " + openssl_reason()};
  BIO_set_data(bio, this);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_ex_data(ssl_.get(), session_index(), this);
  if (rules.server) {
    SSL_set_accept_state(ssl_.get());
    return;
  }
  SSL_set_connect_state(ssl_.get());
  const auto& options = rules.as_client;
  std::string name = options.server_name.empty() ? std::move(server_name) : options.server_name;
  if (name.size() > 1 && name.back() == '.') name.pop_back();  // fully qualified: certificates have no such dot
  const bool check = !options.insecure_accept_any_certificate;
  if (name.empty()) {
    if (check)
      throw std::system_error{std::make_error_code(std::errc::invalid_argument),
                              "TLS: no name to check the server's certificate against"};
  } else if (const auto literal = address::parse_ip(name, 0)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), literal->host().c_str());
  } else {
    SSL_set_hostflags(ssl_.get(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (SSL_set1_host(ssl_.get(), name.c_str()) != 1 || SSL_set_tlsext_host_name(ssl_.get(), name.c_str()) != 1)
      throw std::system_error{std::make_error_code(std::errc::invalid_argument), "TLS: '" + name + "' is no name"};
    asked_for = name;
  }
  if (remember_as.empty() || options.sessions == 0) {
    remember_as.clear();
    return;
  }
  remember_as += '/' + name;  // what was checked then is what would be checked now
  if (const auto known = context->impl().sessions.take(remember_as)) SSL_set_session(ssl_.get(), known.get());
}

tls_session::~tls_session() = default;

bool tls_session::is_server() const noexcept { return context->is_server(); }

std::size_t tls_session::give(std::span<std::uint8_t> into) noexcept {
  std::size_t given = 0;
  while (given < into.size() && !input_.empty()) {
    chunk& front = *input_.begin();
    const std::size_t n = std::min(front.size(), into.size() - given);
    std::memcpy(into.data() + given, front.bytes().data(), n);
    given += n;
    input_.drop_front(n);
  }
  return given;
}

bool tls_session::take(byte_view octets) noexcept {
  try {
    output_.append(chunk{octets});
  } catch (...) { return false; }
  output_total_ += octets.size();
  return true;
}

void tls_session::compact() {
  for (chunk& c : input_) c.compact();
}

std::size_t tls_session::readable() const noexcept { return static_cast<std::size_t>(SSL_pending(ssl_.get())); }

tls_session::status tls_session::handshake() {
  if (dead_) return status::failed;
  if (established_) return status::ok;
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    established_ = true;
    return status::ok;
  }
  return after(result, true);
}

tls_session::status tls_session::after(int result, bool in_handshake) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return status::want_input;
    case SSL_ERROR_ZERO_RETURN: return status::ended;
    default: return failed(in_handshake);
  }
}

tls_session::status tls_session::failed(bool in_handshake) {
  dead_ = true;
  const auto error = ERR_peek_error();
  const int why = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
  std::error_code code = in_handshake ? tls_errc::handshake_failed : tls_errc::record_failed;
  std::string words = openssl_reason();
  if (why >= SSL_AD_REASON_OFFSET && why < SSL_AD_REASON_OFFSET + 256) {
    code = tls_alert(why - SSL_AD_REASON_OFFSET);
    words = code.message();
  } else if (why == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    code = tls_errc::certificate_rejected;
    words = "the peer's certificate was rejected: ";
    words += X509_verify_cert_error_string(SSL_get_verify_result(ssl_.get()));
  } else if (why == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
    code = tls_errc::certificate_rejected;
    words = "the peer showed no certificate";
  } else {
    words = code.message() + ": " + words;
  }
  if (!note_.empty()) words += " (" + std::exchange(note_, {}) + ')';
  failure_ = reason{in_handshake ? ending::refused : ending::reset, code, std::move(words)};
  return status::failed;
}

tls_session::status tls_session::read(std::size_t at_most, chunk& out) {
  if (dead_) return status::failed;
  // Nothing to look at: no segment is taken to find that out.
  if (input_.empty() && SSL_has_pending(ssl_.get()) == 0 && SSL_get_shutdown(ssl_.get()) == 0)
    return status::want_input;
  const std::size_t room = std::min(at_most, record_size);
  chunk c = chunk::uninitialized(room);
  std::uint8_t* const into = c.writable().data();
  std::size_t got = 0;
  status how = status::ok;
  while (got < room) {
    std::size_t now = 0;
    ERR_clear_error();
    const int result = SSL_read_ex(ssl_.get(), into + got, room - got, &now);
    if (result != 1) {
      how = after(result, false);
      break;
    }
    got += now;
  }
  if (got == 0) return how;
  c.truncate(got);
  c.compact();
  out = std::move(c);
  return status::ok;  // what ended it is met again by the next call
}

tls_session::status tls_session::write(buffer plain, std::vector<mark>& marks) {
  while (!plain.empty()) {
    if (dead_ || end_said_) return status::failed;
    byte_view next;
    std::size_t from_front = 0;
    const chunk& front = *plain.begin();
    if (front.size() >= record_size || plain.chunks() == 1) {
      next = front.bytes().first(std::min(front.size(), record_size));
      from_front = next.size();
    } else {
      auto& place = gathering_place();
      for (const chunk& c : plain) {
        const std::size_t n = std::min(c.size(), place.size() - from_front);
        std::memcpy(place.data() + from_front, c.bytes().data(), n);
        from_front += n;
        if (from_front == place.size()) break;
      }
      next = byte_view{place}.first(from_front);
    }
    std::size_t written = 0;
    ERR_clear_error();
    const int result = SSL_write_ex(ssl_.get(), next.data(), next.size(), &written);
    if (result != 1) return failed(false);  // never for want of input: nothing is negotiated any more
    marks.push_back({output_total_, written});
    plain.drop_front(written);
  }
  return status::ok;
}

void tls_session::end() {
  if (dead_ || !established_ || std::exchange(end_said_, true)) return;
  ERR_clear_error();
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

std::string_view tls_session::alpn() const noexcept {
  const unsigned char* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &name, &size);
  return as_text({name, size});
}

tls_info tls_session::info() const {
  tls_info known;
  SSL* const ssl = ssl_.get();
  known.established = established_;
  known.server_name = asked_for;
  if (!established_) return known;
  known.resumed = SSL_session_reused(ssl) == 1;
  known.version = SSL_version(ssl) >= TLS1_3_VERSION ? tls_version::tls1_3 : tls_version::tls1_2;
  if (const SSL_CIPHER* const cipher = SSL_get_current_cipher(ssl)) known.cipher = SSL_CIPHER_standard_name(cipher);
  known.alpn = alpn();
  X509* const peer = SSL_get0_peer_certificate(ssl);
  if (!peer) return known;
  const long problem = SSL_get_verify_result(ssl);
  known.peer_verified = problem == X509_V_OK;
  if (!known.peer_verified) known.peer_problem = X509_verify_cert_error_string(problem);
  known.peer_subject = one_line(X509_get_subject_name(peer));
  known.peer_issuer = one_line(X509_get_issuer_name(peer));
  known.peer_names = alternative_names(*peer);
  const int size = i2d_X509(peer, nullptr);
  if (size > 0) {
    known.peer_der.resize(static_cast<std::size_t>(size));
    auto* into = reinterpret_cast<unsigned char*>(known.peer_der.data());
    i2d_X509(peer, &into);
  }
  return known;
}

}  // namespace midwire::detail
