#ifndef COTERIE_GATEWAY_HTTP_SERVER_LOOP_H_
#define COTERIE_GATEWAY_HTTP_SERVER_LOOP_H_

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "common/log_allowance.h"
#include "common/mutex.h"
#include "gateway/http/server/host_check.h"
#include "gateway/http/server/http_metrics.h"
#include "gateway/http/server/http_server.h"
#include "net/connection_protocol.h"
#include "net/tls_identity.h"

namespace coterie::gateway::http {

class Connection;

// The connections on which nothing is under way, for the acceptor, which closes some when places run out.
// Thread-safe.
class IdleBook {
 public:
  void Add(int64_t id, const net::PeerAddress& peer);
  void Remove(int64_t id);
  bool Has(int64_t id) const;
  std::vector<net::ConnectionProtocol::IdleConnection> All() const;

 private:
  mutable Mutex mutex_;
  std::map<int64_t, net::PeerAddress> peers_ ABSL_GUARDED_BY(mutex_);
};

// What all connections of a server share. Thread-safe.
class ServerShared {
 public:
  ServerShared(HttpServerOptions o, HttpServer::Handler h, MetricsRegistry* registry,
               std::shared_ptr<net::TlsIdentity> t)
      : options(std::move(o)),
        handler(std::move(h)),
        tls(std::move(t)),
        metrics(registry, options.threads),
        hosts(options.allowed_hosts),
        failed_handshakes_(absl::Seconds(10)) {}

  int64_t NextConnectionId() { return ++last_connection_; }
  // Adds to what is held, and returns the sum.
  int64_t AddBodyBytes(int64_t n_bytes);
  void CountUnderWay(int change);
  int64_t n_under_way() const { return n_under_way_; }
  // A client and we did not agree on TLS, for `why`.
  void NoteFailedHandshake(const net::PeerAddress& peer, const std::string& why);

  const HttpServerOptions options;
  const HttpServer::Handler handler;
  const std::shared_ptr<net::TlsIdentity> tls;  // null: none
  HttpMetrics metrics;
  const HostCheck hosts;
  bool on_loopback = false;  // set before the first connection
  IdleBook idle;
  std::atomic<bool> draining = false;

 private:
  std::atomic<int64_t> last_connection_ = 0;
  std::atomic<int64_t> body_bytes_ = 0;
  Mutex mutex_;
  LogAllowance failed_handshakes_ ABSL_GUARDED_BY(mutex_);
  std::atomic<int64_t> n_under_way_ = 0;  // requests whose answer is not written yet
};

// A thread and the connections on it.
class Loop : public std::enable_shared_from_this<Loop> {
 public:
  explicit Loop(std::shared_ptr<ServerShared> shared)
      : shared_(std::move(shared)), work_(context_.get_executor()) {}

  void Start();
  // Closes every connection, and returns when nothing runs here any more.
  void Stop();
  // From any thread; false, and `work` is dropped, once the loop has stopped.
  bool Post(std::function<void()> work);

  boost::asio::io_context& context() { return context_; }
  ServerShared& shared() { return *shared_; }
  // On the loop's thread.
  void Add(std::shared_ptr<Connection> connection);
  void Remove(const std::shared_ptr<Connection>& connection);
  void CloseIdle();

 private:
  const std::shared_ptr<ServerShared> shared_;
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::unordered_set<std::shared_ptr<Connection>> connections_;  // the thread's
  Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_SERVER_LOOP_H_
