// error: use of deleted function .*buffer::buffer\(const midwire::buffer&\)
#include <midwire/base/chunk.hpp>

midwire::buffer twice(midwire::buffer octets) {
#ifdef MISUSE
  midwire::buffer again = octets;
#else
  midwire::buffer again = std::move(octets);
#endif
  return again;
}
