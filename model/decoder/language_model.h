#ifndef COTERIE_MODEL_DECODER_LANGUAGE_MODEL_H_
#define COTERIE_MODEL_DECODER_LANGUAGE_MODEL_H_

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/digest.h"
#include "common/status.h"
#include "kernels/decoder_ops.h"

namespace coterie {

struct LanguageModelInfo {
  int vocab_size = 0;
  int context_length = 0;  // most positions a sequence may have
  int n_kv_blocks = 0;     // blocks of kKvBlockTokens tokens this model was given room for
  size_t weight_bytes = 0;
  size_t kv_bytes = 0;
  std::vector<int32_t> eos_token_ids;
  int steps_in_flight = 1;     // 1 or 2: how many may be launched and not collected
  int n_seats = 0;             // RowSampling::seat of each running sequence is below
  Digest base_digest;          // configuration and weights of the frozen base
  std::string numerics_class;  // equal classes give equal bits
};

// An adapter ready for use in steps, with what keeps its memory alive. Immutable.
struct LoadedAdapter {
  Digest digest;
  std::shared_ptr<const PackedAdapter> packed;
  int first_layer = 0;  // lowest layer it changes: KV below it is the base's
  size_t bytes = 0;
  // Keeps the packed form for the next cold load; null where there is nothing to keep. Slow: to be called
  // once the adapter was handed on, by the thread that loaded it, and needs nothing else of it.
  std::function<void()> keep;
};

// A launched step. Steps are numbered from 1 in the order of their launch.
using StepTicket = uint64_t;

// What the engine runs: tokens in, tokens out. The decoder over a backend is one; a fake one (the next token
// is a hash of adapter, position and token) lets the whole cluster be tested without arithmetic. Launch and
// Collect are called by one thread; LoadAdapter by others at the same time.
class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual const LanguageModelInfo& info() const = 0;

  // Reads, checks and packs the adapter in `folder` (PEFT format), or takes it as it was packed before, where
  // the folder's name is its digest, as in a store. Slow: never on the step's thread.
  // FailedPrecondition naming the field when it does not fit this base.
  virtual StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) = 0;

  // Where the adapters of steps stand.
  virtual AdapterSlots& adapter_slots() = 0;

  // Starts a step, which writes the KV of its tokens and chooses the tokens of its logit rows. Returns before
  // it is computed, where the device works by itself. Reads the batch before it returns; the slots it names
  // stay as they are until the step was collected. Steps are computed in the order of their launch; at most
  // info().steps_in_flight of them may be launched and not collected.
  // InvalidArgument, and nothing launched, where the batch exceeds what the model was made for.
  virtual StatusOr<StepTicket> Launch(const Batch& batch) = 0;
  // Waits for the oldest step that was not collected yet, whose ticket this is. The result is the model's,
  // and valid until the next Launch. An error (Unavailable: the device was lost) says that nothing came of
  // it.
  virtual StatusOr<StepResult> Collect(StepTicket ticket) = 0;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_DECODER_LANGUAGE_MODEL_H_
