#include <midwire/streams/sink/event_writers.hpp>

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <ctime>

namespace {

using namespace midwire::streams;
using midwire::address;
using midwire::as_bytes;
using midwire::direction;
using midwire::ending;

wall_time moment() { return wall_time{std::chrono::nanoseconds{1795379533000510251}}; }

/// Two files instead of stdout and stderr.
class captured {
 public:
  captured() {
    setenv("TZ", "UTC", 1);
    tzset();
    for (auto& fd : fds_) {
      char name[] = "/tmp/midwire-writers-XXXXXX";
      fd = mkstemp(name);
      unlink(name);
    }
    results.emplace(fds_[0]), talk.emplace(fds_[1]);
  }
  ~captured() {
    results.reset(), talk.reset();
    for (const int fd : fds_) close(fd);
  }
  std::string said(bool on_talk) {
    (on_talk ? talk : results)->finish(std::chrono::seconds{2});
    std::string all(65536, '\0');
    all.resize(static_cast<std::size_t>(std::max<ssize_t>(0, pread(fds_[on_talk], all.data(), all.size(), 0))));
    return all;
  }
  std::optional<output> results, talk;

 private:
  int fds_[2];
};

close_event closing(ending how, bool opened) {
  close_event c;
  c.who = {2, "m"}, c.opened = opened, c.client = address::loopback(5), c.how = how, c.by = "server",
  c.text = "Connection refused";
  c.age = std::chrono::milliseconds{1500}, c.totals = {{{1, 2, 0}, {3, 4, 0}}};
  return c;
}

TEST(event_writers, talk_says_what_matters_and_more_when_asked) {
  for (const int talk : {0, 1, 2}) {
    captured c;
    text_options how;
    how.talk = talk;
    text_writer w{*c.results, *c.talk, how, moment};
    w.take(listening_event{"m", address::loopback(40123)});
    w.take(open_event{{2, "m"}, address::loopback(5), address::loopback(6)});
    w.take(closing(ending::done, true));
    w.take(closing(ending::refused, false));
    const auto said = c.said(true);
    const std::string listening = "listening on 127.0.0.1:40123\n",
                      failed = "connection 2 from 127.0.0.1:5: Connection refused\n",
                      open = "connection 2: 127.0.0.1:5 to 127.0.0.1:6\n",
                      done =
                          "connection 2: done by server (Connection refused) after 1.500 s, 2 octets to the server, 4 "
                          "octets to the client\n";
    EXPECT_EQ(said, talk == 0 ? "" : talk == 1 ? listening + failed : listening + open + done + failed);
    EXPECT_EQ(c.said(false), "");
  }
}

TEST(event_writers, logs_and_dumps_go_to_results_escaped) {
  captured c;
  text_options how;
  how.data = true, how.colour = true;
  text_writer w{*c.results, *c.talk, how, moment};
  EXPECT_TRUE(w.wants_data());
  EXPECT_FALSE(w.wants_edits());
  w.take(log_event{{1, "m"}, direction::to_server, "mask", "it \x1b[2J\n"});
  w.take(log_event{{1, "m"}, direction::to_client, {}, "let go"});
  w.take(data_event{{1, "m"}, direction::to_client, 5, 4, as_bytes("new\n"), as_bytes("old\n"), true, {}});
  w.take(data_event{{2, "m"}, direction::to_server, 0, 0, as_bytes("x\n"), as_bytes("x\n"), false, {}});
  EXPECT_EQ(c.said(false),
            "mask: it \\x1b[2J\\x0a\n"
            "\x1b[31m<- 2026/11/22 20:32:13.000510251  length=4 from=4 to=7\nold\x1b[0m\n"
            "\x1b[32m<+ 2026/11/22 20:32:13.000510251  length=4 from=5 to=8\nnew\x1b[0m\n"
            "> 2026/11/22 20:32:13.000510251  length=2 from=0 to=1 conn=2\nx\n");
  EXPECT_EQ(c.said(true), "connection 1, to the client: let go\n");
}

TEST(event_writers, json_takes_everything) {
  captured c;
  json_writer w{*c.results, true, false, moment};
  EXPECT_TRUE(w.wants_data());
  EXPECT_TRUE(w.wants_edits());
  w.take(listening_event{"m", address::loopback(1)});
  w.take(open_event{});
  w.take(edit_event{});
  w.take(log_event{});
  w.take(data_event{});
  w.take(close_event{});
  w.take(summary_event{});
  const auto said = c.said(false);
  for (const char* name : {"listening", "open", "edit", "log", "data", "close", "summary"})
    EXPECT_NE(said.find("{\"event\":\"" + std::string{name} + "\",\"time\":\"2026-11-22T20:32:13.000510251Z\""),
              std::string::npos)
        << name;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 7);
}

}  // namespace
