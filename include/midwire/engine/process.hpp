#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <midwire/base/chunk.hpp>
#include <midwire/base/export.hpp>
#include <midwire/engine/transport.hpp>

namespace midwire {

class process_protocol;
namespace detail {
class child_process;
}

/// What one of a child's standard descriptors is connected to.
enum class process_stream : std::uint8_t {
  automatic,  ///< `pipe` for a process_protocol; without one, standard input is `null` and the other two are inherited
  pipe,       ///< process_protocol::write(), output_received()
  inherit,    ///< this process's own
  null,       ///< /dev/null
  joined,     ///< of standard error alone: wherever standard output goes, in the order in which the child writes
};

/// One more descriptor for a child, which has no others.
struct process_descriptor {
  /// The number the child finds it at: 3 to 255.
  int number = 3;
  /// Ours, which it gets a copy of; it stays the caller's. -1: a pipe, and output_received(number, ...) tells what the
  /// child writes into it.
  int ours = -1;
};

/// How a child starts. A plain value, of use for many children.
struct process_options {
  process_stream input = process_stream::automatic;
  process_stream output = process_stream::automatic;
  process_stream error = process_stream::automatic;
  /// Where it starts; empty is where this process is. A program named by a relative path with a slash is looked for
  /// from there.
  std::string directory{};
  /// `NAME=value` each, in place of this process's own.
  std::optional<std::vector<std::string>> environment{};
  std::vector<process_descriptor> descriptors{};
  /// A session of its own (setsid): the terminal's signals do not reach it.
  bool new_session = false;
  /// It goes on when its reactor is destroyed. Otherwise it is killed then (SIGKILL), and waited for.
  bool outlives_reactor = false;
};

/// A child process as its parent sees it: callbacks to override, members to call. One child at a time.
///
/// Order     started() first, ended() once and last, behind all output that the child itself wrote. A child that does
///           not start calls neither: the deferred of spawn_process() fails.
/// Threads   the loop's own. No member calls back before it returns. Before the child and after it, they do nothing.
/// Errors    an exception that leaves a callback kills the child; the deferred fails with ending::failed.
class MIDWIRE_API process_protocol {
 public:
  process_protocol() noexcept = default;
  process_protocol(const process_protocol&) = delete;
  process_protocol& operator=(const process_protocol&) = delete;
  virtual ~process_protocol() = default;

  virtual void started() {}
  /// `fd` is the child's number: 1 standard output, 2 standard error, or that of a process_descriptor. At most 256 KiB
  /// of each come in a turn; while output is paused the child waits, once its pipe (64 KiB) is full.
  virtual void output_received(int fd, chunk data);
  /// Nothing more comes from `fd`: whoever held it has closed it, or the child has ended.
  virtual void output_ended(int /*fd*/) {}
  /// The child has closed its standard input. What was written and not read is dropped, as is all that is written
  /// later.
  virtual void input_ended() {}
  /// 0 to 255 as the child gave it, or 128 + n when signal n ended it.
  virtual void ended(int /*status*/) {}

  /// To the child's standard input: takes the octets, keeps their order, never blocks.
  void write(buffer octets);
  /// The end of its standard input, behind what was written.
  void close_input();
  /// By its descriptor: never to another process that has come by its number.
  void send_signal(int number);
  void pause_output();
  void resume_output();
  /// For standard input, as transport::register_producer() with the limits of a fresh flow_limits. Stopped by
  /// close_input(), and by the end of the input or of the child.
  void register_producer(producer& p, producing how);
  void unregister_producer();
  /// Octets written that the child's pipe has not taken yet.
  std::size_t buffered() const noexcept;
  /// 0 while there is no child.
  int pid() const noexcept;

 private:
  friend class detail::child_process;
  detail::child_process* child_ = nullptr;
};

}  // namespace midwire
