// Lesson 12: no framer is quadratic, whatever it is fed and however that is cut. Time is judged in release builds only,
// where the program runs alone; calls are counted everywhere.
#include <chrono>
#include <functional>

#include <midwire/proto/framers.hpp>

#include "proto/framer_rig.hpp"

using namespace midwire;
using namespace midwire::proto;

namespace {

struct hostile {
  const char* name;
  // Feeds n octets; returns calls of next.
  std::function<std::size_t(std::size_t n)> feed;
};

template <framer F>
std::size_t feed(F f, std::string_view text, std::size_t piece) {
  const byte_view all = as_bytes(text);
  std::size_t calls = 0, start = 0, fed = 0;
  while (true) {
    fed = std::min(fed + piece, all.size());
    for (;;) {
      ++calls;
      const step s = f.next(all.subspan(start, fed - start));
      if (s.what() == step::kind::error) {
        ADD_FAILURE() << text_of(s.why());
        return calls;
      }
      if (s.what() == step::kind::need_more) break;
      start += s.size();
      if (start == fed) break;
    }
    if (fed == all.size()) return calls;
  }
}

std::string repeated(std::string_view unit, std::size_t octets) {
  std::string text;
  while (text.size() < octets) text += unit;
  return text;
}

constexpr std::size_t no_limit = ~std::size_t{0};

const hostile rows[] = {
    {"empty lines at once", [](std::size_t n) { return feed(line_framer{}, repeated("\n", n), n); }},
    {"empty lines in two octets", [](std::size_t n) { return feed(line_framer{}, repeated("\r\n", n), n); }},
    {"one line octet by octet", [](std::size_t n) { return feed(line_framer{no_limit}, repeated("x", n), 1); }},
    {"lone LFs where CR LF is wanted",
     [](std::size_t n) {
       return feed(line_framer{no_limit, line_end::crlf}, repeated("\n", n), 1);
     }},
    {"one delimited message octet by octet",
     [](std::size_t n) {
       return feed(delimiter_framer{"--", no_limit}, repeated("x", n), 1);
     }},
    {"delimiters that never get whole",
     [](std::size_t n) {
       return feed(delimiter_framer{std::string(1000, 'a') + "b", no_limit}, repeated("a", n), 1);
     }},
    {"and at once",
     [](std::size_t n) {
       return feed(delimiter_framer{std::string(1000, 'a') + "b", no_limit}, repeated("a", n), n);
     }},
    {"and with a b now and then",
     [](std::size_t n) {
       return feed(delimiter_framer{std::string(1000, 'a') + "b", no_limit}, repeated(std::string(999, 'a') + "b", n),
                   7);
     }},
    {"empty netstrings", [](std::size_t n) { return feed(netstring_framer{}, repeated("0:,", n), n); }},
    {"empty varint messages", [](std::size_t n) { return feed(varint_framer{}, std::string(n, '\0'), n); }},
    {"empty length-prefixed messages",
     [](std::size_t n) { return feed(length_framer{{.width = 1}}, std::string(n, '\0'), n); }},
    {"one length-prefixed message octet by octet",
     [](std::size_t n) {
       std::string text(n, 'x');
       store_number(reinterpret_cast<std::uint8_t*>(text.data()), n, 8, byte_order::big);
       return feed(length_framer{{.width = 8, .max = no_limit}}, text, 1);
     }},
    {"messages of one octet", [](std::size_t n) { return feed(fixed_framer{1}, std::string(n, 'x'), n); }},
};

double seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

TEST(Lesson12, FramersTakeLinearTime) {
  for (const auto& r : rows) {
    SCOPED_TRACE(r.name);
    constexpr std::size_t small = 256 * 1024, large = 4 * small;
    EXPECT_LE(r.feed(small), small + 1);
#ifdef MIDWIRE_RELEASE
    double best = 1e9;
    for (int i = 0; i < 3; ++i) {
      const double one = seconds([&] { r.feed(small); });
      best = std::min(best, seconds([&] { r.feed(large); }) / one);
    }
    EXPECT_LT(best, 6) << "four times the input took that many times as long";
#else
    EXPECT_LT(seconds([&] { r.feed(large); }), 30) << "quadratic";
#endif
  }
}

TEST(Lesson12, AllCutsOfACorpusGiveTheSameMessages) {
  const std::string words[] = {"",
                               "\n",
                               "\r\n",
                               "\r",
                               "a",
                               "GET / HTTP/1.1",
                               "5:hello,",
                               "0:,",
                               std::string(3, '\0'),
                               "\x05hello",
                               "--",
                               "-",
                               "\xff\xff\xff\xff",
                               "12345678901234567890"};
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    random_source random{seed};
    std::string text;
    while (text.size() < 120) text += words[random.below(std::size(words))];
    tests::frame_all_cuts(line_framer{20}, text);
    tests::frame_all_cuts(line_framer{20, line_end::crlf}, text);
    tests::frame_all_cuts(line_framer{20, line_end::lf}, text);
    tests::frame_all_cuts(delimiter_framer{"--", 40}, text);
    tests::frame_all_cuts(delimiter_framer{"\r\n\r\n", 90}, text);
    tests::frame_all_cuts(fixed_framer{7}, text);
    tests::frame_all_cuts(length_framer{{.width = 1}}, text);
    tests::frame_all_cuts(length_framer{{.width = 2, .offset = 1, .adjust = -2, .max = 400}}, text);
    tests::frame_all_cuts(netstring_framer{40}, text);
    tests::frame_all_cuts(varint_framer{60}, text);
    tests::frame_all_cuts(varint_framer{60, varint_framer::padding::allowed}, text);
  }
}
