#ifndef COTERIE_WORKER_ENGINE_FAKE_MODEL_H_
#define COTERIE_WORKER_ENGINE_FAKE_MODEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "kernels/block_table.h"
#include "kernels/cpu/adapter_slots.h"
#include "kernels/cpu/step_sampler.h"
#include "model/decoder/language_model.h"

namespace coterie {

struct FakeModelOptions {
  int vocab_size = 1000;
  int context_length = 4096;
  int n_kv_blocks = 512;
  int n_seats = 256;
  int n_adapter_slots = 64;
  std::vector<int32_t> eos_token_ids;  // never the most probable token
  Digest base_digest;                  // empty: one that says "fake"
  std::string numerics_class = "fake";
  bool batch_invariant = true;  // what it says of itself
  std::vector<GateKind> gates{kAllGates.begin(), kAllGates.end()};
  uint64_t seed = 0;  // another seed is another model
  // Emulated speed: a step takes step_time + token_time for each token.
  absl::Duration step_time;
  absl::Duration token_time;
  absl::Duration load_time;        // of an adapter
  size_t adapter_bytes = 1 << 20;  // what each adapter pretends to take
  // A device that breaks: from this step on it is lost, or the step never ends. 0: never.
  uint64_t lost_at_step = 0;
  uint64_t hangs_at_step = 0;
};

// A language model without arithmetic, for tests of everything around one. Its KV blocks hold, for each
// position, the token and the adapters, with their gate, that were seen there; the most probable next token
// is a hash of what stands in the blocks of the whole prefix. So a wrong block table, a stale prefix, a
// missing recomputation or the wrong adapter changes the text, and equal inputs give equal text whatever the
// batch and the chunks.
//
// The logits are that token at 12 and the others spread over [0, 2), by the hash too: sampling has something
// to choose from.
//
// LoadAdapter takes a folder with an adapter_config.json. Its digest is the folder's name when that is 64
// hexadecimal digits (as in an expert store), else the hash of adapter_model.safetensors.
class FakeModel : public LanguageModel {
 public:
  explicit FakeModel(FakeModelOptions options);

  const LanguageModelInfo& info() const override { return info_; }
  StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) override;
  AdapterSlots& adapter_slots() override { return slots_; }
  StatusOr<StepTicket> Launch(const Batch& batch) override;
  StatusOr<StepResult> Collect(StepTicket ticket) override;

 protected:
  // Sees a row's logits [vocab_size] of sequence `seq` before its token is chosen: for tests that spoil them.
  virtual void ChangeRow(const Batch&, int /*seq*/, std::span<float>) {}
  const PackedAdapter* AdapterIn(int32_t slot) const { return slots_.At(slot); }

 private:
  struct Cell {
    int32_t token = -1;
    int32_t position = -1;
    uint64_t adapters = 0;
  };
  uint64_t AdaptersHash(const Batch& batch, int seq) const;

  const FakeModelOptions options_;
  LanguageModelInfo info_;
  std::vector<Cell> kv_;      // [n_kv_blocks * kKvBlockTokens]
  std::vector<float> noise_;  // [2 * vocab]: a row starts anywhere in the first half
  std::vector<float> row_;    // [vocab]
  std::vector<int32_t> ids_;  // of the step, without FromRow
  cpu::CpuAdapterSlots slots_;
  BlockTable blocks_;
  cpu::StepSampler sampler_;
  cpu::StepOutput output_;
  std::vector<int32_t> sampled_;  // by the step before
  StepTicket launched_ = 0;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_FAKE_MODEL_H_
