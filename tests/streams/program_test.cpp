// The program itself, as a child: what it prints, what it does to connections, how it ends.

#include "streams/program.hpp"

#include <nlohmann/json.hpp>

namespace {

using namespace program_test;
using namespace std::chrono_literals;
using nlohmann::ordered_json;

std::vector<ordered_json> events(const std::string& text) {
  std::vector<ordered_json> all;
  for (std::size_t at = 0, end; (end = text.find('\n', at)) != text.npos; at = end + 1) {
    all.push_back(ordered_json::parse(text.substr(at, end - at), nullptr, false));
    EXPECT_FALSE(all.back().is_discarded()) << text.substr(at, end - at);
  }
  return all;
}
std::vector<std::string> members(const ordered_json& o) {
  std::vector<std::string> names;
  for (const auto& [name, value] : o.items()) names.push_back(name);
  return names;
}
const ordered_json& event_named(const std::vector<ordered_json>& all, const std::string& name) {
  static const ordered_json none = ordered_json::object();
  for (const auto& e : all)
    if (e.value("event", "") == name) return e;
  ADD_FAILURE() << "no event " << name;
  return none;
}

TEST(program, says_where_it_listens_relays_and_ends_with_0) {
  server origin{echo};
  program p{{"proxy", origin.mode()}};
  const auto port = p.port();
  ASSERT_NE(port, 0);
  client c{port};
  c.send("hello");
  EXPECT_EQ(c.exactly(5), "hello");
  c.end();
  EXPECT_EQ(c.rest(), "");
  p.send(SIGTERM);
  EXPECT_EQ(p.status(), 0);
  EXPECT_NE(p.err().all().find("1 connection, 5 octets to the server, 5 octets to the client, 0 edits"),
            std::string::npos)
      << p.err().all();
  EXPECT_EQ(p.out().all(), "");
}

TEST(program, edits_both_ways_in_the_order_of_the_command_line) {
  server origin{echo};
  folder f;
  const auto file = f.write("middle.rules", "when from.client do replace \"b\" with \"c\"\n");
  program p{{"proxy", origin.mode(), "-e", "when from.client do replace \"a\" with \"b\"", "--rules", file, "-e",
             "when from.client do replace \"c\" with \"dd\"", "--hold", "strict"}};
  client c{p.port()};
  c.send("xay");
  c.end();
  EXPECT_EQ(c.rest(), "xddy");
  p.send(SIGINT);
  EXPECT_EQ(p.status(), 0);
  EXPECT_NE(p.err().all().find("3 edits"), std::string::npos) << p.err().all();
}

TEST(program, a_token_cut_anywhere_is_replaced) {
  server origin{echo};
  program p{
      {"proxy", origin.mode(), "-e", "when from.client do replace \"secret\" with \"hidden!\"", "--hold", "strict"}};
  const auto port = p.port();
  const std::string text = "a secret b";
  for (std::size_t cut = 1; cut < text.size(); ++cut) {
    client c{port};
    c.send(text.substr(0, cut));
    std::this_thread::sleep_for(5ms);
    c.send(text.substr(cut));
    c.end();
    EXPECT_EQ(c.rest(), "a hidden! b") << cut;
  }
}

TEST(program, unix_sockets_on_both_sides) {
  folder f;
  const auto front = f.file("front"), back = f.file("back");
  program inner{{"serve", "unix:" + back, "-q"}};
  for (int i = 0; i < 1000 && access(back.c_str(), F_OK) != 0; ++i) std::this_thread::sleep_for(5ms);
  program p{{"proxy", "reverse:unix:" + back + "@unix:" + front}};
  p.err().wait_for("listening on unix:" + front);
  client c{front};
  ASSERT_TRUE(c.connected());
  c.send("through two");
  c.end();
  EXPECT_EQ(c.rest(), "through two");
}

TEST(program, json_events_have_their_members_in_order) {
  server origin{echo};
  program p{{"proxy", origin.mode(), "--json", "-e",
             "mask: when from.client do replace \"secret\" with \"xy\", log \"seen\"", "--seed", "7"}};
  const auto first = p.out().wait_for("\n");
  const auto listening = ordered_json::parse(first.substr(0, first.find('\n')), nullptr, false);
  ASSERT_FALSE(listening.is_discarded());
  EXPECT_EQ(members(listening), (std::vector<std::string>{"event", "time", "listener", "address"}));
  EXPECT_EQ(listening["listener"], origin.mode());
  const std::string address = listening["address"];
  client c{static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)))};
  c.send("my secret.");
  c.end();
  EXPECT_EQ(c.rest(), "my xy.");
  p.out().wait_for("\"event\":\"close\"");
  p.send(SIGTERM);
  EXPECT_EQ(p.status(), 0);
  const auto all = events(p.out().all());
  const auto& open = event_named(all, "open");
  EXPECT_EQ(members(open), (std::vector<std::string>{"event", "time", "conn", "listener", "client", "server"}));
  EXPECT_EQ(open["server"], "127.0.0.1:" + std::to_string(origin.port()));
  const auto& edit = event_named(all, "edit");
  EXPECT_EQ(members(edit),
            (std::vector<std::string>{"event", "time", "conn", "dir", "rule", "action", "offset", "before", "after"}));
  EXPECT_EQ(edit["rule"], "mask");
  EXPECT_EQ(edit["action"], "replace");
  EXPECT_EQ(edit["dir"], "to_server");
  EXPECT_EQ(edit["offset"], 3);
  EXPECT_EQ(edit["before"], "736563726574");
  EXPECT_EQ(edit["after"], "7879");
  EXPECT_EQ(members(event_named(all, "log")),
            (std::vector<std::string>{"event", "time", "conn", "dir", "rule", "text"}));
  const auto& close = event_named(all, "close");
  EXPECT_EQ(members(close), (std::vector<std::string>{"event", "time", "conn", "reason", "by", "text", "seconds",
                                                      "to_server", "to_client"}));
  EXPECT_EQ(close["reason"], "done");
  EXPECT_EQ(close["to_server"].dump(), "{\"in\":10,\"out\":6,\"early\":0}");
  EXPECT_EQ(close["to_client"].dump(), "{\"in\":6,\"out\":6,\"early\":0}");
  const auto& summary = event_named(all, "summary");
  EXPECT_EQ(members(summary), (std::vector<std::string>{"event", "time", "connections", "to_server", "to_client",
                                                        "edits", "lost", "seed"}));
  EXPECT_EQ(summary["connections"], 1);
  EXPECT_EQ(summary["edits"].dump(), "{\"mask\":1}");
  EXPECT_EQ(summary["seed"], 7);
  for (const auto& e : all) EXPECT_NE(e["event"], "data");
}

