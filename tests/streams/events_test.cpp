#include <midwire/streams/sink/events.hpp>

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace {

using namespace midwire::streams;
using midwire::address;
using midwire::as_bytes;
using midwire::direction;
using midwire::ending;
using nlohmann::ordered_json;

const wall_time moment{std::chrono::nanoseconds{1795379533000510251}};
const std::string time_text = "\"time\":\"2026-11-22T20:32:13.000510251Z\"";
const json_lines lines;

TEST(events, listening_and_open) {
  EXPECT_EQ(lines(listening_event{"reverse:tcp://a:1@0", address::loopback(40123)}, moment),
            "{\"event\":\"listening\"," + time_text +
                ",\"listener\":\"reverse:tcp://a:1@0\",\"address\":\"127.0.0.1:40123\"}\n");
  EXPECT_EQ(lines(open_event{{3, "m"}, address::loopback(1), *address::parse_ip("::1", 2)}, moment),
            "{\"event\":\"open\"," + time_text +
                ",\"conn\":3,\"listener\":\"m\",\"client\":\"127.0.0.1:1\",\"server\":\"[::1]:2\"}\n");
}

TEST(events, edit_log_and_data) {
  EXPECT_EQ(lines(edit_event{{1, "m"},
                             direction::to_server,
                             "mask",
                             "replace",
                             7,
                             as_bytes("ab"),
                             as_bytes(std::string_view{"\x00\xff", 2})},
                  moment),
            "{\"event\":\"edit\"," + time_text +
                ",\"conn\":1,\"dir\":\"to_server\",\"rule\":\"mask\",\"action\":\"replace\",\"offset\":7,\"before\":"
                "\"6162\",\"after\":\"00ff\"}\n");
  EXPECT_EQ(lines(log_event{{1, "m"}, direction::to_client, "-e:1", "got \"it\"\n"}, moment),
            "{\"event\":\"log\"," + time_text +
                ",\"conn\":1,\"dir\":\"to_client\",\"rule\":\"-e:1\",\"text\":\"got \\\"it\\\"\\n\"}\n");
  data_event d{{1, "m"}, direction::to_client, 9, 8, as_bytes("a"), as_bytes("b"), false, {}};
  EXPECT_EQ(lines(d, moment),
            "{\"event\":\"data\"," + time_text + ",\"conn\":1,\"dir\":\"to_client\",\"offset\":9,\"octets\":\"61\"}\n");
  d.edited = true;
  EXPECT_EQ(lines(d, moment), "{\"event\":\"data\"," + time_text +
                                  ",\"conn\":1,\"dir\":\"to_client\",\"offset\":9,\"octets\":\"61\",\"was\":\"62\"}\n");
}

TEST(events, close_and_summary) {
  close_event c;
  c.who = {2, "m"}, c.how = ending::reset, c.by = "server", c.text = "gone", c.age = std::chrono::milliseconds{1500};
  c.totals = {{{10, 12, 1}, {20, 20, 0}}};
  EXPECT_EQ(lines(c, moment),
            "{\"event\":\"close\"," + time_text +
                ",\"conn\":2,\"reason\":\"reset\",\"by\":\"server\",\"text\":\"gone\",\"seconds\":1.5,"
                "\"to_server\":{\"in\":10,\"out\":12,\"early\":1},\"to_client\":{\"in\":20,\"out\":20,\"early\":0}}\n");
  summary_event s;
  s.connections = 2, s.totals = c.totals, s.edits = {{"b", 1}, {"a", 2}}, s.lost = 3, s.seed = 42;
  EXPECT_EQ(lines(s, moment), "{\"event\":\"summary\"," + time_text +
                                  ",\"connections\":2,\"to_server\":{\"in\":10,\"out\":12,\"early\":1},\"to_client\":{"
                                  "\"in\":20,\"out\":20,\"early\":0},"
                                  "\"edits\":{\"a\":2,\"b\":1},\"lost\":3,\"seed\":42}\n");
  EXPECT_EQ(lines(summary_event{}, moment).find("\"edits\":{}") != std::string::npos, true);
  EXPECT_EQ(json_lines::gap(5, moment), "{\"event\":\"gap\"," + time_text + ",\"lost\":5}\n");
}

TEST(events, with_several_listeners_each_event_names_its_own) {
  const json_lines many{true};
  for (const auto& text : {many(edit_event{{1, "m"}, {}, "r", "a", 0, {}, {}}, moment),
                           many(close_event{{1, "m"}, true, {}, {}, "client", {}, {}, {}}, moment),
                           many(log_event{{1, "m"}, {}, "r", "t"}, moment)})
    EXPECT_TRUE(text.ends_with("\"listener\":\"m\"}\n")) << text;
}

TEST(events, hostile_text_stays_one_valid_line) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  const auto text = lines(log_event{{1, "m"}, {}, "r", all}, moment);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  const auto parsed = ordered_json::parse(text, nullptr, false);
  ASSERT_FALSE(parsed.is_discarded());
  EXPECT_EQ(parsed["event"], "log");
  const std::string back = parsed["text"];
  EXPECT_EQ(back.substr(0, 128), all.substr(0, 128));
  EXPECT_EQ(back.substr(128, 6), "\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(events, summary_for_people) {
  summary_event s;
  EXPECT_EQ(summary_text(s), "0 connections, 0 octets to the server, 0 octets to the client, 0 edits");
  s.connections = 1, s.totals = {{{100, 90, 5}, {20000, 20000, 0}}}, s.edits = {{"mask", 1}}, s.lost = 2;
  EXPECT_EQ(summary_text(s),
            "1 connection, 100 octets became 90 octets to the server, 20.0 KB to the client, 1 edit\n"
            "  1 by mask\n"
            "  5 octets let go undecided, because --hold or --window was over\n"
            "  2 lines of output dropped, because nobody read them in time");
}

}  // namespace
