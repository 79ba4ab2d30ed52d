#ifndef COTERIE_TESTS_WORKER_ENGINE_LATE_MODEL_H_
#define COTERIE_TESTS_WORKER_ENGINE_LATE_MODEL_H_

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "common/check.h"
#include "model/decoder/language_model.h"

namespace coterie {

// A device that works by itself, as late as it may: a launched step is computed when it is collected, after
// the next one was launched. Whatever the engine changes or frees meanwhile, which the step still needs, is
// seen: the batch was copied at its launch, but blocks and adapters are read when the step is computed.
// Adapters are late, too: a slot is ready when it was asked about for the third time.
class LateModel final : public LanguageModel {
 public:
  explicit LateModel(std::unique_ptr<LanguageModel> model) : model_(std::move(model)), info_(model_->info()) {
    info_.steps_in_flight = 2;
  }

  const LanguageModelInfo& info() const override { return info_; }
  StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) override {
    return model_->LoadAdapter(folder);
  }

  AdapterSlots& adapter_slots() override { return slots_; }

  StatusOr<StepTicket> Launch(const Batch& batch) override {
    COTERIE_CHECK_LT(waiting_.size(), 2u) << "steps in flight";
    for (const int32_t slot : batch.adapter_slots) {
      COTERIE_CHECK(slots_.IsReady(slot)) << "slot " << slot << " is launched on and was not ready";
    }
    waiting_.push_back(batch);
    return ++launched_;
  }

  StatusOr<StepResult> Collect(StepTicket ticket) override {
    COTERIE_CHECK_EQ(ticket, ++collected_) << "the oldest step";
    COTERIE_CHECK(!waiting_.empty()) << "step " << ticket << " was not launched";
    const Batch batch = std::move(waiting_.front());
    waiting_.pop_front();
    if (ticket <= last_spoilt_) return absl::AbortedError("the step before has failed");
    const StatusOr<StepTicket> inner = model_->Launch(batch);
    if (inner.ok()) return model_->Collect(*inner);
    last_spoilt_ = launched_;  // what was launched behind it may read what it would have chosen
    return inner.status();
  }

 private:
  class LateSlots final : public AdapterSlots {
   public:
    explicit LateSlots(LateModel* model) : model_(*model), asked_(static_cast<size_t>(n_slots())) {}
    int n_slots() const override { return model_.model_->adapter_slots().n_slots(); }
    void Fill(int slot, std::shared_ptr<const PackedAdapter> adapter) override {
      CheckUnused(slot);
      asked_[static_cast<size_t>(slot)] = 0;
      model_.model_->adapter_slots().Fill(slot, std::move(adapter));
    }
    bool Ready(int slot) const override {
      ++asked_[static_cast<size_t>(slot)];
      return IsReady(slot);
    }
    void Clear(int slot) override {
      CheckUnused(slot);
      model_.model_->adapter_slots().Clear(slot);
    }
    bool IsReady(int slot) const {
      return asked_[static_cast<size_t>(slot)] >= 3 && model_.model_->adapter_slots().Ready(slot);
    }

   private:
    void CheckUnused(int slot) const {
      for (const Batch& batch : model_.waiting_) {
        COTERIE_CHECK(std::ranges::count(batch.adapter_slots, slot) == 0)
            << "slot " << slot << " changes while a step in flight reads it";
      }
    }
    LateModel& model_;
    mutable std::vector<int> asked_;  // [n_slots], since it was filled
  };

  const std::unique_ptr<LanguageModel> model_;
  LanguageModelInfo info_;
  std::deque<Batch> waiting_;
  LateSlots slots_{this};
  StepTicket launched_ = 0;
  StepTicket collected_ = 0;
  StepTicket last_spoilt_ = 0;
};

}  // namespace coterie

#endif  // COTERIE_TESTS_WORKER_ENGINE_LATE_MODEL_H_
