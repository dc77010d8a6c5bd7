// Child processes over the running kernel.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include <midwire/testing/sim_reactor.hpp>

#include <midwire/engine.hpp>
#include "engine/sockets.hpp"

using namespace midwire;
using namespace std::chrono_literals;
using tests::seconds_since;

namespace {

/// Notes all that a child does, in order.
struct noting : process_protocol {
  void started() override {
    calls += "started ";
    if (on_start) on_start(*this);
  }
  void output_received(int fd, chunk data) override {
    outputs[fd] += data.text();
    if (on_output) on_output(*this, fd, data.size());
  }
  void output_ended(int fd) override { calls += "end" + std::to_string(fd) + ' '; }
  void input_ended() override { calls += "input "; }
  void ended(int status) override {
    calls += "ended" + std::to_string(status);
    for (auto& [fd, text] : outputs) at_end[fd] = text.size();
  }
  std::string calls;
  std::map<int, std::string> outputs;
  std::map<int, std::size_t> at_end;
  std::function<void(noting&)> on_start;
  std::function<void(noting&, int, std::size_t)> on_output;
};

struct outcome {
  std::optional<int> status;
  std::optional<reason> why;
};

/// Runs one child to its end.
outcome run(reactor& r, std::vector<std::string> arguments, const std::shared_ptr<process_protocol>& p = {},
           const process_options& options = {}) {
  outcome got;
  auto answer = r.spawn_process(std::move(arguments), p, options);
  std::move(answer).then(
      [&](int status) {
        got.status = status;
        r.stop();
      },
      [&](const reason& why) {
        got.why = why;
        r.stop();
      });
  const timer_ref late = r.call_later(30s, [&] { r.stop(); });
  r.run();
  timer_ref{late}.cancel();
  return got;
}

std::vector<std::string> shell(std::string script) { return {"sh", "-c", std::move(script)}; }

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all{"/proc/self/fd"};
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

/// Whether this process has any child, dead or alive.
bool has_children() { return waitpid(-1, nullptr, WNOHANG) != -1 || errno != ECHILD; }

/// A line of /proc/self/status, as the child that printed it saw itself.
std::string line_of(const std::string& status, const std::string& name) {
  const auto at = status.find(name + ":");
  return at == std::string::npos ? "" : status.substr(at, status.find('\n', at) - at);
}

}  // namespace

TEST(Process, TellsItsWholeLifeInOrder) {
  reactor r;
  auto p = std::make_shared<noting>();
  p->on_start = [](noting& self) {
    EXPECT_GT(self.pid(), 0);
    self.write("one\n");
    self.write("two\n");
    self.close_input();
  };
  const outcome got = run(r, shell("cat; echo wrong >&2; exit 7"), p);
  EXPECT_EQ(got.status, 7);
  EXPECT_EQ(p->outputs[1], "one\ntwo\n");
  EXPECT_EQ(p->outputs[2], "wrong\n");
  EXPECT_TRUE(p->calls == "started end1 end2 ended7" || p->calls == "started end2 end1 ended7") << p->calls;
  EXPECT_EQ(p->pid(), 0);
  p->write("to nobody");
  p->send_signal(SIGKILL);
  EXPECT_FALSE(has_children());
  // The same object may have another child.
  p->calls.clear();
  EXPECT_EQ(run(r, shell("cat; exit 3"), p).status, 3);
}

TEST(Process, ASignalIs128AndItsNumber) {
  reactor r;
  auto p = std::make_shared<noting>();
  p->on_start = [](noting& self) { self.send_signal(SIGTERM); };
  EXPECT_EQ(run(r, {"sleep", "60"}, p).status, 128 + SIGTERM);
  EXPECT_EQ(run(r, shell("kill -9 $$")).status, 128 + SIGKILL);
}

TEST(Process, ManyMegaoctetsGoThroughAChildInOrder) {
  // A pull producer feeds cat, which answers: neither side may hold more than its limit.
  struct source : producer {
    explicit source(process_protocol& t) : to{t} {}
    void pause_producing() override {}
    void resume_producing() override {
      most = std::max(most, to.buffered());
      if (made == total) return to.close_input();
      std::string piece(10000, '\0');
      for (std::size_t i = 0; i < piece.size(); ++i) piece[i] = static_cast<char>((made + i) % 251);
      made += piece.size();
      to.write(std::move(piece));
    }
    void stop_producing() override { ++stops; }
    process_protocol& to;
    std::size_t total = 20000000, made = 0, most = 0;
    int stops = 0;
  };
  reactor r;
  auto p = std::make_shared<noting>();
  source feed{*p};
  p->on_start = [&](noting& self) { self.register_producer(feed, producing::pull); };
  EXPECT_EQ(run(r, {"cat"}, p).status, 0);
  ASSERT_EQ(p->outputs[1].size(), feed.total);
  bool right = true;
  for (std::size_t i = 0; i < feed.total; ++i) right = right && p->outputs[1][i] == static_cast<char>(i % 251);
  EXPECT_TRUE(right);
  EXPECT_LE(feed.most, flow_limits{}.high);
  EXPECT_EQ(feed.stops, 1);
}

