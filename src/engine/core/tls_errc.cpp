#include <midwire/engine/core/tls_errc.hpp>

#include <string>
#include <utility>

namespace midwire {

namespace {

// RFC 8446 section 6 and appendix B.2, with those that only older versions send.
constexpr std::pair<int, const char*> alerts[] = {
    {0, "close_notify"},
    {10, "unexpected_message"},
    {20, "bad_record_mac"},
    {21, "decryption_failed"},
    {22, "record_overflow"},
    {30, "decompression_failure"},
    {40, "handshake_failure"},
    {41, "no_certificate"},
    {42, "bad_certificate"},
    {43, "unsupported_certificate"},
    {44, "certificate_revoked"},
    {45, "certificate_expired"},
    {46, "certificate_unknown"},
    {47, "illegal_parameter"},
    {48, "unknown_ca"},
    {49, "access_denied"},
    {50, "decode_error"},
    {51, "decrypt_error"},
    {60, "export_restriction"},
    {70, "protocol_version"},
    {71, "insufficient_security"},
    {80, "internal_error"},
    {86, "inappropriate_fallback"},
    {90, "user_canceled"},
    {100, "no_renegotiation"},
    {109, "missing_extension"},
    {110, "unsupported_extension"},
    {111, "certificate_unobtainable"},
    {112, "unrecognized_name"},
    {113, "bad_certificate_status_response"},
    {114, "bad_certificate_hash_value"},
    {115, "unknown_psk_identity"},
    {116, "certificate_required"},
    {120, "no_application_protocol"},
};

class category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "tls"; }
  std::string message(int value) const override {
    switch (static_cast<tls_errc>(value)) {
      case tls_errc::truncated: return "the peer ended without close_notify";
      case tls_errc::handshake_failed: return "the TLS handshake failed";
      case tls_errc::certificate_rejected: return "the peer's certificate was rejected";
      case tls_errc::record_failed: return "a TLS record was not valid";
      case tls_errc::closed_early: return "the peer ended during the TLS handshake";
      case tls_errc::too_slow: return "the TLS handshake took too long";
      case tls_errc::bad_option: return "this cannot be used for TLS";
      case tls_errc::alert_received: break;
    }
    const int number = value - static_cast<int>(tls_errc::alert_received);
    for (const auto& [known, words] : alerts)
      if (known == number) return std::string{"the peer sent the TLS alert "} + words;
    return "the peer sent the TLS alert " + std::to_string(number);
  }
};

}  // namespace

const std::error_category& tls_category() noexcept {
  static const category one;
  return one;
}

}  // namespace midwire
