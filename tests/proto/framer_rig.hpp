#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include <midwire/base/chance.hpp>
#include <midwire/proto/framer.hpp>

namespace midwire::tests {

/// What a framer made of an input.
struct framed {
  std::vector<std::string> messages;
  std::string rest;  // not whole, or from the start of what is no message
  std::optional<parse_error> error;

  friend bool operator==(const framed&, const framed&) = default;
  friend std::ostream& operator<<(std::ostream& out, const framed& f) {
    for (const auto& m : f.messages) out << '[' << m.substr(0, 60) << ']';
    out << " rest " << f.rest.size() << " \"" << f.rest.substr(0, 60) << '"';
    return f.error ? out << ' ' << text_of(*f.error) : out;
  }
};

/// Shows the input piece by piece: `next_piece` says how many octets come.
template <proto::framer F>
framed frame_in_pieces(F f, std::string_view input, const std::function<std::size_t()>& next_piece) {
  framed got;
  const byte_view all = as_bytes(input);
  std::size_t start = 0, fed = 0, worth_while = 1;
  bool asked = true;  // what is there has been looked at
  while (!got.error) {
    if (asked) {
      if (fed == all.size()) break;
      fed += std::min(std::max<std::size_t>(next_piece(), 1), all.size() - fed);
    }
    const proto::step s = f.next(all.subspan(start, fed - start));
    asked = false;
    switch (s.what()) {
      case proto::step::kind::need_more:
        EXPECT_GE(s.at_least(), 1u);
        worth_while = fed - start + s.at_least();
        asked = true;
        break;
      case proto::step::kind::frame:
        EXPECT_LE(s.size(), fed - start);
        EXPECT_GE(s.size(), worth_while) << "it asked for more than the message needed";
        EXPECT_LE(s.payload_offset() + s.payload_size(), s.size());
        got.messages.emplace_back(input.substr(start + s.payload_offset(), s.payload_size()));
        start += s.size(), worth_while = 1;
        asked = start == fed;
        break;
      case proto::step::kind::error: got.error = s.why(); break;
    }
    if (::testing::Test::HasFailure()) break;
  }
  got.rest = input.substr(start);
  return got;
}

template <proto::framer F>
framed frame_whole(F f, std::string_view input) {
  return frame_in_pieces(std::move(f), input, [&] { return input.size(); });
}

/// The answer for the whole input, after the same came out of every cut: octet by octet, in two at every place, in
/// pieces of prime sizes, at random.
template <proto::framer F>
framed frame_all_cuts(const F& f, std::string_view input) {
  const framed want = frame_whole(f, input);
  EXPECT_EQ(frame_in_pieces(f, input, [] { return std::size_t{1}; }), want) << "octet by octet";
  for (std::size_t at = 1; at < std::min<std::size_t>(input.size(), 300); ++at) {
    bool first = true;
    EXPECT_EQ(frame_in_pieces(f, input, [&] { return std::exchange(first, false) ? at : input.size(); }), want)
        << "cut at " << at;
  }
  constexpr std::size_t primes[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47};
  std::size_t turn = 0;
  EXPECT_EQ(frame_in_pieces(f, input, [&] { return primes[turn++ % std::size(primes)]; }), want) << "primes";
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    random_source random{seed};
    EXPECT_EQ(frame_in_pieces(f, input, [&] { return 1 + random.below(9); }), want) << "seed " << seed;
  }
  return want;
}

/// The octets of a payload with its framing. What fails leaves the buffer as it was.
template <proto::framer F>
std::string encoded(F f, std::string_view payload) {
  buffer out{chunk{"<"}};
  try {
    f.encode(chunk{payload}, out);
  } catch (const proto::encode_error& e) {
    EXPECT_EQ(out.text(), "<");
    EXPECT_FALSE(std::string_view{e.what()}.empty());
    return "refused";
  }
  return out.text().substr(1);
}

/// parse(encode(x)) == x for random payloads of octets from `alphabet`, sent in a row; what cannot be framed is left
/// out. Returns how many could.
template <proto::framer F>
std::size_t round_trips(F f, std::string_view alphabet, std::size_t longest, std::uint64_t seed, int rounds = 200) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  random_source random{seed};
  std::vector<std::string> sent;
  buffer out;
  for (int i = 0; i < rounds; ++i) {
    std::string payload(random.below(longest + 1), '\0');
    for (auto& c : payload) c = alphabet[random.below(alphabet.size())];
    try {
      chunk octets{payload};
      const auto* where = octets.bytes().data();
      const std::size_t size = octets.size();
      buffer one;
      f.encode(std::move(octets), one);
      bool uncopied = size == 0;
      for (const auto& c : one) uncopied |= c.bytes().data() == where && c.size() == size;
      EXPECT_TRUE(uncopied) << "the payload was copied";
      out.append(std::move(one));
      sent.push_back(std::move(payload));
    } catch (const proto::encode_error&) {}
  }
  const std::string wire = out.text();
  const framed want{sent, "", std::nullopt};
  EXPECT_EQ(frame_whole(f, wire), want);
  EXPECT_EQ(frame_in_pieces(f, wire, [&] { return 1 + random.below(20); }), want);
  return sent.size();
}

inline std::string from_hex(std::string_view digits) {
  std::string octets;
  const auto value = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string packed;
  for (const char c : digits)
    if (c != ' ') packed += c;
  for (std::size_t i = 0; i + 1 < packed.size(); i += 2)
    octets += static_cast<char>(value(packed[i]) * 16 + value(packed[i + 1]));
  return octets;
}

}  // namespace midwire::tests
