// error: a chunk stays on the thread that made it
#include <midwire/engine/reactor.hpp>
#include <midwire/engine/task.hpp>

midwire::task<> work(midwire::reactor& r) {
#ifdef MISUSE
  co_await r.defer_to_thread([] { return midwire::chunk{"made elsewhere"}; });
#else
  co_await r.defer_to_thread([] { return midwire::chunk{"made elsewhere"}.detach(); });
#endif
}
