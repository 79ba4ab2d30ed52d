#ifndef COTERIE_KERNELS_COMM_NCCL_H_
#define COTERIE_KERNELS_COMM_NCCL_H_

#include <memory>
#include <string>

#include "kernels/comm/communicator.h"
#include "kernels/comm/nccl_abi.h"
#include "kernels/comm/rendezvous.h"

namespace coterie {

// NCCL's and the CUDA driver's functions, from the libraries of this machine, which stay loaded: a binary
// starts without them. Unavailable, naming the library or the function, where one is missing; Unimplemented
// where the build is without NCCL. `library`: a path, or "" for libnccl.so.2 where the loader finds it.
StatusOr<nccl::Calls> LoadNccl(const std::string& library = "");

// A member whose buffers are on the current device of the calling thread; every call is made with that device
// current. All members must have one version of NCCL. Order of sums: NCCL's own. Members that call different
// things are not told so: the deadline ends such a call. An empty call does not wait for the others.
//
// NCCL does not say which member it misses. So each member that fails leaves a note in the rendezvous and
// reads the others' (notes.h): whoever left none within kNoteTime more is named. Calls that wait look for
// notes now and then, so that a member that has aborted ends the others' calls, too.
StatusOr<std::unique_ptr<Communicator>> CreateNcclCommunicator(const nccl::Calls& calls,
                                                               std::shared_ptr<Rendezvous> rendezvous,
                                                               CommunicatorOptions options);

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_NCCL_H_
