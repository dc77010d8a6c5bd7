// error: use of deleted function .*chunk::bytes\(\) const &&
#include <midwire/base/chunk.hpp>

std::size_t octets() {
#ifdef MISUSE
  return midwire::chunk{"gone at the end of this line"}.bytes().size();
#else
  const midwire::chunk stays{"here until the end"};
  return stays.bytes().size();
#endif
}
