#pragma once

#include <cstdint>

#include <midwire/base/chunk.hpp>

#include "engine/spawn_child.hpp"

namespace midwire::detail {

/// A file, or what is left of it, on its way through a transport; and what was written behind it.
struct file_part {
  owned_fd fd;
  std::uint64_t offset = 0;
  std::uint64_t left = 0;       // neither read nor given to the driver
  std::uint64_t in_driver = 0;  // given to it, not told of as sent
  bool copying = false;         // read here and sent like anything else
  buffer behind;
};

}  // namespace midwire::detail
