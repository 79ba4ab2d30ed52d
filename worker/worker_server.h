#ifndef COTERIE_WORKER_WORKER_SERVER_H_
#define COTERIE_WORKER_WORKER_SERVER_H_

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "common/status.h"
#include "grpcpp/grpcpp.h"
#include "net/grpc_listener.h"
#include "net/standard_services.h"
#include "net/tls_identity.h"
#include "worker/service/worker_service.h"

namespace coterie::worker {

// A WorkerServiceImpl behind a gRPC port, with health (grpc.health.v1, per service and for "") and
// reflection.
class WorkerServer {
 public:
  // `service` is borrowed, and so is `registry`, which may be null. AlreadyExists or InvalidArgument, naming
  // the address, when it cannot be had. `beside`: another service on the same port, borrowed.
  // `max_sequence_tokens`: what a Submit may bring along decides how
  // large a message may be.
  static StatusOr<std::unique_ptr<WorkerServer>> Start(const std::string& address, WorkerServiceImpl* service,
                                                       int max_sequence_tokens,
                                                       const net::ConnectionFlags& connections = {},
                                                       MetricsRegistry* registry = nullptr,
                                                       std::shared_ptr<net::TlsIdentity> tls = nullptr,
                                                       grpc::Service* beside = nullptr);
  // Ends every call at once; Drain first for a gentle end.
  ~WorkerServer();

  int port() const { return listener_->port(); }
  // NOT_SERVING, no new sequences; these return as the two of WorkerServiceImpl do.
  int Drain(absl::Duration timeout);
  int HandOver(const Status& why, absl::Duration timeout);

 private:
  WorkerServer(WorkerServiceImpl* service, MetricsRegistry* registry)
      : service_(service), standard_({v1::WorkerService::service_full_name()}, registry) {}

  WorkerServiceImpl* const service_;
  net::StandardServices standard_;
  std::unique_ptr<net::GrpcListener> listener_;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_WORKER_SERVER_H_
