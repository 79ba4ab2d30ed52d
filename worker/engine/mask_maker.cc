#include "worker/engine/mask_maker.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/clock.h"
#include "kernels/batch.h"

namespace coterie {

MaskMaker::MaskMaker(MatcherSource* source, int vocab_size, int max_answers, std::function<void()> wake)
    : source_(source),
      vocab_size_(vocab_size),
      max_answers_(static_cast<size_t>(max_answers)),
      wake_(std::move(wake)) {
  told_.reserve(max_answers_);
  for (Lane* lane : {&quick_, &slow_}) lane->thread = std::thread([this, lane] { Run(lane); });
}

MaskMaker::~MaskMaker() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    for (Lane* lane : {&quick_, &slow_}) lane->changed.SignalAll();
  }
  for (Lane* lane : {&quick_, &slow_}) lane->thread.join();
}

StatusOr<std::shared_ptr<AnswerMasks>> MaskMaker::Begin(Constraint constraint,
                                                        std::span<const int32_t> resumed) {
  auto masks = std::make_shared<AnswerMasks>();
  masks->constraint = std::move(constraint);
  masks->resumed.assign(resumed.begin(), resumed.end());
  masks->mask.words.resize(static_cast<size_t>(MaskWords(vocab_size_)));
  MutexLock lock(&mutex_);
  if (slow_.queue.size() >= max_answers_) {
    return absl::ResourceExhaustedError(
        absl::StrCat(max_answers_, " constraints wait to be compiled here; try again later"));
  }
  slow_.queue.push_back(masks);
  slow_.changed.Signal();
  return masks;
}

void MaskMaker::Next(const std::shared_ptr<AnswerMasks>& masks, int32_t token) {
  COTERIE_CHECK(masks->ready()) << "a token chosen without a mask";
  masks->token = token;
  masks->mask.ready.store(false, std::memory_order_relaxed);  // handed over under the lock
  told_.push_back(masks);
}

void MaskMaker::Flush(bool may_wait) {
  if (told_.empty()) return;
  if (may_wait) {
    mutex_.Lock();
  } else if (!mutex_.TryLock()) {
    return;
  }
  for (std::shared_ptr<AnswerMasks>& masks : told_) {
    Lane& lane = masks->slow ? slow_ : quick_;
    lane.queue.push_back(std::move(masks));
    lane.changed.Signal();
  }
  mutex_.Unlock();
  told_.clear();
}

void MaskMaker::Run(Lane* lane) {
  constexpr absl::Duration kLong = absl::Milliseconds(5);
  while (const std::shared_ptr<AnswerMasks> masks = Take(lane)) {
    if (masks->matcher == nullptr) {
      Publish(masks.get(), Compile(masks.get()));
      continue;
    }
    const MonotonicTime begun = MonotonicNow();
    const bool accepted = masks->matcher->Accept(masks->token);
    const NextTokens next = accepted ? masks->matcher->Fill(masks->mask.words) : NextTokens::kNone;
    masks->slow = MonotonicNow() - begun > kLong;
    Publish(masks.get(), next);
  }
}

std::shared_ptr<AnswerMasks> MaskMaker::Take(Lane* lane) {
  MutexLock lock(&mutex_);
  for (;;) {
    while (!stopping_ && lane->queue.empty()) lane->changed.Wait(&mutex_);
    if (stopping_) return nullptr;
    std::shared_ptr<AnswerMasks> masks = std::move(lane->queue.front());
    lane->queue.pop_front();
    if (masks.use_count() > 1) return masks;  // else its sequence has ended meanwhile
  }
}

NextTokens MaskMaker::Compile(AnswerMasks* masks) {
  auto matcher = source_->Make(std::exchange(masks->constraint, {}));
  if (!matcher.ok()) {
    masks->status = matcher.status();
    return NextTokens::kNone;
  }
  masks->matcher = *std::move(matcher);
  for (const int32_t token : masks->resumed) {
    if (masks->matcher->Accept(token)) continue;
    masks->status =
        absl::InvalidArgumentError("the tokens to resume from are not what the constraint allows");
    return NextTokens::kNone;
  }
  return masks->matcher->Fill(masks->mask.words);
}

void MaskMaker::Publish(AnswerMasks* masks, NextTokens next) {
  masks->next = next;
  if (next == NextTokens::kNone && masks->status.ok()) {
    masks->status = absl::FailedPreconditionError(
        "this model's vocabulary has no token for what the constraint asks for next; loosen the constraint");
  }
  masks->mask.ready.store(true, std::memory_order_release);
  wake_();
}

}  // namespace coterie
