#include <midwire/streams/sink/events.hpp>

#include <cmath>
#include <concepts>
#include <cstdio>

#include <midwire/streams/source/units.hpp>

namespace midwire::streams {
namespace {

/// One line of JSON, member by member. Events are made on the loops, one for each edit: a tree of values first would
/// cost ten times as much. Whatever text holds, the line is valid: octets that are no UTF-8 become U+FFFD.
class line {
 public:
  line(std::string_view event, wall_time when) {
    text_.reserve(256);
    put("event", event).put("time", rfc3339(when));
  }
  line& put(std::string_view name, std::string_view value) {
    begin(name);
    append_quoted(value);
    return *this;
  }
  line& put(std::string_view name, std::unsigned_integral auto value) {
    begin(name);
    text_ += std::to_string(value);
    return *this;
  }
  line& put(std::string_view name, double value) {
    char digits[32];
    const int n = std::snprintf(digits, sizeof digits, "%.9g", std::isfinite(value) ? value : 0.0);
    begin(name);
    text_.append(digits, static_cast<std::size_t>(n));
    return *this;
  }
  line& put(std::string_view name, byte_view octets) { return put(name, std::string_view{hex(octets)}); }
  line& put(const both_totals& totals) {
    for (const auto d : {direction::to_server, direction::to_client}) {
      const auto& t = totals[index_of(d)];
      open(name_of(d)).put("in", t.in).put("out", t.out).put("early", t.early).close();
    }
    return *this;
  }
  line& open(std::string_view name) {
    begin(name);
    text_ += '{';
    first_ = true;
    return *this;
  }
  line& close() {
    text_ += '}';
    first_ = false;
    return *this;
  }
  std::string done() && {
    text_ += "}\n";
    return std::move(text_);
  }

 private:
  void begin(std::string_view name) {
    if (!first_) text_ += ',';
    first_ = false;
    append_quoted(name);
    text_ += ':';
  }
  void append_quoted(std::string_view value) {
    text_ += '"';
    append_json_text(text_, value);
    text_ += '"';
  }
  std::string text_ = "{";
  bool first_ = true;
};

line named(std::string_view event, wall_time when, const conn_name& who) {
  line l{event, when};
  l.put("conn", who.conn);
  return l;
}
std::string finished(line l, const conn_name& who, bool many) {
  if (many) l.put("listener", who.listener);
  return std::move(l).done();
}

}  // namespace

std::string json_lines::operator()(const listening_event& e, wall_time when) const {
  line l{"listening", when};
  l.put("listener", e.listener).put("address", e.at.text());
  return std::move(l).done();
}

std::string json_lines::operator()(const open_event& e, wall_time when) const {
  auto l = named("open", when, e.who);
  l.put("listener", e.who.listener).put("client", e.client.text()).put("server", e.server.text());
  return std::move(l).done();
}

std::string json_lines::operator()(const edit_event& e, wall_time when) const {
  auto l = named("edit", when, e.who);
  l.put("dir", name_of(e.dir)).put("rule", e.rule).put("action", e.action).put("offset", e.offset);
  l.put("before", e.before).put("after", e.after);
  return finished(std::move(l), e.who, many_);
}

std::string json_lines::operator()(const log_event& e, wall_time when) const {
  auto l = named("log", when, e.who);
  l.put("dir", name_of(e.dir)).put("rule", e.rule).put("text", e.text);
  return finished(std::move(l), e.who, many_);
}

std::string json_lines::operator()(const data_event& e, wall_time when) const {
  auto l = named("data", when, e.who);
  l.put("dir", name_of(e.dir)).put("offset", e.offset).put("octets", e.octets);
  if (e.edited) l.put("was", e.was);
  if (!e.rule.empty()) l.put("rule", e.rule);
  return finished(std::move(l), e.who, many_);
}

std::string json_lines::operator()(const close_event& e, wall_time when) const {
  auto l = named("close", when, e.who);
  l.put("reason", name_of(e.how)).put("by", e.by).put("text", e.text);
  l.put("seconds", std::chrono::duration<double>(e.age).count()).put(e.totals);
  return finished(std::move(l), e.who, many_);
}

std::string json_lines::operator()(const summary_event& e, wall_time when) const {
  line l{"summary", when};
  l.put("connections", e.connections).put(e.totals).open("edits");
  for (const auto& [rule, number] : e.edits) l.put(rule, number);
  l.close().put("lost", e.lost).put("seed", e.seed);
  return std::move(l).done();
}

std::string json_lines::gap(std::uint64_t lost, wall_time when) {
  line l{"gap", when};
  l.put("lost", lost);
  return std::move(l).done();
}

std::string summary_text(const summary_event& e) {
  const auto& up = e.totals[index_of(direction::to_server)];
  const auto& down = e.totals[index_of(direction::to_client)];
  const auto way = [](const direction_totals& t) {
    return t.in == t.out ? size_text(t.in) : size_text(t.in) + " became " + size_text(t.out);
  };
  std::uint64_t edits = 0;
  for (const auto& [rule, number] : e.edits) edits += number;
  auto out = std::to_string(e.connections) + (e.connections == 1 ? " connection, " : " connections, ") + way(up) +
             " to the server, " + way(down) + " to the client, " + std::to_string(edits) +
             (edits == 1 ? " edit" : " edits");
  for (const auto& [rule, number] : e.edits) out += "\n  " + std::to_string(number) + " by " + printable(rule);
  if (const auto early = up.early + down.early; early != 0)
    out += "\n  " + size_text(early) + " let go undecided, because --hold or --window was over";
  if (e.lost != 0)
    out += "\n  " + std::to_string(e.lost) + " lines of output dropped, because nobody read them in time";
  return out;
}

}  // namespace midwire::streams
