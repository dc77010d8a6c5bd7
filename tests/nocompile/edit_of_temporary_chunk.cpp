// error: passing 'midwire::chunk' as 'this' argument discards qualifiers
#include <midwire/base/chunk.hpp>

void edit() {
#ifdef MISUSE
  midwire::chunk{"gone"}.writable()[0] = 1;
#else
  midwire::chunk stays{"here"};
  stays.writable()[0] = 1;
#endif
}
