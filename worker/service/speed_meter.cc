#include "worker/service/speed_meter.h"

#include <atomic>
#include <utility>

#include "coterie/v1/worker.pb.h"

namespace coterie::worker {
namespace {

// What a counter gained since it was `*seen`.
uint64_t Gain(const std::atomic<uint64_t>& counter, uint64_t* seen) {
  const uint64_t now = counter.load(std::memory_order_relaxed);
  return now - std::exchange(*seen, now);
}

}  // namespace

void RecentRatio::Add(double amount, double divisor) {
  amount_ += amount;
  divisor_ += divisor;
  if (divisor_ <= window_) return;
  amount_ *= window_ / divisor_;
  divisor_ = window_;
}

void SpeedMeter::Read(const EngineStats& engine, const AdapterStoreStats& adapters) {
  const double seconds = engine.step_seconds.sum();
  if (seconds - step_seconds_ >= 0.5) {
    const auto tokens = static_cast<double>(Gain(engine.generated_tokens, &generated_tokens_));
    decoded_per_second_ = tokens / (seconds - std::exchange(step_seconds_, seconds));
  }
  const uint64_t prompt_nanos = Gain(engine.prompt_step_nanos, &prompt_step_nanos_);
  const uint64_t prompt_tokens = Gain(engine.prompt_step_tokens, &prompt_step_tokens_);
  prefill_.Add(static_cast<double>(prompt_tokens), static_cast<double>(prompt_nanos) * 1e-9);
  const uint64_t load_nanos = Gain(adapters.load_nanos, &load_nanos_);
  const uint64_t loaded_bytes = Gain(adapters.loaded_bytes, &loaded_bytes_);
  loads_.Add(static_cast<double>(loaded_bytes), static_cast<double>(load_nanos) * 1e-9);
}

void SpeedMeter::Fill(v1::WorkerState* state) const {
  state->set_tokens_per_second(decoded_per_second_);
  state->set_prefill_tokens_per_second(prefill_.value());
  state->set_adapter_load_bytes_per_second(loads_.value());
  state->set_answer_tokens(answers_.value());
}

}  // namespace coterie::worker
