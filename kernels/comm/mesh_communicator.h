#ifndef COTERIE_KERNELS_COMM_MESH_COMMUNICATOR_H_
#define COTERIE_KERNELS_COMM_MESH_COMMUNICATOR_H_

#include <memory>
#include <string_view>
#include <vector>

#include "kernels/comm/communicator.h"
#include "kernels/comm/device_staging.h"
#include "kernels/comm/transport.h"

namespace coterie {

// The calls, over a transport by which each member reaches each. Everybody sends to everybody directly: gangs
// are small, so one hop takes least time; the member that does not answer is the one that is waited for, so
// it can be named; and sums have one order (reduce.h). A ring or a tree would move no fewer bytes per member
// in a large AllReduce, and takes more hops.
class MeshCommunicator : public Communicator {
 public:
  // Up to so many bytes AllReduce sends whole inputs and every member sums: one hop. Above, each member sums
  // a part and sends the sums: two hops, 2 (n - 1) / n of the bytes.
  static constexpr size_t kOneHopBytes = 16 << 10;

  MeshCommunicator(CommunicatorOptions options, CommCapabilities capabilities,
                   std::unique_ptr<Transport> transport);
  ~MeshCommunicator() override;

  CommCapabilities capabilities() const override;
  // The first messages: every member hears from every other that it is who it should be.
  std::optional<Loss> SayHello(MonotonicTime deadline);

 protected:
  std::optional<Loss> Run(const Call& call) override;
  void Leave(const Loss& why) override;

 private:
  std::optional<Loss> RunKind(const Call& call);
  // With device memory: the same call on the host, between two copies.
  std::optional<Loss> RunStaged(const Call& call);
  std::optional<Loss> AllGatherBytes(const Call& call);
  std::optional<Loss> AllReduceOneHop(const Call& call);
  std::optional<Loss> AllReduceTwoHops(const Call& call);
  std::optional<Loss> BroadcastBytes(const Call& call);
  // One round of `transfers_`; clears it.
  std::optional<Loss> Exchange(const Call& call, uint8_t phase);

  const CommCapabilities capabilities_;
  const uint64_t group_hash_;
  std::unique_ptr<Transport> transport_;
  const std::unique_ptr<DeviceStaging> staging_;  // where the options name a driver
  bool left_ = false;
  // Kept from call to call, so that calls of one size allocate nothing here.
  std::vector<Transfer> transfers_;
  std::vector<std::byte> received_;
  std::vector<const std::byte*> sources_;  // [size]
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_MESH_COMMUNICATOR_H_
