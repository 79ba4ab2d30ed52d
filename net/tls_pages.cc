#include "net/tls_pages.h"

#include <fcntl.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>

namespace coterie::net {
namespace {

constexpr size_t kMaxServed = 16;
constexpr size_t kMaxRequestBytes = 8192;

// Repeats `step` until it is done or failed, waiting for the socket in between. Above 0: done.
template <typename Step>
int Drive(SSL* ssl, int fd, MonotonicTime until, Step step) {
  while (true) {
    const int result = step();
    if (result > 0) return result;
    const int error = SSL_get_error(ssl, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return result;
    const absl::Duration left = until - MonotonicNow();
    if (left <= absl::ZeroDuration()) return -1;
    pollfd ready = {fd, static_cast<short>(error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT), 0};
    poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(left) + 1));
  }
}

}  // namespace

TlsPages::~TlsPages() {
  std::list<Served> served;
  {
    MutexLock lock(&mutex_);
    served.swap(served_);
  }
  for (Served& one : served) {
    shutdown(one.socket.get(), SHUT_RDWR);
    one.thread.join();
  }
}

void TlsPages::Serve(FileDescriptor socket) {
  MutexLock lock(&mutex_);
  served_.remove_if([](Served& one) {
    if (!one.done) return false;
    one.thread.join();
    return true;
  });
  if (served_.size() >= kMaxServed) return;
  Served& one = served_.emplace_back();
  one.socket = std::move(socket);
  one.thread = std::thread([this, &one] {
    Run(one.socket.get());
    shutdown(one.socket.get(), SHUT_RDWR);  // whoever reads hears of the end now, not when a next one comes
    one.done = true;
  });
}

void TlsPages::Run(int fd) const {
  const MonotonicTime until = MonotonicNow() + timeout_;
  const std::unique_ptr<SSL, void (*)(SSL*)> ssl(SSL_new(identity_->ServerContext().get()), SSL_free);
  if (ssl == nullptr || SSL_set_fd(ssl.get(), fd) != 1) return;
  if (Drive(ssl.get(), fd, until, [&] { return SSL_accept(ssl.get()); }) <= 0) return;
  std::string request;
  std::array<char, 2048> part;
  while (request.find("\r\n\r\n") == std::string::npos) {
    const int n = Drive(ssl.get(), fd, until,
                        [&] { return SSL_read(ssl.get(), part.data(), static_cast<int>(part.size())); });
    if (n <= 0) return;
    request.append(part.data(), static_cast<size_t>(n));
    if (request.size() > kMaxRequestBytes) return;
  }
  const std::string answer = answer_(request);
  for (size_t at = 0; at < answer.size();) {
    const int n = Drive(ssl.get(), fd, until, [&] {
      return SSL_write(ssl.get(), answer.data() + at, static_cast<int>(answer.size() - at));
    });
    if (n <= 0) return;
    at += static_cast<size_t>(n);
  }
  SSL_shutdown(ssl.get());
}

}  // namespace coterie::net
