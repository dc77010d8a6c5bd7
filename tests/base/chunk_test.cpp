#include <midwire/base/chunk.hpp>

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include <midwire/base/chance.hpp>

using midwire::as_bytes;
using midwire::buffer;
using midwire::chunk;
using midwire::random_source;
using midwire::segment_pool;

TEST(Chunk, MadeFromEveryKindOfText) {
  chunk copied{"abc"}, view{std::string_view{"abc"}}, adopted{std::string{"abc"}}, octets{as_bytes("abc")};
  chunk fixed = chunk::literal("abc");
  for (const chunk* c : {&copied, &view, &adopted, &octets, &fixed}) EXPECT_EQ(c->text(), "abc");
  EXPECT_EQ(fixed.pinned(), 0u);
  EXPECT_TRUE(chunk{""}.empty());
}

TEST(Chunk, TakeFrontDropFrontTruncate) {
  chunk c{"hello world"};
  chunk hello = c.take_front(5);
  EXPECT_EQ(hello.text(), "hello");
  c.drop_front(1);
  EXPECT_EQ(c.text(), "world");
  c.truncate(2);
  EXPECT_EQ(c.text(), "wo");
  chunk all = c.take_front(100);
  EXPECT_EQ(all.text(), "wo");
  EXPECT_TRUE(c.empty());
}

TEST(Chunk, WritableCopiesOnlyWhatIsShared) {
  chunk a{"abc"};
  const auto* where = a.bytes().data();
  a.writable()[0] = 'x';
  EXPECT_EQ(a.bytes().data(), where);
  chunk b = a.share();
  b.writable()[1] = 'y';
  EXPECT_EQ(a.text(), "xbc");
  EXPECT_EQ(b.text(), "xyc");
  chunk fixed = chunk::literal("static");
  fixed.writable()[0] = 'S';
  EXPECT_EQ(fixed.text(), "Static");
}

TEST(Chunk, AppendUsesHeadroomTailroomAndNeighbours) {
  chunk front{"ab"};
  chunk big = segment_pool::receive(1);
  big.truncate(1000);
  std::fill(big.writable().begin(), big.writable().end(), std::uint8_t{'z'});
  const auto* where = big.bytes().data();
  front.append(std::move(big));
  EXPECT_EQ(front.size(), 1002u);
  EXPECT_EQ(front.bytes().data(), where - 2) << "the small front belongs into the headroom of the large back";
  EXPECT_EQ(front.text().substr(0, 3), "abz");

  const auto* start = front.bytes().data();
  front.append(chunk{"tail"});
  EXPECT_EQ(front.bytes().data(), start) << "there is room behind";
  EXPECT_EQ(front.text().substr(1000), "zztail");

  chunk whole{"0123456789"};
  chunk left = whole.take_front(4);
  const auto* left_at = left.bytes().data();
  left.append(std::move(whole));
  EXPECT_EQ(left.text(), "0123456789");
  EXPECT_EQ(left.bytes().data(), left_at) << "neighbours become one without a copy";
}

TEST(Chunk, AppendNeverWritesIntoWhatIsShared) {
  chunk a{"abc"};
  chunk other = a.share();
  a.append(chunk{"def"});
  EXPECT_EQ(a.text(), "abcdef");
  EXPECT_EQ(other.text(), "abc");
}

TEST(Chunk, RandomAppendsEqualAString) {
  random_source random{7};
  for (int round = 0; round < 200; ++round) {
    chunk c;
    std::string model;
    std::vector<chunk> sharers;
    for (int step = 0; step < 40; ++step) {
      std::string piece(random.below(random.one_in(5) ? 9000 : 60), static_cast<char>('a' + random.below(26)));
      if (random.one_in(4)) {
        chunk received = segment_pool::receive(random.below(2));
        received.truncate(piece.size());
        piece.resize(received.size());
        std::copy(piece.begin(), piece.end(), received.writable().begin());
        c.append(std::move(received));
      } else {
        c.append(chunk{piece});
      }
      model += piece;
      if (random.one_in(6)) sharers.push_back(c.share());
      if (random.one_in(5) && !model.empty()) {
        const auto n = random.below(model.size());
        c.drop_front(n);
        model.erase(0, n);
      }
      if (random.one_in(9)) c.compact();
      ASSERT_EQ(c.text(), model);
    }
  }
}

TEST(Chunk, SegmentsAreReused) {
  { chunk warm = segment_pool::receive(2); }
  const auto before = segment_pool::in_use();
  const std::uint8_t* where = nullptr;
  {
    chunk c = segment_pool::receive(2);
    where = c.bytes().data();
    EXPECT_GT(segment_pool::in_use(), before);
  }
  EXPECT_EQ(segment_pool::in_use(), before);
  chunk again = segment_pool::receive(2);
  EXPECT_EQ(again.bytes().data(), where);
  for (int i = 0; i < 200; ++i) {
    std::vector<chunk> many;
    for (int k = 0; k < 100; ++k) many.push_back(segment_pool::receive(2));
  }
  EXPECT_LE(segment_pool::idle(), std::size_t{4} << 20);
}

TEST(Chunk, E20CompactFreesALargeSegment) {
  chunk c = segment_pool::receive(3);
  c.truncate(64);
  EXPECT_GT(c.pinned(), 200000u);
  c.compact();
  EXPECT_LT(c.pinned(), 4096u);
  EXPECT_EQ(c.size(), 64u);
}

