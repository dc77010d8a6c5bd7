// error: ignoring return
#include <midwire/engine/reactor.hpp>
#include <midwire/engine/task.hpp>

midwire::task<> one();
void two(midwire::reactor& r) {
#ifdef MISUSE
  one();
#else
  r.spawn(one());
#endif
}
