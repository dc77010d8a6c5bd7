#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <memory>
#include <vector>

#include <midwire/base/address.hpp>
#include <midwire/base/chunk.hpp>
#include <midwire/base/views.hpp>
#include <midwire/engine/datagram_options.hpp>

namespace midwire::detail {

struct outgoing_datagram {
  buffer octets;
  address to;  // empty: the peer
  instant until;
};

/// What waits to be sent. Keeps its memory: a datagram costs no allocation.
class datagram_queue {
 public:
  bool empty() const noexcept { return first_ == items_.size(); }
  std::size_t size() const noexcept { return items_.size() - first_; }
  std::size_t octets() const noexcept { return octets_; }
  outgoing_datagram& operator[](std::size_t i) noexcept { return items_[first_ + i]; }
  void push(buffer octets, const address& to, instant until) {
    octets_ += octets.size();
    items_.push_back({std::move(octets), to, until});
  }
  void drop_front(std::size_t n) noexcept {
    for (; n > 0; --n) {
      octets_ -= items_[first_].octets.size();
      items_[first_++].octets.clear();
    }
    if (empty()) {
      items_.clear(), first_ = 0;
    } else if (first_ >= items_.size() / 2) {
      items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(first_));
      first_ = 0;
    }
  }
  /// Takes those out that `gone` says are done with. `gone` is called for each, in order.
  template <class F>
  void drop_if(F gone) {
    std::size_t kept = 0;
    octets_ = 0;
    for (std::size_t i = first_; i < items_.size(); ++i) {
      if (gone(items_[i])) continue;
      octets_ += items_[i].octets.size();
      if (kept != i) items_[kept] = std::move(items_[i]);
      ++kept;
    }
    items_.erase(items_.begin() + static_cast<std::ptrdiff_t>(kept), items_.end());
    first_ = 0;
  }

 private:
  std::vector<outgoing_datagram> items_;
  std::size_t first_ = 0, octets_ = 0;
};

/// What a datagram socket needs beside what all sockets have.
struct datagram_state {
  bool connected = false, unix_socket = false, reading = false;
  bool blocked = false;   ///< the kernel took no more
  bool gathered = false;  ///< in the list of those with something to send
  bool retrying = false;  ///< in the list of those that are tried again by the clock
  instant retry_at{};
  duration retry_after{};
  datagram_queue queue;
  datagram_counts counts;
  /// Who asks for writability; one that is tried again by the clock does not.
  bool wants_output() const noexcept { return blocked && !retrying; }
};

/// What the calls that move many datagrams at once are given. One for a driver, made with its first datagram socket.
/// Each datagram is received into a slot that fits the largest, of which the system backs no more with memory than
/// was ever written; it is then copied into a segment of its own size, so that a small one does not pin a large one.
struct datagram_batch {
  static constexpr std::size_t most = 32, most_pieces = 256;
  static constexpr std::size_t octets = 32 * 65536;

  std::array<mmsghdr, most> messages;
  std::array<sockaddr_storage, most> names;
  std::array<iovec, most_pieces> pieces;
  std::unique_ptr<std::uint8_t[]> room = std::make_unique_for_overwrite<std::uint8_t[]>(octets);
};

}  // namespace midwire::detail
