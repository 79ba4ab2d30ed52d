#include "worker/engine/check_request.h"

#include <algorithm>
#include <cmath>

#include "common/quoted.h"
#include "kernels/batch.h"

namespace coterie {
namespace {

Status CheckTokens(const SequenceRequest& r, const RequestLimits& limits) {
  if (r.prompt_ids.empty())
    return absl::InvalidArgumentError("the prompt has no tokens; at least 1 is needed");
  const size_t n_given = r.prompt_ids.size() + r.resume_ids.size();
  if (n_given >= static_cast<size_t>(limits.max_sequence_tokens)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the prompt has ", n_given, " tokens", r.resume_ids.empty() ? "" : " with those to resume from",
        "; this worker has room for ", limits.max_sequence_tokens,
        r.mixture.size() > 1 ? absl::StrCat(" for each of ", r.mixture.size(), " members of a mixture") : "",
        ", of which one must be left for the answer"));
  }
  for (const std::vector<int32_t>* ids : {&r.prompt_ids, &r.resume_ids}) {
    for (int32_t id : *ids) {
      if (id < 0 || id >= limits.vocab_size) {
        return absl::InvalidArgumentError(absl::StrCat("token id ", id, " in the prompt; the vocabulary has ",
                                                       limits.vocab_size, " tokens"));
      }
    }
  }
  return absl::OkStatus();
}

Status CheckAllowedTokens(const SequenceRequest& r, int vocab_size) {
  if (r.allowed_tokens.empty()) return absl::OkStatus();
  const auto words = static_cast<size_t>(MaskWords(vocab_size));
  if (r.allowed_tokens.size() != words) {
    return absl::InvalidArgumentError(absl::StrCat("allowed_tokens has ", r.allowed_tokens.size(),
                                                   " words; a vocabulary of ", vocab_size, " tokens has ",
                                                   words));
  }
  for (int token = 0; token < vocab_size; ++token) {
    if (MaskAllows(r.allowed_tokens, static_cast<size_t>(token))) return absl::OkStatus();
  }
  return absl::InvalidArgumentError("allowed_tokens lets no token be chosen");
}

Status CheckConstraint(const SequenceRequest& r, const RequestLimits& limits) {
  if (!r.sampling.constraint) return absl::OkStatus();
  if (!limits.takes_constraints) {
    return absl::UnimplementedError(
        "this worker's model has no text: it takes no constraint (response_format, regex, choice)");
  }
  if (r.score_only) return absl::InvalidArgumentError("score_only takes no constraint: it chooses no token");
  if (!r.allowed_tokens.empty()) {
    return absl::InvalidArgumentError(
        "allowed_tokens and a constraint exclude each other; leave one of the two out");
  }
  return absl::OkStatus();
}

Status CheckLabel(const char* field, const std::string& value) {
  if (value.size() <= kMaxLabelBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " has ", value.size(), " bytes; at most ", kMaxLabelBytes, " are allowed"));
}

Status CheckAdapters(const SequenceRequest& r, const RequestLimits& limits) {
  const size_t max_adapters = std::min(kMaxAdaptersPerSequence, static_cast<size_t>(limits.n_adapter_slots));
  if (r.adapters.size() > max_adapters) {
    return absl::InvalidArgumentError(absl::StrCat("the sequence uses ", r.adapters.size(),
                                                   " adapters; this worker combines at most ", max_adapters));
  }
  for (const AdapterUse& use : r.adapters) {
    if (use.digest.empty()) return absl::InvalidArgumentError("an adapter's digest is empty");
    if (!std::isfinite(use.weight)) {
      return absl::InvalidArgumentError(absl::StrCat("the weight of adapter ", use.digest.Short(), " is ",
                                                     use.weight, "; it must be finite"));
    }
    if (use.weight == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the weight of adapter ", use.digest.Short(),
          " is 0 (or was not set): it would change nothing; give it a weight or leave the adapter out"));
    }
  }
  return absl::OkStatus();
}

