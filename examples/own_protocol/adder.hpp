#pragma once

#include <array>
#include <cstdint>

#include "checked_framer.hpp"

/// Adds numbers up. A message of four octets is a number, most significant octet first; the answer to each is the sum
/// so far, in eight octets. An empty message starts anew; any other is answered by one octet 'E', and the connection
/// ends.
class adder : public midwire::message_protocol<checked_framer> {
  void message_received(midwire::chunk message) override {
    const auto octets = message.bytes();
    if (octets.empty()) {
      sum_ = 0;
    } else if (octets.size() == 4) {
      sum_ += midwire::load_number(octets.data(), 4, midwire::byte_order::big);
    } else {
      return refuse();
    }
    std::array<std::uint8_t, 8> answer{};
    midwire::store_number(answer.data(), sum_, answer.size(), midwire::byte_order::big);
    send_message(midwire::byte_view{answer});
  }
  void frame_failed(const midwire::parse_error&) override { refuse(); }
  void refuse() {
    send_message("E");
    transport().lose_connection();
  }

  std::uint64_t sum_ = 0;
};
