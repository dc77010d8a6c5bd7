#include <midwire/base/parse_error.hpp>

#include <gtest/gtest.h>

#include <type_traits>

#include <midwire/base/byte_order.hpp>

using namespace midwire;

static_assert(std::is_trivially_copyable_v<parse_error>);

TEST(ParseError, SaysWhatWhereAndHowMany) {
  EXPECT_EQ(text_of({parse_errc::too_long, layer_id::line, 10, 11, 10}),
            "line at octet 10: too long: 11 octets, at most 10");
  EXPECT_EQ(text_of({parse_errc::bad_value, layer_id::varint, 1, 0, 0}), "varint message at octet 1: bad value");
  for (int i = 0; i < 8; ++i) EXPECT_NE(name_of(static_cast<layer_id>(i)), "");
}

TEST(ByteOrder, NumbersOfAllWidths) {
  for (std::size_t width = 0; width <= 8; ++width) {
    const std::uint64_t value =
        0x1122334455667788 & (width == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << 8 * width) - 1);
    std::uint8_t octets[9] = {};
    octets[width] = 0xa5;
    store_number(octets, 0x1122334455667788, width, byte_order::big);
    EXPECT_EQ(load_number(octets, width, byte_order::big), value);
    if (width > 0) { EXPECT_EQ(octets[width - 1], 0x88); }
    store_number(octets, 0x1122334455667788, width, byte_order::little);
    EXPECT_EQ(load_number(octets, width, byte_order::little), value);
    if (width > 0) { EXPECT_EQ(octets[0], 0x88); }
    EXPECT_EQ(octets[width], 0xa5);
  }
}
