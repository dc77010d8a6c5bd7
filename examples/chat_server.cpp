// People who talk to each other, a line at a time: try it with several `nc 127.0.0.1 PORT`.
//
// The first line is the name; then /who tells who is here, /quit leaves, and all else goes to everybody.
//
//   chat_server [PORT]        (0: a free one; prints the address it took)
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <string_view>

#include <midwire/engine.hpp>

namespace {

class guest;

/// Who is here, by name.
class room {
 public:
  bool enter(const std::string& name, guest& who) { return here_.try_emplace(name, &who).second; }
  void leave(const std::string& name) { here_.erase(name); }
  void tell_all(const std::string& text, const guest* but = nullptr);
  std::string names() const {
    std::string all;
    for (const auto& [name, who] : here_) all += (all.empty() ? "" : " ") + name;
    return all;
  }

 private:
  std::map<std::string, guest*> here_;
};

class guest : public midwire::line_receiver {
 public:
  explicit guest(std::reference_wrapper<room> r)
      : midwire::line_receiver{midwire::proto::line_framer{1000}}, room_{r.get()} {}

  /// Whoever does not read what the others say loses the connection: nobody else waits, and nothing piles up.
  void tell(const midwire::chunk& line) {
    if (transport().buffered() > 1024 * 1024) return transport().abort_connection();
    send_message(line.share());
  }

 private:
  void connection_made() override { send_message("What is your name?"); }
  void message_received(midwire::chunk line) override {
    std::string text = printable(line.text());
    if (name_.empty()) return introduce(std::move(text));
    if (text == "/quit") return transport().lose_connection();
    if (text == "/who") return send_message(midwire::chunk{"Here: " + room_.names()});
    room_.tell_all(name_ + ": " + text, this);
  }
  void connection_lost(const midwire::reason&) override {
    if (name_.empty()) return;
    room_.leave(name_);
    room_.tell_all(name_ + " has left");
  }

  void introduce(std::string name) {
    if (name.empty() || name.size() > 30 || name.find(' ') != name.npos)
      return send_message("One word of at most 30 letters, please.");
    if (!room_.enter(name, *this)) return send_message("Somebody here is called that.");
    name_ = std::move(name);
    send_message(midwire::chunk{"Here: " + room_.names()});
    room_.tell_all(name_ + " has come", this);
  }
  // Nobody moves the cursor of another's terminal.
  static std::string printable(std::string_view text) {
    std::string kept{text};
    std::erase_if(kept, [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; });
    return kept;
  }

  room& room_;
  std::string name_;
};

void room::tell_all(const std::string& text, const guest* but) {
  const midwire::chunk line{text};
  for (const auto& [name, who] : here_)
    if (who != but) who->tell(line);
}

}  // namespace

int main(int count, char** arguments) {
  const auto port = static_cast<std::uint16_t>(count > 1 ? std::atoi(arguments[1]) : 0);
  room everybody;
  midwire::reactor reactor;
  const auto& listener =
      reactor.listen_tcp(port, midwire::factory::of<guest>(std::ref(everybody)), {.interface = "127.0.0.1"});
  std::cout << "chat_server on " << listener.host().text() << std::endl;
  reactor.run();
}