// Sums of a few float32 weights are this exact.
constexpr double kWeightSumTolerance = 1e-4;

Status CheckMixture(const SequenceRequest& r, const RequestLimits& limits) {
  if (r.mixture.empty()) return absl::OkStatus();
  if (r.mixture.size() > static_cast<size_t>(limits.max_mixture_members)) {
    return absl::InvalidArgumentError(absl::StrCat("the mixture has ", r.mixture.size(),
                                                   " members; this worker mixes at most ",
                                                   limits.max_mixture_members, " at a time (--max-seqs)"));
  }
  double sum = 0;
  size_t n_adapters = 0;
  for (size_t i = 0; i < r.mixture.size(); ++i) {
    const MixtureMember& member = r.mixture[i];
    if (!std::isfinite(member.weight) || member.weight <= 0) {
      return absl::InvalidArgumentError(absl::StrCat("the weight of member ", i + 1, " of the mixture is ",
                                                     member.weight, "; it must be above 0 and finite"));
    }
    sum += member.weight;
    n_adapters += member.n_adapters;
  }
  if (!r.gang && std::abs(sum - 1) > kWeightSumTolerance) {
    return absl::InvalidArgumentError(absl::StrCat("the weights of the mixture's ", r.mixture.size(),
                                                   " members sum to ", sum, "; they must sum to 1"));
  }
  if (n_adapters != r.adapters.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the mixture's members use ", n_adapters,
                                                   " adapters; the sequence brings ", r.adapters.size()));
  }
  return absl::OkStatus();
}

Status CheckGate(const SequenceRequest& r, const RequestLimits& limits) {
  const Gate& gate = r.gate;
  if (gate.kind == GateKind::kNone) return absl::OkStatus();
  if (std::ranges::find(limits.gates, gate.kind) == limits.gates.end()) {
    std::string had;
    for (const GateKind kind : limits.gates)
      absl::StrAppend(&had, had.empty() ? "" : ", ", ToAbsl(NameOf(kind)));
    const std::string name(NameOf(gate.kind));
    return absl::UnimplementedError(absl::StrCat(
        "this worker has no gate ", name.empty() ? absl::StrCat(static_cast<int>(gate.kind)) : name,
        had.empty() ? "; it has none" : absl::StrCat("; it has ", had),
        gate.kind == GateKind::kArrow ? " (arrow: a worker on a CPU with --arrow-gates)" : ""));
  }
  if (!r.mixture.empty() || r.gang) {
    return absl::InvalidArgumentError("a mixture has no gate: its members have weights");
  }
  if (r.adapters.empty()) return absl::InvalidArgumentError("the gate has no adapters to weigh");
  const auto n_adapters = static_cast<int>(r.adapters.size());
  if (gate.top_k < 1 || gate.top_k > n_adapters) {
    return absl::InvalidArgumentError(absl::StrCat("the gate's top_k is ", gate.top_k, "; it must be 1 to ",
                                                   n_adapters, ", the number of adapters"));
  }
  if (gate.kind == GateKind::kGateless && gate.top_k != n_adapters) {
    return absl::InvalidArgumentError(
        absl::StrCat("the gate's top_k is ", gate.top_k, "; gateless uses all ", n_adapters, " adapters"));
  }
  return absl::OkStatus();
}

