#ifndef COTERIE_KERNELS_COMM_IN_PROCESS_RENDEZVOUS_H_
#define COTERIE_KERNELS_COMM_IN_PROCESS_RENDEZVOUS_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "kernels/comm/communicator.h"
#include "kernels/comm/rendezvous.h"

namespace coterie {

// What a rendezvous holds at most; more is refused with ResourceExhausted.
struct RendezvousLimits {
  size_t max_groups = 1024;
  size_t max_texts = size_t{4} * kMaxMembers;  // of a group
  size_t max_bytes = 64 << 20;                 // of all texts
  size_t max_waits = 4096;
  // A group that nobody has asked for so long goes. Longer than any call of a communicator: a member that is
  // lost in one is looked for here.
  absl::Duration idle_time = kMaxCommTimeout + absl::Minutes(10);
};

// Waits for a text without a thread.
class RendezvousWaiter {
 public:
  virtual ~RendezvousWaiter() = default;
  // At most once, on any thread, perhaps before Watch has returned; no lock of the rendezvous is held.
  virtual void Answer(StatusOr<std::string> text) = 0;
};

// For the threads of one process, and the store behind the one that other processes reach. Texts of a group's
// older epochs go when a newer one begins, the rest with Forget or when nobody asks any more.
class InProcessRendezvous : public Rendezvous {
 public:
  explicit InProcessRendezvous(RendezvousLimits limits = {}) : limits_(limits) {}
  // When nobody asks or waits any more.
  ~InProcessRendezvous() override;

  // Takes no time.
  Status Publish(const RendezvousKey& key, const std::string& text, MonotonicTime deadline,
                 const AbortFlag& abort) override;
  StatusOr<std::string> Await(const RendezvousKey& key, MonotonicTime deadline,
                              const AbortFlag& abort) override;

  // Answers `waiter` when the text is there, and when it will not come. Borrowed until then, or until Unwatch
  // has said true: it will not be answered any more.
  void Watch(const RendezvousKey& key, RendezvousWaiter* waiter);
  bool Unwatch(const std::string& group, RendezvousWaiter* waiter);

  // From here on Admit lets those in who know the group's token. AlreadyExists: it has one.
  Status Open(const std::string& group, const std::string& token);
  // PermissionDenied: no such group is open, or the token is another one (which of the two is not told).
  Status Admit(const std::string& group, const std::string& token);

  // The group is over, for those who wait as well; its name may be used again from any epoch on.
  void Forget(const std::string& group);

  size_t size() const;  // texts
  size_t n_waits() const;
  size_t n_groups() const;

 private:
  struct Group {
    std::string token;
    uint64_t epoch = 0;  // the newest
    MonotonicTime last_asked;
    std::map<std::pair<int, std::string>, std::string> texts;  // of that epoch, by rank and topic
    std::map<RendezvousWaiter*, RendezvousKey> waits;
  };
  using Groups = std::map<std::string, Group>;
  // To be given when the lock has been let go.
  using Answers = std::vector<std::pair<RendezvousWaiter*, StatusOr<std::string>>>;

  // The group, which begins with this where it must; groups that nobody asks for go first.
  StatusOr<Group*> Find(const std::string& group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Status PublishLocked(const RendezvousKey& key, const std::string& text, Answers* answers)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The text, or why it will not come; NotFound: not yet.
  StatusOr<std::string> WatchLocked(const RendezvousKey& key, RendezvousWaiter* waiter)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropTexts(Group* group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropIdle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const RendezvousLimits limits_;
  mutable Mutex mutex_;
  Groups groups_ ABSL_GUARDED_BY(mutex_);
  size_t n_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t n_waits_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_IN_PROCESS_RENDEZVOUS_H_
