#ifndef COTERIE_GATEWAY_ANSWER_REQUEST_LOG_H_
#define COTERIE_GATEWAY_ANSWER_REQUEST_LOG_H_

#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/log_allowance.h"
#include "common/mutex.h"
#include "common/status.h"

namespace coterie::gateway {

// Logs what went wrong with requests, by the trace ids that whoever asks about one knows: of each kind a line
// a second at most. Thread-safe.
class RequestLog {
 public:
  // A request ended with `status`; a line where that is not its client's doing.
  void Ended(const char* rpc, const Status& status, MonotonicTime now);
  // An answer continues on `worker` since another one was lost, or on the same one over a new connection.
  void Moved(std::string_view worker, std::string_view why, MonotonicTime now);

 private:
  static constexpr absl::Duration kInterval = absl::Seconds(1);

  Mutex mutex_;
  LogAllowance failures_ ABSL_GUARDED_BY(mutex_){kInterval};
  LogAllowance moves_ ABSL_GUARDED_BY(mutex_){kInterval};
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_REQUEST_LOG_H_
