#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <midwire/base/export.hpp>
#include <midwire/base/views.hpp>

namespace midwire {

namespace detail {
struct segment;
}

/// A slice of octets that is owned: usually of a pooled segment, else of an adopted string or of static storage.
///
/// Lifetime  move-only. The octets live as long as the chunk, and longer where share() made another holder.
/// Threads   stays on the thread (the loop) that made it: its count is not atomic. Asserted when it is freed.
///           Only detach() and plain values cross.
class MIDWIRE_API chunk {
 public:
  chunk() noexcept = default;
  chunk(chunk&& other) noexcept : segment_{other.segment_}, data_{other.data_}, size_{other.size_} { other.forget(); }
  chunk& operator=(chunk&& other) noexcept {
    if (this != &other) {
      release();
      segment_ = other.segment_, data_ = other.data_, size_ = other.size_;
      other.forget();
    }
    return *this;
  }
  ~chunk() { release(); }
  chunk(const char* copied) : chunk{std::string_view{copied}} {}
  chunk(std::string_view copied) : chunk{as_bytes(copied)} {}
  chunk(const std::string& copied) : chunk{std::string_view{copied}} {}
  chunk(byte_view copied);
  chunk(std::string&& adopted);
  /// Static storage only: nothing is copied, nothing is freed.
  static chunk literal(std::string_view forever) noexcept;
  /// `octets` octets of undefined content in a pooled segment, with `headroom` free octets in front.
  static chunk uninitialized(std::size_t octets, std::size_t headroom = 0);

  byte_view bytes() const& noexcept { return {data_, size_}; }
  byte_view bytes() const&& = delete;
  std::string_view text() const& noexcept { return as_text({data_, size_}); }
  std::string_view text() const&& = delete;
  /// In place when nobody shares the octets, else they are copied first.
  std::span<std::uint8_t> writable() &;
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

  /// The first `octets` (at most size()) as a chunk of their own, sharing the segment; O(1).
  chunk take_front(std::size_t octets);
  /// Forgets the first `octets`; O(1). More than size() is a bug.
  void drop_front(std::size_t octets) noexcept;
  /// Keeps the first `octets`; O(1).
  void truncate(std::size_t octets) noexcept;
  /// One more holder of the same octets; O(1).
  chunk share() const noexcept;
  /// A slice of the same octets, as one more holder; O(1).
  chunk slice(std::size_t offset, std::size_t octets) const noexcept;
  /// A deep copy, which may leave the loop.
  std::string detach() const { return std::string{as_text({data_, size_})}; }

  /// `next` behind what is here, as one run of octets. Grows in place where there is room and nobody shares it (small
  /// fronts are copied into the headroom of `next`, small backs behind the front); else both are copied once.
  void append(chunk next);
  /// Copies the octets into a segment of their size when they are less than a quarter of the one they pin.
  void compact();
  /// Octets of memory this chunk keeps alive (0 for static storage).
  std::size_t pinned() const noexcept;

 private:
  friend class buffer;
  friend class segment_pool;
  bool absorb(const chunk& next) noexcept;
  bool touches(const chunk& next) const noexcept { return segment_ == next.segment_ && data_ + size_ == next.data_; }
  chunk(detail::segment* s, std::uint8_t* data, std::size_t size) noexcept : segment_{s}, data_{data}, size_{size} {}
  void forget() noexcept { segment_ = nullptr, data_ = nullptr, size_ = 0; }
  void release() noexcept {
    if (segment_) unref(segment_);
  }
  static void unref(detail::segment*) noexcept;

  detail::segment* segment_ = nullptr;
  const std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Chunks in order. Made from whatever a chunk is made from. Two chunks fit inside without allocation.
class MIDWIRE_API buffer {
 public:
  buffer() noexcept = default;
  buffer(buffer&& other) noexcept { steal(other); }
  buffer& operator=(buffer&& other) noexcept {
    if (this != &other) {
      clear_storage();
      steal(other);
    }
    return *this;
  }
  ~buffer() { clear_storage(); }
  template <class... C>
  requires(sizeof...(C) > 0 && (std::constructible_from<chunk, C> && ...)) buffer(C&&... chunks) {
    (append(chunk(std::forward<C>(chunks))), ...);
  }

  /// Empty chunks are left out. Few octets of a large segment are copied behind the chunk before them when there is
  /// room: a row of tiny receives that has to wait does not pin a segment for each.
  /// A slice that lies right behind the last chunk makes that one longer.
  void append(chunk next);
  void append(buffer next);
  /// In front of what is here; O(1) behind a pop_front().
  void prepend(chunk previous);
  chunk* begin() noexcept { return items_ + first_; }
  chunk* end() noexcept { return items_ + last_; }
  const chunk* begin() const noexcept { return items_ + first_; }
  const chunk* end() const noexcept { return items_ + last_; }
  /// Octets, in all chunks.
  std::size_t size() const noexcept { return octets_; }
  bool empty() const noexcept { return octets_ == 0; }
  std::size_t chunks() const noexcept { return last_ - first_; }
  std::string text() const;
  /// Takes the first chunk out; a bug when empty.
  chunk pop_front();
  /// Takes the first `octets` (at most size()); O(chunks taken).
  buffer take_front(std::size_t octets);
  void drop_front(std::size_t octets) noexcept;
  /// All octets as one chunk; copies unless there is just one.
  chunk join() &&;
  void clear() noexcept;
  /// The size as it is when a chunk was edited through begin() and end().
  void recount() noexcept;

 private:
  static constexpr std::uint32_t inside = 2;
  void steal(buffer& other) noexcept;
  void clear_storage() noexcept;
  void grow();
  void make_room_in_front();
  chunk* inline_items() noexcept { return reinterpret_cast<chunk*>(inline_); }

  std::size_t octets_ = 0;
  chunk* items_ = inline_items();
  std::uint32_t first_ = 0, last_ = 0, capacity_ = inside;
  alignas(chunk) unsigned char inline_[inside * sizeof(chunk)];
};

/// The pool of segments of the calling thread: classes of 4, 16, 64 and 256 KiB are kept for reuse, up to 4 MiB in all.
class MIDWIRE_API segment_pool {
 public:
  static constexpr std::size_t classes = 4;
  static constexpr std::size_t size_of_class(std::size_t c) noexcept { return std::size_t{4096} << (2 * c); }
  /// Octets kept free in front of every receive, so that small leftovers can be put before what comes next.
  static constexpr std::size_t headroom = 256;

  /// Room for a receive of `size_of_class(c)` octets behind the headroom. The chunk has that size; truncate() it to
  /// what came.
  static chunk receive(std::size_t c);
  /// Octets in segments of this thread that are in use, and those waiting for reuse.
  static std::size_t in_use() noexcept;
  static std::size_t idle() noexcept;
};

/// Grows and shrinks the segment that a socket reads into: one class up after two full reads in a row, one down after
/// four that filled less than a quarter.
class receive_size {
 public:
  std::size_t current() const noexcept { return class_; }
  void saw(std::size_t octets, std::size_t asked) noexcept {
    if (octets == asked) {
      small_ = 0;
      if (asked >= segment_pool::size_of_class(class_) && ++full_ >= 2 &&
          class_ + std::size_t{1} < segment_pool::classes)
        ++class_, full_ = 0;
    } else if (octets < segment_pool::size_of_class(class_) / 4) {
      full_ = 0;
      if (++small_ >= 4 && class_ > 0) --class_, small_ = 0;
    } else {
      full_ = small_ = 0;
    }
  }

 private:
  std::uint8_t class_ = 1, full_ = 0, small_ = 0;
};

}  // namespace midwire
