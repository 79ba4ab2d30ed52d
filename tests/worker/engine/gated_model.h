#ifndef COTERIE_TESTS_WORKER_ENGINE_GATED_MODEL_H_
#define COTERIE_TESTS_WORKER_ENGINE_GATED_MODEL_H_

#include <atomic>
#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "tests/worker/engine/forwarding_model.h"

namespace coterie {

// Where steps wait while a test holds them.
struct StepGate {
  std::atomic<bool> held{false};
  std::atomic<int> allowed{0};  // steps that may still pass while it is held
  std::atomic<int> arrived{0};  // steps that have come to it
};

// Lets a model step only as often as the test says, so that no test depends on who is quicker.
class GatedModel final : public ForwardingModel {
 public:
  GatedModel(std::unique_ptr<LanguageModel> model, StepGate* gate)
      : ForwardingModel(std::move(model)), gate_(*gate) {}

  StatusOr<StepTicket> Launch(const Batch& batch) override {
    ++gate_.arrived;
    while (gate_.held && gate_.allowed == 0) absl::SleepFor(absl::Microseconds(20));
    if (gate_.held) --gate_.allowed;
    return ForwardingModel::Launch(batch);
  }

 private:
  StepGate& gate_;
};

}  // namespace coterie

#endif  // COTERIE_TESTS_WORKER_ENGINE_GATED_MODEL_H_
