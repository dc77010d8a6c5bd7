#include <midwire/base/chunk.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <utility>

#include <midwire/base/assert.hpp>

namespace midwire {

namespace {
struct pool;
enum class origin : std::uint8_t { pooled, sized, adopted };
}  // namespace

namespace detail {

/// The head of a block of memory; the octets follow (pooled, sized) or are those of `string` (adopted).
struct segment {
  pool* owner;
  std::uint32_t holders;
  origin from;
  std::uint8_t cls;
  std::size_t capacity;
  union {
    segment* next_idle;
    std::string* string;
  };
  std::uint8_t* octets() noexcept {
    return from == origin::adopted ? reinterpret_cast<std::uint8_t*>(string->data())
                                   : reinterpret_cast<std::uint8_t*>(this + 1);
  }
};

}  // namespace detail

using detail::segment;

namespace {

constexpr std::size_t most_idle = std::size_t{4} << 20;
// Small blocks are pooled too: a copied word should not cost a trip to the allocator.
constexpr std::size_t small_size = 512;
constexpr std::size_t all_classes = segment_pool::classes + 1;
constexpr std::size_t small_class = segment_pool::classes;

constexpr std::size_t capacity_of(std::size_t c) noexcept {
  return c == small_class ? small_size : segment_pool::size_of_class(c) + segment_pool::headroom;
}

/// One for each thread. It outlives its thread while chunks made there are alive, and goes with the last of them.
struct pool {
  std::array<segment*, all_classes> idle{};
  std::size_t idle_octets = 0, used_octets = 0, used = 0;
  bool orphaned = false;

