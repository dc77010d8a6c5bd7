#include <midwire/testing/playbook.hpp>

#include <algorithm>
#include <stdexcept>
#include <string_view>

namespace midwire::testing {

namespace {

std::string quoted(std::string_view octets) {
  static constexpr std::size_t most = 200;
  static constexpr char digits[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : octets.substr(0, most)) {
    const auto octet = static_cast<unsigned char>(c);
    if (c == '\r')
      out += "\\r";
    else if (c == '\n')
      out += "\\n";
    else if (c == '"' || c == '\\')
      out += '\\', out += c;
    else if (octet >= 0x20 && octet < 0x7f)
      out += c;
    else
      out += "\\x", out += digits[octet >> 4], out += digits[octet & 15];
  }
  out += '"';
  if (octets.size() > most) out += "... (" + std::to_string(octets.size()) + " octets)";
  return out;
}

bool is_noise(const command& c) {
  return c.what() == command::kind::start_reading || c.what() == command::kind::stop_reading;
}

bool same(const command& a, const command& b) {
  return a.what() == b.what() && a.count() == b.count() && (a.what() != command::kind::send_to || a.to() == b.to()) &&
         a.octets().size() == b.octets().size() && a.octets().text() == b.octets().text();
}

}  // namespace

std::string describe(event& e) {
  switch (e.what()) {
    case event::kind::accepted: return "accepted from " + e.peer().text();
    case event::kind::connected: return "connected";
    case event::kind::connect_failed: return "connect_failed " + e.error().message();
    case event::kind::became_ready:
      return std::string{"became_ready"} + (e.readable() ? " to read" : "") + (e.writable() ? " to write" : "");
    case event::kind::data_received: return "data_received " + quoted(e.data().text());
    case event::kind::end_received: return "end_received";
    case event::kind::reset_received: return "reset_received";
    case event::kind::hung_up: return e.broken() ? "hung_up broken" : "hung_up";
    case event::kind::datagram_failed: return "datagram_failed " + e.error().message() + " to " + e.peer().text();
    case event::kind::datagram_received:
      return "datagram_received " + quoted(e.data().text()) + " from " + e.peer().text();
    case event::kind::octets_sent: return "octets_sent " + std::to_string(e.octets());
    case event::kind::octets_spliced: return "octets_spliced " + std::to_string(e.octets());
    case event::kind::file_failed: return "file_failed " + e.error().message();
    case event::kind::signalled: return "signalled " + std::to_string(e.signal());
  }
  return "an event of no kind";
}

std::string describe(const command& c) {
  const auto count = [&c] { return c.count() == ~std::uint64_t{0} ? std::string{"all"} : std::to_string(c.count()); };
  switch (c.what()) {
    case command::kind::start_reading: return "start_reading " + count();
    case command::kind::stop_reading: return "stop_reading";
    case command::kind::splice: return "splice " + count();
    case command::kind::send: return "send " + quoted(c.octets().text());
    case command::kind::send_to: return "send_to " + c.to().text() + ' ' + quoted(c.octets().text());
    case command::kind::send_end: return "send_end";
    case command::kind::close: return "close";
    case command::kind::reset: return "reset";
    case command::kind::reset_after_drain: return "reset_after_drain within " + count() + " ns";
  }
  return "a command of no kind";
}

playbook::playbook(flow& tested, instant start) : flow_{tested}, now_{start} {
  flow_.open(now_);
  collect();
}

void playbook::collect() {
  side to{};
  command what = command::close();
  while (flow_.next_command(to, what)) {
    if (what.what() == command::kind::send) sent_[index_of(to)] += what.octets().size();
    commands_.emplace_back(to, std::move(what));
  }
}

void playbook::skip_noise() {
  while (!commands_.empty() && is_noise(commands_.front().second)) commands_.pop_front();
}

void playbook::fail(const std::string& expected, const std::string& got) const {
  throw std::runtime_error{"playbook step " + std::to_string(step_) + ": expected " + expected + ", got " + got};
}

playbook& playbook::when(side from, event what) {
  quiet();
  flow_.handle(from, std::move(what), now_);
  collect();
  return *this;
}

playbook& playbook::then(side to, command expected) {
  ++step_;
  const auto name = [](side s, const command& c) { return std::string{name_of(s)} + ": " + describe(c); };
  // Noise may lie between noise that is asked for: of those, the first that is the same counts.
  if (is_noise(expected)) {
    const auto it = std::find_if(commands_.begin(), commands_.end(), [&](const auto& c) {
      return !is_noise(c.second) || (c.first == to && same(c.second, expected));
    });
    if (it == commands_.end() || !is_noise(it->second)) {
      fail(name(to, expected), commands_.empty() ? "nothing" : name(commands_.front().first, commands_.front().second));
    }
    commands_.erase(commands_.begin(), it + 1);
    return *this;
  }
  skip_noise();
  if (commands_.empty()) fail(name(to, expected), "nothing");
  const auto& [got_to, got] = commands_.front();
  if (got_to != to || !same(got, expected)) fail(name(to, expected), name(got_to, got));
  commands_.pop_front();
  return *this;
}

playbook& playbook::after(duration d) {
  quiet();
  const instant until = now_ + d;
  // A deadline may come again, but not for ever at one moment.
  for (int stuck = 0; stuck < 1000;) {
    const auto next = flow_.next_deadline();
    if (!next || *next > until) break;
    stuck = *next > now_ ? 0 : stuck + 1;
    now_ = std::max(now_, *next);
    flow_.advance(now_);
    collect();
    if (stuck == 999)
      fail("a deadline after " + std::to_string(now_.time_since_epoch().count()) + " ns", "the same one again");
  }
  now_ = until;
  flow_.advance(now_);
  collect();
  return *this;
}

playbook& playbook::taken(side to) {
  quiet();
  if (const auto octets = std::exchange(sent_[index_of(to)], 0); octets > 0) {
    flow_.handle(to, event::octets_sent(octets), now_);
    collect();
  }
  return *this;
}

playbook& playbook::quiet() {
  ++step_;
  skip_noise();
  if (!commands_.empty())
    fail("no more commands", std::string{name_of(commands_.front().first)} + ": " + describe(commands_.front().second));
  return *this;
}

}  // namespace midwire::testing
