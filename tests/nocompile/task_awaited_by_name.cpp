// error: no member named 'await_ready'|passing .* discards qualifiers|no matching|cannot bind|awaitable type
#include <midwire/engine/task.hpp>

midwire::task<int> one();
midwire::task<int> two() {
  auto t = one();
#ifdef MISUSE
  co_return co_await t;
#else
  co_return co_await std::move(t);
#endif
}
