#ifndef COTERIE_GATEWAY_UPSTREAM_LINK_SEQUENCES_H_
#define COTERIE_GATEWAY_UPSTREAM_LINK_SEQUENCES_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "gateway/upstream/sequence_observer.h"

namespace coterie::v1 {
class Reattach;
}

namespace coterie::gateway {

// Those to be told of something, once the link's lock is released.
using Observed = std::vector<std::pair<uint64_t, std::shared_ptr<SequenceObserver>>>;

// The sequences that one link has on its worker: who follows each, what has come of it, and what the worker
// may still send. Not thread-safe: the link's lock guards it.
class LinkSequences {
 public:
  void Add(uint64_t id, const SequenceRequest& request, std::shared_ptr<SequenceObserver> observer);
  // False for an id that is not here.
  bool Remove(uint64_t id);
  bool Grant(uint64_t id, uint32_t tokens);
  size_t size() const { return entries_.size(); }
  // Those that may send something: the others are paused until their readers have taken what came, and take
  // no part in the worker's steps.
  size_t n_active() const { return n_active_; }

  // Who follows the sequence of `output`, whose position is noted; it is forgotten once it has finished. Null
  // for one that was given up before.
  std::shared_ptr<SequenceObserver> Follow(const SequenceOutput& output);

  Observed All() const;
  // Likewise, and forgets them.
  Observed TakeAll();
  // Writes into *message where each stands, after the connection came back. The result are those that go on;
  // *start_over gets those that cannot, and are forgotten here.
  Observed Reattach(v1::Reattach* message, Observed* start_over);

 private:
  struct Entry {
    std::shared_ptr<SequenceObserver> observer;
    uint32_t next_position = 0;
    uint32_t credit_until = 0;  // position up to which the worker may send
    // Log-probabilities of the prompt carry no position: nobody could say which were lost with a connection.
    bool starts_over = false;

    bool active() const { return next_position < credit_until; }
  };
  absl::flat_hash_map<uint64_t, Entry> entries_;
  size_t n_active_ = 0;  // entries that are active: asked for with every message
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_LINK_SEQUENCES_H_
