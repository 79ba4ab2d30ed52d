#include "worker/engine/sequence.h"

#include <algorithm>
#include <utility>

namespace coterie {

namespace {

// The rows under the request's adapters, with the keys of `tokens` under each.
std::vector<SequenceRow> MakeRows(const SequenceRequest& request, const Digest& base,
                                  std::span<const int32_t> tokens, size_t max_blocks) {
  std::vector<SequenceRow> rows(std::max<size_t>(1, request.mixture.size()));
  PrefixHasher hasher;
  std::span<const AdapterUse> rest = request.adapters;
  for (size_t i = 0; i < rows.size(); ++i) {
    SequenceRow& row = rows[i];
    row.n_adapters = static_cast<int>(rest.size());
    if (rows.size() > 1) {
      row.n_adapters = static_cast<int>(request.mixture[i].n_adapters);
      row.mix_weight = request.mixture[i].weight;
    }
    const auto n_adapters = static_cast<size_t>(row.n_adapters);
    std::vector<PrefixAdapter> adapters;
    for (const AdapterUse& use : rest.first(n_adapters)) adapters.push_back({use.digest, use.weight});
    rest = rest.subspan(n_adapters);
    row.root = hasher.Root(base, adapters, request.cache_salt, request.gate);
    row.keys = hasher.Chain(row.root, tokens);
    row.keys.reserve(max_blocks);
    row.blocks.reserve(max_blocks);
  }
  return rows;
}

}  // namespace

std::unique_ptr<Sequence> MakeSequence(SequenceRequest request, const Digest& base, int max_sequence_tokens) {
  auto s = std::make_unique<Sequence>();
  s->n_prompt = static_cast<int>(request.prompt_ids.size());
  s->max_total = static_cast<int>(
      std::min<int64_t>(max_sequence_tokens, int64_t{s->n_prompt} + request.sampling.max_tokens));
  s->tokens = std::exchange(request.prompt_ids, {});
  s->tokens.reserve(std::max<size_t>(s->max_total, s->n_prompt + request.resume_ids.size()));
  s->tokens.insert(s->tokens.end(), request.resume_ids.begin(), request.resume_ids.end());
  request.resume_ids = {};

  s->rows = MakeRows(request, base, s->tokens, s->max_total / kPrefixBlockTokens + 1);
  s->adapters.reserve(request.adapters.size());

  s->next_prompt_logprob = s->n_prompt;
  if (request.prompt_logprobs_from) s->next_prompt_logprob = std::max<int>(1, *request.prompt_logprobs_from);
  s->credit = std::min(request.initial_credit, kMaxCredit);
  s->arrival = MonotonicNow();
  s->request = std::move(request);
  return s;
}

}  // namespace coterie
