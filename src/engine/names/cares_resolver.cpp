#include "engine/names/cares_resolver.hpp"

#include <ares.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <list>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/reactor_impl.hpp"

namespace midwire::detail {

namespace {

constexpr duration longest_cached = std::chrono::seconds{30}, negative_cached = std::chrono::seconds{5};
// A server may send thousands of addresses for one name; nobody tries so many.
constexpr std::size_t most_addresses = 64;
constexpr std::size_t longest_name = 255;
constexpr std::size_t longest_hosts = 16 * 1024 * 1024;

std::string lower(std::string_view text) {
  std::string out{text};
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

/// Whether it can be handed to c-ares, which ends names at a NUL, and shown to people.
bool is_name(std::string_view host) {
  const auto bad = [](char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f; };
  return !host.empty() && host.size() <= longest_name && std::none_of(host.begin(), host.end(), bad);
}

std::string_view without_dot(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  return name;
}

/// Tells whether a file changed. All zero: there is none.
struct file_mark {
  dev_t device{};
  ino_t inode{};
  off_t size{};
  std::array<std::int64_t, 4> times{};
  bool operator==(const file_mark&) const = default;

  static file_mark of(const std::string& path) {
    struct stat s {};
    if (::stat(path.c_str(), &s) != 0) return {};
    return {s.st_dev, s.st_ino, s.st_size, {s.st_mtim.tv_sec, s.st_mtim.tv_nsec, s.st_ctim.tv_sec, s.st_ctim.tv_nsec}};
  }
};

/// hosts(5). c-ares reads it anew for each question and then asks servers for the family it lacks; here a name that the
/// file knows is answered by the file alone.
class hosts_file {
 public:
  void load(const std::string& path) {
    names_.clear();
    std::ifstream in{path, std::ios::binary};
    std::string line;
    std::size_t octets = 0;
    while (std::getline(in, line) && (octets += line.size() + 1) <= longest_hosts) add(line);
  }
  /// Null when the file does not know the name.
  const std::vector<address>* find(const std::string& lower_name) const {
    const auto it = names_.find(lower_name);
    return it == names_.end() ? nullptr : &it->second;
  }

 private:
  void add(std::string_view line) {
    line = line.substr(0, line.find('#'));
    const auto word = [&line] {
      constexpr std::string_view blanks = " \t\r\v\f";
      line.remove_prefix(std::min(line.find_first_not_of(blanks), line.size()));
      const auto found = line.substr(0, line.find_first_of(blanks));
      line.remove_prefix(found.size());
      return found;
    };
    const auto where = address::parse_ip(word(), 0);
    if (!where) return;
    for (auto name = word(); !name.empty(); name = word()) {
      auto& known = names_[lower(without_dot(name))];
      if (known.size() < most_addresses && std::find(known.begin(), known.end(), *where) == known.end())
        known.push_back(*where);
    }
  }
  std::unordered_map<std::string, std::vector<address>> names_;
};

/// What came of a question about one family.
struct finding {
  std::vector<address> addresses;
  /// The worse, the higher: what people are told when neither family has an address.
  enum class kind : std::uint8_t { found, none, failed, silent } what = kind::none;
  std::string detail = {};
};

reason explain(const finding& f, const std::string& host) {
  switch (f.what) {
    case finding::kind::silent:
      return {ending::refused, std::make_error_code(std::errc::timed_out),
              "no name server answered about '" + host + "'"};
    case finding::kind::failed: return {ending::refused, {}, "asking about '" + host + "' failed: " + f.detail};
    default: return {ending::refused, {}, "no address for '" + host + "'"};
  }
}

/// Answers by name and family, for their time.
class answer_cache {
 public:
  explicit answer_cache(std::size_t most) : most_{most} {}
  /// Null when there is none. Valid until the next call.
  const finding* find(const std::string& key, instant now) {
    const auto it = places_.find(key);
    if (it == places_.end()) return nullptr;
    if (it->second->until > now) return &it->second->what;
    drop(it->second);
    return nullptr;
  }
  void keep(const std::string& key, finding what, instant until) {
    if (most_ == 0) return;
    if (const auto old = places_.find(key); old != places_.end()) drop(old->second);
    if (entries_.size() >= most_) drop(entries_.begin());
    entries_.push_back({key, std::move(what), until});
    places_[key] = std::prev(entries_.end());
  }
  void clear() {
    places_.clear();
    entries_.clear();
  }

 private:
  struct entry {
    std::string key;
    finding what;
    instant until;
  };
  void drop(std::list<entry>::iterator e) {
    places_.erase(e->key);
    entries_.erase(e);
  }
  std::size_t most_;
  std::list<entry> entries_;  // the oldest first
  std::unordered_map<std::string, std::list<entry>::iterator> places_;
};

class channel;
class resolver_core;

/// A question on its way to servers. c-ares owns it, and gives it back exactly once.
struct lookup {
  resolver_core& owner;  // unless the channel is being destroyed, alive
  channel& on;
  std::string key;
  std::uint64_t epoch;
  std::vector<std::uint64_t> askers;
};

/// A c-ares channel on the loop. No user code runs inside its calls, so what they call back may be brief: it only
/// notes.
class channel final : public socket_handler, public mortal, private timer_hook {
 public:
  /// Throws std::runtime_error.
  channel(resolver_core& owner, reactor_impl& loop, const cares_options& options);
  ~channel() override { close(); }
  channel(const channel&) = delete;
  channel& operator=(const channel&) = delete;

  void ask(const std::string& name, int family, std::unique_ptr<lookup> l);
  void on_event(socket_id s, event what) override;
  /// After each call into c-ares: when it wants to be called next.
  void plan();
  /// Questions that are not answered are told ARES_EDESTRUCTION. Never from inside a call into c-ares.
  void close() noexcept;

  std::size_t pending = 0;
  /// A server kept silent: maybe the channel's sockets lead nowhere any more, so new questions go elsewhere.
  bool timed_out = false;

 private:
  void fired() override;
  void process(int readable, int writable);
  void socket_state(int fd, bool read, bool write);

  resolver_core& owner_;
  reactor_impl& loop_;
  ares_channel channel_ = nullptr;
  std::vector<std::pair<int, socket_id>> sockets_;
};

/// The resolver itself; shared, so that it outlives the callbacks it is in.
class resolver_core : public std::enable_shared_from_this<resolver_core> {
 public:
  resolver_core(reactor_impl& loop, cares_options options)
      : loop_{loop}, options_{std::move(options)}, cache_{options_.cached_answers} {}

  std::uint64_t ask(const std::string& host, callback<void(resolver::answer)> got);
  void forget(std::uint64_t query) noexcept;
  void close() noexcept;
  /// A call into c-ares has returned: answers go out, old channels that are done with go. The channel may be no more.
  void after(channel& c);
  /// c-ares has an answer. Only notes it.
  void ended(std::unique_ptr<lookup> l, int status, const ares_addrinfo* found) noexcept;

 private:
  struct asker {
    callback<void(resolver::answer)> got;
    std::string host;
    int left;
    bool found = false;
    finding worst{};
  };
  struct noted {
    std::uint64_t asker;
    finding what;
  };

  void look_up(const std::string& name, int family, std::uint64_t asker);
  channel& fresh_channel();
  void check_files();
  void replace_channel();
  void post_answers();
  void give_answers();

  reactor_impl& loop_;
  const cares_options options_;
  answer_cache cache_;
  hosts_file hosts_;
  file_mark hosts_mark_, resolv_mark_;
  instant next_check_ = instant::min();
  std::uint64_t epoch_ = 0;  // of the servers' configuration: answers from before an earlier one are not kept
  std::unique_ptr<channel> channel_;
  std::vector<std::unique_ptr<channel>> leaving_;
  std::unordered_map<std::string, lookup*> under_way_;  // those that new askers may join
  std::size_t lookups_ = 0;
  std::unordered_map<std::uint64_t, asker> askers_;
  std::uint64_t last_asker_ = 0;
  std::vector<noted> noted_;
  bool posted_ = false;
};

channel::channel(resolver_core& owner, reactor_impl& loop, const cares_options& options) : owner_{owner}, loop_{loop} {
  static std::once_flag once;
  static int library = ARES_SUCCESS;
  std::call_once(once, [] { library = ares_library_init(ARES_LIB_INIT_ALL); });
  if (library != ARES_SUCCESS) throw std::runtime_error{ares_strerror(library)};

  // c-ares copies the strings.
  std::string resolv_conf = options.resolv_conf, servers_only = "b";
  ares_options o{};
  o.timeout = static_cast<int>(std::clamp<std::int64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(options.timeout).count(), 1, 60'000));
  o.tries = std::max(options.tries, 1);
  o.udp_port = o.tcp_port = options.port;
  o.lookups = servers_only.data();
  o.resolvconf_path = resolv_conf.data();
  o.sock_state_cb_data = this;
  o.sock_state_cb = [](void* self, int fd, int read, int write) {
    auto& c = *static_cast<channel*>(self);
    c.loop_.guard([&] { c.socket_state(fd, read != 0, write != 0); });
  };
  const int status = ares_init_options(&channel_, &o,
                                       ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_UDP_PORT | ARES_OPT_TCP_PORT |
                                           ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF | ARES_OPT_SOCK_STATE_CB);
  if (status != ARES_SUCCESS) throw std::runtime_error{options.resolv_conf + ": " + ares_strerror(status)};
}

void channel::close() noexcept {
  stop();
  if (const auto c = std::exchange(channel_, nullptr)) ares_destroy(c);
}

void channel::ask(const std::string& name, int family, std::unique_ptr<lookup> l) {
  ares_addrinfo_hints hints{};
  hints.ai_family = family;
  hints.ai_flags = ARES_AI_NOSORT;
  ++pending;
  ares_getaddrinfo(
      channel_, name.c_str(), nullptr, &hints,
      [](void* arg, int status, int timeouts, ares_addrinfo* found) {
        const std::unique_ptr<ares_addrinfo, decltype(&ares_freeaddrinfo)> owned{found, &ares_freeaddrinfo};
        std::unique_ptr<lookup> mine{static_cast<lookup*>(arg)};
        if (status == ARES_EDESTRUCTION) return;  // the resolver goes, and has told nobody
        --mine->on.pending;
        if (timeouts > 0 || status == ARES_ETIMEOUT) mine->on.timed_out = true;
        auto& owner = mine->owner;
        owner.ended(std::move(mine), status, found);
      },
      l.release());
}

void channel::socket_state(int fd, bool read, bool write) {
  const auto it = std::find_if(sockets_.begin(), sockets_.end(), [fd](const auto& s) { return s.first == fd; });
  if (!read && !write) {
    if (it == sockets_.end()) return;
    loop_.forget(it->second);
    loop_.kernel->unwatch(it->second);
    sockets_.erase(it);
  } else if (it != sockets_.end()) {
    loop_.kernel->change_watch(it->second, read, write);
  } else {
    const socket_id s = loop_.kernel->watch(fd, read, write);
    sockets_.emplace_back(fd, s);
    loop_.handle(s, *this);
  }
}

void channel::on_event(socket_id s, event what) {
  if (what.what() != event::kind::became_ready) return;
  const auto it = std::find_if(sockets_.begin(), sockets_.end(), [s](const auto& known) { return known.second == s; });
  if (it == sockets_.end()) return;
  const int fd = it->first;
  process(what.readable() ? fd : ARES_SOCKET_BAD, what.writable() ? fd : ARES_SOCKET_BAD);
}

void channel::fired() { process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); }

void channel::process(int readable, int writable) {
  if (!channel_) return;
  const auto owner = owner_.shared_from_this();
  ares_process_fd(channel_, readable, writable);
  owner->after(*this);
}

void channel::plan() {
  timeval left{};
  if (!channel_ || !ares_timeout(channel_, nullptr, &left)) return stop();
  // A millisecond more: c-ares reads a clock of its own, and a call too early would be for nothing.
  const instant due = loop_.now + std::chrono::seconds{left.tv_sec} + std::chrono::microseconds{left.tv_usec} +
                      std::chrono::milliseconds{1};
  loop_.wheel.start(*this, due);
}

std::uint64_t resolver_core::ask(const std::string& host, callback<void(resolver::answer)> got) {
  const std::uint64_t id = ++last_asker_;
  const std::string name = lower(host);
  const auto answer_at_once = [&](finding what) { noted_.push_back({id, std::move(what)}); };
  const auto literal = address::parse_ip(host, 0);
  const bool sound = is_name(host);
  asker& a = askers_.emplace(id, asker{std::move(got), host, literal || !sound ? 1 : 2}).first->second;
  if (literal) {
    answer_at_once({{*literal}, finding::kind::found});
  } else if (!sound) {
    a.host = host.substr(0, longest_name);
    for (char& c : a.host)
      if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f) c = '?';
    answer_at_once({{}, finding::kind::failed, "this is no name"});
  } else {
    check_files();
    const std::string_view plain = without_dot(name);
    static const std::vector<address> both_loopbacks = {*address::parse_ip("::1", 0), address::loopback(0)};
    const auto* known = hosts_.find(std::string{plain});
    // RFC 6761 section 6.3: such names never leave the machine.
    if (!known && (plain == "localhost" || plain.ends_with(".localhost"))) known = &both_loopbacks;
    if (known) {
      finding six, four;
      for (const auto& where : *known) (where.family() == address::kind::ipv6 ? six : four).addresses.push_back(where);
      answer_at_once(std::move(six));
      answer_at_once(std::move(four));
    } else {
      look_up(name, AF_INET6, id);
      look_up(name, AF_INET, id);
    }
  }
  if (!noted_.empty()) post_answers();
  return id;
}

void resolver_core::look_up(const std::string& name, int family, std::uint64_t id) {
  const std::string key = (family == AF_INET6 ? "6" : "4") + name;
  if (const finding* kept = cache_.find(key, loop_.now)) return noted_.push_back({id, *kept});
  if (channel_ && channel_->timed_out) replace_channel();
  if (const auto it = under_way_.find(key); it != under_way_.end()) return it->second->askers.push_back(id);
  if (lookups_ >= options_.lookups)
    return noted_.push_back({id, {{}, finding::kind::failed, "too many questions at once"}});
  try {
    channel& c = fresh_channel();
    auto l = std::make_unique<lookup>(lookup{*this, c, key, epoch_, {id}});
    under_way_.emplace(key, l.get());
    ++lookups_;
    c.ask(name, family, std::move(l));
    c.plan();
  } catch (const std::runtime_error& e) { noted_.push_back({id, {{}, finding::kind::failed, e.what()}}); }
}

channel& resolver_core::fresh_channel() {
  if (!channel_) channel_ = std::make_unique<channel>(*this, loop_, options_);
  return *channel_;
}

void resolver_core::check_files() {
  if (loop_.now < next_check_) return;
  next_check_ = loop_.now + options_.check_files;
  if (const auto mark = file_mark::of(options_.hosts); mark != hosts_mark_) {
    hosts_mark_ = mark;
    hosts_.load(options_.hosts);
  }
  if (const auto mark = file_mark::of(options_.resolv_conf); mark != resolv_mark_) {
    resolv_mark_ = mark;
    ++epoch_;
    cache_.clear();
    replace_channel();
  }
}

/// Questions under way stay where they are; new ones, about the same names too, go to a channel of their own.
void resolver_core::replace_channel() {
  if (!channel_) return;
  under_way_.clear();
  if (channel_->pending > 0) {
    leaving_.push_back(std::move(channel_));
  } else {
    channel_->close();
    loop_.bury(std::move(channel_));
  }
}

void resolver_core::ended(std::unique_ptr<lookup> l, int status, const ares_addrinfo* found) noexcept {
  loop_.guard([&] {
    --lookups_;
    if (const auto it = under_way_.find(l->key); it != under_way_.end() && it->second == l.get()) under_way_.erase(it);
    finding f;
    duration keep{};
    if (status == ARES_SUCCESS) {
      keep = longest_cached;
      for (const auto* n = found ? found->nodes : nullptr; n && f.addresses.size() < most_addresses; n = n->ai_next) {
        keep = std::min<duration>(keep, std::chrono::seconds{n->ai_ttl});
        if (n->ai_family == AF_INET && n->ai_addrlen >= sizeof(sockaddr_in)) {
          sockaddr_in in{};
          std::memcpy(&in, n->ai_addr, sizeof in);
          std::array<std::uint8_t, 4> octets{};
          std::memcpy(octets.data(), &in.sin_addr, octets.size());
          f.addresses.push_back(address::ipv4(octets, 0));
        } else if (n->ai_family == AF_INET6 && n->ai_addrlen >= sizeof(sockaddr_in6)) {
          sockaddr_in6 in{};
          std::memcpy(&in, n->ai_addr, sizeof in);
          std::array<std::uint8_t, 16> octets{};
          std::memcpy(octets.data(), &in.sin6_addr, octets.size());
          f.addresses.push_back(address::ipv6(octets, 0));
        }
      }
      for (const auto* n = found ? found->cnames : nullptr; n; n = n->next)
        keep = std::min<duration>(keep, std::chrono::seconds{n->ttl});
      f.what = f.addresses.empty() ? finding::kind::none : finding::kind::found;
      if (f.addresses.empty()) keep = negative_cached;
    } else if (status == ARES_ENOTFOUND || status == ARES_ENODATA) {
      keep = negative_cached;
    } else if (status == ARES_ETIMEOUT) {
      f.what = finding::kind::silent;
    } else {
      // What a server said is kept; what happened on this machine may be over the next moment.
      if (status == ARES_ESERVFAIL || status == ARES_EREFUSED || status == ARES_ENOTIMP || status == ARES_EFORMERR)
        keep = negative_cached;
      f.what = finding::kind::failed;
      f.detail = ares_strerror(status);
    }
    for (const std::uint64_t id : l->askers)
      if (askers_.contains(id)) noted_.push_back({id, f});
    if (l->epoch == epoch_ && keep.count() > 0) cache_.keep(l->key, std::move(f), loop_.now + keep);
  });
}

void resolver_core::after(channel& c) {
  c.plan();
  std::erase_if(leaving_, [this](std::unique_ptr<channel>& old) {
    if (old->pending > 0) return false;
    old->close();
    loop_.bury(std::move(old));  // it may be the one that is running
    return true;
  });
  give_answers();
}

void resolver_core::post_answers() {
  if (std::exchange(posted_, true)) return;
  loop_.post([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->posted_ = false;
    self->give_answers();
  });
}

void resolver_core::give_answers() {
  const auto alive = shared_from_this();
  // What the callbacks ask for in turn is answered later.
  auto ready = std::exchange(noted_, {});
  for (auto& [id, what] : ready) {
    auto it = askers_.find(id);
    if (it == askers_.end()) continue;  // forgotten
    asker& a = it->second;
    resolver::answer out{std::move(what.addresses), {}, --a.left == 0};
    a.found = a.found || !out.addresses.empty();
    if (what.what > a.worst.what) a.worst = {{}, what.what, std::move(what.detail)};
    if (out.last && !a.found) out.error = explain(a.worst, a.host);
    // It may forget itself, or end the resolver, while it runs.
    auto got = std::move(a.got);
    if (out.last) askers_.erase(it);
    const bool last = out.last;
    loop_.guard([&] { got(std::move(out)); });
    if (last) continue;
    if (it = askers_.find(id); it != askers_.end()) it->second.got = std::move(got);
  }
}

void resolver_core::forget(std::uint64_t query) noexcept {
  // The closure dies last: it may own something that asks or forgets.
  const auto gone = askers_.extract(query);
}

void resolver_core::close() noexcept {
  // The closures die last: they may own something that asks or forgets.
  const auto gone = std::exchange(askers_, {});
  under_way_.clear();
  leaving_.clear();
  channel_.reset();
}

class cares_resolver final : public resolver {
 public:
  cares_resolver(reactor_impl& loop, cares_options options)
      : core_{std::make_shared<resolver_core>(loop, std::move(options))} {}
  ~cares_resolver() override { core_->close(); }
  cares_resolver(const cares_resolver&) = delete;
  cares_resolver& operator=(const cares_resolver&) = delete;
  std::uint64_t ask(const std::string& host, callback<void(answer)> got) override {
    return core_->ask(host, std::move(got));
  }
  void forget(std::uint64_t query) noexcept override { core_->forget(query); }

 private:
  std::shared_ptr<resolver_core> core_;
};

}  // namespace

std::unique_ptr<resolver> make_cares_resolver(reactor& r, cares_options options) {
  return std::make_unique<cares_resolver>(r.impl(), std::move(options));
}

}  // namespace midwire::detail

namespace midwire {

std::unique_ptr<resolver> make_cares_resolver(reactor& r) {
  return detail::make_cares_resolver(r, detail::cares_options{});
}

}  // namespace midwire
