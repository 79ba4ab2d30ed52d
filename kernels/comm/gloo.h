#ifndef COTERIE_KERNELS_COMM_GLOO_H_
#define COTERIE_KERNELS_COMM_GLOO_H_

#include <memory>
#include <string>

#include "kernels/comm/communicator.h"
#include "kernels/comm/rendezvous.h"

namespace coterie {

struct GlooOptions {
  // Where the other members reach this one: an IPv4 or IPv6 address of this machine (names are not looked up,
  // since nothing bounds how long that takes).
  std::string address;
};

// A member of a group of processes, over TCP; Gloo carries the messages. Ports are the system's choice.
// Anybody who reaches them can disturb a group, and Gloo trusts what it reads: for networks of one's own.
// Forming takes about 10 ms for each other member (Gloo's loop). Unimplemented where the build found no Gloo.
StatusOr<std::unique_ptr<Communicator>> CreateGlooCommunicator(const GlooOptions& gloo,
                                                               std::shared_ptr<Rendezvous> rendezvous,
                                                               CommunicatorOptions options);

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_GLOO_H_
