#include <midwire/base/assert.hpp>

#include <cstdio>
#include <cstdlib>

namespace midwire {

void assertion_failed(const char* expression, const char* file, int line) noexcept {
  std::fprintf(stderr, "midwire: bug: %s does not hold at %s:%d\n", expression, file, line);
  std::abort();
}

}  // namespace midwire
