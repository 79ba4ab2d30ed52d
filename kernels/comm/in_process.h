#ifndef COTERIE_KERNELS_COMM_IN_PROCESS_H_
#define COTERIE_KERNELS_COMM_IN_PROCESS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "common/mutex.h"
#include "kernels/comm/communicator.h"
#include "kernels/comm/rendezvous.h"

namespace coterie {

class InProcessRoom;

// Connects the threads of one process, which share it. Thread-safe. Holds nothing of groups whose
// communicators are gone.
class InProcessNetwork {
 public:
  std::shared_ptr<InProcessRoom> Join(const CommunicatorOptions& options);

 private:
  Mutex mutex_;
  std::map<std::pair<std::string, uint64_t>, std::weak_ptr<InProcessRoom>> rooms_ ABSL_GUARDED_BY(mutex_);
};

// Members are threads of one process; each calls this. Messages are copied once, from the sender's buffer to
// the receiver's.
StatusOr<std::unique_ptr<Communicator>> CreateInProcessCommunicator(std::shared_ptr<InProcessNetwork> network,
                                                                    std::shared_ptr<Rendezvous> rendezvous,
                                                                    CommunicatorOptions options);

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_IN_PROCESS_H_
