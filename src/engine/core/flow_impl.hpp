#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <midwire/engine/core/flow.hpp>

namespace midwire::detail {

/// What a hold_token names. The flow owns it; the token shares it, and finds it ended when the flow is gone.
struct held_octets {
  flow_impl* owner = nullptr;  // null: answered, or the flow has ended
  std::size_t stage = 0;
  direction dir{};
  buffer octets;
  std::unique_ptr<held_framing> framing;  // null: they are no message
  on_expiry then = on_expiry::pass;
  instant deadline = instant::max();
  enum class answer : std::uint8_t { none, pass, drop, close } said = answer::none;
};

/// How a direction ends, as it travels through the stages behind the last octet.
enum class end_mark : std::uint8_t { none, fin, rst };

/// One stage with its two lanes.
struct stage_slot {
  stage_slot(flow_impl& f, std::size_t index, std::unique_ptr<stage> s) : what{std::move(s)}, context{f, index} {}

  struct lane {
    buffer input;  // came, not shown yet
    chunk kept;    // shown again in front of what comes
    std::size_t at_least = 1;
    instant kept_until = instant::max();
    instant kept_since{};
    std::shared_ptr<held_octets> held;
    std::uint64_t bypass = 0;
    std::uint64_t entered = 0;  // octets that came in, bypassed ones too
    std::uint64_t offset = 0;
    end_mark end = end_mark::none;  // behind `input`
    bool end_shown = false;
    stage_count count;
  };
  std::unique_ptr<stage> what;
  stage_context context;
  bool opened = false;  // on_open was called, so on_close will be
  std::array<lane, 2> lanes;
};

inline constexpr direction both_directions[] = {direction::to_server, direction::to_client};
inline constexpr side both_sides[] = {side::client, side::server};

class flow_impl {
 public:
  flow_impl(std::vector<std::unique_ptr<stage>> stages, flow_limits limits);
  flow_impl(const flow_impl&) = delete;
  flow_impl& operator=(const flow_impl&) = delete;
  ~flow_impl();

  void open(instant now);
  void handle(side from, event what, instant now);
  void advance(instant now);
  std::optional<instant> next_deadline() const;
  bool next_command(side& to, command& what);
  void close(reason why, ended_by who, instant now);
  void abort(reason why, ended_by who, instant now);

  // What tokens and contexts ask for.
  bool inject(std::size_t index, direction d, buffer octets, place where);
  void bypass(std::size_t index, direction d, std::uint64_t octets);
  pause_token pause(direction d);
  static void unpause(pause_token& token);
  timer_ref call_later(duration from_now, callback<void()> then);
  void request_close(reason why);
  void request_reset();
  void count(const char* why, std::uint64_t n = 1);
  void answered(held_octets& held);

  std::uint64_t id = 0;
  std::array<address, 2> ends;  // by side
  bool may_splice = false;
  bool closed = false;
  reason why;
  ended_by by = ended_by::engine;
  callback<void()> notify;
  instant now{};
  std::vector<std::unique_ptr<stage_slot>> slots;
  std::vector<std::pair<const char*, std::uint64_t>> counters;

  /// One direction, from its source's socket to its sink's.
  struct way {
    flow_count count;
    std::int64_t edited = 0;    // octets that edits added, less those they took
    std::size_t waiting = 0;    // all octets held for this direction
    std::size_t in_flight = 0;  // given to the driver, not taken by the kernel
    std::size_t piped = 0;      // of those, in front, what the driver spliced
    buffer out;                 // joined writes of this turn (E18)
    end_mark source_end = end_mark::none;
    end_mark sink_end = end_mark::none;  // sent, or due to be sent
    bool end_sent = false;
    bool sink_dead = false;  // what comes now is dropped
    bool full = false;
    instant full_since{};
    unsigned pauses = 0;
    bool reading = false;
    std::uint64_t granted = 0;  // what the driver may still read
    bool spliced = false;
    std::uint64_t splice_left = 0;
    std::size_t read_average = 0;
    bool ended_by_reset = false;
    bool truncated = false;                   // that reset is a FIN without close_notify
    std::optional<std::size_t> swallowed_at;  // the stage that said without_end
  };
  std::array<way, 2> ways;
  flow_limits limits;

 private:
  friend class midwire::stage_context;
  enum class state : std::uint8_t { fresh, open, closing, closed };
  struct pending_command {
    side to;
    command what;
  };
  way& of(direction d) noexcept { return ways[index_of(d)]; }
  const way& of(direction d) const noexcept { return ways[index_of(d)]; }

  void work();
  void run_direction(direction d);
  void run_lane(std::size_t i, direction d);
  bool choked(direction d) const noexcept;
  static chunk take_shown(stage_slot::lane& lane, std::size_t at_least = 0);
  template <class Call>
  void show(std::size_t i, direction d, std::size_t shown, bool ending, Call call);
  void apply(std::size_t i, direction d, verdict v, std::size_t shown, bool ending);
  void emit(std::size_t i, direction d, buffer octets);
  void pass_end(std::size_t i, direction d, end_mark end);
  void settle_hold(std::size_t i, direction d, held_octets::answer said);
  void drop_waiting(direction d);
  void drop_lane(std::size_t i, direction d);
  void expire();
  void flush();
  void end_sink(direction d, end_mark end);
  void update_reading(direction d);
  bool reads_on(direction d) const noexcept;
  bool splice_wanted(direction d) const;
  std::uint64_t bypass_left(direction d) const;
  void source_ended(direction d, end_mark end, std::error_code error);
  void begin_closing(reason why, ended_by who);
  void start_linger();
  bool holding() const noexcept;
  bool lingers() const noexcept;
  bool idle_counts() const noexcept;
  instant half_closed_until() const noexcept;
  void check_finished();
  void finish(reason why, ended_by who);
  void blame(ended_by who);
  void say(side to, command c) { commands_.push_back({to, std::move(c)}); }
  void failed(const char* what);
  void touch() noexcept { last_activity_ = now; }
  void check_books() const;
  void poke();

  state state_ = state::fresh;
  std::vector<pending_command> commands_;
  std::size_t next_command_ = 0;
  std::unique_ptr<timer_wheel> wheel_;
  std::shared_ptr<flow_impl*> self_;
  instant last_activity_{};
  instant linger_until_ = instant::max();
  std::array<bool, 2> side_done_{};   // closed or reset, by side
  std::array<bool, 2> read_ended_{};  // its FIN or RST has come, by side
  bool busy_ = false, dirty_ = false, blamed_ = false;
  bool close_asked_ = false, reset_asked_ = false, close_begun_ = false;
  reason close_why_;
};

}  // namespace midwire::detail
