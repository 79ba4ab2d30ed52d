#ifndef COTERIE_TESTS_WORKER_ENGINE_GATED_MODEL_H_
#define COTERIE_TESTS_WORKER_ENGINE_GATED_MODEL_H_

#include <atomic>
#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "model/decoder/language_model.h"

namespace coterie {

// Where steps wait while a test holds them.
struct Gate {
  std::atomic<bool> held{false};
  std::atomic<int> allowed{0};  // steps that may still pass while it is held
  std::atomic<int> arrived{0};  // steps that have come to it
};

// Lets a model step only as often as the test says, so that no test depends on who is quicker.
class GatedModel final : public LanguageModel {
 public:
  GatedModel(std::unique_ptr<LanguageModel> model, Gate* gate) : model_(std::move(model)), gate_(*gate) {}

  const LanguageModelInfo& info() const override { return model_->info(); }
  StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) override {
    return model_->LoadAdapter(folder);
  }
  AdapterSlots& adapter_slots() override { return model_->adapter_slots(); }
  StatusOr<StepTicket> Launch(const Batch& batch) override {
    ++gate_.arrived;
    while (gate_.held && gate_.allowed == 0) absl::SleepFor(absl::Microseconds(20));
    if (gate_.held) --gate_.allowed;
    return model_->Launch(batch);
  }
  StatusOr<StepResult> Collect(StepTicket ticket) override { return model_->Collect(ticket); }

 private:
  const std::unique_ptr<LanguageModel> model_;
  Gate& gate_;
};

}  // namespace coterie

#endif  // COTERIE_TESTS_WORKER_ENGINE_GATED_MODEL_H_
