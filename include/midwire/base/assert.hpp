#pragma once

#include <midwire/base/export.hpp>

namespace midwire {
/// Prints where a bug of ours was met and aborts. Never called for data from outside.
[[noreturn]] MIDWIRE_API void assertion_failed(const char* expression, const char* file, int line) noexcept;
}  // namespace midwire

/// On in every build: a bug stops the process before it can harm data.
#define MIDWIRE_ASSERT(expression) \
  (static_cast<bool>(expression) ? void(0) : ::midwire::assertion_failed(#expression, __FILE__, __LINE__))
