#include "tests/net/raw_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "common/clock.h"

namespace coterie::net::testing {
namespace {

sockaddr_in AddressOf(const char* ip, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, ip, &address.sin_addr);
  return address;
}

}  // namespace

RawClient::RawClient(int port, const char* from) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const sockaddr_in source = AddressOf(from, 0), target = AddressOf("127.0.0.1", port);
  if (bind(socket_.get(), reinterpret_cast<const sockaddr*>(&source), sizeof(source)) != 0 ||
      connect(socket_.get(), reinterpret_cast<const sockaddr*>(&target), sizeof(target)) != 0) {
    Close();
  }
}

bool RawClient::Send(std::string_view bytes) {
  return send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

std::string RawClient::ReadAll(absl::Duration timeout) {
  const MonotonicTime until = MonotonicNow() + timeout;
  std::string all;
  for (;;) {
    pollfd ready = {socket_.get(), POLLIN, 0};
    const absl::Duration left = until - MonotonicNow();
    if (left <= absl::ZeroDuration() ||
        poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1) <= 0) {
      return all;
    }
    char buffer[4096];
    const ssize_t n = recv(socket_.get(), buffer, sizeof(buffer), 0);
    if (n <= 0) return all;
    all.append(buffer, static_cast<size_t>(n));
  }
}

bool RawClient::ClosedWithin(absl::Duration timeout) {
  const MonotonicTime until = MonotonicNow() + timeout;
  for (;;) {
    pollfd ready = {socket_.get(), POLLIN, 0};
    const absl::Duration left = until - MonotonicNow();
    if (left <= absl::ZeroDuration() ||
        poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1) <= 0) {
      return false;
    }
    char buffer[4096];
    if (recv(socket_.get(), buffer, sizeof(buffer), 0) <= 0) return true;
  }
}

}  // namespace coterie::net::testing
