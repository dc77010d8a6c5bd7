#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <midwire/base/address.hpp>
#include <midwire/base/chance.hpp>
#include <midwire/base/views.hpp>

namespace midwire::fields {

/// What holds for a whole connection: its two ends, as if midwire were not between them.
struct connection_facts {
  address client, server;
  std::uint64_t id = 0;         ///< counts from 1, per listener
  std::uint64_t listener = 0;   ///< hash_text() of the mode as written
  std::uint64_t seed = 0;
};

/// One unit of a stream, as rules see it. Borrows everything: valid during the call.
struct stream_unit {
  const connection_facts* conn = nullptr;
  direction dir = direction::to_server;
  byte_view payload;
  std::uint64_t index = 1;   ///< in its direction, from 1
  std::uint64_t before = 0;  ///< octets of this direction before this unit (conn.octets)
  duration age{};            ///< of the connection (conn.age)
  std::uint64_t rule = 0;    ///< hash of the rule's name or text: for chance()
};

}  // namespace midwire::fields
