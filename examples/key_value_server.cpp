// Remembers values under names, for any number of clients. One command a line:
//
//   SET name value...    OK, or ERROR full
//   GET name             VALUE value..., or NONE
//   DEL name             OK, or NONE
//   COUNT                COUNT n
//   QUIT                 BYE, and the connection ends
//
//   key_value_server [PORT]        (0: a free one; prints the address it took)
#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>
#include <string_view>
#include <unordered_map>

#include <midwire/engine.hpp>

namespace {

/// Bounded: strangers may write to it.
class store {
 public:
  static constexpr std::size_t most_octets = 64 << 20;

  bool set(std::string name, std::string value) {
    const auto found = values_.find(name);
    const std::size_t old = found == values_.end() ? 0 : cost(found->first, found->second);
    if (octets_ - old + cost(name, value) > most_octets) return false;
    octets_ += cost(name, value) - old;
    values_.insert_or_assign(std::move(name), std::move(value));
    return true;
  }
  const std::string* get(const std::string& name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? nullptr : &found->second;
  }
  bool remove(const std::string& name) {
    const auto found = values_.find(name);
    if (found == values_.end()) return false;
    octets_ -= cost(found->first, found->second);
    values_.erase(found);
    return true;
  }
  std::size_t size() const { return values_.size(); }

 private:
  // With what the table itself takes for each.
  static std::size_t cost(const std::string& name, const std::string& value) {
    return name.size() + value.size() + 128;
  }
  std::unordered_map<std::string, std::string> values_;
  std::size_t octets_ = 0;
};

/// A client that asks without reading the answers is not read either, from the very command on that made it too much.
class session : public midwire::line_receiver, midwire::producer {
 public:
  explicit session(std::reference_wrapper<store> values) : values_{values.get()} {}

 private:
  static constexpr std::size_t most_waiting = 256 * 1024;

  void connection_made() override { transport().register_producer(*this, midwire::producing::push); }
  void message_received(midwire::chunk line) override {
    send_message(midwire::chunk{answer(line.text())});
    if (leaving_) transport().lose_connection();
    if (transport().buffered() >= most_waiting) transport().pause_reading();
  }
  void frame_failed(const midwire::parse_error& why) override {
    send_message(midwire::chunk{"ERROR " + text_of(why)});
    transport().lose_connection();
  }
  void pause_producing() override { transport().pause_reading(); }
  void resume_producing() override { transport().resume_reading(); }
  void stop_producing() override {}

  std::string answer(std::string_view line) {
    const auto next_word = [&line] {
      const auto word = line.substr(0, line.find(' '));
      line.remove_prefix(std::min(line.size(), word.size() + 1));
      return std::string{word};
    };
    const std::string command = next_word();
    if (command == "COUNT") return "COUNT " + std::to_string(values_.size());
    if (command == "QUIT") {
      leaving_ = true;
      return "BYE";
    }
    if (command != "SET" && command != "GET" && command != "DEL") return "ERROR no such command";
    const std::string name = next_word();
    if (name.empty()) return "ERROR no name";
    if (command == "SET") return values_.set(name, std::string{line}) ? "OK" : "ERROR full";
    if (command == "DEL") return values_.remove(name) ? "OK" : "NONE";
    const std::string* const value = values_.get(name);
    return value ? "VALUE " + *value : "NONE";
  }

  store& values_;
  bool leaving_ = false;
};

}  // namespace

int main(int count, char** arguments) {
  const auto port = static_cast<std::uint16_t>(count > 1 ? std::atoi(arguments[1]) : 0);
  store values;
  midwire::reactor reactor;
  const auto& listener =
      reactor.listen_tcp(port, midwire::factory::of<session>(std::ref(values)), {.interface = "127.0.0.1"});
  std::cout << "key_value_server on " << listener.host().text() << std::endl;
  reactor.run();
}
