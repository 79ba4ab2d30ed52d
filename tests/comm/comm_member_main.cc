// One member of a group over Gloo, as a process that a test can lose:
//   comm_member <server> <token> <group> <epoch> <rank> <members> <timeout in ms> <step> <signal>
// The rendezvous is at <server>, of member 0; with "serve" it is this process, which says at first where:
// "serves <address>". At its step of that number it says "reached" and sends itself the signal. Otherwise it
// ends with a line that says how it went.
#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>

#include "kernels/comm/gloo.h"
#include "net/grpc_time.h"
#include "tests/comm/script.h"
#include "worker/rendezvous/rendezvous_client.h"
#include "worker/rendezvous/rendezvous_service.h"

int main(int argc, char** argv) {
  using coterie::CommunicatorOptions;
  using coterie::Status;
  using coterie::StatusOr;
  if (argc != 10) return 2;
  const std::string server_address = argv[1], token = argv[2], group = argv[3];
  const absl::Duration timeout = absl::Milliseconds(std::atoi(argv[7]));
  const int lose_at = std::atoi(argv[8]), signal_number = std::atoi(argv[9]);

  coterie::worker::RendezvousServiceImpl service;
  std::unique_ptr<grpc::Server> server;
  std::shared_ptr<coterie::Rendezvous> rendezvous;
  if (server_address == "serve") {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service);
    server = builder.BuildAndStart();
    if (server == nullptr || !service.Open(group, token).ok()) return 3;
    rendezvous = service.local();
    std::printf("serves 127.0.0.1:%d\n", port);
    std::fflush(stdout);
  } else {
    rendezvous = std::make_shared<coterie::worker::RendezvousClient>(coterie::worker::RendezvousClientOptions{
        .address = server_address, .token = token, .server = "member 0 \"m0\""});
  }

  CommunicatorOptions options{.group = group,
                              .epoch = std::strtoull(argv[4], nullptr, 10),
                              .rank = std::atoi(argv[5]),
                              .form_timeout = timeout};
  for (int rank = 0; rank < std::atoi(argv[6]); ++rank) options.members.push_back(absl::StrCat("m", rank));
  int step = 0;
  options.on_step = [&](std::string_view) {
    if (step++ != lose_at) return;
    std::puts("reached");
    std::fflush(stdout);
    raise(signal_number);
  };
  Status status;
  {
    StatusOr<std::unique_ptr<coterie::Communicator>> member =
        coterie::CreateGlooCommunicator({.address = "127.0.0.1"}, rendezvous, options);
    status = member.ok() ? coterie::comm_testing::RunScript(member->get(), {.timeout = timeout},
                                                            coterie::comm_testing::AllocateOnHost)
                         : member.status();
  }
  std::puts(status.ToString().c_str());
  std::fflush(stdout);
  if (server != nullptr) server->Shutdown(coterie::net::GrpcDeadline(absl::ZeroDuration()));
}
