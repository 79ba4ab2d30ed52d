#ifndef COTERIE_WORKER_ENGINE_MASK_MAKER_H_
#define COTERIE_WORKER_ENGINE_MASK_MAKER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "common/constraint.h"
#include "common/mutex.h"
#include "common/status.h"
#include "kernels/sampling.h"
#include "model/grammar/token_matcher.h"

namespace coterie {

// Which tokens may come next in one answer. Belongs to the MaskMaker's threads while it is not ready, to the
// engine's thread while it is.
struct AnswerMasks {
  LateMask mask;  // `ready` says whose all of this is
  NextTokens next = NextTokens::kSome;
  Status status;  // with kNone: why there is none

  Constraint constraint;                  // until it was compiled
  std::vector<int32_t> resumed;           // tokens of the answer that came from elsewhere, until then
  int32_t token = -1;                     // the next one of the answer
  std::unique_ptr<TokenMatcher> matcher;  // null until it was compiled
  bool slow = false;                      // its last mask took long

  bool ready() const { return mask.ready.load(std::memory_order_acquire); }
};

// Makes masks beside the engine's steps. Two threads: one takes the tokens that were chosen and writes what
// may follow, a fraction of a millisecond each; one compiles constraints, which may take seconds, and serves
// answers whose masks take long (a regex of nested repetitions), so that they delay each other and nobody
// else. The engine's thread waits for neither: it leaves tokens by TryLock, and a step begins before its
// masks are there (RowSampling::late_mask).
class MaskMaker {
 public:
  // At most `max_answers` at a time. `wake` is called when masks have become ready, from either thread.
  // Borrows `source`.
  MaskMaker(MatcherSource* source, int vocab_size, int max_answers, std::function<void()> wake);
  // What waits is never made.
  ~MaskMaker();

  // Any thread. The first mask is made behind the tokens in `resumed`. ResourceExhausted when too many wait.
  StatusOr<std::shared_ptr<AnswerMasks>> Begin(Constraint constraint, std::span<const int32_t> resumed);

  // --- The engine's thread. ---
  // The answer's next token; its masks are ready, and are not from now on.
  void Next(const std::shared_ptr<AnswerMasks>& masks, int32_t token);
  // Hands over what Next was told since; unless it may wait, leaves it for the next time when somebody holds
  // the lock.
  void Flush(bool may_wait);

 private:
  using Queue = std::deque<std::shared_ptr<AnswerMasks>>;
  struct Lane {
    CondVar changed;
    Queue queue;  // under mutex_
    std::thread thread;
  };
  void Run(Lane* lane);
  std::shared_ptr<AnswerMasks> Take(Lane* lane);  // null: the end
  NextTokens Compile(AnswerMasks* masks);
  void Publish(AnswerMasks* masks, NextTokens next);

  MatcherSource* const source_;
  const int vocab_size_;
  const size_t max_answers_;
  const std::function<void()> wake_;

  std::vector<std::shared_ptr<AnswerMasks>> told_;  // the engine's thread: by Next, not handed over yet

  Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Lane quick_, slow_;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_MASK_MAKER_H_
