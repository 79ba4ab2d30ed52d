#ifndef COTERIE_WORKER_ENGINE_PEER_TRAFFIC_H_
#define COTERIE_WORKER_ENGINE_PEER_TRAFFIC_H_

#include <atomic>
#include <cstdint>

namespace coterie {

// Bytes this worker has sent to other workers. Whatever carries bytes between workers is given this counter
// and adds to it where it hands them to its transport; there is no other way out of a worker to a worker. On
// the introvert path nothing does, and the metric stays at zero. Thread-safe.
class PeerTraffic {
 public:
  void AddSent(uint64_t n_bytes) { bytes_.fetch_add(n_bytes, std::memory_order_relaxed); }
  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> bytes_{0};
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_PEER_TRAFFIC_H_
