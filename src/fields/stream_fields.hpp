#pragma once

#include <midwire/fields/registry.hpp>

namespace midwire::fields {

/// Fields of a proxied connection, in the order of the registry's table: the value is the field_id.
enum class stream_field : std::uint16_t {
  from_client,
  from_server,
  conn_id,
  conn_age,
  conn_octets,
  unit_index,
  unit_len,
  payload,
  ip,
  ip_src,
  ip_dst,
  ip_addr,
  ip_version,
  ipv6,
  ipv6_src,
  ipv6_dst,
  ipv6_addr,
  ipv6_version,
  tcp,
  tcp_srcport,
  tcp_dstport,
  tcp_port,
  count_,
};

}  // namespace midwire::fields
