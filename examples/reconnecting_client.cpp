// A client that keeps its connection: prints what a server says, and connects again whenever it is gone.
//
//     reconnecting_client HOST PORT [WORD]      ends when a line holds WORD
#include <csignal>
#include <cstdlib>
#include <iostream>

#include <midwire/engine.hpp>

class listening_client : public midwire::protocol {
 public:
  explicit listening_client(std::string last_word) : last_word_{std::move(last_word)} {}

 private:
  void connection_made() override { std::cout << "connected to " << transport().peer().text() << std::endl; }
  void data_received(midwire::chunk data) override {
    line_ += data.text();
    for (auto end = line_.find('\n'); end != std::string::npos; end = line_.find('\n')) {
      std::cout << "it said: " << line_.substr(0, end) << std::endl;
      if (!last_word_.empty() && line_.find(last_word_) < end) transport().reactor().stop();
      line_.erase(0, end + 1);
    }
    if (line_.size() > 65536) transport().abort_connection();  // no line is as long as that
  }
  void connection_lost(const midwire::reason& why) override {
    std::cout << "lost: " << midwire::name_of(why.how()) << std::endl;
  }
  std::string last_word_, line_;
};

int main(int count, char** arguments) {
  if (count < 3) {
    std::cerr << "usage: reconnecting_client HOST PORT [WORD]\n";
    return 2;
  }
  midwire::reactor reactor;
  const midwire::backoff times{.first = std::chrono::milliseconds{100}, .longest = std::chrono::seconds{2}};
  auto client = midwire::factory::of<listening_client>(std::string{count > 3 ? arguments[3] : ""});
  auto again = midwire::reconnecting(client, times);
  auto first = reactor.connect_tcp(arguments[1], static_cast<std::uint16_t>(std::atoi(arguments[2])), again);
  std::move(first).then([](midwire::protocol*) { std::cout << "up for the first time" << std::endl; });
  reactor.on_signal(SIGTERM, [&] { reactor.stop(); });
  reactor.run();
}