TEST(Process, APushProducerIsPausedByAChildThatIgnoresItsInput) {
  struct source : producer {
    explicit source(process_protocol& t) : to{t} {}
    void pause_producing() override { paused = true; }
    void resume_producing() override { paused = false; }
    void stop_producing() override { stopped = true; }
    process_protocol& to;
    bool paused = false, stopped = false;
  };
  reactor r;
  auto p = std::make_shared<noting>();
  source feed{*p};
  std::size_t written = 0;
  timer_ref writing;
  p->on_start = [&](noting& self) {
    self.register_producer(feed, producing::push);
    writing = r.every(1ms, [&] {
      if (feed.paused) return self.send_signal(SIGKILL);
      self.write(std::string(30000, 'x'));
      written += 30000;
    });
  };
  EXPECT_EQ(run(r, {"sleep", "60"}, p).status, 128 + SIGKILL);
  EXPECT_TRUE(feed.paused);
  EXPECT_TRUE(feed.stopped);
  EXPECT_LT(written, std::size_t{1} << 20) << "its pipe and the high watermark, no more";
  writing.cancel();
}

TEST(Process, AChildThatClosesItsInputIsHeardOf) {
  reactor r;
  auto p = std::make_shared<noting>();
  p->on_start = [&](noting& self) {
    self.write(std::string(1000000, 'x'));
    r.call_later(20ms, [&] { self.write("more"); });
  };
  EXPECT_EQ(run(r, shell("exec <&-; sleep 0.2; exit 4"), p).status, 4);
  EXPECT_NE(p->calls.find("input "), std::string::npos) << p->calls;
}

TEST(Process, WhatDoesNotStartSaysWhy) {
  reactor r;
  auto p = std::make_shared<noting>();
  const auto fails = [&](std::vector<std::string> arguments, std::errc why, const std::string& words,
                         const process_options& options = {}) {
    const std::size_t before = open_descriptors();
    const outcome got = run(r, std::move(arguments), p, options);
    ASSERT_TRUE(got.why) << words;
    EXPECT_EQ(got.why->how(), ending::failed);
    EXPECT_EQ(got.why->code(), why) << got.why->code().message();
    EXPECT_NE(got.why->text().find(words), std::string::npos) << got.why->text();
    EXPECT_EQ(open_descriptors(), before);
    EXPECT_FALSE(has_children());
  };
  fails({"no-such-program-anywhere"}, std::errc::no_such_file_or_directory, "no-such-program-anywhere");
  fails({"/etc/passwd"}, std::errc::permission_denied, "/etc/passwd");
  fails({""}, std::errc::no_such_file_or_directory, "");
  fails({}, std::errc::invalid_argument, "without a name");
  fails({std::string{"a\0b", 3}}, std::errc::invalid_argument, "NUL");
  fails({"true"}, std::errc::no_such_file_or_directory, "/no/such/folder", {.directory = "/no/such/folder"});
  fails({"true"}, std::errc::invalid_argument, "descriptor number 2", {.descriptors = {{2, -1}}});
  fails({"true"}, std::errc::invalid_argument, "descriptor number 3", {.descriptors = {{3, -1}, {3, 0}}});
  fails({"true"}, std::errc::bad_file_descriptor, "descriptor 3", {.descriptors = {{3, 1 << 20}}});
  tests::temp_folder folder;
  {
    std::ofstream f{folder / "script"};
    f << "#!/no/such/interpreter\n";
  }
  std::filesystem::permissions(folder / "script", std::filesystem::perms::owner_all);
  fails({folder / "script"}, std::errc::no_such_file_or_directory, "script");
  EXPECT_EQ(p->calls, "") << "no child, no call";
}

TEST(Process, OneObjectHasOneChildAtATime) {
  reactor r;
  auto p = std::make_shared<noting>();
  std::optional<reason> second;
  p->on_start = [&](noting& self) {
    auto again = r.spawn_process({"true"}, std::static_pointer_cast<process_protocol>(p));
    std::move(again).then([](int) {}, [&](const reason& why) { second = why; });
    r.call_later(10ms, [&] { self.close_input(); });
  };
  EXPECT_EQ(run(r, {"cat"}, p).status, 0);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->code(), std::errc::device_or_resource_busy);
  p->on_start = nullptr;  // it holds p
}

