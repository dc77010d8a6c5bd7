#include <midwire/engine/names.hpp>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <midwire/engine/reactor.hpp>

#include "engine/names/cares_resolver.hpp"
#include "engine/reactor_impl.hpp"

#ifndef MIDWIRE_TEST_SCALE
#define MIDWIRE_TEST_SCALE 1
#endif

namespace midwire {
namespace {

using namespace std::chrono_literals;

std::string be16(std::size_t n) { return {static_cast<char>(n >> 8), static_cast<char>(n)}; }
std::string be32(std::uint32_t n) { return be16(n >> 16) + be16(n & 0xffff); }

/// What the server says to one question.
struct reply {
  std::vector<address> addresses;
  std::uint32_t ttl = 60;
  int rcode = 0;  // 3: no such name
};

struct question {
  std::string name;
  bool six = false;
  auto operator<=>(const question&) const = default;
};

/// A name server at a loopback address, on the reactor of the test. Answers what its table says and nothing else.
class dns_server {
 public:
  explicit dns_server(reactor& r, const char* where = "127.0.0.1", std::uint16_t port = 0) : reactor_{r} {
    fd_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_in in{};
    in.sin_family = AF_INET, in.sin_port = htons(port), in.sin_addr.s_addr = ::inet_addr(where);
    socklen_t size = sizeof in;
    if (fd_ < 0 || ::bind(fd_, reinterpret_cast<sockaddr*>(&in), size) != 0 ||
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&in), &size) != 0)
      throw std::system_error{errno, std::generic_category(), "name server of the test"};
    port_ = ntohs(in.sin_port);
    reactor_.watch(fd_, true, false, [this](bool, bool) { read(); });
  }
  dns_server(const dns_server&) = delete;
  dns_server& operator=(const dns_server&) = delete;
  ~dns_server() {
    if (fd_ < 0) return;
    reactor_.unwatch(fd_);
    ::close(fd_);
  }
  /// The reactor is about to go.
  void leave() {
    reactor_.unwatch(fd_);
    ::close(std::exchange(fd_, -1));
  }
  std::uint16_t port() const { return port_; }
  std::size_t asked(const std::string& name, bool six) const {
    return static_cast<std::size_t>(std::count(seen.begin(), seen.end(), question{name, six}));
  }
  /// Answers what waited, with the table of now.
  void answer_waiting() {
    for (auto& [query, from] : std::exchange(waiting_, {})) answer(query, from);
  }

  std::map<question, reply> table;
  std::vector<question> seen;
  /// While it is set, all questions wait for answer_waiting().
  bool hold = false;
  /// The same for one.
  std::optional<question> silent_about;
  /// Changes an answer's octets on their way.
  std::function<void(std::string&)> spoil;

