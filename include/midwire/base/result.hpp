#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <variant>

#include <midwire/base/assert.hpp>

namespace midwire {

/// What a parser of outside octets may complain of.
enum class parse_errc : std::uint8_t { truncated, bad_length, bad_value, too_long };
enum class layer_id : std::uint8_t { none, framer };

/// Where octets from outside stopped making sense. Trivially copyable: it travels on the data path.
struct parse_error {
  parse_errc code;
  layer_id layer;
  std::uint32_t offset;      ///< octets from the start of the outermost unit
  std::uint32_t need, have;  ///< octets the format wants, octets present
};

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
