#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <midwire/base/address.hpp>
#include <midwire/base/chunk.hpp>
#include <midwire/base/export.hpp>
#include <midwire/engine/core/flow.hpp>

namespace midwire {

class reactor;
class protocol;
class factory;
class transport;
class tls_context;
using tls_ptr = std::shared_ptr<const tls_context>;
struct tls_info;
namespace detail {
class message_protocol_base;
class transport_impl;
}

class MIDWIRE_API producer {
 public:
  virtual ~producer() = default;
  virtual void pause_producing() = 0;
  virtual void resume_producing() = 0;
  virtual void stop_producing() = 0;
};
/// A push producer writes until it is paused; a pull producer writes once for each resume_producing().
enum class producing : std::uint8_t { push, pull };

/// Finds a transport for as long as it lives.
class transport_ref {
 public:
  transport_ref() noexcept = default;
  explicit transport_ref(std::weak_ptr<transport*> t) noexcept : transport_{std::move(t)} {}
  /// Null: gone.
  transport* get() const noexcept {
    const auto alive = transport_.lock();
    return alive ? *alive : nullptr;
  }

 private:
  std::weak_ptr<transport*> transport_;
};

/// One end of a connection, as its protocol sees it. No member calls a protocol before it returns.
///
/// Lifetime  from connection_made to connection_lost, both included; ref() outlives it.
/// Threads   the loop's own.
class MIDWIRE_API transport {
 public:
  explicit transport(detail::transport_impl& impl) noexcept : impl_{impl} {}
  transport(const transport&) = delete;
  transport& operator=(const transport&) = delete;

  /// Takes the octets, keeps their order, never blocks, never fails: after the end of the connection they are dropped.
  void write(buffer octets);
  /// Flush, FIN, then close; bounded by flow_limits::linger without progress.
  void lose_connection();
  /// Flush, FIN; what the peer sends still arrives.
  void lose_write_connection();
  /// RST, now; what was not sent yet is dropped.
  void abort_connection();
  /// The peer's reset is seen while paused, too; its end when what came before it has been read.
  void pause_reading();
  void resume_reading();
  /// One at a time; it must stay until it is unregistered or told to stop. lose_connection() and
  /// lose_write_connection() stop it, and so does the end of the connection.
  void register_producer(producer& p, producing how);
  void unregister_producer();
  void set_limits(flow_limits limits);
  /// TLS from here on, in the context's role (STARTTLS): what was written before leaves in the clear, what is written
  /// from now on waits for the handshake. protocol::handshake_completed() comes when it is done; connection_lost when
  /// it fails or takes longer than flow_limits::handshake. Octets that have come and were not shown yet are taken for
  /// TLS; what the protocol itself holds of them it must not use as if TLS had protected it (CVE-2011-0411): it should
  /// then abort. `server_name`, of a client's context, is whom to ask for and to check. Throws std::system_error when
  /// that is empty and the context must check it, when TLS is on already, and while a file is being sent.
  void start_tls(tls_ptr tls, std::string server_name = {});
  /// The protocol that both sides agreed on (RFC 7301); empty: none. As long as the transport lives.
  std::string_view alpn() const noexcept;
  /// What the handshake came to, with the peer's certificate. Put together at each call.
  tls_info tls() const;
  /// Octets of a file, in order with what is written before and behind; by sendfile(2) where nothing has to see them.
  /// The descriptor is copied: the caller may close it at once. Its position is neither used nor moved. Memory for a
  /// piece at a time; a file that is not in memory keeps the loop waiting for a piece (up to 256 KiB) of it. Who
  /// changes the file meanwhile changes what is sent, until the peer has it. One that turns out shorter, or cannot be
  /// read, ends the connection with ending::failed, and with a reset, so that nobody takes a part for the whole.
  void send_file(int fd, std::uint64_t offset, std::uint64_t octets);
  void set_no_delay(bool on);
  void set_keep_alive(bool on);
  /// Octets written that the kernel has not taken yet. Those of files do not count.
  std::size_t buffered() const noexcept;
  transport_ref ref() const;
  const address& host() const noexcept;
  const address& peer() const noexcept;
  midwire::reactor& reactor() const noexcept;

 private:
  friend class detail::message_protocol_base;
  detail::transport_impl& impl_;
};

/// One transport's reading as a producer for another: it reads no faster than the other takes what is written to it.
/// `to.register_producer(pace, producing::push)`, then write to `to` what `from` receives. It works on the switch of
/// pause_reading(). Stopped, it leaves `from` reading. Outliving `from` is harmless.
class MIDWIRE_API reading_producer final : public producer {
 public:
  explicit reading_producer(transport& from) : from_{from.ref()} {}
  void pause_producing() override;
  void resume_producing() override;
  void stop_producing() override;

 private:
  transport_ref from_;
};

}  // namespace midwire
