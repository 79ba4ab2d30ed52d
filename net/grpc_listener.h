#ifndef COTERIE_NET_GRPC_LISTENER_H_
#define COTERIE_NET_GRPC_LISTENER_H_

#include <memory>
#include <string>

#include "common/metrics.h"
#include "common/status.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "net/connection_flags.h"
#include "net/http2_protocol.h"

namespace coterie::net {

struct GrpcListenerOptions {
  std::string address;  // host:port
  AcceptorOptions connections;
  // Null: no encryption.
  std::shared_ptr<grpc::ServerCredentials> credentials;
  ResetLimits resets;  // of each connection
};

// A gRPC server whose connections we accept: the one way in which the gateway and the workers listen.
// Thread-safe where grpc::Server is.
class GrpcListener {
 public:
  // `builder` has its services and limits, and no port. AlreadyExists where the port is taken. `registry`
  // may be null.
  static StatusOr<std::unique_ptr<GrpcListener>> Start(grpc::ServerBuilder* builder,
                                                       GrpcListenerOptions options,
                                                       MetricsRegistry* registry);
  // Cuts off what still runs, and waits for the end of every call.
  ~GrpcListener();
  GrpcListener(const GrpcListener&) = delete;
  GrpcListener& operator=(const GrpcListener&) = delete;

  // Takes no more connections or calls, and gives those that run this long. Later calls do nothing; not from
  // two threads at once.
  void Shutdown(absl::Duration patience);
  grpc::Server* server() const { return server_.get(); }
  int port() const { return acceptor_->port(); }

 private:
  GrpcListener() = default;

  std::shared_ptr<grpc::ServerCredentials> credentials_;  // gRPC's core asks them at every handshake
  std::unique_ptr<Http2Protocol> protocol_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_GRPC_LISTENER_H_
