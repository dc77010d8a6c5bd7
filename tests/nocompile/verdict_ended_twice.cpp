// error: passing 'midwire::verdict' as 'this' argument discards qualifiers
#include <midwire/engine/core/stage.hpp>

midwire::verdict end(midwire::chunk data) {
  auto decided = midwire::verdict::pass(std::move(data));
#ifdef MISUSE
  return decided.then_close();
#else
  return std::move(decided).then_close();
#endif
}
