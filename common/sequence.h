#ifndef COTERIE_COMMON_SEQUENCE_H_
#define COTERIE_COMMON_SEQUENCE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/digest.h"
#include "common/gang_plan.h"
#include "common/gate.h"
#include "common/sampling_params.h"
#include "common/token_logprob.h"
#include "common/trace/trace.h"

// What gateway and worker both say of one sequence of tokens. coterie/v1/worker.proto says how it travels.
namespace coterie {

inline constexpr int kMaxPriority = 100;               // and -kMaxPriority
inline constexpr size_t kMaxLabelBytes = 64;           // of a tenant, a cache salt
inline constexpr size_t kMaxAdaptersPerSequence = 16;  // of all members together
inline constexpr size_t kMaxMixtureMembers = 16;
inline constexpr uint32_t kMaxCredit = 1u << 20;  // tokens; more is taken as this

struct AdapterUse {
  Digest digest;
  float weight = 1.0f;
  std::string name;  // for people
};

// One member of a mixture: a row of its own in every step, with its own KV, under the next `n_adapters` of
// SequenceRequest::adapters (none: the base). Each token is drawn from p = Σ weight · p_member (c-BTM,
// Gururangan et al. 2023), and every member reads it.
struct MixtureMember {
  uint32_t n_adapters = 1;
  float weight = 0;  // above 0; those of all members sum to 1
};

struct SequenceRequest {
  uint64_t id = 0;  // given by who submits it, unique among everything ever submitted there
  std::vector<int32_t> prompt_ids;
  // Answer tokens generated elsewhere: the sequence goes on after them; max_tokens counts them.
  std::vector<int32_t> resume_ids;
  SamplingParams sampling;
  // A bit per token of the vocabulary, in words of 32 from the lowest: only these may be chosen. Empty: all.
  std::vector<uint32_t> allowed_tokens;
  std::vector<AdapterUse> adapters;    // in the order in which their products are added; none: the base
  std::vector<MixtureMember> mixture;  // empty: one row under all `adapters`
  // Weighs all `adapters` of the one row for each token and module, beside their own weights. Not in a
  // mixture.
  Gate gate;
  // Other workers compute further members, and tokens are drawn for all of them together: `mixture` has those
  // of this worker.
  std::optional<GangPlan> gang;
  std::string tenant;          // whose share of the worker it uses
  int32_t priority = 0;        // higher first
  std::string trace_id;        // for people and logs: what the client called it, or what was drawn for it
  Trace trace;                 // where this process writes its spans of the request; empty: it is not traced
  TraceContext trace_context;  // what the other process was told, or is to be
  std::string cache_salt;      // only equal salts share KV
  MonotonicTime deadline = MonotonicTime::InfiniteFuture();
  uint32_t initial_credit = kMaxCredit;  // tokens that may be generated before more credit is given
  // Report log-probabilities of the prompt tokens from this position on (the first token has none: 0 means
  // 1).
  std::optional<uint32_t> prompt_logprobs_from;
  bool score_only = false;  // generate nothing
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kDeadline, kError };

// In metrics and traces.
constexpr const char* NameOf(FinishReason reason) {
  constexpr const char* kNames[] = {"none", "stop", "length", "cancelled", "deadline", "error"};
  return kNames[static_cast<int>(reason)];
}

}  // namespace coterie

#endif  // COTERIE_COMMON_SEQUENCE_H_
