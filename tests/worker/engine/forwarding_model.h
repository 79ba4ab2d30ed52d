#ifndef COTERIE_TESTS_WORKER_ENGINE_FORWARDING_MODEL_H_
#define COTERIE_TESTS_WORKER_ENGINE_FORWARDING_MODEL_H_

#include <memory>
#include <utility>

#include "model/decoder/language_model.h"

namespace coterie {

// A model that is another one, for tests that stand between it and the engine.
class ForwardingModel : public LanguageModel {
 public:
  explicit ForwardingModel(std::unique_ptr<LanguageModel> model) : model_(std::move(model)) {}

  const LanguageModelInfo& info() const override { return model_->info(); }
  StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) override {
    return model_->LoadAdapter(folder);
  }
  AdapterSlots& adapter_slots() override { return model_->adapter_slots(); }
  StatusOr<StepTicket> Launch(const Batch& batch) override { return model_->Launch(batch); }
  StatusOr<StepResult> Collect(StepTicket ticket) override { return model_->Collect(ticket); }

 private:
  const std::unique_ptr<LanguageModel> model_;
};

}  // namespace coterie

#endif  // COTERIE_TESTS_WORKER_ENGINE_FORWARDING_MODEL_H_
