// error: constraints not satisfied|no matching function
#include <string>

#include <midwire/engine/reactor.hpp>
#include <midwire/engine/task.hpp>

struct job {
  std::string text;
};
struct safe_job {
  explicit safe_job(std::string t) : text{std::move(t)} {}
  std::string text;
};

midwire::task<> work(midwire::reactor& r) {
#ifdef MISUSE
  co_await r.defer_to_thread([](job j) { return j.text.size(); }, job{"text"});
#else
  job named{"text"};
  co_await r.defer_to_thread([](job j) { return j.text.size(); }, named);
  co_await r.defer_to_thread([](safe_job j) { return j.text.size(); }, safe_job{"text"});
#endif
}
