#pragma once

#include <system_error>
#include <type_traits>

#include <midwire/base/export.hpp>

namespace midwire {

/// What went wrong with TLS. An alert of the peer (RFC 8446 section 6) is alert_received plus its number.
enum class tls_errc : int {
  truncated = 1,         ///< the peer ended without close_notify
  handshake_failed,      ///< no agreement: version, cipher, ALPN, or octets that are no TLS
  certificate_rejected,  ///< the peer's certificate did not verify, or there was none
  record_failed,         ///< a record after the handshake that does not decrypt or does not belong
  closed_early,          ///< the peer ended during the handshake
  too_slow,              ///< the handshake took longer than its limit
  bad_option,            ///< set-up: a certificate, key, cipher or the like that cannot be used
  alert_received = 1000,
};

MIDWIRE_API const std::error_category& tls_category() noexcept;
inline std::error_code make_error_code(tls_errc e) noexcept { return {static_cast<int>(e), tls_category()}; }
/// \param number  0 to 255, as on the wire
inline std::error_code tls_alert(int number) noexcept {
  return {static_cast<int>(tls_errc::alert_received) + (number & 0xff), tls_category()};
}

}  // namespace midwire

template <>
struct std::is_error_code_enum<midwire::tls_errc> : std::true_type {};
