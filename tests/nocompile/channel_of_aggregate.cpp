// error: give it a constructor
#include <string>

#include <midwire/engine/channel.hpp>
#include <midwire/engine/task.hpp>

struct item {
#ifndef MISUSE
  explicit item(std::string t) : text{std::move(t)} {}
#endif
  std::string text;
};

midwire::task<> send(midwire::channel<item>& to) { co_await to.send(item{"text"}); }
