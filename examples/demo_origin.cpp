// A small HTTP/1.1 origin to put midwire in front of: a page at /, an echo of what is posted, keep-alive.
//
//   demo_origin [HOST:PORT]        (127.0.0.1:0; prints the address it took)

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>

#include <midwire/engine.hpp>

namespace {

constexpr std::size_t max_head = 16 * 1024, max_body = 1024 * 1024;
constexpr std::string_view page =
    "Welcome to the origin.\n"
    "\n"
    "This page was written by Ada, served in plain text,\n"
    "and says the same to everybody.\n";

bool same_word(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

/// One request after another, until the client asks to close or says something that is no HTTP.
class origin : public midwire::protocol {
  void data_received(midwire::chunk data) override {
    if (closing_) return;
    seen_ += data.text();
    while (!closing_ && answer_one()) {}
    if (!closing_ && seen_.size() > max_head + max_body) refuse("413 Content Too Large");
  }

  // Answers the request at the front. False: it is not whole yet.
  bool answer_one() {
    const auto end = seen_.find("\r\n\r\n");
    if (end == seen_.npos) {
      if (seen_.size() > max_head) refuse("431 Request Header Fields Too Large");
      return false;
    }
    const std::string_view head{seen_.data(), end};
    const auto line = head.substr(0, head.find("\r\n"));
    const auto method = line.substr(0, line.find(' '));
    if (!line.ends_with(" HTTP/1.1") && !line.ends_with(" HTTP/1.0")) return refuse("400 Bad Request"), false;
    std::size_t length = 0;
    if (const auto text = field(head, "content-length")) {
      const auto [at, error] = std::from_chars(text->data(), text->data() + text->size(), length);
      if (error != std::errc{} || at != text->data() + text->size()) return refuse("400 Bad Request"), false;
      if (length > max_body) return refuse("413 Content Too Large"), false;
    }
    if (field(head, "transfer-encoding")) return refuse("501 Not Implemented"), false;
    if (seen_.size() < end + 4 + length) return false;

    const auto wish = field(head, "connection");
    const bool keep =
        line.ends_with("1.1") ? !(wish && same_word(*wish, "close")) : wish && same_word(*wish, "keep-alive");
    auto path = line.substr(std::min(line.size(), method.size() + 1));
    path = path.substr(0, path.find(' '));
    const std::string_view body{seen_.data() + end + 4, length};
    if (method == "GET" || method == "HEAD") {
      if (path == "/")
        reply("200 OK", page, keep, method == "HEAD");
      else
        reply("404 Not Found", "There is no such page here.\n", keep, method == "HEAD");
    } else if (method == "POST") {
      reply("200 OK", body, keep, false);
    } else {
      reply("405 Method Not Allowed", "GET, HEAD or POST.\n", keep, false);
    }
    seen_.erase(0, end + 4 + length);
    if (!keep) finish();
    return true;
  }

  static std::optional<std::string_view> field(std::string_view head, std::string_view name) {
    for (auto rest = head; rest.find("\r\n") != rest.npos;) {
      rest.remove_prefix(rest.find("\r\n") + 2);
      const auto line = rest.substr(0, rest.find("\r\n"));
      const auto colon = line.find(':');
      if (colon == line.npos || !same_word(line.substr(0, colon), name)) continue;
      auto value = line.substr(colon + 1);
      while (value.starts_with(' ')) value.remove_prefix(1);
      while (value.ends_with(' ')) value.remove_suffix(1);
      return value;
    }
    return std::nullopt;
  }

  void reply(std::string_view status, std::string_view body, bool keep, bool head_only) {
    auto text =
        "HTTP/1.1 " + std::string{status} +
        "\r\nServer: demo-origin\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(body.size()) +
        "\r\nConnection: " + (keep ? "keep-alive" : "close") + "\r\n\r\n";
    if (!head_only) text += body;
    transport().write(std::move(text));
  }
  void refuse(std::string_view status) {
    reply(status, {}, false, true);
    finish();
  }
  void finish() {
    closing_ = true;
    transport().lose_connection();
  }

  std::string seen_;
  bool closing_ = false;
};

}  // namespace

int main(int count, char** arguments) {
  const auto at = midwire::parse_endpoint(count > 1 ? arguments[1] : "127.0.0.1:0");
  if (!at || at->how != midwire::endpoint::scheme::tcp) {
    std::cerr << "usage: demo_origin [HOST:PORT]\n";
    return 2;
  }
  try {
    midwire::reactor reactor;
    midwire::listen_options options;
    options.interface = at->host;
    const auto& port = reactor.listen_tcp(at->port, midwire::factory::of<origin>(), options);
    for (const int number : {SIGINT, SIGTERM}) reactor.on_signal(number, [&reactor] { reactor.stop(); });
    std::cout << "origin on " << port.host().text() << std::endl;
    reactor.run();
  } catch (const std::exception& e) {
    std::cerr << "demo_origin: " << e.what() << '\n';
    return 1;
  }
}
