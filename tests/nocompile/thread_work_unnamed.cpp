// error: constraints not satisfied|no matching function
#include <string>

#include <midwire/engine/reactor.hpp>
#include <midwire/engine/task.hpp>

midwire::task<> work(midwire::reactor& r) {
  const std::string s = "text";
#ifdef MISUSE
  co_await r.defer_to_thread([s] { return s.size(); });
#else
  auto size = [s] { return s.size(); };
  co_await r.defer_to_thread(size);
  co_await r.defer_to_thread([] { return 1; });
#endif
}
