// error: ignoring returned value of type 'midwire::verdict'
#include <midwire/engine/core/stage.hpp>

midwire::verdict forward(midwire::chunk data) {
#ifdef MISUSE
  midwire::verdict::pass(std::move(data));
  return midwire::verdict::pass({});
#else
  return midwire::verdict::pass(std::move(data));
#endif
}