 private:
  void read() {
    for (;;) {
      std::string octets(1500, '\0');
      sockaddr_in from{};
      socklen_t size = sizeof from;
      const auto got = ::recvfrom(fd_, octets.data(), octets.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (got < 17) return;
      octets.resize(static_cast<std::size_t>(got));
      seen.push_back(parse(octets).first);
      if (hold || seen.back() == silent_about)
        waiting_.emplace_back(octets, from);
      else
        answer(octets, from);
    }
  }
  /// The question, in lower case, and the octets that ask it.
  static std::pair<question, std::string> parse(const std::string& octets) {
    question q;
    std::size_t at = 12;
    while (at < octets.size() && octets[at] != 0) {
      const auto size = static_cast<std::size_t>(octets[at]);
      if (!q.name.empty()) q.name += '.';
      q.name += octets.substr(at + 1, size);
      at += 1 + size;
    }
    for (char& c : q.name) c = static_cast<char>(std::tolower(c));
    q.six = octets.at(at + 2) == 28;
    return {q, octets.substr(12, at + 5 - 12)};
  }
  void answer(const std::string& query, const sockaddr_in& to) {
    const auto [q, asks] = parse(query);
    const auto it = table.find(q);
    if (it == table.end()) return;
    const reply& a = it->second;
    std::string out = query.substr(0, 2) + "\x81" + static_cast<char>(0x80 | a.rcode) + be16(1) +
                      be16(a.addresses.size()) + be16(0) + be16(0) + asks;
    for (const auto& where : a.addresses)
      out += be16(0xc00c) + be16(q.six ? 28 : 1) + be16(1) + be32(a.ttl) + be16(where.octets().size()) +
             std::string{where.octets()};
    if (spoil) spoil(out);
    ::sendto(fd_, out.data(), out.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
  }

  reactor& reactor_;
  int fd_ = -1;
  std::uint16_t port_ = 0;
  std::vector<std::pair<std::string, sockaddr_in>> waiting_;
};

address ip(const char* text) { return *address::parse_ip(text, 0); }

/// What one asker was told.
struct told {
  std::vector<resolver::answer> answers;
  std::uint64_t query = 0;
  bool done() const { return !answers.empty() && answers.back().last; }
  std::vector<std::string> hosts() const {
    std::vector<std::string> all;
    for (const auto& a : answers)
      for (const auto& where : a.addresses) {
        EXPECT_EQ(where.port(), 0);
        all.push_back(where.host());
      }
    std::sort(all.begin(), all.end());
    return all;
  }
  std::string error() const { return done() ? answers.back().error.text() : "not done"; }
};

class names_test : public ::testing::Test {
 protected:
  names_test() {
    std::string pattern = (std::filesystem::temp_directory_path() / "midwire-names-XXXXXX").string();
    if (!::mkdtemp(pattern.data())) throw std::system_error{errno, std::generic_category(), pattern};
    folder_ = pattern;
    options_.resolv_conf = folder_ / "resolv.conf";
    options_.hosts = folder_ / "hosts";
    write("resolv.conf", "nameserver 127.0.0.1\n");
    write("hosts", "");
    r_ = std::make_unique<reactor>();
    server_ = std::make_unique<dns_server>(*r_);
    options_.port = server_->port();
  }
  ~names_test() override {
    server_.reset();
    r_.reset();
    std::filesystem::remove_all(folder_);
  }
  names_test(const names_test&) = delete;
  names_test& operator=(const names_test&) = delete;

  void write(const char* file, std::string_view text) {
    // A file put in its place, as the tools that write resolv.conf do.
    const auto fresh = folder_ / "fresh";
    std::ofstream{fresh} << text;
    std::filesystem::rename(fresh, folder_ / file);
  }
  /// The resolver of the test, made at its first use.
  resolver& names() {
    if (!made_) r_->set_resolver(detail::make_cares_resolver(*r_, options_));
    made_ = true;
    return r_->impl().names();
  }
  std::shared_ptr<told> ask(const std::string& host) {
    auto t = std::make_shared<told>();
    asking_ = true;
    t->query = names().ask(host, [t, this](resolver::answer a) {
      EXPECT_FALSE(asking_) << "answered from inside ask()";
      EXPECT_FALSE(t->done()) << "told again after the last answer";
      t->answers.push_back(std::move(a));
    });
    asking_ = false;
    return t;
  }
  template <class Done>
  bool turn_until(Done done, duration at_most = 5s) {
    const auto end = std::chrono::steady_clock::now() + at_most;
    while (!done() && std::chrono::steady_clock::now() < end) r_->turn(20ms);
    return done();
  }
  /// Asks and waits for the last answer.
  std::shared_ptr<told> look_up(const std::string& host) {
    auto t = ask(host);
    EXPECT_TRUE(turn_until([&] { return t->done(); })) << host;
    return t;
  }
  void knows(const std::string& name, std::vector<address> four, std::vector<address> six, std::uint32_t ttl = 60) {
    server_->table[{name, false}] = {std::move(four), ttl};
    server_->table[{name, true}] = {std::move(six), ttl};
  }
  /// As if so much time had passed, until the next turn.
  void skip(duration d) { r_->impl().now += d; }

  std::filesystem::path folder_;
  detail::cares_options options_;
  std::unique_ptr<reactor> r_;
  std::unique_ptr<dns_server> server_;
  bool made_ = false, asking_ = false;
};

TEST_F(names_test, AsksForBothFamiliesApart) {
  knows("both.test", {ip("192.0.2.1"), ip("192.0.2.2")}, {ip("2001:db8::1")});
  const auto t = look_up("both.test");
  EXPECT_EQ(t->hosts(), (std::vector<std::string>{"192.0.2.1", "192.0.2.2", "2001:db8::1"}));
  EXPECT_EQ(t->answers.size(), 2u);
  for (const auto& a : t->answers) {
    ASSERT_FALSE(a.addresses.empty());
    for (const auto& where : a.addresses) EXPECT_EQ(where.family(), a.addresses[0].family());
  }
  EXPECT_EQ(server_->asked("both.test", false), 1u);
  EXPECT_EQ(server_->asked("both.test", true), 1u);
}

TEST_F(names_test, TheFirstFamilyDoesNotWaitForTheOther) {
  server_->table[{"half.test", false}] = {{ip("192.0.2.3")}};
  const auto t = ask("half.test");
  ASSERT_TRUE(turn_until([&] { return !t->answers.empty(); }));
  EXPECT_EQ(t->hosts(), std::vector<std::string>{"192.0.2.3"});
  EXPECT_FALSE(t->answers[0].last);
  names().forget(t->query);
}

TEST_F(names_test, OneFamilyWithoutAddressesIsNoFailure) {
  knows("four.test", {ip("192.0.2.4")}, {});
  knows("six.test", {}, {ip("2001:db8::4")});
  options_.cached_answers = 0;
  // Whichever comes last.
  for (const bool six_first : {true, false}) {
    for (const auto& [name, host] : {std::pair{"four.test", "192.0.2.4"}, std::pair{"six.test", "2001:db8::4"}}) {
      server_->silent_about = question{name, !six_first};
      const auto t = ask(name);
      ASSERT_TRUE(turn_until([&] { return t->answers.size() == 1; }));
      EXPECT_EQ(t->answers[0].error.text(), "");
      server_->silent_about.reset();
      server_->answer_waiting();
      ASSERT_TRUE(turn_until([&] { return t->done(); }));
      EXPECT_EQ(t->hosts(), std::vector<std::string>{host});
      EXPECT_EQ(t->error(), "");
    }
  }
}

TEST_F(names_test, AnUnknownNameFailsWithWordsForPeople) {
  server_->table[{"db.test", false}] = server_->table[{"db.test", true}] = {{}, 0, 3};
  const auto t = look_up("db.test");
  EXPECT_EQ(t->error(), "no address for 'db.test'");
  EXPECT_TRUE(t->hosts().empty());
  std::string why;
  r_->resolve("db.test").then([](const auto&) { ADD_FAILURE() << "found"; }, [&](const reason& e) { why = e.text(); });
  ASSERT_TRUE(turn_until([&] { return !why.empty(); }));
  EXPECT_EQ(why, "no address for 'db.test'");
}

TEST_F(names_test, AServerThatFailsIsNamedSo) {
  server_->table[{"broken.test", false}] = server_->table[{"broken.test", true}] = {{}, 0, 2};
  EXPECT_NE(look_up("broken.test")->error().find("asking about 'broken.test' failed: "), std::string::npos);
}

TEST_F(names_test, NobodyAnswers) {
  options_.timeout = 60ms, options_.tries = 2;
  const auto t = look_up("nobody.test");
  ASSERT_EQ(t->error(), "no name server answered about 'nobody.test'");
  EXPECT_EQ(t->answers.back().error.code(), std::errc::timed_out);
  EXPECT_EQ(server_->asked("nobody.test", false), 2u);
  // Nothing to keep: the next question goes out again.
  knows("nobody.test", {ip("192.0.2.5")}, {});
  EXPECT_EQ(look_up("nobody.test")->hosts(), std::vector<std::string>{"192.0.2.5"});
}

TEST_F(names_test, LiteralsAndNonsenseAskNobody) {
  EXPECT_EQ(look_up("192.0.2.9")->hosts(), std::vector<std::string>{"192.0.2.9"});
  EXPECT_EQ(look_up("2001:db8::9")->hosts(), std::vector<std::string>{"2001:db8::9"});
  knows("good.test", {ip("192.0.2.6")}, {});
  for (const std::string& bad :
       {std::string{}, std::string{"good.test\0.evil", 15}, std::string{"a b.test"}, std::string{"line\nbreak.test"},
        std::string(256, 'a'), std::string{"two..dots.test"}, std::string(64, 'a') + ".test"}) {
    const auto t = look_up(bad);
    EXPECT_TRUE(t->hosts().empty()) << bad;
    EXPECT_NE(t->error(), "") << bad;
    EXPECT_EQ(t->error().find('\n'), std::string::npos);
  }
  EXPECT_TRUE(server_->seen.empty());
}

TEST_F(names_test, TheHostsFileAnswersForBothFamilies) {
  write("hosts",
        "# a comment 10.0.0.9 box\n"
        "10.0.0.1\tBox box.alias # and 10.0.0.2\n"
        "nonsense box\n"
        "  2001:db8::7   six\n"
        "10.0.0.1 box\n"
        "10.0.0.3 box");
  knows("box", {ip("192.0.2.66")}, {ip("2001:db8::66")});
  EXPECT_EQ(look_up("bOX")->hosts(), (std::vector<std::string>{"10.0.0.1", "10.0.0.3"}));
  EXPECT_EQ(look_up("box.alias.")->hosts(), std::vector<std::string>{"10.0.0.1"});
  EXPECT_EQ(look_up("six")->hosts(), std::vector<std::string>{"2001:db8::7"});
  EXPECT_TRUE(server_->seen.empty());
  write("hosts", "10.0.0.4 box\n");
  skip(1s);
  EXPECT_EQ(look_up("box")->hosts(), std::vector<std::string>{"10.0.0.4"});
}

TEST_F(names_test, LocalhostNeverLeavesTheMachine) {
  const std::vector<std::string> both = {"127.0.0.1", "::1"};
  for (const char* name : {"localhost", "LocalHost.", "db.localhost"}) {
    knows(name, {ip("192.0.2.66")}, {});
    EXPECT_EQ(look_up(name)->hosts(), both) << name;
  }
  EXPECT_TRUE(server_->seen.empty());
}

TEST_F(names_test, LocalhostIsWhatTheHostsFileSays) {
  write("hosts", "127.0.0.1 localhost\n127.0.0.7 db.localhost\n");
  EXPECT_EQ(look_up("localhost")->hosts(), std::vector<std::string>{"127.0.0.1"});
  EXPECT_EQ(look_up("db.localhost")->hosts(), std::vector<std::string>{"127.0.0.7"});
}

TEST_F(names_test, SearchDomainsAreTried) {
  write("resolv.conf", "nameserver 127.0.0.1\nsearch corp.test\n");
  knows("db.corp.test", {ip("192.0.2.8")}, {});
  server_->table[{"db", false}] = server_->table[{"db", true}] = {{}, 0, 3};
  EXPECT_EQ(look_up("db")->hosts(), std::vector<std::string>{"192.0.2.8"});
  EXPECT_EQ(server_->asked("db", false), 0u);
  // A dot at the end: as it is.
  EXPECT_EQ(look_up("db.")->error(), "no address for 'db.'");
  EXPECT_EQ(server_->asked("db", false), 1u);
}

TEST_F(names_test, TheSecondLookupAsksNobody) {
  knows("kept.test", {ip("192.0.2.10")}, {ip("2001:db8::10")});
  const auto first = look_up("kept.test");
  const auto second = look_up("KEPT.test");
  EXPECT_EQ(first->hosts(), second->hosts());
  EXPECT_EQ(second->hosts().size(), 2u);
  EXPECT_EQ(server_->seen.size(), 2u);
}

TEST_F(names_test, AnswersAreKeptForTheirTimeAndAtMost30Seconds) {
  struct row {
    const char* name;
    std::uint32_t ttl;
    duration kept, gone;
  };
  for (const row& x : {row{"short.test", 4, 3900ms, 4200ms}, row{"long.test", 86400, 29900ms, 30200ms},
                       row{"far.test", 0x7fffffff, 29900ms, 30200ms}}) {
    knows(x.name, {ip("192.0.2.11")}, {ip("2001:db8::11")}, x.ttl);
    server_->seen.clear();
    look_up(x.name);
    const instant began = r_->now();
    r_->impl().now = began + x.kept - 100ms;
    look_up(x.name);
    EXPECT_EQ(server_->seen.size(), 2u) << x.name;
    r_->impl().now = began + x.gone;
    look_up(x.name);
    EXPECT_EQ(server_->seen.size(), 4u) << x.name;
  }
  knows("never.test", {ip("192.0.2.12")}, {ip("2001:db8::12")}, 0);
  server_->seen.clear();
  look_up("never.test"), look_up("never.test");
  EXPECT_EQ(server_->seen.size(), 4u);
}

TEST_F(names_test, FailuresAreKeptFor5Seconds) {
  server_->table[{"none.test", false}] = server_->table[{"none.test", true}] = {{}, 0, 3};
  look_up("none.test");
  const instant began = r_->now();
  const auto asked = server_->seen.size();
  knows("none.test", {ip("192.0.2.13")}, {});
  r_->impl().now = began + 4800ms;
  EXPECT_EQ(look_up("none.test")->error(), "no address for 'none.test'");
  EXPECT_EQ(server_->seen.size(), asked);
  r_->impl().now = began + 5100ms;
  EXPECT_EQ(look_up("none.test")->hosts(), std::vector<std::string>{"192.0.2.13"});
}

TEST_F(names_test, TheCacheIsBounded) {
  options_.cached_answers = 4;
  for (const char* name : {"a.test", "b.test", "c.test"}) {
    knows(name, {ip("192.0.2.14")}, {ip("2001:db8::14")});
    look_up(name);
  }
  look_up("c.test"), look_up("b.test");
  EXPECT_EQ(server_->asked("b.test", false) + server_->asked("c.test", false), 2u);
  look_up("a.test");
  EXPECT_EQ(server_->asked("a.test", false), 2u);
}

TEST_F(names_test, QuestionsAtOnceAreBounded) {
  options_.lookups = 6;
  server_->hold = true;
  std::vector<std::shared_ptr<told>> all;
  for (int i = 0; i < 5; ++i) {
    const std::string name = "n" + std::to_string(i) + ".test";
    knows(name, {ip("192.0.2.15")}, {});
    all.push_back(ask(name));
  }
  ASSERT_TRUE(turn_until([&] { return all[4]->done() && server_->seen.size() == 6; }));
  EXPECT_EQ(all[4]->error(), "asking about 'n4.test' failed: too many questions at once");
  EXPECT_FALSE(all[2]->done());
  server_->answer_waiting();
  ASSERT_TRUE(turn_until([&] { return all[2]->done(); }));
  server_->hold = false;
  EXPECT_EQ(look_up("n4.test")->error(), "");
}

TEST_F(names_test, TwoAskersShareAQuestion) {
  knows("shared.test", {ip("192.0.2.16")}, {ip("2001:db8::16")});
  server_->hold = true;
  const auto one = ask("shared.test"), two = ask("Shared.Test");
  ASSERT_TRUE(turn_until([&] { return server_->seen.size() >= 2; }));
  const auto three = ask("shared.test");
  r_->turn(30ms);
  server_->answer_waiting();
  ASSERT_TRUE(turn_until([&] { return one->done() && two->done() && three->done(); }));
  EXPECT_EQ(server_->seen.size(), 2u);
  EXPECT_EQ(one->hosts().size(), 2u);
  EXPECT_EQ(one->hosts(), two->hosts());
  EXPECT_EQ(one->hosts(), three->hosts());
}

TEST_F(names_test, Lesson13ALateAnswerToAForgottenQuestionFillsTheCache) {
  knows("late.test", {ip("192.0.2.17")}, {ip("2001:db8::17")});
  server_->hold = true;
  const auto gone = ask("late.test");
  const auto other = ask("late.test");
  ASSERT_TRUE(turn_until([&] { return server_->seen.size() == 2; }));
  names().forget(gone->query);
  names().forget(gone->query);
  server_->answer_waiting();
  ASSERT_TRUE(turn_until([&] { return other->done(); }));
  EXPECT_TRUE(gone->answers.empty());
  EXPECT_EQ(look_up("late.test")->hosts().size(), 2u);
  EXPECT_EQ(server_->seen.size(), 2u);

  // All askers gone.
  knows("later.test", {ip("192.0.2.18")}, {ip("2001:db8::18")});
  const auto nobody = ask("later.test");
  ASSERT_TRUE(turn_until([&] { return server_->seen.size() == 4; }));
  names().forget(nobody->query);
  server_->answer_waiting();
  r_->turn(50ms), r_->turn(50ms);
  EXPECT_EQ(look_up("later.test")->hosts().size(), 2u);
  EXPECT_EQ(server_->seen.size(), 4u);
  EXPECT_TRUE(nobody->answers.empty());
}

TEST_F(names_test, Lesson13ASilentServerFailsAtTheDeadlineAndTheLoopRunsOn) {
  names();
  int ticks = 0;
  const auto ticking = r_->every(10ms, [&] { ++ticks; });
  const auto began = std::chrono::steady_clock::now();
  std::optional<reason> why;
  r_->resolve("silent.test", 200ms)
      .then([](const auto&) { ADD_FAILURE() << "found"; }, [&](const reason& e) { why = e; });
  ASSERT_TRUE(turn_until([&] { return why.has_value(); }));
  const auto took = std::chrono::steady_clock::now() - began;
  EXPECT_GE(took, 190ms);
  EXPECT_LT(took, 1s);
  EXPECT_EQ(why->how(), ending::timed_out);
  EXPECT_GE(ticks, 8);
  EXPECT_EQ(server_->seen.size(), 2u);
  // Another question is answered although that one is still under way.
  knows("loud.test", {ip("192.0.2.19")}, {});
  EXPECT_EQ(look_up("loud.test")->hosts(), std::vector<std::string>{"192.0.2.19"});
}

struct nobody_factory final : factory {
  std::unique_ptr<protocol> build_protocol(const address&) override { return nullptr; }
};

TEST_F(names_test, Lesson13StopsAtOnceWithFourUnansweredLookups) {
  struct told_at_all {
    int count = 0, freed = 0;
  } seen;
  struct owned {
    told_at_all& by;
    explicit owned(told_at_all& s) : by{s} {}
    owned(const owned&) = delete;
    owned& operator=(const owned&) = delete;
    ~owned() { ++by.freed; }
  };
  names();
  auto late = r_->call_later(30s, [] {});
  for (const char* name : {"a.test", "b.test"})
    names().ask(name, [&seen, o = std::make_unique<owned>(seen)](const resolver::answer&) { ++seen.count; });
  std::vector<deferred<std::vector<address>>> kept;
  kept.push_back(r_->resolve("c.test"));
  auto dialling = r_->connect_tcp("d.test", 80, std::make_shared<nobody_factory>());
  ASSERT_TRUE(turn_until([&] { return server_->seen.size() == 8; }));
  r_->call_later(0s, [&] { r_->stop(); });
  const auto began = std::chrono::steady_clock::now();
  r_->run();
  server_->leave();
  r_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - began, 1s);
  EXPECT_EQ(seen.count, 0);
  EXPECT_EQ(seen.freed, 2);
  server_.reset();
}

TEST_F(names_test, Lesson13RewrittenResolvConfIsObeyedByTheNextLookup) {
  dns_server other{*r_, "127.0.0.2", server_->port()};
  knows("moved.test", {ip("192.0.2.20")}, {});
  other.table[{"moved.test", false}] = {{ip("192.0.2.21")}};
  other.table[{"moved.test", true}] = {};
  other.table[{"slow.test", false}] = {{ip("192.0.2.22")}};
  other.table[{"slow.test", true}] = {};
  EXPECT_EQ(look_up("moved.test")->hosts(), std::vector<std::string>{"192.0.2.20"});
  server_->hold = true;
  const auto slow = ask("slow.test");
  ASSERT_TRUE(turn_until([&] { return server_->asked("slow.test", false) == 1; }));
  write("resolv.conf", "nameserver 127.0.0.2\n");
  skip(1s);
  EXPECT_EQ(look_up("moved.test")->hosts(), std::vector<std::string>{"192.0.2.21"});
  // What is under way stays with the old server and is not shared; its answer is not kept.
  EXPECT_EQ(look_up("slow.test")->hosts(), std::vector<std::string>{"192.0.2.22"});
  EXPECT_FALSE(slow->done());
  knows("slow.test", {ip("192.0.2.23")}, {});
  server_->answer_waiting();
  ASSERT_TRUE(turn_until([&] { return slow->done(); }));
  EXPECT_EQ(slow->hosts(), std::vector<std::string>{"192.0.2.23"});
  EXPECT_EQ(look_up("slow.test")->hosts(), std::vector<std::string>{"192.0.2.22"});
  EXPECT_EQ(other.asked("slow.test", false), 1u);
}

TEST_F(names_test, TheFilesAreLookedAtOnceASecondAtMost) {
  dns_server other{*r_, "127.0.0.2", server_->port()};
  options_.check_files = 10s;
  knows("a.test", {ip("192.0.2.24")}, {});
  knows("b.test", {ip("192.0.2.24")}, {});
  look_up("a.test");
  write("resolv.conf", "nameserver 127.0.0.2\n");
  EXPECT_EQ(look_up("b.test")->hosts(), std::vector<std::string>{"192.0.2.24"});
  EXPECT_TRUE(other.seen.empty());
}

TEST_F(names_test, Lesson13AfterATimeOutQuestionsGetAFreshChannel) {
  dns_server other{*r_, "127.0.0.2", server_->port()};
  // A fresh channel shows in that it has read the file again.
  options_.check_files = 1h, options_.timeout = 100ms, options_.tries = 1;
  for (const char* name : {"a.test", "b.test", "c.test"}) other.table[{name, false}] = other.table[{name, true}] = {};
  other.table[{"c.test", false}] = {{ip("192.0.2.25")}};
  knows("a.test", {ip("192.0.2.26")}, {});
  EXPECT_EQ(look_up("a.test")->hosts(), std::vector<std::string>{"192.0.2.26"});
  write("resolv.conf", "nameserver 127.0.0.2\n");
  EXPECT_EQ(look_up("b.test")->error(), "no name server answered about 'b.test'");
  EXPECT_EQ(look_up("c.test")->hosts(), std::vector<std::string>{"192.0.2.25"});
  EXPECT_EQ(server_->asked("c.test", false), 0u);
}

TEST_F(names_test, CallbacksMayForgetAskAndThrow) {
  knows("x.test", {ip("192.0.2.27")}, {ip("2001:db8::27")});
  knows("y.test", {ip("192.0.2.28")}, {ip("2001:db8::28")});
  int first = 0, other = 0;
  std::uint64_t id = 0;
  std::shared_ptr<told> next;
  id = names().ask("x.test", [&, big = std::string(100, 'x')](const resolver::answer&) {
    ++first;
    names().forget(id);
    next = ask("x.test");
    if (big.size() != 100) ++first;
  });
  names().ask("y.test", [&](const resolver::answer&) {
    ++other;
    throw std::runtime_error{"from the test"};
  });
  const auto before = r_->failures();
  set_log([](int, std::string_view) {});
  ASSERT_TRUE(turn_until([&] { return other == 2 && next && next->done(); }));
  set_log({});
  EXPECT_EQ(first, 1);
  EXPECT_EQ(next->hosts().size(), 2u);
  EXPECT_EQ(r_->failures() - before, 2u);
}

TEST_F(names_test, Lesson13TheResolverMayGoInsideItsOwnCallback) {
  knows("x.test", {ip("192.0.2.29")}, {ip("2001:db8::29")});
  int answers = 0;
  const auto waits = ask("silent.test");
  names().ask("x.test", [&](const resolver::answer&) {
    ++answers;
    r_->set_resolver(detail::make_cares_resolver(*r_, options_));
  });
  ASSERT_TRUE(turn_until([&] { return answers > 0; }));
  r_->turn(30ms);
  EXPECT_EQ(answers, 1);
  EXPECT_TRUE(waits->answers.empty());
  EXPECT_EQ(look_up("x.test")->hosts().size(), 2u);
  // The same from an answer that time brings, and from one that waits in a list.
  options_.timeout = 20ms, options_.tries = 1;
  r_->set_resolver(detail::make_cares_resolver(*r_, options_));
  answers = 0;
  const auto end_it = [&](const resolver::answer&) {
    ++answers;
    r_->set_resolver(nullptr);
  };
  names().ask("silent.test", end_it);
  ASSERT_TRUE(turn_until([&] { return answers > 0; }));
  r_->set_resolver(detail::make_cares_resolver(*r_, options_));
  names().ask("localhost", end_it);
  ASSERT_TRUE(turn_until([&] { return answers > 1; }));
  r_->turn(0s);
  EXPECT_EQ(answers, 2);
  r_->set_resolver(detail::make_cares_resolver(*r_, options_));
  names().ask("localhost", end_it);
  r_->set_resolver(nullptr);
  r_->turn(0s);
  EXPECT_EQ(answers, 2);
}

TEST_F(names_test, LoopsOnSeveralThreadsHaveTheirOwn) {
  std::vector<std::vector<std::string>> found(4);
  std::vector<std::thread> threads;
  for (auto& mine : found)
    threads.emplace_back([&mine, options = options_]() mutable {
      reactor r;
      dns_server server{r};
      server.table[{"t.test", false}] = {{ip("192.0.2.31")}};
      server.table[{"t.test", true}] = {};
      options.port = server.port();
      r.set_resolver(detail::make_cares_resolver(r, options));
      r.resolve("t.test").then(
          [&](const auto& all) {
            for (const auto& where : all) mine.push_back(where.host());
            r.stop();
          },
          [&](const reason&) { r.stop(); });
      r.run();
    });
  for (auto& t : threads) t.join();
  for (const auto& one : found) EXPECT_EQ(one, std::vector<std::string>{"192.0.2.31"});
}

TEST_F(names_test, SpoiltAnswersEndEachQuestion) {
  const auto seed = std::random_device{}();
  std::cout << "seed " << seed << '\n';
  std::mt19937 chance{seed};
  options_.timeout = 20ms, options_.tries = 1, options_.cached_answers = 0;
  server_->spoil = [&](std::string& octets) {
    const auto below = [&](std::size_t n) { return chance() % n; };
    // The first two octets name the question: without them it would not be looked at.
    for (auto changes = below(4); changes > 0; --changes)
      octets[2 + below(octets.size() - 2)] = static_cast<char>(below(256));
    if (below(4) == 0) octets.resize(2 + below(octets.size() - 1));
    if (below(8) == 0) octets.append(below(200), static_cast<char>(below(256)));
  };
  std::vector<address> many;
  for (std::uint8_t i = 0; i < 20; ++i) many.push_back(address::ipv4({192, 0, 2, i}, 0));
  const int cases = std::max(40, static_cast<int>(400 * MIDWIRE_TEST_SCALE));
  int found = 0;
  for (int i = 0; i < cases; i += 20) {
    std::vector<std::shared_ptr<told>> all;
    for (int n = 0; n < 20; ++n) {
      const std::string name = "n" + std::to_string(n) + ".test";
      knows(name, many, {ip("2001:db8::30")});
      all.push_back(ask(name));
    }
    ASSERT_TRUE(turn_until([&] { return std::all_of(all.begin(), all.end(), [](auto& t) { return t->done(); }); }));
    for (const auto& t : all) found += t->hosts().empty() ? 0 : 1;
  }
  EXPECT_GT(found, 0);
}

}  // namespace
}  // namespace midwire
