#include "worker/worker_server.h"

#include <algorithm>

#include "grpcpp/health_check_service_interface.h"
#include "net/tls_credentials.h"

namespace coterie::worker {
namespace {

// Ids take at most four bytes each in a Submit; the rest of it, and of Reattach with its list of sequences, a
// few hundred kilobytes. One that is too long by a little is refused by the engine, with the limit's name.
int MaxMessageBytes(int max_sequence_tokens) {
  constexpr int64_t kRest = 4 << 20;
  return static_cast<int>(std::min<int64_t>(kRest + int64_t{8} * max_sequence_tokens, 1 << 30));
}

}  // namespace

StatusOr<std::unique_ptr<WorkerServer>> WorkerServer::Start(
    const std::string& address, WorkerServiceImpl* service, int max_sequence_tokens,
    const net::ConnectionFlags& connections, MetricsRegistry* registry, std::shared_ptr<net::TlsIdentity> tls,
    grpc::Service* beside) {
  std::unique_ptr<WorkerServer> server(new WorkerServer(service, registry));
  grpc::ServerBuilder builder;
  builder.RegisterService(service);
  if (beside != nullptr) builder.RegisterService(beside);
  server->standard_.Register(&builder);
  builder.SetMaxReceiveMessageSize(MaxMessageBytes(max_sequence_tokens));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 256);
  ASSIGN_OR_RETURN(net::AcceptorOptions places, connections.Resolve("worker"));
  net::GrpcListenerOptions listener{address, std::move(places), nullptr, {}};
  if (tls != nullptr) listener.credentials = net::TlsServerCredentials(std::move(tls));
  ASSIGN_OR_RETURN(server->listener_, net::GrpcListener::Start(&builder, std::move(listener), registry));
  for (const char* name : {"", "coterie.v1.WorkerService"}) {
    server->listener_->server()->GetHealthCheckService()->SetServingStatus(name, true);
  }
  return server;
}

int WorkerServer::Drain(absl::Duration timeout) {
  listener_->server()->GetHealthCheckService()->SetServingStatus(false);
  return service_->Drain(timeout);
}

int WorkerServer::HandOver(const Status& why, absl::Duration timeout) {
  listener_->server()->GetHealthCheckService()->SetServingStatus(false);
  return service_->HandOver(why, timeout);
}

WorkerServer::~WorkerServer() {
  if (listener_ == nullptr) return;
  service_->EndStreams();
  // A peer that does not take the end of its stream must not keep us.
  listener_->Shutdown(absl::Seconds(1));
}

}  // namespace coterie::worker
