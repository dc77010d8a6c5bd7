#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "engine/transport_impl.hpp"

namespace midwire::detail {

namespace {
/// What one read of a file may block the loop for.
constexpr std::size_t file_piece = 64 * 1024;

bool driver_cannot(std::error_code error) noexcept {
  return error == std::errc::invalid_argument || error == std::errc::function_not_supported ||
         error == std::errc::operation_not_permitted;
}
}  // namespace

/// What was written goes to the driver, as far as the rates let it, and behind it what the files hold.
void transport_impl::hand_over() {
  const bool before = std::exchange(held_back_, false);
  write_at_ = instant::max();
  while (!aborting_) {
    if (!out_.empty()) {
      buffer part;
      if (governor_) {
        const std::uint64_t allowed = governor_->may_write(out_.size(), reactor.now);
        if (allowed == 0) {
          held_back_ = true;
          write_at_ = governor_->write_at(out_.size(), reactor.now);
          break;
        }
        part = out_.take_front(static_cast<std::size_t>(allowed));
        governor_->was_written(part.size());
        if (governor_->logs()) log_chunks(part);
      } else {
        part = std::move(out_);
        out_.clear();
      }
      in_flight_ += part.size();
      reactor.perform(socket, command::send(std::move(part)));
    } else if (files_.empty() || !send_some_of_file()) {
      break;
    }
  }
  // The time that our own rate took is not the peer's.
  if (before && losing_ && limits_.linger.count() > 0) linger_until_ = add_time(reactor.now, limits_.linger);
}

/// \return whether there may be more to do now
bool transport_impl::send_some_of_file() {
  file_part& file = files_.front();
  if (file.left == 0 && file.in_driver == 0) {
    behind_files_ -= file.behind.size();
    out_ = std::move(file.behind);
    files_.erase(files_.begin());
    return true;
  }
  // The driver has one file at a time; one that we read waits for the kernel as writes do.
  if (file.left == 0 || file.in_driver > 0 || (file.copying && in_flight_ >= limits_.low)) return false;
  std::uint64_t octets = file.left;
  if (governor_ && !file.copying) {
    octets = governor_->may_write(octets, reactor.now);
    if (octets == 0) {
      held_back_ = true;
      write_at_ = governor_->write_at(file.left, reactor.now);
      return false;
    }
  }
  if (!file.copying) {
    if (!link_ && reactor.kernel->send_file(socket, file.fd.get(), file.offset, octets)) {
      if (governor_) governor_->was_written(octets);
      file.in_driver = octets, file.offset += octets, file.left -= octets;
      return false;
    }
    file.copying = true;
  }
  chunk piece = chunk::uninitialized(static_cast<std::size_t>(std::min<std::uint64_t>(file.left, file_piece)));
  ssize_t n;
  do n = ::pread(file.fd.get(), piece.writable().data(), piece.size(), static_cast<off_t>(file.offset));
  while (n < 0 && errno == EINTR);
  if (n <= 0) {
    file_failed({n < 0 ? errno : 0, std::system_category()});
    return false;
  }
  piece.truncate(static_cast<std::size_t>(n));
  file.offset += piece.size(), file.left -= piece.size();
  out_.append(std::move(piece));
  return true;
}

void transport_impl::octets_taken(std::uint64_t octets) {
  const auto written = static_cast<std::size_t>(std::min<std::uint64_t>(octets, in_flight_));
  in_flight_ -= written;
  if (files_.empty() || octets == 0) return;
  files_.front().in_driver -= std::min(files_.front().in_driver, octets - written);
  if (full_since_ != instant::max()) full_since_ = reactor.now;  // it moves
}

void transport_impl::file_failed(std::error_code error) {
  if (files_.empty()) return;
  file_part& file = files_.front();
  const std::uint64_t back = std::exchange(file.in_driver, 0);
  file.offset -= back, file.left += back;
  if (error && !file.copying && driver_cannot(error)) {
    file.copying = true;
    return;
  }
  if (error) return spoil("a file to be sent cannot be read: " + error.message(), error);
  spoil("a file to be sent is " + std::to_string(file.left) + " octets shorter than it was said to be", {});
}

/// What was promised cannot be sent: a peer that saw an orderly end would take the rest for all there is.
void transport_impl::spoil(std::string why, std::error_code code) {
  aborting_ = true;
  if (!ending_) ending_ = reason{ending::failed, code, std::move(why)};
}

void transport_impl::send_file(int fd, std::uint64_t offset, std::uint64_t octets) {
  if (gone_ || end_asked_ || aborting_ || octets == 0) return;
  reactor.queue(*this);
  constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  file_part file;
  file.fd.reset(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!file.fd) {
    const std::error_code error{errno, std::system_category()};
    return spoil("a file to be sent: " + error.message(), error);
  }
  if (offset > most || octets > most - offset)
    return spoil("a file to be sent: no file is as long as that", std::make_error_code(std::errc::value_too_large));
  file.offset = offset, file.left = octets;
  files_.push_back(std::move(file));
}

void transport_impl::govern(const std::shared_ptr<policy_state>& policy) {
  governor_ = std::make_unique<governor>(policy, *this, std::move(governor_));
  set_limits(combined(limits_, policy->rules.limits));
}

}  // namespace midwire::detail
