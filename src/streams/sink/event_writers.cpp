#include <midwire/streams/sink/event_writers.hpp>

#include <chrono>
#include <cstdio>

#include <midwire/streams/source/units.hpp>

namespace midwire::streams {

wall_time wall_now() { return std::chrono::time_point_cast<duration>(std::chrono::system_clock::now()); }

std::string text_writer::name(const conn_name& who) const {
  auto text = "connection " + std::to_string(who.conn);
  if (options_.many_listeners) text += " of " + printable(who.listener);
  return text;
}

void text_writer::take(const listening_event& e) {
  if (options_.talk < 1) return;
  auto line = "listening on " + printable(e.at.text());
  if (options_.many_listeners) line += " for " + printable(e.listener);
  talk_.write(line + '\n');
}

void text_writer::take(const open_event& e) {
  if (options_.talk < 2) return;
  talk_.write(name(e.who) + ": " + printable(e.client.text()) + " to " + printable(e.server.text()) + '\n');
}

void text_writer::take(const log_event& e) {
  if (!e.rule.empty()) {
    results_.write(printable(e.rule) + ": " + printable(e.text) + '\n');
  } else if (options_.talk >= 1) {
    talk_.write(name(e.who) + ", " + (e.dir == direction::to_server ? "to the server: " : "to the client: ") +
                printable(e.text) + '\n');
  }
}

void text_writer::take(const data_event& e) {
  std::string text;
  // Offsets tell the place in one connection only: the first needs no number, as long as it is the only one.
  const dump_options how{options_.style, options_.colour, e.who.conn > 1 || options_.many_listeners ? e.who.conn : 0};
  const auto when = clock_();
  if (e.edited) {
    append_dump(text, {piece::kind::before, e.dir, e.was_offset, e.was}, when, how);
    append_dump(text, {piece::kind::after, e.dir, e.offset, e.octets}, when, how);
  } else {
    append_dump(text, {piece::kind::as_it_came, e.dir, e.offset, e.octets}, when, how);
  }
  results_.write(std::move(text));
}

void text_writer::take(const close_event& e) {
  const bool ordinary = e.opened && (e.how == ending::done || e.how == ending::reset || e.how == ending::aborted);
  if (options_.talk < (ordinary ? 2 : 1)) return;
  const auto& up = e.totals[index_of(direction::to_server)];
  const auto& down = e.totals[index_of(direction::to_client)];
  auto line = name(e.who);
  if (!e.opened) {
    line += " from " + printable(e.client.text()) + ": " + printable(e.text.empty() ? name_of(e.how) : e.text);
  } else {
    char seconds[32];
    std::snprintf(seconds, sizeof seconds, "%.3f", std::chrono::duration<double>(e.age).count());
    line += ": " + std::string{name_of(e.how)} + " by " + std::string{e.by};
    if (!e.text.empty()) line += " (" + printable(e.text) + ")";
    line += std::string{" after "} + seconds + " s, " + size_text(up.out) + " to the server, " + size_text(down.out) +
            " to the client";
  }
  talk_.write(line + '\n');
}

}  // namespace midwire::streams
