// transport::send_file over the kernel (sendfile) and simulated wires (read and sent).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>

#include <midwire/testing/sim_reactor.hpp>

#include "engine/loop_thread.hpp"
#include "engine/sockets.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using midwire::testing::sim_peer;
using midwire::testing::sim_reactor;
using tests::loop_thread;
using tests::peer_socket;
using outcome = peer_socket::outcome;

namespace {

std::string content_of(std::size_t size) {
  std::string all(size, '\0');
  for (std::size_t i = 0; i < size; ++i) all[i] = static_cast<char>(i * 131 + i / 65521);
  return all;
}

struct stored_file {
  explicit stored_file(std::string text) : content{std::move(text)} {
    std::ofstream{folder / "file", std::ios::binary} << content;
    fd = ::open((folder / "file").c_str(), O_RDWR | O_CLOEXEC);
  }
  ~stored_file() { ::close(fd); }
  std::string content;
  tests::temp_folder folder;
  int fd;
};

using script = std::function<void(protocol&)>;

struct scripted : protocol {
  scripted(script s, std::function<void(const reason&)> l) : script_{std::move(s)}, lost_{std::move(l)} {}
  void connection_made() override { script_(*this); }
  void data_received(chunk) override {}
  void connection_lost(const reason& why) override {
    if (lost_) lost_(why);
  }
  script script_;
  std::function<void(const reason&)> lost_;
};

struct fetched {
  std::string received;
  bool ended = false, reset = false;
  std::optional<reason> lost;
};

/// What a client gets and how it ends, over simulated wires.
fetched simulated(const script& s, policy rules = {}) {
  sim_reactor r;
  fetched got;
  const auto port =
      r.listen_tcp(0, with_policy(factory::of<scripted>(s, [&](const reason& why) { got.lost = why; }), rules))
          .host()
          .port();
  sim_peer c{r.network()};
  c.connect(address::loopback(port));
  r.advance(30s);
  got.received = c.received(), got.ended = c.saw_end(), got.reset = c.saw_reset();
  return got;
}

/// The same over the kernel, by TCP or a unix socket.
fetched real(const script& s, policy rules = {}, bool by_unix = false, int receive_buffer = 0, duration rest = {}) {
  fetched got;
  std::promise<reason> lost;
  tests::temp_folder folder;
  std::uint16_t port = 0;
  loop_thread loop{[&](reactor& r) {
    auto f = with_policy(factory::of<scripted>(s, [&](const reason& why) { lost.set_value(why); }), rules);
    if (by_unix)
      r.listen_unix(folder / "socket", f);
    else
      port = r.listen_tcp(0, f, {.interface = "127.0.0.1"}).host().port();
  }};
  peer_socket c =
      by_unix ? peer_socket::connect_unix(folder / "socket") : peer_socket::connect_tcp(port, receive_buffer);
  outcome end = outcome::open;
  while (end == outcome::open) {
    auto [text, now] = c.receive(20000, rest.count() > 0 ? 200000 : ~std::size_t{0});
    if (text.empty() && now == outcome::open) break;
    got.received += text, end = now;
    if (rest.count() > 0) std::this_thread::sleep_for(rest);
  }
  got.ended = end == outcome::end, got.reset = end == outcome::reset;
  c.close();
  auto told = lost.get_future();
  if (told.wait_for(20s) == std::future_status::ready) got.lost = told.get();
  return got;
}

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all{"/proc/self/fd"};
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

}  // namespace

