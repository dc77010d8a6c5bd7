// asio_echo server PORT | asio_echo client PORT CONNS SIZE SECS: as the manual of Asio has it, one thread.
#include <array>
#include <asio.hpp>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "report.hpp"

namespace {

using asio::ip::tcp;

class session : public std::enable_shared_from_this<session> {
 public:
  explicit session(tcp::socket socket) : socket_{std::move(socket)} {}
  void start() {
    socket_.async_read_some(asio::buffer(room_), [self = shared_from_this()](std::error_code error, std::size_t size) {
      if (error) return;
      asio::async_write(self->socket_, asio::buffer(self->room_, size), [self](std::error_code failed, std::size_t) {
        if (!failed) self->start();
      });
    });
  }

 private:
  tcp::socket socket_;
  std::array<char, 65536> room_;
};

void accept(tcp::acceptor& port) {
  port.async_accept([&port](std::error_code error, tcp::socket socket) {
    if (!error) {
      socket.set_option(tcp::no_delay{true});
      std::make_shared<session>(std::move(socket))->start();
    }
    accept(port);
  });
}

report figures;

class asker {
 public:
  asker(asio::io_context& loop, const tcp::endpoint& to, std::size_t size)
      : socket_{loop}, octets_(size, 'x'), answer_(size) {
    socket_.async_connect(to, [this](std::error_code error) {
      if (error) return;
      socket_.set_option(tcp::no_delay{true});
      ask();
    });
  }

 private:
  void ask() {
    asio::async_write(socket_, asio::buffer(octets_), [this](std::error_code error, std::size_t) {
      if (error) return;
      asio::async_read(socket_, asio::buffer(answer_), [this](std::error_code failed, std::size_t) {
        if (failed) return;
        figures.answered();
        ask();
      });
    });
  }
  tcp::socket socket_;
  std::string octets_;
  std::vector<char> answer_;
};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view role = argc > 2 ? argv[1] : "";
  asio::io_context loop{1};
  const tcp::endpoint there{asio::ip::address_v4::loopback(),
                            static_cast<unsigned short>(argc > 2 ? std::atoi(argv[2]) : 0)};
  if (role == "server" && argc == 3) {
    tcp::acceptor port{loop};
    port.open(there.protocol());
    port.set_option(tcp::acceptor::reuse_address{true});
    port.bind(there);
    port.listen(4096);
    std::cout << "listening on " << port.local_endpoint() << std::endl;
    accept(port);
    loop.run();
    return 0;
  }
  if (role != "client" || argc != 6) return 2;
  std::vector<std::unique_ptr<asker>> askers;
  for (int i = std::atoi(argv[3]); i > 0; --i)
    askers.push_back(std::make_unique<asker>(loop, there, static_cast<std::size_t>(std::atoi(argv[4]))));
  const auto seconds = [](double s) {
    return std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>{s});
  };
  const double length = std::atof(argv[5]);
  asio::steady_timer clock{loop, seconds(report::warm_up(length))};
  clock.async_wait([&](std::error_code) {
    figures.begin();
    clock.expires_after(seconds(length));
    clock.async_wait([&](std::error_code) {
      figures.end();
      loop.stop();
    });
  });
  loop.run();
}
