#include "net/grpc_listener.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "net/grpc_time.h"

namespace coterie::net {

StatusOr<std::unique_ptr<GrpcListener>> GrpcListener::Start(grpc::ServerBuilder* builder,
                                                            GrpcListenerOptions options,
                                                            MetricsRegistry* registry) {
  // First, so that a port that is taken is told before anything runs.
  ASSIGN_OR_RETURN(ListenSockets sockets, Listen(options.address));
  const bool tls = options.credentials != nullptr;
  if (!tls) options.credentials = grpc::InsecureServerCredentials();
  std::unique_ptr<GrpcListener> listener(new GrpcListener());
  listener->credentials_ = options.credentials;
  listener->protocol_ = std::make_unique<Http2Protocol>(
      builder->experimental().AddExternalConnectionAcceptor(
          grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, options.credentials),
      tls, options.resets);
  listener->protocol_->set_port(sockets.port);
  // From the first words to HTTP/2's settings, a TLS handshake included.
  builder->AddChannelArgument(
      GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
      static_cast<int>(absl::ToInt64Milliseconds(options.connections.silent_timeout)));
  listener->server_ = builder->BuildAndStart();
  if (listener->server_ == nullptr) {
    return absl::InternalError(absl::StrCat("gRPC does not start a server for ", options.address));
  }
  ASSIGN_OR_RETURN(listener->acceptor_, Acceptor::Start(std::move(sockets), std::move(options.connections),
                                                        listener->protocol_.get(), registry));
  return listener;
}

GrpcListener::~GrpcListener() {
  Shutdown(absl::ZeroDuration());
  server_.reset();  // waits for every call's end
  acceptor_.reset();
}

void GrpcListener::Shutdown(absl::Duration patience) {
  // In this order: gRPC forgets to close a connection that comes after its end.
  if (acceptor_ != nullptr) acceptor_->Stop();
  if (server_ != nullptr) server_->Shutdown(GrpcDeadline(patience));
}

}  // namespace coterie::net