TEST(SendFile, KeepsItsPlaceAmongWrites) {
  stored_file file{content_of(3000000)};
  const script s = [&](protocol& p) {
    auto& t = p.transport();
    t.write("front ");
    t.send_file(file.fd, 1000, 2000000);
    t.write(" middle ");
    t.write(std::string(300000, 'm'));
    t.send_file(file.fd, 2999999, 1);
    t.send_file(file.fd, 0, 0);
    t.send_file(file.fd, 0, 5);
    t.write(" back");
    t.lose_connection();
  };
  const std::string want = "front " + file.content.substr(1000, 2000000) + " middle " + std::string(300000, 'm') +
                           file.content.substr(2999999) + file.content.substr(0, 5) + " back";
  for (const fetched& got : {simulated(s), real(s), real(s, {}, true), real(s, {}, false, 4096, 5ms)}) {
    EXPECT_TRUE(got.received == want) << got.received.size() << " of " << want.size();
    EXPECT_TRUE(got.ended);
    ASSERT_TRUE(got.lost);
    EXPECT_EQ(got.lost->how(), ending::done);
  }
  EXPECT_EQ(lseek(file.fd, 0, SEEK_CUR), 0) << "its position is the caller's";
}

TEST(SendFile, TheCallersDescriptorMayGoAtOnce) {
  stored_file file{content_of(500000)};
  const std::size_t before = open_descriptors();
  const script s = [&](protocol& p) {
    const int fd = ::dup(file.fd);
    p.transport().send_file(fd, 0, 500000);
    ::close(fd);
    p.transport().lose_connection();
  };
  EXPECT_TRUE(real(s).received == file.content);
  EXPECT_TRUE(simulated(s).received == file.content);
  EXPECT_EQ(open_descriptors(), before);
}

TEST(SendFile, AFileShorterThanSaidFailsTheConnection) {
  stored_file file{content_of(100000)};
  const script s = [&](protocol& p) {
    p.transport().write("head ");
    p.transport().send_file(file.fd, 90000, 10003);
    p.transport().write("never sent");
    p.transport().lose_connection();
  };
  for (const fetched& got : {simulated(s), real(s), real(s, {}, true)}) {
    ASSERT_TRUE(got.lost);
    EXPECT_EQ(got.lost->how(), ending::failed);
    EXPECT_EQ(got.lost->text(), "a file to be sent is 3 octets shorter than it was said to be");
    EXPECT_EQ(got.received.find("never sent"), std::string::npos);
    EXPECT_LE(got.received.size(), 10005u);
  }
  EXPECT_TRUE(simulated(s).reset);
  EXPECT_TRUE(real(s).reset) << "no orderly end behind a part";
}

TEST(SendFile, AFileThatShrinksWhileItIsSent) {
  stored_file file{content_of(20000000)};
  const script s = [&](protocol& p) {
    p.transport().send_file(file.fd, 0, 20000000);
    p.transport().reactor().call_later(1ms, [&] { EXPECT_EQ(::ftruncate(file.fd, 1000), 0); });
  };
  const fetched got = real(s, {}, false, 4096, 20ms);
  ASSERT_TRUE(got.lost);
  EXPECT_EQ(got.lost->how(), ending::failed);
  EXPECT_NE(got.lost->text().find("shorter"), std::string::npos);
  EXPECT_LT(got.received.size(), 20000000u);
}

TEST(SendFile, WhatIsNoFileSaysSo) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  stored_file file{"x"};
  const int folder = ::open("/tmp", O_RDONLY | O_CLOEXEC);
  struct row {
    int fd;
    std::uint64_t offset, octets;
    std::errc code;
  };
  for (const row& each : {row{ends[0], 0, 10, std::errc::invalid_seek}, row{folder, 0, 10, std::errc::is_a_directory},
                          row{-1, 0, 10, std::errc::bad_file_descriptor},
                          row{file.fd, ~std::uint64_t{0} / 2, 2, std::errc::value_too_large}}) {
    const script s = [&](protocol& p) { p.transport().send_file(each.fd, each.offset, each.octets); };
    for (const fetched& got : {simulated(s), real(s)}) {
      ASSERT_TRUE(got.lost) << each.fd;
      EXPECT_EQ(got.lost->how(), ending::failed);
      EXPECT_EQ(got.lost->code(), each.code) << got.lost->text();
    }
  }
  ::close(ends[0]), ::close(ends[1]), ::close(folder);
}

