#ifndef COTERIE_MODEL_DECODER_LANGUAGE_MODEL_H_
#define COTERIE_MODEL_DECODER_LANGUAGE_MODEL_H_

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/digest.h"
#include "common/status.h"
#include "kernels/backend.h"

namespace coterie {

struct LanguageModelInfo {
  int vocab_size = 0;
  int context_length = 0;  // most positions a sequence may have
  int n_kv_blocks = 0;     // blocks of kKvBlockTokens tokens this model was given room for
  size_t weight_bytes = 0;
  size_t kv_bytes = 0;
  std::vector<int32_t> eos_token_ids;
  int max_top_logits = 0;      // of one row, what ForwardTop keeps at most; 0: it is not there
  Digest base_digest;          // configuration and weights of the frozen base
  std::string numerics_class;  // equal classes give equal bits
};

// An adapter ready for use in steps, with what keeps its memory alive. Immutable.
struct LoadedAdapter {
  Digest digest;
  std::unique_ptr<PackedAdapter> packed;
  int first_layer = 0;  // lowest layer it changes: KV below it is the base's
  size_t bytes = 0;
};

// What a step's logit rows left behind; owned by the model and valid until its next step.
struct StepLogits {
  std::span<const float> whole;   // [rows wanted whole, vocab_size]
  std::span<const TopLogit> top;  // of the others batch.logit_top_k[row] each, in the order of Before()
};

// What the engine runs: tokens in, logits out. The decoder over a Backend is one; a fake one (the next token
// is a hash of adapter, position and token) lets the whole cluster be tested without arithmetic. Forward is
// called by one thread; LoadAdapter by others at the same time.
class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual const LanguageModelInfo& info() const = 0;

  // Reads, checks and packs the adapter in `folder` (PEFT format). Slow: never on the step's thread.
  // FailedPrecondition naming the field when it does not fit this base.
  virtual StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) = 0;

  // Runs one step and writes the KV of its tokens. `logits` [batch.logit_rows.size(), vocab_size], row-major,
  // owned by the model and valid until its next step. batch.logit_top_k is not read.
  virtual Status Forward(const Batch& batch, std::span<const float>* logits) = 0;
  // The same step, of whose logits batch.logit_top_k says what is kept: the same values as from Forward. A
  // row with a value that is not finite has NaN and id -1 in all places. Only where info().max_top_logits >
  // 0.
  virtual Status ForwardTop(const Batch&, StepLogits*) {
    return absl::UnimplementedError("this model gives whole rows of logits only");
  }
};

}  // namespace coterie

#endif  // COTERIE_MODEL_DECODER_LANGUAGE_MODEL_H_
