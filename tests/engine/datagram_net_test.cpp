// Datagrams on the kernel: what a simulation cannot show.
#include <net/if.h>
#include <sched.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <new>
#include <thread>

#include "engine/datagram_rig.hpp"
#include "engine/driver/sockaddr.hpp"
#include "engine/sockets.hpp"

#ifndef MIDWIRE_SANITIZED
namespace {
std::atomic<std::uint64_t> allocations{0};
}

// Counts every allocation of the program. Not inlined: the compiler would see free() meet new.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc{};
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

namespace midwire::datagram_tests {
namespace {

const listen_options here{.interface = "127.0.0.1"};

std::size_t scaled(double n) { return static_cast<std::size_t>(std::max(1.0, n * MIDWIRE_TEST_SCALE)); }

/// A bare datagram socket: the world outside.
struct bare_socket {
  explicit bare_socket(const address& at) : fd{::socket(detail::kernel_address{at}.family(), SOCK_DGRAM, 0)} {
    const detail::kernel_address name{at};
    EXPECT_EQ(::bind(fd, name.get(), name.size), 0) << strerror(errno);
    const timeval patience{20, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  ~bare_socket() { ::close(fd); }
  address host() const {
    detail::kernel_address name;
    name.prepare();
    ::getsockname(fd, name.get(), &name.size);
    return name.value();
  }
  ssize_t send(std::string_view octets, const address& to) const {
    const detail::kernel_address name{to};
    return ::sendto(fd, octets.data(), octets.size(), 0, name.get(), name.size);
  }
  std::string receive() const {
    std::string octets(1 << 17, '\0');
    const auto n = ::recv(fd, octets.data(), octets.size(), 0);
    octets.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return n < 0 ? "error " + std::to_string(errno) : octets;
  }
  int fd;
};

/// Keeps one batch under way: a sender that waits for its receiver loses nothing on the loopback.
struct counting final : datagram_protocol {
  void datagram_received(chunk data, const address&) override {
    const auto bytes = data.bytes();
    std::uint64_t number = 0;
    for (std::size_t i = 0; i < 8; ++i) number |= std::uint64_t{bytes[i]} << (8 * i);
    in_order &= number == count;
    size_sum += bytes.size();
    ++count;
    if (count == wanted && then) then();
  }
  std::uint64_t count = 0, size_sum = 0, wanted = 0;
  bool in_order = true;
  std::function<void()> then;
};

TEST(KernelDatagrams, AHundredThousandAreCountedAndCostNoAllocation) {
  reactor r;
  const auto receiver = std::make_shared<counting>();
  const auto sender = std::make_shared<recorder>();
  auto& port = r.listen_udp(0, receiver, here);
  r.listen_udp(0, sender, here);
  constexpr std::uint64_t batch = 50;
  const std::uint64_t all = scaled(100'000) / batch * batch;
  std::uint64_t sent = 0, sent_octets = 0;
  [[maybe_unused]] std::uint64_t before = 0, in_use = 0;
  const std::string filling(300, 'x');
  receiver->then = [&] {
#ifndef MIDWIRE_SANITIZED
    if (sent == all / 2) before = allocations, in_use = segment_pool::in_use();
#endif
    if (sent == all) return r.stop();
    for (std::uint64_t i = 0; i < batch; ++i) {
      chunk octets = chunk::uninitialized(8 + (sent * 7) % 300);
      const auto to = octets.writable();
      std::memset(to.data(), 'x', to.size());
      for (std::size_t b = 0; b < 8; ++b) to[b] = static_cast<std::uint8_t>(sent >> (8 * b));
      sent_octets += octets.size();
      sender->send_to(buffer{std::move(octets)}, port.host());
      ++sent;
    }
    receiver->wanted = sent;
  };
  r.call_when_running([&] { receiver->then(); });
  auto late = r.call_later(60s, [&] { r.stop(); });
  r.run();
  late.cancel();
  EXPECT_EQ(receiver->count, all);
  EXPECT_TRUE(receiver->in_order);
  EXPECT_EQ(receiver->size_sum, sent_octets);
  EXPECT_EQ(receiver->counts().received, all);
  EXPECT_EQ(receiver->counts().overrun, 0u);
  EXPECT_EQ(sender->counts().sent, all);
#ifndef MIDWIRE_SANITIZED
  EXPECT_LE(allocations - before, 200u);  // of the second half: the clock's and the log's, not the datagrams'
  EXPECT_LE(segment_pool::in_use(), in_use + 100'000);
#endif
}

TEST(KernelDatagrams, SmallOnesPinLittle) {  // E19, E20
  reactor r;
  struct keeper final : datagram_protocol {
    void datagram_received(chunk data, const address&) override { kept.push_back(std::move(data)); }
    std::vector<chunk> kept;
  };
  const auto receiver = std::make_shared<keeper>();
  auto& port = r.listen_udp(0, receiver, here);
  const bare_socket outside{address::loopback(0)};
  const auto before = segment_pool::in_use();
  const auto end = std::chrono::steady_clock::now() + 20s;
  for (std::size_t i = 0; i < 1000 && std::chrono::steady_clock::now() < end;) {
    outside.send("0123456789", port.host());
    for (++i; receiver->kept.size() < i && std::chrono::steady_clock::now() < end;) r.turn(10ms);
  }
  ASSERT_EQ(receiver->kept.size(), 1000u);
  EXPECT_LE(segment_pool::in_use() - before, 1000u * 600);
}

TEST(KernelDatagrams, ComeInBatchesThatATurnBounds) {  // E23
  const auto d = make_epoll_driver({.read_budget = 16 * 1024});
  const socket_id s = d->bind_datagram(address::loopback(0), {});
  const bare_socket outside{address::loopback(0)};
  const auto wait = [&] {
    std::vector<std::pair<socket_id, event>> happened;
    d->wait(d->now() + 50ms, happened);
    return happened;
  };
  for (int i = 0; i < 60; ++i) outside.send(std::string(1000, static_cast<char>(i)), d->local(s));
  EXPECT_TRUE(wait().empty());  // nothing is read until somebody asks
  d->perform(s, command::start_reading());
  std::vector<std::size_t> batches;
  int next = 0;
  for (int turns = 0; next < 60 && turns < 200; ++turns) {
    auto batch = wait();
    if (!batch.empty()) batches.push_back(batch.size());
    for (auto& [id, e] : batch) {
      ASSERT_EQ(e.what(), event::kind::datagram_received);
      EXPECT_EQ(e.data().text(), std::string(1000, static_cast<char>(next++)));
      EXPECT_EQ(e.peer(), outside.host());
    }
  }
  EXPECT_EQ(next, 60);
  // One call takes 32, and behind it the budget of 16 KiB is spent.
  EXPECT_EQ(batches, (std::vector<std::size_t>{32, 28}));
  d->perform(s, command::stop_reading());
  outside.send("x", d->local(s));
  EXPECT_TRUE(wait().empty());
  // An answer leaves though nobody waits.
  d->perform(s, command::send_to("first", outside.host()));
  d->perform(s, command::send_to("second", outside.host()));
  d->flush_datagrams();
  EXPECT_EQ(outside.receive(), "first");
  EXPECT_EQ(outside.receive(), "second");
}

TEST(KernelDatagrams, WhatWasSentLeavesWhenTheReactorGoes) {
  const bare_socket outside{address::loopback(0)};
  {
    reactor r;
    const auto p = std::make_shared<recorder>();
    r.listen_udp(0, p, here);
    p->send_to("farewell", outside.host());
  }
  EXPECT_EQ(outside.receive(), "farewell");
  reactor r;
  const auto p = std::make_shared<recorder>();
  r.listen_udp(0, p, here);
  r.call_when_running([&] {
    p->send_to("before it stops", outside.host());
    r.stop();
  });
  r.run();
  EXPECT_EQ(outside.receive(), "before it stops");
}

TEST(KernelDatagrams, LongerThanTheLargestAreCountedAndLeftOut) {
  const tests::temp_folder folder;
  world w{false};
  const auto p = std::make_shared<recorder>();
  w->listen_unix_datagram(folder / "s", p);
  const bare_socket outside{address::unix_path(folder / "c")};
  const int room = 400'000;
  ::setsockopt(outside.fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  if (outside.send(std::string(largest_unix_datagram + 1, 'x'), p->host()) < 0)
    GTEST_SKIP() << "SKIPPED: this system's sockets send no datagram of 256 KiB: " << strerror(errno);
  EXPECT_GT(outside.send(std::string(largest_unix_datagram, 'y'), p->host()), 0);
  ASSERT_TRUE(w.until([&] { return !p->received.empty(); }));
  EXPECT_TRUE(p->received[0] == std::string(largest_unix_datagram, 'y'));
  EXPECT_EQ(p->counts().truncated, 1u);
  EXPECT_EQ(p->counts().received, 1u);
}

TEST(KernelDatagrams, WhatNobodyReadsInTimeIsCounted) {
  world w{false};
  const auto p = std::make_shared<recorder>();
  auto& port = w->listen_udp(0, p, here);
  const bare_socket outside{address::loopback(0)};
  w.settle();
  p->pause_reading();
  for (int i = 0; i < 1000; ++i) outside.send(std::string(1000, 'x'), port.host());
  const auto lost = p->counts().overrun;
  EXPECT_GT(lost, 0u);
  p->resume_reading();
  EXPECT_TRUE(w.until([&] { return p->received.size() == 1000 - lost; }));
  // With more room less is lost, as far as the system allows it.
  std::size_t allowed = 0;
  std::ifstream{"/proc/sys/net/core/rmem_max"} >> allowed;
  if (allowed < 4'000'000) return;
  EXPECT_FALSE(p->set_receive_buffer(4'000'000));
  p->pause_reading();
  for (int i = 0; i < 1000; ++i) outside.send(std::string(1000, 'x'), port.host());
  p->resume_reading();
  EXPECT_TRUE(w.until([&] { return p->received.size() == 2000 - lost; }));
  EXPECT_EQ(p->counts().overrun, lost);
}

TEST(KernelDatagrams, AUnixReceiverWithoutRoomHoldsUpNobodyElse) {
  const tests::temp_folder folder;
  world w{false};
  const auto sender = std::make_shared<recorder>(), quick = std::make_shared<recorder>();
  w->listen_unix_datagram(folder / "sender", sender);
  w->listen_unix_datagram(folder / "quick", quick);
  const bare_socket slow{address::unix_path(folder / "slow")};
  for (int i = 0; i < 3000; ++i) {
    sender->send_to("s" + std::to_string(i), slow.host());
    if (i % 500 == 0) sender->send_to("q" + std::to_string(i), quick->host());
  }
  // What goes to the quick one, of what was not dropped, passes what waits for the slow one.
  ASSERT_TRUE(w.until([&] { return quick->received.size() >= 2; }));
  const auto counts = sender->counts();
  EXPECT_GT(counts.dropped, 500u);
  // Meanwhile the loop rests: it tries again by the clock.
  int turns = 0;
  for (const auto end = std::chrono::steady_clock::now() + 300ms; std::chrono::steady_clock::now() < end; ++turns)
    w->turn(300ms);
  EXPECT_LE(turns, 40);
  // All that was not dropped comes, in order.
  int last = -1;
  std::size_t got = 0;
  std::thread reader{[&] {
    for (std::string text = slow.receive(); text.starts_with('s'); text = slow.receive(), ++got) {
      EXPECT_LT(last, std::stoi(text.substr(1)));
      last = std::stoi(text.substr(1));
    }
  }};
  EXPECT_TRUE(w.until([&] { return sender->counts().sent + sender->counts().dropped == 3006; }));
  const bare_socket last_words{address::unix_path(folder / "last")};
  last_words.send("end", slow.host());
  reader.join();
  EXPECT_EQ(got + quick->received.size(), sender->counts().sent);
}

TEST(KernelDatagrams, AConnectedUnixSocketWaitsForRoom) {
  const tests::temp_folder folder;
  world w{false};
  const auto sender = std::make_shared<recorder>();
  const bare_socket slow{address::unix_path(folder / "slow")};
  w->connect_unix_datagram(folder / "slow", sender);
  ASSERT_TRUE(w.until([&] { return sender->is_open(); }));
  for (int i = 0; i < 500; ++i) sender->send(std::to_string(i));
  w.settle();
  EXPECT_LT(sender->counts().sent, 500u);
  std::thread reader{[&] {
    for (int i = 0; i < 500; ++i) EXPECT_EQ(slow.receive(), std::to_string(i));
  }};
  EXPECT_TRUE(w.until([&] { return sender->counts().sent == 500; }));
  reader.join();
  EXPECT_EQ(sender->counts().dropped, 0u);
}

TEST(KernelDatagrams, WaitNoLongerThanFiveSeconds) {
  const tests::temp_folder folder;
  const auto d = make_epoll_driver();
  const socket_id s = d->bind_datagram(address::unix_path(folder / "sender"), {});
  const bare_socket deaf{address::unix_path(folder / "deaf")};
  std::vector<std::pair<socket_id, event>> happened;
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) d->perform(s, command::send_to("x", deaf.host()));
  while (d->counts(s).sent + d->counts(s).dropped < 100 && tests::seconds_since(began) < 30)
    d->wait(std::chrono::steady_clock::now() + 500ms, happened);
  EXPECT_EQ(d->counts(s).sent + d->counts(s).dropped, 100u);
  EXPECT_GE(d->counts(s).dropped, 1u);
  EXPECT_GE(tests::seconds_since(began), 4.9);
}

TEST(KernelDatagrams, StaleFilesAreReplacedAndOwnOnesRemoved) {
  const tests::temp_folder folder;
  const std::string path = folder / "s";
  struct stat status;
  {
    const bare_socket dead{address::unix_path(path)};
  }  // its file stays
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  world w{false};
  const auto p = std::make_shared<recorder>();
  w->listen_unix_datagram(path, p);
  EXPECT_THROW(w->listen_unix_datagram(path, std::make_shared<recorder>()), std::system_error);
  p->stop();
  w.settle();
  EXPECT_NE(::stat(path.c_str(), &status), 0);
  std::ofstream{path} << "no socket";
  EXPECT_THROW(w->listen_unix_datagram(path, std::make_shared<recorder>()), std::system_error);
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
}

TEST(KernelDatagrams, AFloodOfRefusalsIsBoundedAndCounted) {
  world w{false};
  address nobody;
  { nobody = bare_socket{address::loopback(0)}.host(); }
  const auto p = std::make_shared<recorder>(), good = std::make_shared<recorder>();
  w->listen_udp(0, p, here);
  auto& port = w->listen_udp(0, good, here);
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 100; ++i) p->send_to("x", nobody);
    p->send_to("good", port.host());
    w->turn(1ms);
  }
  EXPECT_TRUE(w.until([&] { return good->received.size() == 20; }));
  w.settle();
  // The kernel may leave refusals out when many come; what it sent on counts all the same.
  EXPECT_EQ(p->counts().sent, 2020u);
  EXPECT_GT(p->count("refused " + nobody.text()), 100u);
  EXPECT_LE(p->count("refused " + nobody.text()), 2000u);
  EXPECT_EQ(p->log.size(), 1 + p->count("refused " + nobody.text()));
}

// ---- in a network of its own: a thread may leave for another

/// Runs `f` on a thread in a network namespace with the interface v0, 10.9.8.1/24, which sends at 8 Mbit/s into v1.
/// \return why it could not; empty: it ran
std::string in_own_network(const std::function<void()>& f) {
  std::string trouble;
  std::thread{[&] {
    if (::unshare(CLONE_NEWNET) != 0) {
      trouble = std::string{"no network namespace: "} + strerror(errno);
      return;
    }
    // A child of this thread is born in its namespace.
    const int done = std::system(
        "{ ip link set lo up && ip link add v0 type veth peer "
        "name v1 && "
        "for i in v0 v1; do echo 0 > /proc/sys/net/ipv6/conf/$i/accept_dad; ip link set $i up; done && "
        "ip addr add 10.9.8.1/24 dev v0 && ip route add 224.0.0.0/4 dev v0 && "
        "ip neigh add 10.9.8.2 lladdr 02:00:00:00:00:02 dev v0 && "
        "tc qdisc add dev v0 root tbf rate 8mbit burst 20kb latency 10s; } >/dev/null 2>&1");
    if (done != 0)
      trouble = "ip or tc cannot set up a slow interface";
    else
      f();
  }}.join();
  return trouble;
}

TEST(KernelDatagrams, ASlowInterfaceIsWaitedForAndTheRestDropped) {
  const auto trouble = in_own_network([] {
    world w{false};
    const auto p = std::make_shared<recorder>();
    w->listen_udp(0, p, {.interface = "10.9.8.1"});
    w.settle();
    const address to = address::ipv4({10, 9, 8, 2}, 9);
    for (int i = 0; i < 3000; ++i) p->send_to(std::string(1000, 'x'), to);
    EXPECT_GT(p->counts().dropped, 1000u);
    EXPECT_LT(p->counts().dropped, 2950u);
    const auto began = std::chrono::steady_clock::now();
    int turns = 0;
    while (p->counts().sent + p->counts().dropped < 3000 && tests::seconds_since(began) < 20) w->turn(1s), ++turns;
    EXPECT_EQ(p->counts().sent + p->counts().dropped, 3000u);
    // The kernel's queue and ours: more than one of them.
    EXPECT_GT(p->counts().sent, 262u);
    EXPECT_LE(turns, 300);  // it waits until it can write
    EXPECT_EQ(p->counts().failed, 0u);
  });
  if (!trouble.empty()) GTEST_SKIP() << "SKIPPED: " << trouble;
}

TEST(KernelDatagrams, MulticastWithoutLoopbackStaysAway) {
  const auto trouble = in_own_network([] {
    world w{false};
    const auto member = std::make_shared<recorder>(), sender = std::make_shared<recorder>();
    const address group = address::ipv4({239, 1, 2, 3}, 0), by = address::ipv4({10, 9, 8, 1}, 0);
    auto& port = w->listen_udp(0, member);
    w->listen_udp(0, sender, {.interface = "10.9.8.1"});
    EXPECT_FALSE(member->join_group(group, by));
    EXPECT_FALSE(sender->set_multicast_interface(by));
    const address to = group.with_port(port.host().port());
    sender->send_to("one", to);
    EXPECT_TRUE(w.until([&] { return member->received == lines{"one"}; }));
    EXPECT_EQ(member->sender, sender->host());
    EXPECT_FALSE(sender->set_multicast_loopback(false));
    sender->send_to("two", to);
    w.settle();
    EXPECT_FALSE(sender->set_multicast_loopback(true));
    sender->send_to("three", to);
    EXPECT_TRUE(w.until([&] { return member->received.size() == 2; }));
    EXPECT_EQ(member->received, (lines{"one", "three"}));
    // A route that is not there.
    sender->send_to("x", address::ipv4({192, 0, 2, 1}, 9));
    EXPECT_TRUE(w.until([&] { return sender->failure == std::errc::network_unreachable; }));
    // Broadcast has to be allowed.
    const address all = address::ipv4({10, 9, 8, 255}, port.host().port());
    sender->send_to("x", all);
    EXPECT_TRUE(w.until([&] { return sender->failure == std::errc::permission_denied; }));
    EXPECT_FALSE(sender->set_broadcast(true));
    const auto sent = sender->counts().sent;
    sender->send_to("x", all);
    EXPECT_TRUE(w.until([&] { return sender->counts().sent == sent + 1; }));
  });
  if (!trouble.empty()) GTEST_SKIP() << "SKIPPED: " << trouble;
}

TEST(KernelDatagrams, Ipv6GroupsHaveTheirInterfaceAsScope) {
  const auto trouble = in_own_network([] {
    world w{false};
    const address group = *address::parse_ip("ff02::7777", 0);
    const address by = *address::parse_ip("fe80::%" + std::to_string(::if_nametoindex("v0")), 0);
    const auto member = std::make_shared<recorder>(), stranger = std::make_shared<recorder>();
    const auto sender = std::make_shared<recorder>();
    auto& port = w->listen_udp(0, member, {.reuse_port = true});
    w->listen_udp(port.host().port(), stranger, {.reuse_port = true});
    w->listen_udp(0, sender);
    EXPECT_FALSE(member->join_group(group, by));
    EXPECT_FALSE(sender->set_multicast_interface(by));
    EXPECT_FALSE(sender->set_multicast_ttl(1));
    // Its own address there comes a moment after the interface.
    for (int i = 0; i < 100 && member->received.empty(); ++i) {
      sender->send_to("six", group.with_port(port.host().port()));
      w.settle();
    }
    ASSERT_FALSE(member->received.empty());
    EXPECT_EQ(member->received[0], "six");
    EXPECT_EQ(member->sender.scope(), by.scope());
    EXPECT_TRUE(stranger->received.empty());
    EXPECT_FALSE(member->leave_group(group, by));
    EXPECT_TRUE(member->leave_group(group, by));
  });
  if (!trouble.empty()) GTEST_SKIP() << "SKIPPED: " << trouble;
}

}  // namespace
}  // namespace midwire::datagram_tests
