#ifndef COTERIE_WORKER_SERVICE_SPEED_METER_H_
#define COTERIE_WORKER_SERVICE_SPEED_METER_H_

#include <cstdint>

#include "worker/engine/adapter_store.h"
#include "worker/engine/engine.h"

namespace coterie::v1 {
class WorkerState;
}

namespace coterie::worker {

// How much of one thing came with how much of another of late: sums that forget, so that a pause changes
// nothing and one odd value little.
class RecentRatio {
 public:
  // About the last `window` of the divisor count; nothing is said before `least` of it came.
  RecentRatio(double least, double window) : least_(least), window_(window) {}

  void Add(double amount, double divisor);
  // 0 while too little was seen.
  double value() const { return divisor_ < least_ ? 0 : amount_ / divisor_; }

 private:
  const double least_, window_;
  double amount_ = 0, divisor_ = 0;
};

// What a worker achieves, for its state messages: what placement would otherwise have to assume. Not
// thread-safe.
class SpeedMeter {
 public:
  // Takes what the engine's counters gained since the last call.
  void Read(const EngineStats& engine, const AdapterStoreStats& adapters);
  // An answer of at least one token ended by itself or by its length.
  void NoteAnswer(uint64_t n_tokens) { answers_.Add(static_cast<double>(n_tokens), 1); }

  void Fill(v1::WorkerState* state) const;

 private:
  // Answer tokens per second of step time: what the device gives while it works, whether or not it is idle
  // now. Of the last half second of work and more.
  double decoded_per_second_ = 0;
  double step_seconds_ = 0;
  uint64_t generated_tokens_ = 0;

  // A step with prompts in it takes about as long for each of its tokens, an answer's or a prompt's.
  RecentRatio prefill_{0.02, 5};  // tokens, of seconds
  uint64_t prompt_step_tokens_ = 0;
  uint64_t prompt_step_nanos_ = 0;

  RecentRatio loads_{0.001, 10};  // bytes, of seconds
  uint64_t loaded_bytes_ = 0;
  uint64_t load_nanos_ = 0;

  RecentRatio answers_{8, 256};  // tokens, of answers
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_SERVICE_SPEED_METER_H_
