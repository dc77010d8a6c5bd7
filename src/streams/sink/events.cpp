#include <midwire/streams/sink/events.hpp>

#include <nlohmann/json.hpp>

#include <midwire/streams/source/units.hpp>

namespace midwire::streams {
namespace {

using object = nlohmann::ordered_json;

object begin(std::string_view event, wall_time when) { return object{{"event", event}, {"time", rfc3339(when)}}; }

// Octets that are no UTF-8 become U+FFFD: nothing from outside can make this throw, or make the line invalid.
std::string line(const object& o) {
  auto text = o.dump(-1, ' ', false, object::error_handler_t::replace);
  text += '\n';
  return text;
}

object totals(const direction_totals& t) { return object{{"in", t.in}, {"out", t.out}, {"early", t.early}}; }
void put_totals(object& o, const both_totals& t) {
  for (const auto d : {direction::to_server, direction::to_client}) o[std::string{name_of(d)}] = totals(t[index_of(d)]);
}
void put_listener(object& o, const conn_name& who, bool many) {
  if (many) o["listener"] = who.listener;
}

}  // namespace

std::string json_lines::operator()(const listening_event& e, wall_time when) const {
  auto o = begin("listening", when);
  o["listener"] = e.listener;
  o["address"] = e.at.text();
  return line(o);
}

std::string json_lines::operator()(const open_event& e, wall_time when) const {
  auto o = begin("open", when);
  o["conn"] = e.who.conn;
  o["listener"] = e.who.listener;
  o["client"] = e.client.text();
  o["server"] = e.server.text();
  return line(o);
}

std::string json_lines::operator()(const edit_event& e, wall_time when) const {
  auto o = begin("edit", when);
  o["conn"] = e.who.conn;
  o["dir"] = name_of(e.dir);
  o["rule"] = e.rule;
  o["action"] = e.action;
  o["offset"] = e.offset;
  o["before"] = hex(e.before);
  o["after"] = hex(e.after);
  put_listener(o, e.who, many_);
  return line(o);
}

std::string json_lines::operator()(const log_event& e, wall_time when) const {
  auto o = begin("log", when);
  o["conn"] = e.who.conn;
  o["dir"] = name_of(e.dir);
  o["rule"] = e.rule;
  o["text"] = e.text;
  put_listener(o, e.who, many_);
  return line(o);
}

std::string json_lines::operator()(const data_event& e, wall_time when) const {
  auto o = begin("data", when);
  o["conn"] = e.who.conn;
  o["dir"] = name_of(e.dir);
  o["offset"] = e.offset;
  o["octets"] = hex(e.octets);
  if (e.edited) o["was"] = hex(e.was);
  if (!e.rule.empty()) o["rule"] = e.rule;
  put_listener(o, e.who, many_);
  return line(o);
}

std::string json_lines::operator()(const close_event& e, wall_time when) const {
  auto o = begin("close", when);
  o["conn"] = e.who.conn;
  o["reason"] = name_of(e.how);
  o["by"] = e.by;
  o["text"] = e.text;
  o["seconds"] = std::chrono::duration<double>(e.age).count();
  put_totals(o, e.totals);
  put_listener(o, e.who, many_);
  return line(o);
}

std::string json_lines::operator()(const summary_event& e, wall_time when) const {
  auto o = begin("summary", when);
  o["connections"] = e.connections;
  put_totals(o, e.totals);
  auto edits = object::object();
  for (const auto& [rule, number] : e.edits) edits[rule] = number;
  o["edits"] = std::move(edits);
  o["lost"] = e.lost;
  o["seed"] = e.seed;
  return line(o);
}

std::string json_lines::gap(std::uint64_t lost, wall_time when) {
  auto o = begin("gap", when);
  o["lost"] = lost;
  return line(o);
}

std::string summary_text(const summary_event& e) {
  const auto& up = e.totals[index_of(direction::to_server)];
  const auto& down = e.totals[index_of(direction::to_client)];
  const auto way = [](const direction_totals& t) {
    return t.in == t.out ? size_text(t.in) : size_text(t.in) + " became " + size_text(t.out);
  };
  std::uint64_t edits = 0;
  for (const auto& [rule, number] : e.edits) edits += number;
  auto out = std::to_string(e.connections) + (e.connections == 1 ? " connection, " : " connections, ") + way(up) + " to the server, " +
             way(down) + " to the client, " + std::to_string(edits) + (edits == 1 ? " edit" : " edits");
  for (const auto& [rule, number] : e.edits) out += "\n  " + std::to_string(number) + " by " + printable(rule);
  if (const auto early = up.early + down.early; early != 0)
    out += "\n  " + size_text(early) + " let go undecided, because --hold or --window was over";
  if (e.lost != 0) out += "\n  " + std::to_string(e.lost) + " lines of output dropped, because nobody read them in time";
  return out;
}

}  // namespace midwire::streams
