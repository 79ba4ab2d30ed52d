#include "net/standard_services.h"

#include <google/protobuf/stubs/logging.h>
#include <grpcpp/health_check_service_interface.h>

#include <mutex>
#include <utility>

namespace coterie::net {
namespace {

void PrepareProcess() {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    // It writes a line to standard error for every message that does not parse: a client could fill the log.
    // The client is told instead (received.h).
    google::protobuf::SetLogHandler(nullptr);
  });
}

}  // namespace

StandardServices::StandardServices(std::vector<std::string> services, MetricsRegistry* registry)
    : bad_calls_(registry),
      reflection_(std::move(services), &bad_calls_),
      unknown_methods_(reflection_.services(), &bad_calls_) {}

void StandardServices::Register(grpc::ServerBuilder* builder) {
  PrepareProcess();
  builder->RegisterService(&reflection_);
  builder->RegisterCallbackGenericService(&unknown_methods_);
}

}  // namespace coterie::net
