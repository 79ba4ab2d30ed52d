#ifndef COTERIE_TESTS_COMM_SERVED_RENDEZVOUS_H_
#define COTERIE_TESTS_COMM_SERVED_RENDEZVOUS_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "common/check.h"
#include "net/grpc_time.h"
#include "worker/rendezvous/rendezvous_client.h"
#include "worker/rendezvous/rendezvous_service.h"

namespace coterie::comm_testing {

// A rendezvous behind a port of this machine.
class ServedRendezvous {
 public:
  // 0: whichever port is free.
  explicit ServedRendezvous(RendezvousLimits limits = {}, int port = 0) : service_(limits) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port), grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    COTERIE_CHECK(server_ != nullptr) << "no server on port " << port;
  }
  ~ServedRendezvous() { server_->Shutdown(net::GrpcDeadline(absl::ZeroDuration())); }

  worker::RendezvousServiceImpl& service() { return service_; }
  int port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  std::shared_ptr<worker::RendezvousClient> Client(const std::string& token) const {
    return std::make_shared<worker::RendezvousClient>(
        worker::RendezvousClientOptions{.address = address(), .token = token, .server = "member 0 \"m0\""});
  }

 private:
  worker::RendezvousServiceImpl service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace coterie::comm_testing

#endif  // COTERIE_TESTS_COMM_SERVED_RENDEZVOUS_H_