// Members of the whole mixture, of which this worker has some.
Status CheckGang(const SequenceRequest& r, const RequestLimits& limits) {
  if (!r.gang) return absl::OkStatus();
  const GangPlan& gang = *r.gang;
  const size_t n_workers = gang.workers.size(), n_members = gang.weights.size();
  if (n_workers < 2 || n_workers > n_members || n_members > kMaxMixtureMembers) {
    return absl::InvalidArgumentError(absl::StrCat("the gang has ", n_workers, " workers for ", n_members,
                                                   " members; at least 2 workers and at most ",
                                                   kMaxMixtureMembers, " members, each worker with one"));
  }
  if (gang.rank >= n_workers) {
    return absl::InvalidArgumentError(
        absl::StrCat("the gang's rank is ", gang.rank, "; it has ", n_workers, " workers"));
  }
  if (gang.top_tokens > static_cast<uint32_t>(limits.vocab_size)) {
    return absl::InvalidArgumentError(absl::StrCat("the gang's top_tokens is ", gang.top_tokens,
                                                   "; the vocabulary has ", limits.vocab_size, " tokens"));
  }
  double sum = 0;
  for (const float weight : gang.weights) {
    if (!std::isfinite(weight) || weight <= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("a weight of the gang's mixture is ", weight, "; it must be above 0 and finite"));
    }
    sum += weight;
  }
  if (std::abs(sum - 1) > kWeightSumTolerance) {
    return absl::InvalidArgumentError(absl::StrCat("the weights of the gang's ", n_members,
                                                   " members sum to ", sum, "; they must sum to 1"));
  }
  std::vector<bool> has(n_members);
  size_t n_given = 0;
  for (const GangWorker& worker : gang.workers) {
    for (const uint32_t member : worker.members) {
      if (member >= n_members || has[member]) {
        return absl::InvalidArgumentError(absl::StrCat("worker ", Quoted(worker.name),
                                                       " of the gang has member ", member, " of ", n_members,
                                                       member < n_members ? ", which another has" : ""));
      }
      has[member] = true;
      ++n_given;
    }
  }
  if (n_given != n_members) {
    return absl::InvalidArgumentError(
        absl::StrCat("the gang's workers have ", n_given, " of its ", n_members, " members"));
  }
  if (gang.workers[gang.rank].members.size() != r.mixture.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the gang gives this worker ",
                                                   gang.workers[gang.rank].members.size(),
                                                   " members; the sequence brings ", r.mixture.size()));
  }
  if (r.prompt_logprobs_from.has_value() || r.score_only) {
    return absl::InvalidArgumentError("a gang of workers scores no prompt");
  }
  if (r.sampling.constraint) {
    return absl::InvalidArgumentError("a gang of workers holds its answer to no constraint");
  }
  return absl::OkStatus();
}

Status CheckScoring(const SequenceRequest& r) {
  const bool scores = r.prompt_logprobs_from.has_value();
  if (r.score_only && !scores) {
    return absl::InvalidArgumentError("score_only without prompt_logprobs_from would do nothing");
  }
  if (scores && std::max(1u, *r.prompt_logprobs_from) >= r.prompt_ids.size()) {
    return absl::InvalidArgumentError(absl::StrCat("prompt_logprobs_from is ", *r.prompt_logprobs_from,
                                                   "; the prompt has ", r.prompt_ids.size(),
                                                   " tokens, of which the first has no log-probability"));
  }
  if (r.score_only && !r.resume_ids.empty()) {
    return absl::InvalidArgumentError("score_only takes no tokens to resume from");
  }
  return absl::OkStatus();
}

}  // namespace

Status CheckRequest(const SequenceRequest& r, const RequestLimits& limits) {
  RETURN_IF_ERROR(ValidateSamplingParams(r.sampling, limits.vocab_size));
  RETURN_IF_ERROR(CheckTokens(r, limits));
  RETURN_IF_ERROR(CheckAllowedTokens(r, limits.vocab_size));
  RETURN_IF_ERROR(CheckConstraint(r, limits));
  if (r.priority < -kMaxPriority || r.priority > kMaxPriority) {
    return absl::InvalidArgumentError(absl::StrCat("priority is ", r.priority, "; it must be in [-",
                                                   kMaxPriority, ", ", kMaxPriority, "]"));
  }
  RETURN_IF_ERROR(CheckLabel("tenant", r.tenant));
  RETURN_IF_ERROR(CheckLabel("cache_salt", r.cache_salt));
  RETURN_IF_ERROR(CheckAdapters(r, limits));
  RETURN_IF_ERROR(CheckMixture(r, limits));
  RETURN_IF_ERROR(CheckGate(r, limits));
  RETURN_IF_ERROR(CheckGang(r, limits));
  return CheckScoring(r);
}

}  // namespace coterie
