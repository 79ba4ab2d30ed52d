#ifndef COTERIE_GATEWAY_UPSTREAM_STREAM_THREADS_H_
#define COTERIE_GATEWAY_UPSTREAM_STREAM_THREADS_H_

#include <grpcpp/completion_queue.h>

#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/mutex.h"

namespace coterie::gateway {

// The threads that carry the streams to workers, and these alone. gRPC's own callback threads, two of them on
// a small machine, serve clients in the order in which they come: a thousand calls opened and broken off at
// once would stand before every heartbeat and every token. Thread-safe; outlives its streams.
class StreamThreads {
 public:
  // One thing that a stream has begun (a read, a write): its tag in the queue.
  class Operation {
   public:
    // Called once on one of the threads when it is over, with gRPC's `ok`.
    virtual void Over(bool ok) = 0;

   protected:
    ~Operation() = default;
  };

  StreamThreads();
  ~StreamThreads();  // waits for every operation that has begun
  StreamThreads(const StreamThreads&) = delete;
  StreamThreads& operator=(const StreamThreads&) = delete;

  grpc::CompletionQueue* queue() { return &queue_; }

  // A stream counts itself.
  void Born();
  void Gone();
  // False when `timeout` passed and some are left.
  bool WaitForAll(absl::Duration timeout);

 private:
  void Run();

  grpc::CompletionQueue queue_;
  std::vector<std::thread> threads_;
  Mutex mutex_;
  CondVar none_;
  int n_alive_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_STREAM_THREADS_H_
