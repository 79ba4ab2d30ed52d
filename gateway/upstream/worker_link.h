#ifndef COTERIE_GATEWAY_UPSTREAM_WORKER_LINK_H_
#define COTERIE_GATEWAY_UPSTREAM_WORKER_LINK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/shared_secret.h"
#include "gateway/runtime/timer_queue.h"
#include "gateway/runtime/work_pool.h"
#include "gateway/upstream/outlier_watch.h"
#include "gateway/upstream/sequence_home.h"
#include "gateway/upstream/stream_threads.h"
#include "gateway/upstream/worker_board.h"
#include "gateway/upstream/worker_info.h"
#include "net/tls_identity.h"

namespace coterie::gateway {

struct WorkerLinkOptions {
  std::string gateway_id;  // stable over the life of this process
  Digest base;             // what the gateway tokenises and routes for; a worker with another one is refused
  Digest tokenizer;
  absl::Duration heartbeat_interval = absl::Milliseconds(500);
  // A worker that said nothing for so long (killed, stopped, cut off) is lost.
  absl::Duration silence_timeout = absl::Seconds(3);
  // After a mere loss of the connection: how long its sequences wait for it to come back. The worker's own
  // grace time, when shorter, counts instead; and none is given where its port refuses a new connection,
  // since then the process is gone.
  absl::Duration reattach_grace = absl::Milliseconds(1500);
  absl::Duration min_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(2);
  absl::Duration refused_retry = absl::Seconds(5);  // it may be replaced by one that fits
  size_t max_outgoing = 4096;                       // messages waiting for the connection
  std::string stream_key;                           // drawn once by this process, told to workers alone
  // How it shows itself to workers, and which of them it believes; null: no TLS.
  std::shared_ptr<net::TlsIdentity> tls;
  std::string tls_name;  // that workers' certificates are for; empty: the address's own host
  std::shared_ptr<SharedSecret>
      secret;                      // that workers and we prove that we know; null: nobody proves anything
  OutlierWatch::Options outliers;  // when a worker that flaps is ejected
};

// The stream between this gateway and one worker: keeps it up, takes it up again, and tells apart a lost
// connection (re-attached within the grace time) from a lost worker (silent, gone or replaced). Whoever
// follows a sequence hears of a lost worker on the placement pool: placing hundreds of them again must not
// hold the threads that carry heartbeats. Thread-safe.
class WorkerLink : public SequenceHome {
 public:
  static std::shared_ptr<WorkerLink> Start(const WorkerLinkOptions& options, std::string address,
                                           TimerQueue* timers, StreamThreads* streams,
                                           std::shared_ptr<WorkPool> placement_pool,
                                           std::shared_ptr<WorkerBoard> board);
  // Says that a request for `adapter` is on its way; the worker loads it where that delays nobody. A hint:
  // nothing waits for it, and it is left out (false) when the worker has the adapter or was just asked for
  // it, when too many are on their way there (WorkerStateFold), and when the worker is not ready.
  virtual bool Prefetch(const Digest& adapter) = 0;
  virtual WorkerReport Report() const = 0;
  virtual bool Holds(const Digest& adapter) const = 0;
  virtual size_t sequences() const = 0;
  virtual const std::string& address() const = 0;
  // Numeric, as the stream has it: "10.0.0.3:7601", "[fd00::3]:7601". Empty while there is none.
  virtual std::string numeric_address() const = 0;

  // Ends the stream for good; its sequences are lost with `why`, as planned.
  virtual void Stop(const Status& why) = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_WORKER_LINK_H_
