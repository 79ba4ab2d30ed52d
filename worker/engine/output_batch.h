#ifndef COTERIE_WORKER_ENGINE_OUTPUT_BATCH_H_
#define COTERIE_WORKER_ENGINE_OUTPUT_BATCH_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/digest.h"
#include "common/sequence.h"
#include "common/status.h"

namespace coterie {

struct Sequence;

// What happened to one sequence in one step.
struct OutputEvent {
  // kLogits: of a gang's sequence, which stands still until it is told the token (Engine::PutToken).
  enum class Kind : uint8_t { kToken, kPromptLogprob, kLogits, kFinish };
  Kind kind = Kind::kToken;
  FinishReason finish = FinishReason::kNone;  // kFinish only
  bool first = false;  // the first event of its sequence, kLogits left out: the next three fields are set
  uint32_t cached_prompt_tokens = 0;
  uint32_t queued_ms = 0;           // from submit to the start of its prompt
  bool waited_for_adapter = false;  // for a load, in this time
  uint64_t id = 0;
  uint32_t position =
      0;  // kToken, kLogits, kFinish: in the answer, resumed tokens included; kPromptLogprob: in the prompt
  int32_t token = -1;           // kFinish by a stop or end-of-text token: that token; else -1
  uint32_t logprobs_begin = 0;  // in OutputBatch::logprobs: the token itself, then the most probable ones
  uint32_t logprobs_count = 0;
  Status status;  // not ok exactly on FinishReason::kError
};

struct ResidencyEvent {
  Digest digest;
  bool added = false;
};

struct PrefixEvent {
  uint64_t key = 0;
  bool added = false;
};

// What one or more consecutive steps produced, in order. The engine and its consumer pass a few of these
// around, so that in steady state no memory is allocated.
struct OutputBatch {
  OutputBatch();
  ~OutputBatch();
  OutputBatch(OutputBatch&&) noexcept;
  OutputBatch& operator=(OutputBatch&&) noexcept;

  uint64_t steps = 0;
  std::vector<OutputEvent> events;
  std::vector<TokenLogprob> logprobs;
  std::vector<ResidencyEvent> residency;
  std::vector<PrefixEvent> prefixes;
  // Finished sequences, here to be freed off the step's thread.
  std::vector<std::unique_ptr<Sequence>> retired;
  Status device_lost;  // not ok: the device was lost, and with the events here every sequence has ended

  bool empty() const;
  void Clear();
  // Memory for what `max_seqs` sequences say in several steps: a consumer may come late now and then.
  void Reserve(int max_seqs);
  // Moves `later` behind what is here and leaves it clear.
  void Append(OutputBatch* later);
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_OUTPUT_BATCH_H_
