#ifndef COTERIE_GATEWAY_UPSTREAM_WORKER_DIRECTORY_H_
#define COTERIE_GATEWAY_UPSTREAM_WORKER_DIRECTORY_H_

#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace coterie::gateway {

// Where the workers are: a list "host:port,host:port", or "dns:///name:port", a name whose every address is a
// worker (a headless Service). Immutable and thread-safe.
class WorkerDirectory {
 public:
  static constexpr size_t kMaxWorkers = 1024;

  // InvalidArgument naming the entry that is malformed, or twice there.
  static StatusOr<WorkerDirectory> Parse(std::string_view text);

  // The addresses "host:port" of this moment, sorted. A list answers at once; a name asks the system's
  // resolver, which may take seconds: never call it where a stream waits. Unavailable, naming the name, when
  // it is not known.
  StatusOr<std::vector<std::string>> Resolve() const;

  bool changes() const { return !name_.empty(); }
  std::string ToString() const;

 private:
  std::vector<std::string> addresses_;
  std::string name_;  // empty for a list
  std::string port_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_WORKER_DIRECTORY_H_
