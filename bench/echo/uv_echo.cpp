// uv_echo server PORT | uv_echo client PORT CONNS SIZE SECS: libuv at its best, with one buffer for all reads and
// uv_try_write before a queued write.
#include <uv.h>

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "report.hpp"

namespace {

char room[65536];
void lend(uv_handle_t*, std::size_t, uv_buf_t* buffer) { *buffer = uv_buf_init(room, sizeof room); }

template <class T>
T* as(void* p) {
  return static_cast<T*>(p);
}

struct queued {
  uv_write_t request;
  std::string octets;
};

/// All at once when the kernel takes it, else the rest is copied and queued.
void send(uv_stream_t* to, const char* octets, std::size_t size) {
  uv_buf_t all = uv_buf_init(const_cast<char*>(octets), static_cast<unsigned>(size));
  const int taken = uv_try_write(to, &all, 1);
  const auto done = taken > 0 ? static_cast<std::size_t>(taken) : 0;
  if (done == size || (taken < 0 && taken != UV_EAGAIN)) return;
  auto* rest = new queued{{}, {octets + done, size - done}};
  rest->request.data = rest;
  uv_buf_t left = uv_buf_init(rest->octets.data(), static_cast<unsigned>(rest->octets.size()));
  uv_write(&rest->request, to, &left, 1, [](uv_write_t* w, int) { delete as<queued>(w->data); });
}

void echo(uv_stream_t* from, ssize_t size, const uv_buf_t* buffer) {
  if (size < 0)
    uv_close(reinterpret_cast<uv_handle_t*>(from), [](uv_handle_t* h) { delete reinterpret_cast<uv_tcp_t*>(h); });
  else if (size > 0)
    send(from, buffer->base, static_cast<std::size_t>(size));
}

void accept(uv_stream_t* port, int status) {
  if (status < 0) return;
  auto* socket = new uv_tcp_t;
  uv_tcp_init(port->loop, socket);
  uv_tcp_nodelay(socket, 1);
  if (uv_accept(port, reinterpret_cast<uv_stream_t*>(socket)) == 0)
    uv_read_start(reinterpret_cast<uv_stream_t*>(socket), lend, echo);
  else
    uv_close(reinterpret_cast<uv_handle_t*>(socket), [](uv_handle_t* h) { delete reinterpret_cast<uv_tcp_t*>(h); });
}

report figures;
std::string request;

struct asker {
  uv_tcp_t socket;
  uv_connect_t connect;
  std::size_t missing = 0;

  uv_stream_t* stream() { return reinterpret_cast<uv_stream_t*>(&socket); }
  void ask() {
    missing = request.size();
    send(stream(), request.data(), request.size());
  }
  void start(uv_loop_t* loop, const sockaddr_in& to) {
    uv_tcp_init(loop, &socket);
    uv_tcp_nodelay(&socket, 1);
    socket.data = connect.data = this;
    uv_tcp_connect(&connect, &socket, reinterpret_cast<const sockaddr*>(&to), [](uv_connect_t* c, int status) {
      if (status < 0) return;
      auto& self = *as<asker>(c->data);
      uv_read_start(self.stream(), lend, [](uv_stream_t* s, ssize_t size, const uv_buf_t*) {
        auto& me = *as<asker>(s->data);
        if (size < 0) {
          uv_read_stop(s);
        } else if ((me.missing -= static_cast<std::size_t>(size)) == 0) {
          figures.answered();
          me.ask();
        }
      });
      self.ask();
    });
  }
};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view role = argc > 2 ? argv[1] : "";
  uv_loop_t* loop = uv_default_loop();
  sockaddr_in there{};
  uv_ip4_addr("127.0.0.1", argc > 2 ? std::atoi(argv[2]) : 0, &there);
  if (role == "server" && argc == 3) {
    uv_tcp_t port;
    uv_tcp_init(loop, &port);
    uv_tcp_bind(&port, reinterpret_cast<const sockaddr*>(&there), 0);
    if (uv_listen(reinterpret_cast<uv_stream_t*>(&port), 4096, accept) != 0) return 1;
    int size = sizeof there;
    uv_tcp_getsockname(&port, reinterpret_cast<sockaddr*>(&there), &size);
    std::cout << "listening on 127.0.0.1:" << ntohs(there.sin_port) << std::endl;
    return uv_run(loop, UV_RUN_DEFAULT);
  }
  if (role != "client" || argc != 6) return 2;
  request.assign(static_cast<std::size_t>(std::atoi(argv[4])), 'x');
  std::vector<std::unique_ptr<asker>> askers;
  for (int i = std::atoi(argv[3]); i > 0; --i)
    askers.push_back(std::make_unique<asker>()), askers.back()->start(loop, there);
  static double length = std::atof(argv[5]);
  const auto milliseconds = [](double s) { return static_cast<std::uint64_t>(s * 1000); };
  uv_timer_t clock;
  uv_timer_init(loop, &clock);
  const auto begin = [](uv_timer_t* t) {
    figures.begin();
    const auto end = [](uv_timer_t* ended) {
      figures.end();
      uv_stop(ended->loop);
    };
    uv_timer_start(t, end, static_cast<std::uint64_t>(length * 1000), 0);
  };
  uv_timer_start(&clock, begin, milliseconds(report::warm_up(length)), 0);
  uv_run(loop, UV_RUN_DEFAULT);
}
