#ifndef COTERIE_KERNELS_DEVICES_BOUNDED_CALL_H_
#define COTERIE_KERNELS_DEVICES_BOUNDED_CALL_H_

#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "common/mutex.h"

namespace coterie::devices {

// What `call` returns, on a thread of its own, or nothing where it takes longer than `timeout`: it then goes
// on without anybody waiting, perhaps for ever, so it must own all it uses. A driver whose device is gone may
// never return.
template <typename Call>
auto CallWithin(absl::Duration timeout, Call call) -> std::optional<decltype(call())> {
  using Result = decltype(call());
  struct Shared {
    Mutex mutex;
    CondVar done;
    std::optional<Result> result ABSL_GUARDED_BY(mutex);
  };
  auto shared = std::make_shared<Shared>();
  std::thread([shared, call = std::move(call)]() mutable {
    Result result = call();
    MutexLock lock(&shared->mutex);
    shared->result = std::move(result);
    shared->done.Signal();
  }).detach();
  MutexLock lock(&shared->mutex);
  const MonotonicTime deadline = MonotonicNow() + timeout;
  while (!shared->result && shared->done.WaitUntil(&shared->mutex, deadline)) {
  }
  return std::exchange(shared->result, std::nullopt);
}

}  // namespace coterie::devices

#endif  // COTERIE_KERNELS_DEVICES_BOUNDED_CALL_H_
