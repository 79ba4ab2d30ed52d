#ifndef COTERIE_GATEWAY_HTTP_SERVER_HTTP_SERVER_H_
#define COTERIE_GATEWAY_HTTP_SERVER_HTTP_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/metrics.h"
#include "common/status.h"
#include "gateway/http/server/exchange.h"
#include "gateway/http/server/request_parser.h"
#include "net/acceptor.h"
#include "net/tls_identity.h"

namespace coterie::gateway::http {

struct HttpServerOptions {
  std::string listen = "127.0.0.1:7080";  // port 0 picks one; empty: none
  // Names by which a listener on loopback is asked for, beside those that are its own: see HostCheck.
  std::vector<std::string> allowed_hosts;
  int threads = 2;  // that read, parse and write; more connections never mean more
  ParserLimits parser;
  // Of all request bodies that are held at once; a request beyond is refused with 503.
  int64_t max_bodies_bytes = int64_t{256} << 20;
  // From a request's first byte to the end of its head, and from there to the end of its body.
  absl::Duration head_timeout = absl::Seconds(10);
  absl::Duration body_timeout = absl::Seconds(60);
  // Between two requests on one connection.
  absl::Duration idle_timeout = absl::Seconds(75);
  // A client that takes nothing for so long is cut off.
  absl::Duration stall_timeout = absl::Minutes(2);
  // Of silence in an event stream, after which a comment keeps proxies from closing it.
  absl::Duration comment_interval = absl::Seconds(15);
  // Of an answer that waits in the kernel; what does not fit waits here, as tokens that earn no credit.
  int send_buffer_bytes = 256 << 10;
};

// HTTP/1.1 with keep-alive on accepted connections: a fixed number of threads, each with its own connections.
// What a request costs before it is answered is bounded in every direction: see HttpServerOptions and
// net::AcceptorOptions. Thread-safe.
class HttpServer {
 public:
  // Called on the connection's thread for every request that is one; must not wait.
  using Handler = std::function<void(std::shared_ptr<Exchange>)>;

  // AlreadyExists where the port is taken; InvalidArgument naming the option. `registry` outlives the server.
  // `tls`, where it is not null, has a certificate: the listener then speaks HTTPS alone.
  static StatusOr<std::unique_ptr<HttpServer>> Start(HttpServerOptions options,
                                                     net::AcceptorOptions connections, Handler handler,
                                                     MetricsRegistry* registry,
                                                     std::shared_ptr<net::TlsIdentity> tls = nullptr);
  // Cuts off what still runs. Exchanges may outlive it.
  virtual ~HttpServer() = default;

  virtual int port() const = 0;
  // From now on every answer ends its connection, and idle connections are closed.
  virtual void BeginDrain() = 0;
  // Closes the listener, and waits until the last answer is written, at most for `patience`; true if it was.
  virtual bool Drain(absl::Duration patience) = 0;
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_SERVER_HTTP_SERVER_H_
