#include "tests/gateway/tcp_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "common/check.h"
#include "common/clock.h"

namespace coterie::gateway::testing {
namespace {

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

}  // namespace

TcpProxy::TcpProxy(int target_port) : target_port_(target_port) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  COTERIE_CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0) << "bind";
  COTERIE_CHECK(listen(listener_, 64) == 0) << "listen";
  getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { Run(); });
}

TcpProxy::~TcpProxy() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
  for (const Connection& connection : connections_) {
    close(connection.client);
    close(connection.server);
  }
  close(listener_);
}

void TcpProxy::Cut() {
  MutexLock lock(&mutex_);
  cut_ = true;
}
void TcpProxy::SetBlackHole(bool on) {
  MutexLock lock(&mutex_);
  black_hole_ = on;
}
void TcpProxy::SetDelay(absl::Duration delay) {
  MutexLock lock(&mutex_);
  delay_ = delay;
}
void TcpProxy::SetRefuse(bool on) {
  MutexLock lock(&mutex_);
  refuse_ = on;
}
int TcpProxy::connections() const {
  MutexLock lock(&mutex_);
  return n_connections_;
}

void TcpProxy::Reset(int fd) {
  const linger now = {1, 0};  // close() then sends RST
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  close(fd);
}

void TcpProxy::Accept() {
  const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (client < 0) return;
  const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Loopback(target_port_);
  if (refuse_ || connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    Reset(client);
    close(server);
    return;
  }
  const int on = 1;
  for (const int fd : {client, server}) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ++n_connections_;
  connections_.push_back({client, server, {client, server, {}}, {server, client, {}}});
}

// False when the connection is over.
bool TcpProxy::Pump(Direction* direction, bool readable) {
  const MonotonicTime now = MonotonicNow();
  if (readable && !direction->ended) {
    char buffer[65536];
    const ssize_t n = recv(direction->from, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) return false;
    if (n == 0) direction->ended = true;
    if (n > 0) direction->held.push_back({now + delay_, std::string(buffer, static_cast<size_t>(n))});
  }
  size_t n_sent = 0;
  for (Chunk& chunk : direction->held) {
    if (chunk.due > now) break;
    const ssize_t n =
        send(direction->to, chunk.bytes.data(), chunk.bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) return false;
    if (n >= 0 && static_cast<size_t>(n) == chunk.bytes.size()) {
      ++n_sent;
      continue;
    }
    if (n > 0) chunk.bytes.erase(0, static_cast<size_t>(n));
    break;
  }
  direction->held.erase(direction->held.begin(), direction->held.begin() + static_cast<ptrdiff_t>(n_sent));
  if (direction->ended && direction->held.empty() && !direction->shut) {
    shutdown(direction->to, SHUT_WR);
    direction->shut = true;
  }
  return true;
}

void TcpProxy::Run() {
  // Backpressure passes through: a direction that holds this much is not read.
  constexpr size_t kMaxHeldChunks = 4;
  while (true) {
    std::vector<pollfd> polled;
    {
      MutexLock lock(&mutex_);
      if (stopping_) return;
      if (std::exchange(cut_, false)) {
        for (const Connection& connection : connections_) {
          Reset(connection.client);
          Reset(connection.server);
        }
        connections_.clear();
      }
      polled.push_back({listener_, POLLIN, 0});
      if (!black_hole_) {
        for (const Connection& connection : connections_) {
          for (const Direction* d : {&connection.up, &connection.down}) {
            const bool want = !d->ended && (d->held.size() < kMaxHeldChunks || delay_ > absl::ZeroDuration());
            polled.push_back({want ? d->from : -1, POLLIN, 0});
          }
        }
      }
    }
    poll(polled.data(), polled.size(), 2);
    MutexLock lock(&mutex_);
    const size_t n_polled = (polled.size() - 1) / 2;
    if (!black_hole_ && !cut_) {
      std::vector<Connection> kept;
      for (size_t i = 0; i < connections_.size(); ++i) {
        Connection& connection = connections_[i];
        const bool up_ready = i < n_polled && polled[1 + 2 * i].revents != 0;
        const bool down_ready = i < n_polled && polled[2 + 2 * i].revents != 0;
        const bool alive = Pump(&connection.up, up_ready) && Pump(&connection.down, down_ready) &&
                           !(connection.up.shut && connection.down.shut);
        if (alive) {
          kept.push_back(std::move(connection));
        } else {
          Reset(connection.client);
          Reset(connection.server);
        }
      }
      connections_ = std::move(kept);
    }
    if (polled[0].revents != 0) Accept();
  }
}

}  // namespace coterie::gateway::testing
