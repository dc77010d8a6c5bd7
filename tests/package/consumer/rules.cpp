// Rules on a relayed flow, without sockets: what libmidwire gives on top of the engine.
#include <cstdio>
#include <exception>

#include <midwire/midwire.hpp>
#include <midwire/testing/playbook.hpp>

int main() {
  using midwire::command, midwire::event, midwire::side;
  namespace rules = midwire::rules;
  const auto made =
      rules::compile({{.name = "-e:1", .text = R"(do replace "cat" with "giraffe")", .folder = "", .file = false}},
                     [](const std::string&, std::string&) { return std::nullopt; });
  for (const auto& d : made.diagnostics) std::fputs(rules::format(d).c_str(), stderr);
  if (!made.ok()) return 1;

  std::vector<std::unique_ptr<midwire::stage>> stages;
  stages.push_back(std::make_unique<rules::rule_stage>(made.rules, midwire::fields::connection_facts{}));
  midwire::flow flow{std::move(stages)};
  try {
    midwire::testing::playbook{flow}
        .when(side::client, event::data_received("a cat.\n"))
        .then(side::server, command::send("a giraffe.\n"))
        .when(side::client, event::end_received())
        .then(side::server, command::send_end())
        .quiet();
  } catch (const std::exception& e) {
    std::printf("rules: %s\n", e.what());
    return 1;
  }
  std::printf("rules: ok\n");
}