TEST(program, dump_shows_before_and_after) {
  server origin{echo};
  program p{{"proxy", origin.mode(), "--dump", "hex", "-e", "when from.client do replace \"secret\" with \"xy\""}};
  client c{p.port()};
  c.send("my secret.\x1b[2J");
  c.end();
  EXPECT_EQ(c.rest(), "my xy.\x1b[2J");
  p.send(SIGTERM);
  EXPECT_EQ(p.status(), 0);
  const auto text = p.out().all();
  EXPECT_NE(text.find("length=3 from=0 to=2\n 6d 79 20                                         my \n--\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("length=6 from=3 to=8\n 73 65 63 72 65 74                                secret\n--\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("length=2 from=3 to=4\n 78 79                                            xy\n--\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("\n>- "), std::string::npos) << text;
  EXPECT_NE(text.find("\n>+ "), std::string::npos) << text;
  EXPECT_NE(text.find("\n< "), std::string::npos) << text;
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST(program, payload_is_printed_only_when_asked) {
  server origin{echo};
  program p{{"proxy", origin.mode(), "-v", "-e", "do replace \"nothing\" with \"x\""}};
  client c{p.port()};
  c.send("k3rfuffle");
  c.end();
  EXPECT_EQ(c.rest(), "k3rfuffle");
  p.send(SIGTERM);
  EXPECT_EQ(p.status(), 0);
  EXPECT_EQ((p.out().all() + p.err().all()).find("k3rfuffle"), std::string::npos);
}

TEST(program, reload_changes_live_connections_and_a_broken_file_changes_nothing) {
  server origin{echo};
  folder f;
  const auto file = f.write("a.rules", "when from.client do replace \"one\" with \"1\"\n");
  program p{{"proxy", origin.mode(), "--rules", file, "--threads", "2"}};
  client c{p.port()};
  c.send("one two.");
  EXPECT_EQ(c.exactly(6), "1 two.");
  f.write("a.rules", "when from.client do replase \"two\" with \"2\"\n");
  p.send(SIGHUP);
  p.err().wait_for("rules not reloaded");
  EXPECT_NE(p.err().all().find("a.rules:1:21"), std::string::npos) << p.err().all();
  c.send("one two.");
  EXPECT_EQ(c.exactly(6), "1 two.");
  f.write("a.rules", "when from.client do replace \"two\" with \"2\"\n");
  p.send(SIGHUP);
  p.err().wait_for("rules reloaded: 1");
  std::this_thread::sleep_for(50ms);
  c.send("one two.");
  EXPECT_EQ(c.exactly(6), "one 2.");
  client later{p.port()};
  later.send("one two.");
  EXPECT_EQ(later.exactly(6), "one 2.");
}

TEST(program, serve_prints_edits_and_answers) {
  program p{{"serve", "tcp://127.0.0.1:0", "-e", "do replace \"ping\" with \"pong!\""}};
  client c{p.port()};
  c.send("a ping b\n");
  c.end();
  EXPECT_EQ(c.rest(), "a pong! b\n");
  p.send(SIGTERM);
  EXPECT_EQ(p.status(), 0);
  const auto text = p.out().all();
  EXPECT_NE(text.find(">- "), std::string::npos) << text;
  EXPECT_NE(text.find("\npong!\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("< "), std::string::npos) << text;
}

TEST(program, serve_edits_what_came_and_no_rule_acts_on_the_answer) {
  program p{{"serve", "tcp://127.0.0.1:0", "--json", "-e", "do insert \"<\" at start, insert \">\" at end"}};
  const auto text = p.out().wait_for("}\n");
  client c{
      static_cast<std::uint16_t>(std::atoi(text.c_str() + text.find("127.0.0.1:", text.find("\"address\"")) + 10))};
  c.send("hey");
  c.end();
  EXPECT_EQ(c.rest(), "<hey>");
  EXPECT_EQ(p.out().wait_for("\"close\"").find("\"dir\":\"to_client\",\"rule\""), std::string::npos);
}

TEST(program, serve_without_an_answer) {
  program p{{"serve", "tcp://127.0.0.1:0", "--no-answer", "--dump", "hex"}};
  client c{p.port()};
  c.send("abc");
  c.end();
  EXPECT_EQ(c.rest(), "");
  p.out().wait_for(" 61 62 63  ");
}

TEST(program, serve_answers_much_more_than_fits_and_then_ends) {
  // Quiet, so nothing is printed; the address is in an event.
  program p{{"serve", "tcp://127.0.0.1:0", "--json", "-q", "-e", "do replace \"<a>\" with \"<longer>\""}};
  const auto text = p.out().wait_for("}\n");
  const auto at = text.find("127.0.0.1:", text.find("\"address\""));
  client c{static_cast<std::uint16_t>(std::atoi(text.c_str() + at + 10))};
  std::string text_in, want;
  for (int i = 0; i < 8192; ++i) text_in += "<a>" + std::string(1021, 'x'), want += "<longer>" + std::string(1021, 'x');
  std::thread sender{[&] {
    c.send(text_in);
    c.end();
  }};
  std::this_thread::sleep_for(300ms);  // the reader is late: the sender has to wait
  const auto got = c.rest();
  sender.join();
  EXPECT_EQ(got.size(), want.size());
  EXPECT_TRUE(got == want);
}

TEST(program, a_wrong_rule_is_status_2_with_a_caret_before_anything_listens) {
  program p{{"proxy", "reverse:tcp://127.0.0.1:1@0", "-e", "when tcp.prt == 80 do drop"}};
  EXPECT_EQ(p.status(), 2);
  const auto text = p.err().wait_for("^");
  EXPECT_NE(text.find("-e:1:6: error: unknown field 'tcp.prt'"), std::string::npos) << text;
  EXPECT_NE(text.find("tcp.port"), std::string::npos) << text;
  EXPECT_EQ(text.find("listening"), std::string::npos) << text;
}

TEST(program, wrong_usage_is_status_2_and_says_what_to_do) {
  const struct {
    std::vector<std::string> arguments;
    const char* want;
  } rows[] = {
      {{}, "no command"},
      {{"prox"}, "did you mean 'midwire proxy'?"},
      {{"--verson"}, "did you mean 'midwire --version'?"},
      {{"proxy", "serve@0", "-x"}, "see: midwire proxy --help"},
      {{"proxy", "serve@0", "--threads", "2x"}, "write decimal digits"},
      {{"edit"}, "command 'edit' is not available yet"},
      {{"proxy"}, "no mode"},
      {{"proxy", "socks5@1080"}, "mode 'socks5' is not available yet"},
      {{"proxy", "reverse:db:5432"}, "reverse:tcp://db:5432"},
      {{"proxy", "serve@0", "--windw", "1"}, "did you mean '--window'?"},
      {{"proxy", "serve@0", "-s", "a.lua"}, "scripts are not available yet"},
      {{"proxy", "serve@0", "--set", "a=b"}, "option '--set' is not available"},
      {{"proxy", "serve@0", "-k"}, "TLS is not taken apart"},
      {{"proxy", "serve@0", "-nr", "x"}, "option '-n' is not available"},
      {{"proxy", "serve@0", "--window", "12q"}, "'12q' is not a size"},
      {{"proxy", "serve@0", "--hold", "12"}, "'12' is not a time"},
      {{"proxy", "serve@0", "--hold", "0"}, "--hold: 0"},
      {{"proxy", "serve@0", "--drain", "x"}, "'x' is not a time"},
      {{"proxy", "serve@0", "--threads", "0"}, "--threads: 0 is out of range"},
      {{"proxy", "serve@0", "--dump", "xml"}, "--dump hex or --dump text"},
      {{"proxy", "serve@0", "--color", "red"}, "auto, always or never"},
      {{"proxy", "serve@0", "--on-connect-error", "x"}, "close or reset"},
      {{"proxy", "serve@0", "-p", "70000"}, "invalid port: 70000"},
      {{"proxy", "serve@0", "--seed", "x"}, "'x' is not a number"},
      {{"proxy", "serve@0", "--rules"}, "--rules"},
      {{"proxy", "serve@8080", "serve@8080"}, "Cannot spawn multiple servers on the same address: 127.0.0.1:8080"},
      {{"serve", "tcp://127.0.0.1:x"}, "^"},
      {{"serve", "a:1", "b:2"}, "unexpected word 'b:2'"},
      {{"rules"}, "rules check"},
      {{"rules", "chek"}, "did you mean 'midwire rules check'?"},
      {{"rules", "check"}, "no rules"},
      {{"rules", "check", "-e", "do nothing"}, "^"},
  };
  for (const auto& row : rows) {
    program p{row.arguments};
    EXPECT_EQ(p.status(), 2) << row.want;
    EXPECT_NE(p.err().wait_for(row.want).find(row.want), std::string::npos);
    EXPECT_EQ(p.out().all(), "") << row.want;
  }
}

TEST(program, an_unreadable_rule_file_is_status_1) {
  program p{{"proxy", "serve@0", "--rules", "/nonexistent/a.rules"}};
  EXPECT_EQ(p.status(), 1);
  p.err().wait_for("/nonexistent/a.rules: No such file or directory");
}

TEST(program, a_name_to_listen_on_that_nobody_knows_is_status_1_and_says_so) {
  program p{{"proxy", "reverse:tcp://127.0.0.1:1@no-such-name.invalid:0"}};
  EXPECT_EQ(p.status(), 1);
  const auto text = p.err().wait_for("\n");
  EXPECT_NE(text.find("cannot listen on no-such-name.invalid: "), std::string::npos) << text;
  EXPECT_EQ(text.find("Cannot assign requested address"), std::string::npos) << text;
}

TEST(program, an_address_in_use_is_status_1) {
  server taken{echo};
  program p{{"proxy", "reverse:tcp://127.0.0.1:1@" + std::to_string(taken.port())}};
  EXPECT_EQ(p.status(), 1);
  const auto text = p.err().wait_for("hint");
  EXPECT_NE(text.find("cannot listen on 127.0.0.1:" + std::to_string(taken.port())), std::string::npos) << text;
}

TEST(program, forwarding_to_itself_is_refused) {
  for (const std::string host : {"127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"}) {
    // A port that was free a moment ago.
    std::uint16_t port;
    {
      server probe{echo};
      port = probe.port();
    }
    program p{{"proxy", "reverse:tcp://" + host + ":" + std::to_string(port) + "@0.0.0.0:" + std::to_string(port)}};
    EXPECT_EQ(p.status(), 2) << host;
    p.err().wait_for("it would forward to itself");
  }
}

TEST(program, a_server_that_cannot_be_reached_closes_the_client_and_is_said) {
  std::uint16_t port;
  {
    server probe{echo};
    port = probe.port();
  }
  for (const std::string how : {"close", "reset"}) {
    program p{{"proxy", "reverse:tcp://127.0.0.1:" + std::to_string(port) + "@0", "--on-connect-error", how}};
    client c{p.port()};
    EXPECT_EQ(c.ending(), how == "close" ? 0 : ECONNRESET);
    // Who, where to, and why: once.
    const auto text = p.err().wait_for("Connection refused\n");
    EXPECT_NE(text.find("connection 1 from 127.0.0.1:"), std::string::npos) << text;
    EXPECT_NE(text.find(": cannot connect to 127.0.0.1:" + std::to_string(port) + ": Connection refused\n"),
              std::string::npos)
        << text;
    EXPECT_TRUE(p.running());
  }
}

TEST(program, sigterm_lets_connections_finish_then_resets_what_is_left) {
  server origin{echo};
  program p{{"proxy", origin.mode(), "--drain", "1s"}};
  const auto port = p.port();
  client finishes{port}, stays{port};
  finishes.send("x"), stays.send("x");
  EXPECT_EQ(finishes.exactly(1) + stays.exactly(1), "xx");
  p.send(SIGTERM);
  std::this_thread::sleep_for(100ms);
  EXPECT_FALSE(client{port}.connected());
  finishes.send("still here");
  EXPECT_EQ(finishes.exactly(10), "still here");
  finishes.end();
  EXPECT_EQ(finishes.ending(), 0);
  EXPECT_EQ(stays.ending(), ECONNRESET);
  EXPECT_EQ(p.status(), 0);
}

TEST(program, a_second_signal_ends_it_at_once) {
  server origin{echo};
  for (const auto& [first, second] :
       {std::pair{SIGTERM, SIGTERM}, std::pair{SIGINT, SIGINT}, std::pair{SIGTERM, SIGINT}}) {
    program p{{"proxy", origin.mode(), "--drain", "1h"}};
    client c{p.port()};
    c.send("x");
    EXPECT_EQ(c.exactly(1), "x");
    p.send(first);
    std::this_thread::sleep_for(200ms);
    EXPECT_TRUE(p.running());
    p.send(second);
    EXPECT_EQ(p.status(), 128 + second);
  }
}

TEST(program, a_closed_stdout_ends_output_only) {
  server origin{echo};
  program p{{"proxy", origin.mode(), "--dump", "text"}, false};
  const auto port = p.port();
  p.close_stdout();
  for (int i = 0; i < 3; ++i) {
    client c{port};
    c.send(std::string(100000, 'x'));
    c.end();
    EXPECT_EQ(c.rest().size(), 100000u);
  }
  EXPECT_TRUE(p.running());
  p.send(SIGTERM);
  EXPECT_EQ(p.status(), 0);
}

TEST(program, closed_standard_descriptors_are_not_taken_by_sockets) {
  program p{{"serve", "tcp://127.0.0.1:0"}, closed_output};
  client c{p.port()};
  c.send("hello");
  EXPECT_EQ(c.exactly(5), "hello");
  char to[64];
  const auto n = readlink(("/proc/" + std::to_string(p.pid()) + "/fd/1").c_str(), to, sizeof to);
  ASSERT_GT(n, 0);
  EXPECT_EQ((std::string_view{to, static_cast<std::size_t>(n)}), "/dev/null");
  c.end();
  p.send(SIGTERM);
  EXPECT_EQ(p.status(), 0);
}

TEST(program, a_stdout_that_nobody_reads_slows_nothing_and_the_gap_is_told) {
  server origin{echo};
  program p{{"proxy", origin.mode(), "--dump", "hex"}, false};
  client c{p.port()};
  const std::size_t size = 24 << 20;
  std::thread sender{[&] {
    c.send(std::string(size, 'x'));
    c.end();
  }};
  EXPECT_EQ(c.rest().size(), size);
  sender.join();
  collector late{dup(p.stdout_end())};
  p.close_stdout();
  p.send(SIGTERM);
  EXPECT_EQ(p.status(), 0);
  EXPECT_NE(p.err().wait_for("nobody read them in time").find("lines of output dropped"), std::string::npos);
}

TEST(program, rules_check_and_fields) {
  folder f;
  const auto file = f.write("a.rules", "# both ways\ndo replace \"a\" with \"b\"\n");
  program check{{"rules", "check", file}};
  EXPECT_EQ(check.status(), 0);
  const auto text = check.out().wait_for("OK: 1 rule\n");
  EXPECT_NE(text.find("both directions"), std::string::npos) << text;
  program wrong{{"rules", "check", "-e", "when tcp.prt == 1 do drop"}};
  EXPECT_EQ(wrong.status(), 2);
  program fields{{"rules", "fields", "ip.s"}};
  EXPECT_EQ(fields.status(), 0);
  EXPECT_NE(fields.out().wait_for("ip.src").find("ip.src"), std::string::npos);
  program none{{"rules", "fields", "no.such"}};
  EXPECT_EQ(none.status(), 1);
}

TEST(program, help_and_version) {
  for (const auto& words : std::vector<std::vector<std::string>>{{"--help"},
                                                                 {"proxy", "--help"},
                                                                 {"serve", "-h"},
                                                                 {"rules", "--help"},
                                                                 {"rules", "check", "--help"},
                                                                 {"rules", "fields", "--help"},
                                                                 {"help", "proxy"}}) {
    program p{words};
    EXPECT_EQ(p.status(), 0) << words.front();
    const auto text = p.out().wait_for("examples:");
    EXPECT_NE(text.find(words.front() == "rules" || words.front() == "--help" ? "midwire " : "Usage: midwire "),
              std::string::npos)
        << text;
    EXPECT_EQ(p.err().all(), "");
  }
  program version{{"--version"}};
  EXPECT_EQ(version.status(), 0);
  version.out().wait_for("midwire 0.1.0\n");
}

}  // namespace
