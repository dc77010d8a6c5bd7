#include <midwire/engine/deferred.hpp>

#include <midwire/base/assert.hpp>

#include "engine/reactor_impl.hpp"

namespace midwire::detail {

void failure_untaken(const reason& why) {
  log(2,
      "a failure that nobody took: " + std::string{name_of(why.how())} + (why.text().empty() ? "" : ": " + why.text()));
}

reason reason_of(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const reason_error& e) { return e.why(); } catch (const std::exception& e) {
    return reason{ending::failed, {}, e.what()};
  } catch (...) { return reason{ending::failed, {}, "unknown exception"}; }
}

void post_here(callback<void()> f) {
  reactor_impl* r = here();
  MIDWIRE_ASSERT(r != nullptr);
  r->post(std::move(f));
}

}  // namespace midwire::detail
