#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <midwire/base/chunk.hpp>
#include <midwire/base/reason.hpp>
#include <midwire/engine/tls.hpp>

#include "engine/tls/openssl.hpp"

namespace midwire::detail {

/// One end of one TLS connection without its socket: octets in, octets out, no clock, no callbacks to whoever owns it.
///
/// What comes from the wire is fed; what shall go to the wire is taken from output() after each call. Octets are copied
/// once on their way in and once on their way out.
class tls_session {
 public:
  enum class status : std::uint8_t {
    ok,
    want_input,  ///< nothing more can happen before octets come
    ended,       ///< the peer's close_notify
    failed,      ///< see failure(); an alert for the peer may be in output()
  };
  static constexpr std::size_t record_size = 16384;  ///< of plain octets, RFC 8446 section 5.1

  /// \param server_name  for a client: whom to ask for (SNI) and to check; may be an IP address. The context's own
  ///                     server_name goes first.
  /// \param remember_as  for a client: under which name its sessions are kept, e.g. host:port; empty: not at all
  /// Throws std::system_error: a client that must check a name has none.
  tls_session(tls_ptr with, std::string server_name, std::string where = {});
  tls_session(const tls_session&) = delete;
  tls_session& operator=(const tls_session&) = delete;
  ~tls_session();

  void feed(chunk cipher) { input_.append(std::move(cipher)); }
  /// Octets fed and not looked at yet.
  std::size_t waiting() const noexcept { return input_.size(); }
  /// Decrypted octets that read() would give without looking at input.
  std::size_t readable() const noexcept;
  status handshake();
  /// Octets in order, at most `at_most`, at most a record's worth at once. `ok` means that there are some.
  status read(std::size_t at_most, chunk& out);
  /// What became of octets: behind how many octets of all output they end, and how many they were.
  struct mark {
    std::uint64_t output_end;
    std::size_t plain;
  };
  /// Encrypts all of it, in records as large as they may be, with a mark for each.
  status write(buffer plain, std::vector<mark>& marks);
  /// Says close_notify, once; what the peer sends is still read.
  void end();
  bool established() const noexcept { return established_; }
  bool is_server() const noexcept;

  buffer& output() noexcept { return output_; }
  std::uint64_t output_total() const noexcept { return output_total_; }
  /// Input that waits holds no more memory than it has octets.
  void compact();

  const reason& failure() const noexcept { return failure_; }
  /// Adds words for people to a failure that is about to come.
  void note(std::string words) { note_ = std::move(words); }
  tls_info info() const;
  std::string_view alpn() const noexcept;
  SSL* ssl() const noexcept { return ssl_.get(); }

  // For the callbacks of OpenSSL, which find the session by its SSL.
  const tls_ptr context;
  tls_ptr chosen;         ///< by the name that was asked for
  std::string asked_for;  ///< the name itself, or the name a client asks for
  std::string remember_as;

  /// Where the SSL reads and writes.
  std::size_t give(std::span<std::uint8_t> into) noexcept;
  bool take(byte_view octets) noexcept;

 private:
  status failed(bool in_handshake);
  status after(int result, bool in_handshake);

  ssl_ptr ssl_;
  buffer input_, output_;
  std::uint64_t output_total_ = 0;
  reason failure_;
  std::string note_;
  bool established_ = false, end_said_ = false, dead_ = false;
};

}  // namespace midwire::detail
