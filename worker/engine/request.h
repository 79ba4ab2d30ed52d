#ifndef COTERIE_WORKER_ENGINE_REQUEST_H_
#define COTERIE_WORKER_ENGINE_REQUEST_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/digest.h"
#include "common/sampling_params.h"
#include "common/scored_token.h"
#include "common/status.h"

namespace coterie {

struct Sequence;

inline constexpr int kMaxPriority = 100;  // and -kMaxPriority; see SchedulerOptions::aging_interval
inline constexpr size_t kMaxAdaptersPerSequence = 16;
inline constexpr size_t kMaxCacheSaltBytes = 256;
inline constexpr size_t kMaxTenantBytes = 64;
inline constexpr uint32_t kMaxCredit = 1u << 20;  // tokens; more is taken as this

struct AdapterUse {
  Digest digest;
  float weight = 1.0f;
  std::string name;  // for people
};

// One sequence as the engine takes it: token ids in, token ids out.
struct GenerateRequest {
  uint64_t id = 0;  // chosen by the caller, unique among everything ever submitted to this engine
  std::vector<int32_t> prompt_ids;
  // Answer tokens generated elsewhere: the sequence goes on after them; max_tokens counts them.
  std::vector<int32_t> resume_ids;
  SamplingParams sampling;
  // A bit per token of the vocabulary, in words of 32 from the lowest: only these may be chosen. Empty: all.
  std::vector<uint32_t> allowed_tokens;
  std::vector<AdapterUse> adapters;  // in the order in which their products are added; none: the base
  std::string cache_salt;            // only equal salts share KV
  std::string tenant;                // whose share of the worker it uses
  int priority = 0;                  // higher first
  MonotonicTime deadline = MonotonicTime::InfiniteFuture();
  uint32_t initial_credit = kMaxCredit;  // tokens that may be generated before AddCredit
  // Report log-probabilities of the prompt tokens from this position on (the first token has none: 0 means
  // 1).
  std::optional<uint32_t> prompt_logprobs_from;
  bool score_only = false;  // generate nothing
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kDeadline, kError };

// What happened to one sequence in one step.
struct OutputEvent {
  enum class Kind : uint8_t { kToken, kPromptLogprob, kFinish };
  Kind kind = Kind::kToken;
  FinishReason finish = FinishReason::kNone;  // kFinish only
  bool first = false;                         // the first event of its sequence: the next two fields are set
  uint32_t cached_prompt_tokens = 0;
  uint32_t queued_ms = 0;  // from submit to the start of its prompt
  uint64_t id = 0;
  uint32_t position =
      0;  // kToken, kFinish: in the answer, resumed tokens included; kPromptLogprob: in the prompt
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
  std::vector<ScoredToken> logprobs;
  std::vector<ResidencyEvent> residency;
  std::vector<PrefixEvent> prefixes;
  // Finished sequences, here to be freed off the step's thread.
  std::vector<std::unique_ptr<Sequence>> retired;

  bool empty() const;
  void Clear();
  // Memory for what `max_seqs` sequences say in several steps: a consumer may come late now and then.
  void Reserve(int max_seqs);
  // Moves `later` behind what is here and leaves it clear.
  void Append(OutputBatch* later);
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_REQUEST_H_
