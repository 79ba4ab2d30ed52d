#ifndef COTERIE_KERNELS_COMM_IN_PROCESS_RENDEZVOUS_H_
#define COTERIE_KERNELS_COMM_IN_PROCESS_RENDEZVOUS_H_

#include <map>
#include <string>

#include "common/mutex.h"
#include "kernels/comm/rendezvous.h"

namespace coterie {

// For the threads of one process, and the store behind the one that other processes reach. Texts of a group's
// older epochs go when a newer one begins, the rest with Forget.
class InProcessRendezvous : public Rendezvous {
 public:
  Status Publish(const RendezvousKey& key, const std::string& text) override;
  StatusOr<std::string> Await(const RendezvousKey& key, MonotonicTime deadline,
                              const AbortFlag& abort) override;
  // The group is over; its name may be used again from any epoch on.
  void Forget(const std::string& group);
  size_t size() const;

 private:
  Status CheckEpoch(const RendezvousKey& key) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  CondVar published_;
  std::map<RendezvousKey, std::string> texts_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> newest_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_IN_PROCESS_RENDEZVOUS_H_
