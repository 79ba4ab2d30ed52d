#ifndef COTERIE_COMMON_REPEATED_CALL_H_
#define COTERIE_COMMON_REPEATED_CALL_H_

#include <functional>
#include <thread>

#include "absl/time/time.h"
#include "common/mutex.h"

namespace coterie {

// Calls something on a thread of its own, a period after its start and after each call's end. The destructor
// waits for a call under way; none follows it. For a last member, that the rest be there in each call.
class RepeatedCall {
 public:
  RepeatedCall(absl::Duration period, std::function<void()> call);
  ~RepeatedCall();
  RepeatedCall(const RepeatedCall&) = delete;
  RepeatedCall& operator=(const RepeatedCall&) = delete;

 private:
  void Run();

  const absl::Duration period_;
  const std::function<void()> call_;
  Mutex mutex_;
  CondVar wake_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace coterie

#endif  // COTERIE_COMMON_REPEATED_CALL_H_
