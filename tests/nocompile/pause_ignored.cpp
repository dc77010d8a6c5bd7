// error: ignoring return value of .*pause
#include <midwire/engine/core/stage.hpp>

void stop_a_moment(midwire::stage_context& context) {
#ifdef MISUSE
  context.pause(midwire::direction::to_server);
#else
  const auto until_the_end_of_this_block = context.pause(midwire::direction::to_server);
#endif
}
