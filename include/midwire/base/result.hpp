#pragma once

#include <utility>
#include <variant>

#include <midwire/base/assert.hpp>
#include <midwire/base/parse_error.hpp>

namespace midwire {

template <class E>
struct failure {
  E error;
};
template <class E>
failure(E) -> failure<E>;

/// A value or an error; the member names are those of std::expected.
template <class T, class E = parse_error>
class result {
 public:
  result(T value) : state_{std::in_place_index<0>, std::move(value)} {}
  result(failure<E> f) : state_{std::in_place_index<1>, std::move(f.error)} {}
  bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }
  T& value() & { return MIDWIRE_ASSERT(has_value()), std::get<0>(state_); }
  const T& value() const& { return MIDWIRE_ASSERT(has_value()), std::get<0>(state_); }
  T&& value() && { return MIDWIRE_ASSERT(has_value()), std::move(std::get<0>(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const E& error() const { return MIDWIRE_ASSERT(!has_value()), std::get<1>(state_); }

 private:
  std::variant<T, E> state_;
};

}  // namespace midwire
