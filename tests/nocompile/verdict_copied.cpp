// error: use of deleted function .*verdict::verdict\(const midwire::verdict&\)
#include <midwire/engine/core/stage.hpp>

midwire::verdict forward(midwire::verdict& decided) {
#ifdef MISUSE
  return decided;
#else
  return std::move(decided);
#endif
}
