#ifndef COTERIE_KERNELS_COMM_NCCL_COMMUNICATOR_H_
#define COTERIE_KERNELS_COMM_NCCL_COMMUNICATOR_H_

#include <memory>
#include <string>

#include "kernels/comm/communicator.h"
#include "kernels/comm/nccl_abi.h"
#include "kernels/comm/rendezvous.h"

namespace coterie {

// See nccl.h. The NCCL communicator is non-blocking: every function of NCCL returns at once, on the thread
// that called us, which then asks how far it is until the deadline. So Abort() needs no second thread inside
// NCCL.
class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(const nccl::Calls& calls, std::shared_ptr<Rendezvous> rendezvous,
                   CommunicatorOptions options)
      : Communicator(std::move(options)), calls_(calls), rendezvous_(std::move(rendezvous)) {}
  ~NcclCommunicator() override;

  CommCapabilities capabilities() const override { return {.backend = "nccl", .device_memory = true}; }
  // The members have met; forms the group.
  Status Init(MonotonicTime deadline);

 protected:
  std::optional<Loss> Run(const Call& call) override;
  void Leave(const Loss& why) override;

 private:
  nccl::Result Enqueue(const Call& call);
  // Asks NCCL until what was begun (`begun` is what the function said) is done; and, with an event, the
  // device.
  std::optional<Loss> WaitUntilDone(nccl::Result begun, bool on_device, absl::Duration timeout,
                                    MonotonicTime deadline);
  // Who is lost, by the others' notes, where NCCL and its device do not say.
  Loss Blame(const Loss& loss);
  Loss DeviceFailure(int error) const;
  std::string LastWords() const;  // NCCL's own of an error, in brackets

  const nccl::Calls calls_;
  const std::shared_ptr<Rendezvous> rendezvous_;
  nccl::Comm comm_ = nullptr;
  nccl::Event event_ = nullptr;
  bool recorded_ = false;  // the event stands behind a call in a stream
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_NCCL_COMMUNICATOR_H_
