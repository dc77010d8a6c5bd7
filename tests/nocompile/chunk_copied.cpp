// error: use of deleted function .*chunk::chunk\(const midwire::chunk&\)
#include <midwire/base/chunk.hpp>

void send(midwire::chunk octets);

void both(midwire::chunk octets) {
#ifdef MISUSE
  send(octets);
#else
  send(octets.share());
#endif
  send(std::move(octets));
}
