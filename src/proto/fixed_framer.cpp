#include <midwire/proto/fixed_framer.hpp>

#include <string>
#include <utility>

namespace midwire::proto {

fixed_framer::fixed_framer(std::size_t size) : size_{size} {
  if (size == 0) throw std::invalid_argument{"messages of no octets"};
}

step fixed_framer::next(byte_view seen) noexcept {
  return seen.size() < size_ ? step::need_more(size_ - seen.size()) : step::frame(size_, 0, size_);
}

void fixed_framer::encode(chunk payload, buffer& out) const {
  if (payload.size() != size_)
    throw encode_error{"a message of " + std::to_string(payload.size()) + " octets where all have " +
                       std::to_string(size_)};
  out.append(std::move(payload));
}

}  // namespace midwire::proto