TEST(SendFile, WhereSendfileCannotItIsReadInstead) {
  // The kernel's own files: no sendfile from some, but they can be read.
  const int fd = ::open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  char text[64];
  ASSERT_EQ(::pread(fd, text, sizeof text, 0), static_cast<ssize_t>(sizeof text));
  const script s = [&](protocol& p) {
    p.transport().send_file(fd, 0, 10);
    p.transport().lose_connection();
  };
  EXPECT_EQ(real(s).received, std::string(text, 10));
  ::close(fd);
}

TEST(SendFile, AHalfSentFileLeavesNothingBehind) {
  stored_file file{content_of(30000000)};
  for (const int how : {0, 1, 2}) {
    const std::size_t before = open_descriptors();
    protocol* made = nullptr;
    std::promise<reason> lost;
    std::uint16_t port = 0;
    {
      loop_thread loop{[&](reactor& r) {
        port = r.listen_tcp(0,
                            factory::of<scripted>(script{[&](protocol& p) {
                                                    made = &p;
                                                    p.transport().send_file(file.fd, 0, 20000000);
                                                    p.transport().write("behind");
                                                    p.transport().send_file(file.fd, 0, 20000000);
                                                  }},
                                                  [&](const reason& why) { lost.set_value(why); }),
                            {.interface = "127.0.0.1"})
                   .host()
                   .port();
      }};
      peer_socket c = peer_socket::connect_tcp(port, 4096);
      EXPECT_EQ(c.receive(5000, 100000).first.size(), 100000u);
      if (how == 0) loop.ask([&](reactor&) { made->transport().abort_connection(); });
      if (how == 1) c.reset();
      if (how < 2) {
        auto told = lost.get_future();
        ASSERT_EQ(told.wait_for(10s), std::future_status::ready);
        EXPECT_EQ(told.get().how(), how == 0 ? ending::aborted : ending::reset);
      }
      // 2: the reactor goes, with the file half sent.
    }
    EXPECT_EQ(open_descriptors(), before) << how;
  }
}

TEST(SendFile, MemoryIsThatOfAPiece) {
  stored_file file{content_of(20000000)};
  sim_reactor r;
  protocol* made = nullptr;
  const auto port = r.listen_tcp(0, factory::of<scripted>(script{[&](protocol& p) {
                                                            made = &p;
                                                            p.transport().send_file(file.fd, 0, 20000000);
                                                          }},
                                                          std::function<void(const reason&)>{}))
                        .host()
                        .port();
  sim_peer c{r.network()};
  c.stop_reading();
  c.connect(address::loopback(port));
  r.pump();
  ASSERT_NE(made, nullptr);
  EXPECT_LE(made->transport().buffered(), flow_limits{}.high);
  c.start_reading();
  r.pump();
  EXPECT_EQ(c.received().size(), 20000000u);
}

TEST(SendFile, RatesAndLimitsHoldForFiles) {
  stored_file file{content_of(100000)};
  const script s = [&](protocol& p) {
    p.transport().send_file(file.fd, 0, 100000);
    p.transport().lose_connection();
  };
  EXPECT_TRUE(simulated(s, {.write_rate = 10000}).received == file.content);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(real(s, {.write_rate = 100000}).received == file.content);
  EXPECT_GT(tests::seconds_since(start), 0.85);
  // A peer that takes nothing is stuck, file or not.
  std::promise<reason> lost;
  std::uint16_t port = 0;
  stored_file large{content_of(30000000)};
  loop_thread loop{[&](reactor& r) {
    port = r.listen_tcp(0,
                        factory::of<scripted>(script{[&](protocol& p) {
                                                p.transport().set_limits({.stuck = 300ms});
                                                p.transport().send_file(large.fd, 0, 30000000);
                                              }},
                                              [&](const reason& why) { lost.set_value(why); }),
                        {.interface = "127.0.0.1"})
               .host()
               .port();
  }};
  peer_socket c = peer_socket::connect_tcp(port, 4096);
  auto told = lost.get_future();
  ASSERT_EQ(told.wait_for(10s), std::future_status::ready);
  EXPECT_EQ(told.get().how(), ending::timed_out);
}
