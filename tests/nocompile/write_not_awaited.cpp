// error: ignoring return
#include <midwire/engine/stream.hpp>
#include <midwire/engine/task.hpp>

midwire::task<> greet(midwire::stream& s) {
#ifdef MISUSE
  s.write("hello");
  co_return;
#else
  co_await s.write("hello");
#endif
}