  segment* take(std::size_t c) {
    segment* s = idle[c];
    if (s) {
      idle[c] = s->next_idle;
      idle_octets -= s->capacity;
    } else {
      s = static_cast<segment*>(::operator new(sizeof(segment) + capacity_of(c)));
      s->owner = this, s->from = origin::pooled, s->cls = static_cast<std::uint8_t>(c), s->capacity = capacity_of(c);
    }
    return started(s);
  }
  segment* take_sized(std::size_t octets) {
    auto* s = static_cast<segment*>(::operator new(sizeof(segment) + octets));
    s->owner = this, s->from = origin::sized, s->cls = 0, s->capacity = octets;
    return started(s);
  }
  segment* adopt(std::string&& text) {
    auto* s = static_cast<segment*>(::operator new(sizeof(segment)));
    s->owner = this, s->from = origin::adopted, s->cls = 0, s->string = new std::string{std::move(text)};
    s->capacity = s->string->size();
    return started(s);
  }
  segment* started(segment* s) noexcept {
    s->holders = 1;
    used_octets += s->capacity;
    ++used;
    return s;
  }
  void give_back(segment* s) noexcept {
    used_octets -= s->capacity;
    --used;
    if (s->from == origin::pooled && !orphaned && idle_octets + s->capacity <= most_idle) {
      s->next_idle = idle[s->cls];
      idle[s->cls] = s;
      idle_octets += s->capacity;
      return;
    }
    if (s->from == origin::adopted) delete s->string;
    ::operator delete(s);
    if (orphaned && used == 0) delete this;
  }
  void orphan() noexcept {
    for (auto& list : idle)
      while (list) ::operator delete(std::exchange(list, list->next_idle));
    orphaned = true;
    if (used == 0) delete this;
  }
};

struct pool_owner {
  pool* p = new pool;
  ~pool_owner() { p->orphan(); }
};

pool& this_pool() {
  thread_local pool_owner owner;
  return *owner.p;
}

segment* segment_for(pool& p, std::size_t octets) {
  if (octets <= small_size) return p.take(small_class);
  for (std::size_t c = 0; c < segment_pool::classes; ++c)
    if (octets <= capacity_of(c)) return p.take(c);
  return p.take_sized(octets);
}

}  // namespace

void chunk::unref(segment* s) noexcept {
  if (--s->holders != 0) return;
  MIDWIRE_ASSERT(s->owner->orphaned || s->owner == &this_pool());  // E21: freed on the loop that made it
  s->owner->give_back(s);
}

chunk::chunk(byte_view copied) {
  if (copied.empty()) return;
  segment_ = segment_for(this_pool(), copied.size());
  std::memcpy(segment_->octets(), copied.data(), copied.size());
  data_ = segment_->octets(), size_ = copied.size();
}

chunk::chunk(std::string&& adopted) {
  if (adopted.empty()) return;
  segment_ = this_pool().adopt(std::move(adopted));
  data_ = segment_->octets(), size_ = segment_->capacity;
}

chunk chunk::literal(std::string_view forever) noexcept {
  chunk c;
  c.data_ = as_bytes(forever).data(), c.size_ = forever.size();
  return c;
}

chunk chunk::uninitialized(std::size_t octets, std::size_t headroom) {
  segment* s = segment_for(this_pool(), octets + headroom);
  return chunk{s, s->octets() + headroom, octets};
}

std::span<std::uint8_t> chunk::writable() & {
  if (size_ == 0) return {};
  if (!segment_ || segment_->holders != 1) *this = chunk{bytes()};
  // The segment is ours alone, and segments are never const: only the view of them is.
  return {const_cast<std::uint8_t*>(data_), size_};
}

chunk chunk::take_front(std::size_t octets) {
  octets = std::min(octets, size_);
  if (octets == size_) return std::move(*this);
  chunk front = slice(0, octets);
  drop_front(octets);
  return front;
}

void chunk::drop_front(std::size_t octets) noexcept {
  MIDWIRE_ASSERT(octets <= size_);
  data_ += octets, size_ -= octets;
}

void chunk::truncate(std::size_t octets) noexcept { size_ = std::min(size_, octets); }

chunk chunk::share() const noexcept { return slice(0, size_); }

chunk chunk::slice(std::size_t offset, std::size_t octets) const noexcept {
  MIDWIRE_ASSERT(offset <= size_ && octets <= size_ - offset);
  if (octets == 0) return {};
  if (segment_) ++segment_->holders;
  return chunk{segment_, const_cast<std::uint8_t*>(data_) + offset, octets};
}

void chunk::append(chunk next) {
  if (next.empty()) return;
  if (empty()) {
    *this = std::move(next);
    return;
  }
  // Two slices that lie side by side already.
  if (segment_ && touches(next)) {
    size_ += next.size_;
    return;
  }
  const bool mine = segment_ && segment_->holders == 1;
  const bool its = next.segment_ && next.segment_->holders == 1;
  const std::size_t headroom = its ? static_cast<std::size_t>(next.data_ - next.segment_->octets()) : 0;
  if (headroom >= size_ && size_ <= next.size_) {
    std::memcpy(const_cast<std::uint8_t*>(next.data_) - size_, data_, size_);
    next.data_ -= size_, next.size_ += size_;
    *this = std::move(next);
    return;
  }
  const std::size_t used = segment_ ? static_cast<std::size_t>(data_ - segment_->octets()) + size_ : 0;
  if (mine && segment_->from != origin::adopted && segment_->capacity - used >= next.size_) {
    std::memcpy(const_cast<std::uint8_t*>(data_) + size_, next.data_, next.size_);
    size_ += next.size_;
    return;
  }
  // Growth is geometric, so that a long row of small pieces is not copied again and again.
  segment* s = segment_for(this_pool(), std::max(size_ + next.size_, size_ + size_ / 2));
  std::memcpy(s->octets(), data_, size_);
  std::memcpy(s->octets() + size_, next.data_, next.size_);
  *this = chunk{s, s->octets(), size_ + next.size_};
}

/// Takes a copy of the octets of `next` behind its own where that is cheap and saves much: they are few, pin a large
/// segment, and there is room behind what nobody shares. \return whether it did
bool chunk::absorb(const chunk& next) noexcept {
  if (segment_ && touches(next)) {
    size_ += next.size_;
    return true;
  }
  if (next.pinned() < segment_pool::size_of_class(0) || next.size_ > next.pinned() / 16) return false;
  if (!segment_ || segment_ == next.segment_ || segment_->holders != 1 || segment_->from == origin::adopted)
    return false;
  const auto used = static_cast<std::size_t>(data_ - segment_->octets()) + size_;
  if (segment_->capacity - used < next.size_) return false;
  std::memcpy(const_cast<std::uint8_t*>(data_) + size_, next.data_, next.size_);
  size_ += next.size_;
  return true;
}

void chunk::compact() {
  if (!segment_ || size_ >= segment_->capacity / 4) return;
  // A copy that would take as much again is none the better.
  if (segment_->from == origin::pooled && size_ > small_size && segment_->cls == 0) return;
  *this = chunk{bytes()};
}

std::size_t chunk::pinned() const noexcept { return segment_ ? segment_->capacity : 0; }

void buffer::steal(buffer& other) noexcept {
  octets_ = other.octets_, first_ = other.first_, last_ = other.last_, capacity_ = other.capacity_;
  if (other.items_ == other.inline_items()) {
    items_ = inline_items();
    for (auto i = first_; i != last_; ++i) {
      ::new (static_cast<void*>(items_ + i)) chunk(std::move(other.items_[i]));
      other.items_[i].~chunk();
    }
  } else {
    items_ = other.items_;
  }
  other.octets_ = 0, other.first_ = other.last_ = 0, other.capacity_ = inside, other.items_ = other.inline_items();
}

void buffer::clear_storage() noexcept {
  for (auto& c : *this) c.~chunk();
  if (items_ != inline_items()) ::operator delete(items_);
  octets_ = 0, first_ = last_ = 0, capacity_ = inside, items_ = inline_items();
}

void buffer::clear() noexcept {
  for (auto& c : *this) c.~chunk();
  octets_ = 0, first_ = last_ = 0;
}

void buffer::grow() {
  // Front gone since the last time: move down rather than grow, when that frees half of the room.
  const auto count = last_ - first_;
  chunk* to = items_;
  if (count > capacity_ / 2) {
    capacity_ *= 2;
    to = static_cast<chunk*>(::operator new(capacity_ * sizeof(chunk)));
  }
  for (std::uint32_t i = 0; i != count; ++i) {
    ::new (static_cast<void*>(to + i)) chunk(std::move(items_[first_ + i]));
    items_[first_ + i].~chunk();
  }
  if (to != items_ && items_ != inline_items()) ::operator delete(items_);
  items_ = to, first_ = 0, last_ = count;
}

void buffer::append(chunk next) {
  if (next.empty()) return;
  octets_ += next.size();
  if (first_ != last_ && items_[last_ - 1].absorb(next)) return;
  if (last_ == capacity_) grow();
  ::new (static_cast<void*>(items_ + last_)) chunk(std::move(next));
  ++last_;
}

void buffer::make_room_in_front() {
  // As much room as there are chunks: a row of them in front costs O(1) each.
  const auto count = last_ - first_, front = std::max<std::uint32_t>(count, 1), capacity = count + front;
  chunk* to = items_;
  if (capacity > capacity_) to = static_cast<chunk*>(::operator new(capacity * sizeof(chunk)));
  for (auto i = count; i-- > 0;) {
    ::new (static_cast<void*>(to + front + i)) chunk(std::move(items_[first_ + i]));
    items_[first_ + i].~chunk();
  }
  if (to != items_) {
    if (items_ != inline_items()) ::operator delete(items_);
    items_ = to, capacity_ = capacity;
  }
  first_ = front, last_ = front + count;
}

void buffer::prepend(chunk previous) {
  if (first_ == last_ || previous.empty()) return append(std::move(previous));
  octets_ += previous.size();
  if (items_[first_].segment_ && previous.touches(items_[first_])) {
    previous.size_ += items_[first_].size_;
    items_[first_] = std::move(previous);
    return;
  }
  if (first_ == 0) make_room_in_front();
  ::new (static_cast<void*>(items_ + --first_)) chunk(std::move(previous));
}

void buffer::append(buffer next) {
  if (empty()) {
    *this = std::move(next);
    return;
  }
  for (auto& c : next) append(std::move(c));
}

std::string buffer::text() const {
  std::string all;
  all.reserve(octets_);
  for (const auto& c : *this) all += c.text();
  return all;
}

chunk buffer::pop_front() {
  MIDWIRE_ASSERT(first_ != last_);
  chunk front = std::move(items_[first_]);
  items_[first_].~chunk();
  octets_ -= front.size();
  if (++first_ == last_) first_ = last_ = 0;
  return front;
}

buffer buffer::take_front(std::size_t octets) {
  if (octets >= octets_) return std::move(*this);
  buffer front;
  while (octets > 0) {
    if (begin()->size() <= octets) {
      octets -= begin()->size();
      front.append(pop_front());
    } else {
      octets_ -= octets;
      front.append(begin()->take_front(octets));
      octets = 0;
    }
  }
  return front;
}

void buffer::drop_front(std::size_t octets) noexcept {
  MIDWIRE_ASSERT(octets <= octets_);
  while (octets > 0) {
    if (begin()->size() <= octets) {
      octets -= begin()->size();
      pop_front();
    } else {
      octets_ -= octets;
      begin()->drop_front(octets);
      octets = 0;
    }
  }
}

chunk buffer::join() && {
  if (empty()) return {};
  if (chunks() == 1) return pop_front();
  chunk all = chunk::uninitialized(octets_);
  std::uint8_t* to = all.writable().data();
  for (const auto& c : *this) {
    std::memcpy(to, c.bytes().data(), c.size());
    to += c.size();
  }
  clear();
  return all;
}

void buffer::recount() noexcept {
  octets_ = 0;
  for (const auto& c : *this) octets_ += c.size();
}

chunk segment_pool::receive(std::size_t c) {
  segment* s = this_pool().take(c);
  return chunk{s, s->octets() + headroom, size_of_class(c)};
}

std::size_t segment_pool::in_use() noexcept { return this_pool().used_octets; }
std::size_t segment_pool::idle() noexcept { return this_pool().idle_octets; }

}  // namespace midwire