TEST(Process, FoldersEnvironmentAndStreamsAsAsked) {
  reactor r;
  tests::temp_folder folder;
  auto p = std::make_shared<noting>();
  process_options o;
  o.directory = folder / "";
  o.environment = std::vector<std::string>{"COLOUR=blue", "PATH=/usr/bin:/bin"};
  o.error = process_stream::joined;
  o.input = process_stream::null;
  EXPECT_EQ(run(r, {"/bin/sh", "-c", "pwd; echo $COLOUR $HOME; echo e >&2; cat; echo f"}, p, o).status, 0);
  EXPECT_EQ(p->outputs[1], std::filesystem::canonical(folder / "").string() + "\nblue\ne\nf\n");
  EXPECT_EQ(p->outputs.count(2), 0u);
  EXPECT_EQ(p->calls, "started end1 ended0");
}

TEST(Process, InheritsNothingButWhatWasNamed) {
  reactor r;
  // Descriptors that no flag keeps from a child.
  const int stray = ::open("/dev/null", O_RDONLY);
  const int high = ::fcntl(stray, F_DUPFD, 700);
  auto p = std::make_shared<noting>();
  const std::string list = "for f in /proc/self/fd/*; do echo ${f##*/}; done";
  // The shell that lists has the folder open, at 3 or the next free number.
  EXPECT_EQ(run(r, shell(list), p).status, 0);
  EXPECT_EQ(p->outputs[1], "0\n1\n2\n3\n");
  p->outputs.clear();
  tests::temp_folder folder;
  const int file = ::open((folder / "file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  EXPECT_EQ(write(file, "content", 7), 7);
  EXPECT_EQ(lseek(file, 0, SEEK_SET), 0);
  process_options o;
  o.descriptors = {{9, file}, {5, -1}};
  EXPECT_EQ(run(r, shell(list + "; cat <&9; echo five >&5"), p, o).status, 0);
  EXPECT_EQ(p->outputs[1], "0\n1\n2\n3\n5\n9\ncontent");
  EXPECT_EQ(p->outputs[5], "five\n");
  close(stray), close(high), close(file);
}

TEST(Lesson14, AChildHasAnEmptySignalMaskAndDefaultDispositions) {
  reactor r;
  // Blocked for this thread by the reactor, ignored by the process, and handled.
  r.on_signal(SIGUSR1, [] {});
  struct sigaction before {};
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGHUP, &ignore, &before);
  auto p = std::make_shared<noting>();
  EXPECT_EQ(run(r, {"cat", "/proc/self/status"}, p).status, 0);
  sigaction(SIGHUP, &before, nullptr);
  const std::string none = ":\t0000000000000000";
  EXPECT_EQ(line_of(p->outputs[1], "SigBlk"), "SigBlk" + none);
  EXPECT_EQ(line_of(p->outputs[1], "SigIgn"), "SigIgn" + none);
  EXPECT_EQ(line_of(p->outputs[1], "SigCgt"), "SigCgt" + none);
}

TEST(Process, OutputAfterTheExitIsToldBeforeTheAnswer) {
  reactor r;
  auto p = std::make_shared<noting>();
  // More than a turn's reading, from a pipe that its child has long left.
  p->on_start = [&](noting& self) {
    self.pause_output();
    r.call_later(150ms, [&] { self.resume_output(); });
  };
  EXPECT_EQ(run(r, shell("head -c 60000 /dev/zero; echo last"), p).status, 0);
  EXPECT_EQ(p->outputs[1].size(), 60005u);
  EXPECT_EQ(p->at_end[1], 60005u);
  EXPECT_TRUE(p->outputs[1].ends_with("last\n"));
}

TEST(Process, AGrandchildThatKeepsThePipeIsNotWaitedFor) {
  reactor r;
  auto p = std::make_shared<noting>();
  const auto began = std::chrono::steady_clock::now();
  // It never stops writing, either.
  EXPECT_EQ(run(r, shell("(sleep 0.2; exec yes) & echo $!; exit 5"), p).status, 5);
  EXPECT_LT(seconds_since(began), 10);
  EXPECT_FALSE(p->outputs[1].empty());
  EXPECT_EQ(run(r, shell("yes & echo $! >&2; sleep 0.1; exit 6"), p).status, 6);
}

TEST(Process, AHundredAtOnceAndNobodyIsLeft) {
  const std::size_t before = open_descriptors();
  {
    reactor r;
    int ended = 0, wrong = 0;
    std::vector<std::shared_ptr<noting>> all;
    for (int i = 0; i < 100; ++i) {
      all.push_back(std::make_shared<noting>());
      auto answer = r.spawn_process(shell("read x; echo $x; exit " + std::to_string(i)), all.back());
      std::move(answer).then(
          [&, i](int status) {
            wrong += status != i;
            if (++ended == 100) r.stop();
          },
          [&](const reason& why) {
            ADD_FAILURE() << why.text();
            r.stop();
          });
    }
    for (auto& p : all) p->write("line\n");
    r.call_later(60s, [&] { r.stop(); });
    r.run();
    EXPECT_EQ(ended, 100);
    EXPECT_EQ(wrong, 0);
    for (auto& p : all) EXPECT_EQ(p->outputs[1], "line\n");
  }
  EXPECT_FALSE(has_children());
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Process, SeveralThreadsMayStartChildren) {
  // Each loop's pipes reach no child of another: a reader would never see its end.
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      reactor r;
      for (int i = 0; i < 10; ++i) {
        auto p = std::make_shared<noting>();
        p->on_start = [](noting& self) { self.close_input(); };
        if (run(r, {"cat"}, p).status == 0) ++good;
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(good, 40);
}

TEST(Process, ItsReactorTakesItAlongUnlessAskedNotTo) {
  auto p = std::make_shared<noting>();
  int killed = 0, left = 0;
  {
    reactor r;
    auto first = r.spawn_process({"sleep", "60"}, std::static_pointer_cast<process_protocol>(p));
    killed = p->pid();
    auto second_protocol = std::make_shared<noting>();
    auto second = r.spawn_process({"sleep", "60"}, second_protocol, {.outlives_reactor = true});
    left = second_protocol->pid();
    r.turn(10ms);
  }
  EXPECT_EQ(p->pid(), 0);
  EXPECT_EQ(kill(killed, 0), -1) << "gone, and no zombie";
  EXPECT_EQ(kill(left, 0), 0);
  kill(left, SIGKILL);
  EXPECT_EQ(waitpid(left, nullptr, 0), left);
  p->write("to nobody");
}

TEST(Process, CancelKills) {
  reactor r;
  auto p = std::make_shared<noting>();
  auto answer = r.spawn_process({"sleep", "60"}, std::static_pointer_cast<process_protocol>(p));
  r.call_later(10ms, [&] { answer.cancel(); });
  for (int i = 0; i < 500 && p->calls.find("ended") == std::string::npos; ++i) r.turn(20ms);
  EXPECT_TRUE(p->calls.ends_with("ended137")) << p->calls;
  EXPECT_FALSE(has_children());
  answer.cancel();
}

TEST(Process, AnExceptionKillsTheChildAndNothingElse) {
  reactor r;
  set_log([](int, std::string_view) {});
  auto p = std::make_shared<noting>();
  p->on_output = [](noting&, int, std::size_t) { throw std::runtime_error{"not this"}; };
  const outcome got = run(r, shell("echo x; sleep 60"), p);
  set_log({});
  ASSERT_TRUE(got.why);
  EXPECT_EQ(got.why->how(), ending::failed);
  EXPECT_EQ(got.why->text(), "not this");
  EXPECT_EQ(r.failures(), 1u);
  EXPECT_TRUE(p->calls.ends_with("ended137")) << p->calls;
  EXPECT_EQ(run(r, {"true"}).status, 0);
}

TEST(Process, WithoutAProtocolItsInputIsEmptyAndItWritesWhereWeDo) {
  reactor r;
  tests::temp_folder folder;
  const int file = ::open((folder / "out").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const int ours = ::fcntl(1, F_DUPFD_CLOEXEC, 10);
  dup2(file, 1);
  const outcome got = run(r, shell("cat; echo written; exit 1"));
  dup2(ours, 1);
  EXPECT_EQ(got.status, 1);
  std::ifstream f{folder / "out"};
  std::string text;
  std::getline(f, text);
  EXPECT_EQ(text, "written");
  close(file), close(ours);
}

TEST(Process, NoMemberCallsBackBeforeItReturns) {  // E16
  reactor r;
  struct inside : process_protocol {
    void started() override { enter(); }
    void output_received(int, chunk) override { enter(); }
    void ended(int) override { enter(); }
    void enter() {
      EXPECT_EQ(depth++, 0);
      write("x\n");
      pause_output();
      resume_output();
      close_input();
      send_signal(SIGCONT);
      --depth;
      ++calls;
    }
    int depth = 0, calls = 0;
  };
  auto p = std::make_shared<inside>();
  auto answer = r.spawn_process({"cat"}, std::static_pointer_cast<process_protocol>(p));
  EXPECT_EQ(p->calls, 0);
  std::optional<int> status;
  std::move(answer).then([&](int s) {
    EXPECT_EQ(p->depth, 0);
    status = s, r.stop();
  });
  EXPECT_FALSE(status);
  r.run();
  EXPECT_EQ(status, 0);
  EXPECT_EQ(p->calls, 3);
}

TEST(Process, ASimulationHasNone) {
  midwire::testing::sim_reactor r;
  std::optional<reason> why;
  auto answer = r.spawn_process({"true"});
  std::move(answer).then([](int) {}, [&](const reason& w) { why = w; });
  r.pump();
  ASSERT_TRUE(why);
  EXPECT_EQ(why->code(), std::errc::function_not_supported);
}
