#pragma once

#include <cstddef>
#include <functional>
#include <new>
#include <type_traits>
#include <utility>

namespace midwire {

template <class Signature>
class callback;

/// A move-only std::function. Closures of up to 48 octets that move without throwing are kept inside: no allocation.
/// Calling an empty one is a bug. It declares its constructors, so g++ 12 leaves it alone in co_await expressions.
template <class R, class... A>
class callback<R(A...)> {
 public:
  callback() noexcept = default;
  callback(std::nullptr_t) noexcept {}
  callback(callback&& other) noexcept : table_{other.table_} {
    if (table_) table_->move(other.storage_, storage_);
    other.table_ = nullptr;
  }
  callback& operator=(callback&& other) noexcept {
    if (this != &other) {
      reset();
      table_ = other.table_;
      if (table_) table_->move(other.storage_, storage_);
      other.table_ = nullptr;
    }
    return *this;
  }
  template <class F>
  requires(!std::is_same_v<std::decay_t<F>, callback> && std::is_invocable_r_v<R, std::decay_t<F>&, A...>)
      callback(F&& f) {
    using held = std::decay_t<F>;
    if constexpr (fits<held>) {
      ::new (static_cast<void*>(storage_)) held(std::forward<F>(f));
      table_ = &inside<held>;
    } else {
      ::new (static_cast<void*>(storage_)) held*(new held(std::forward<F>(f)));
      table_ = &outside<held>;
    }
  }
  ~callback() { reset(); }

  R operator()(A... arguments) { return table_->call(storage_, std::forward<A>(arguments)...); }
  explicit operator bool() const noexcept { return table_ != nullptr; }
  void reset() noexcept {
    // Empty first: what the closure owned may come back here as it goes.
    if (const auto* old = std::exchange(table_, nullptr)) old->destroy(storage_);
  }

 private:
  static constexpr std::size_t capacity = 48;
  struct operations {
    R (*call)(void*, A&&...);
    void (*move)(void* from, void* to) noexcept;
    void (*destroy)(void*) noexcept;
  };
  template <class F>
  static constexpr bool fits = sizeof(F) <= capacity &&
                               alignof(F) <= alignof(std::max_align_t) && std::is_nothrow_move_constructible_v<F>;
  template <class F>
  static constexpr operations inside = {
      [](void* p, A&&... a) -> R { return std::invoke(*static_cast<F*>(p), std::forward<A>(a)...); },
      [](void* from, void* to) noexcept {
        ::new (to) F(std::move(*static_cast<F*>(from)));
        static_cast<F*>(from)->~F();
      },
      [](void* p) noexcept { static_cast<F*>(p)->~F(); }};
  template <class F>
  static constexpr operations outside = {
      [](void* p, A&&... a) -> R { return std::invoke(**static_cast<F**>(p), std::forward<A>(a)...); },
      [](void* from, void* to) noexcept { ::new (to) F*(*static_cast<F**>(from)); },
      [](void* p) noexcept { delete *static_cast<F**>(p); }};

  const operations* table_ = nullptr;
  alignas(std::max_align_t) unsigned char storage_[capacity];
};

}  // namespace midwire
