#include "gateway/http/server/loop.h"

#include <boost/asio/post.hpp>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/log/named.h"
#include "common/quoted.h"
#include "gateway/http/server/connection.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway::http {

void IdleBook::Add(int64_t id, const net::PeerAddress& peer) {
  MutexLock lock(&mutex_);
  peers_.emplace(id, peer);
}

void IdleBook::Remove(int64_t id) {
  MutexLock lock(&mutex_);
  peers_.erase(id);
}

bool IdleBook::Has(int64_t id) const {
  MutexLock lock(&mutex_);
  return peers_.count(id) > 0;
}

std::vector<net::ConnectionProtocol::IdleConnection> IdleBook::All() const {
  MutexLock lock(&mutex_);
  std::vector<net::ConnectionProtocol::IdleConnection> all;
  all.reserve(peers_.size());
  for (const auto& [id, peer] : peers_) all.push_back({peer, id});
  return all;
}

int64_t ServerShared::AddBodyBytes(int64_t n_bytes) {
  if (n_bytes == 0) return body_bytes_;
  metrics.body_bytes.Increment(static_cast<double>(n_bytes));
  return body_bytes_ += n_bytes;
}

void ServerShared::CountUnderWay(int change) {
  n_under_way_ += change;
  metrics.under_way.Increment(change);
}

void ServerShared::NoteFailedHandshake(const net::PeerAddress& peer, const std::string& why) {
  metrics.failed_handshakes.Increment();
  MutexLock lock(&mutex_);
  if (const auto n_left_out = failed_handshakes_.Note(MonotonicNow())) {
    spdlog::warn("HTTP client {} and we do not agree on TLS: {} ({} more since the last such line)",
                 Named("peer", peer.ToString()), Named("why", Shown(why)), Named("left_out", *n_left_out));
  }
}

void Loop::Start() {
  thread_ = std::thread([this] { context_.run(); });
}

void Loop::Stop() {
  if (!thread_.joinable()) return;
  Post([this] {
    for (const auto& connection : std::vector(connections_.begin(), connections_.end())) connection->Close();
    work_.reset();
    context_.stop();
  });
  thread_.join();
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
  }
  // What was posted meanwhile holds connections and whoever answers them: it runs out, and speaks to nobody.
  context_.restart();
  context_.poll();
}

bool Loop::Post(std::function<void()> work) {
  MutexLock lock(&mutex_);
  if (stopped_) return false;
  boost::asio::post(context_, std::move(work));
  return true;
}

void Loop::Add(std::shared_ptr<Connection> connection) { connections_.insert(std::move(connection)); }
void Loop::Remove(const std::shared_ptr<Connection>& connection) { connections_.erase(connection); }

void Loop::CloseIdle() {
  for (const auto& connection : std::vector(connections_.begin(), connections_.end())) {
    if (connection->idle()) connection->Close();
  }
}

}  // namespace coterie::gateway::http
