#pragma once

#include <midwire/engine/tls.hpp>

#include "engine/tls_kit.hpp"

namespace midwire::tests {

inline tls_identity identity_of(const made_certificate& made) {
  tls_identity i;
  i.certificate = made.certificate, i.key = made.key;
  return i;
}
/// A server with the test's certificate, and a client that trusts its CA alone.
inline tls_server_options server_rules() {
  tls_server_options o;
  o.identities.push_back(identity_of(test_server()));
  return o;
}
inline tls_client_options client_rules() {
  tls_client_options o;
  o.system_trust = false, o.ca = test_ca().certificate;
  return o;
}

}  // namespace midwire::tests
