// error: use of deleted function .*chunk::text\(\) const &&
#include <midwire/base/chunk.hpp>

midwire::chunk made();

char first() {
#ifdef MISUSE
  return made().text().front();
#else
  const auto stays = made();
  return stays.text().front();
#endif
}