TEST(Chunk, CompactDoesNotCopyForNothing) {
  chunk c{std::string(600, 'x')};
  c.append(chunk{std::string(100, 'y')});
  const auto* where = c.bytes().data();
  c.compact();
  EXPECT_EQ(c.bytes().data(), where) << "the next smaller segment is too small";
}

TEST(Chunk, DetachedTextLeavesTheLoop) {
  std::string text = chunk{"travels"}.detach();
  std::thread{[&] { text += " far"; }}.join();
  EXPECT_EQ(text, "travels far");
}

TEST(Chunk, OutlivesTheThreadThatMadeIt) {
  // A loop that has ended is no loop: whoever is left may free what it made.
  chunk survivor;
  std::thread{[&] { survivor = chunk{std::string(10000, 'x')}; }}.join();
  EXPECT_EQ(survivor.size(), 10000u);
  survivor = {};
}

TEST(ChunkDeathTest, E21FreedOnAnotherLoopIsABug) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        chunk here{"abc"};
        std::thread{[&] { chunk there = std::move(here); }}.join();
      },
      "bug");
}

TEST(ReceiveSize, E19GrowsAfterTwoFullReadsAndShrinksAfterFourSmallOnes) {
  midwire::receive_size size;
  const auto start = size.current();
  const auto full = [&] { size.saw(segment_pool::size_of_class(size.current()), segment_pool::size_of_class(size.current())); };
  full();
  EXPECT_EQ(size.current(), start);
  full();
  EXPECT_EQ(size.current(), start + 1);
  for (int i = 0; i < 10; ++i) full();
  EXPECT_EQ(size.current(), segment_pool::classes - 1);
  const auto small = [&] { size.saw(10, segment_pool::size_of_class(size.current())); };
  for (int i = 0; i < 3; ++i) small();
  EXPECT_EQ(size.current(), segment_pool::classes - 1);
  small();
  EXPECT_EQ(size.current(), segment_pool::classes - 2);
  for (int i = 0; i < 100; ++i) small();
  EXPECT_EQ(size.current(), 0u);
}

TEST(Buffer, KeepsOrderAndCountsOctets) {
  buffer b{"one", std::string{"two"}, chunk::literal("three")};
  EXPECT_EQ(b.size(), 11u);
  EXPECT_EQ(b.chunks(), 3u);
  EXPECT_EQ(b.text(), "onetwothree");
  buffer front = b.take_front(4);
  EXPECT_EQ(front.text(), "onet");
  EXPECT_EQ(b.text(), "wothree");
  b.drop_front(3);
  EXPECT_EQ(b.text(), "hree");
  const chunk joined = std::move(b).join();
  EXPECT_EQ(joined.text(), "hree");
}

TEST(Buffer, SlicesThatLieSideBySideAreOneChunk) {
  chunk whole{std::string(1000, 'x')};
  const auto* where = whole.bytes().data();
  buffer b;
  for (int i = 0; i < 1000; ++i) b.append(whole.take_front(1));
  EXPECT_EQ(b.chunks(), 1u) << "a row of tiny slices takes no memory of its own";
  EXPECT_EQ(b.begin()->bytes().data(), where);
  buffer front;
  front.append(b.take_front(400));
  b.prepend(front.pop_front());
  EXPECT_EQ(b.chunks(), 1u);
  EXPECT_EQ(b.size(), 1000u);
  // Others that only look alike are not.
  b.append(chunk{"yz"});
  EXPECT_EQ(b.text(), std::string(1000, 'x') + "yz");
}

TEST(Buffer, PrependTakesWhatAppendTakes) {
  buffer b;
  std::string model;
  for (int i = 0; i < 100; ++i) {
    b.prepend(chunk{std::to_string(i)});
    model = std::to_string(i) + model;
    if (i % 3 == 0) {
      b.prepend(b.pop_front());
      b.prepend(chunk{});
    }
    ASSERT_EQ(b.text(), model);
    ASSERT_EQ(b.size(), model.size());
  }
}

TEST(Buffer, RandomOperationsEqualAString) {
  random_source random{11};
  for (int round = 0; round < 300; ++round) {
    buffer b;
    std::string model;
    for (int step = 0; step < 60; ++step) {
      switch (random.below(6)) {
        case 4: {
          const std::string piece(random.below(30), static_cast<char>('A' + random.below(26)));
          b.prepend(chunk{piece});
          model = piece + model;
          break;
        }
        case 0:
        case 1: {
          const std::string piece(random.below(30), static_cast<char>('a' + random.below(26)));
          b.append(chunk{piece});
          model += piece;
          break;
        }
        case 2: {
          const auto n = random.below(model.size() + 5);
          buffer front = b.take_front(n);
          ASSERT_EQ(front.text(), model.substr(0, n));
          model.erase(0, n);
          if (random.one_in(2)) {
            model = front.text() + model;
            front.append(std::move(b));
            b = std::move(front);
          }
          break;
        }
        case 3: {
          const auto n = random.below(model.size() + 1);
          b.drop_front(n);
          model.erase(0, n);
          break;
        }
        default: {
          buffer moved = std::move(b);
          EXPECT_TRUE(b.empty());
          b = std::move(moved);
        }
      }
      ASSERT_EQ(b.text(), model);
      ASSERT_EQ(b.size(), model.size());
    }
  }
}
