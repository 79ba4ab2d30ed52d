#include "worker/engine/sequence.h"

#include <algorithm>
#include <utility>

namespace coterie {

std::unique_ptr<Sequence> MakeSequence(SequenceRequest request, const Digest& base, int max_sequence_tokens) {
  auto s = std::make_unique<Sequence>();
  s->n_prompt = static_cast<int>(request.prompt_ids.size());
  s->max_total = static_cast<int>(
      std::min<int64_t>(max_sequence_tokens, int64_t{s->n_prompt} + request.sampling.max_tokens));
  s->tokens = std::exchange(request.prompt_ids, {});
  s->tokens.reserve(std::max<size_t>(s->max_total, s->n_prompt + request.resume_ids.size()));
  s->tokens.insert(s->tokens.end(), request.resume_ids.begin(), request.resume_ids.end());
  request.resume_ids = {};

  std::vector<PrefixAdapter> prefix_adapters;
  for (const AdapterUse& use : request.adapters) prefix_adapters.push_back({use.digest, use.weight});
  PrefixHasher hasher;
  s->root = hasher.Root(base, prefix_adapters, request.cache_salt);
  const size_t max_blocks = s->max_total / kPrefixBlockTokens + 1;
  s->keys = hasher.Chain(s->root, s->tokens);
  s->keys.reserve(max_blocks);
  s->blocks.reserve(max_blocks);
  s->adapters.reserve(request.adapters.size());

  s->next_prompt_logprob = s->n_prompt;
  if (request.prompt_logprobs_from) s->next_prompt_logprob = std::max<int>(1, *request.prompt_logprobs_from);
  s->credit = std::min(request.initial_credit, kMaxCredit);
  s->arrival = MonotonicNow();
  s->request = std::move(request);
  return s;
}

}  // namespace coterie
