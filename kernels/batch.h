#ifndef COTERIE_KERNELS_BATCH_H_
#define COTERIE_KERNELS_BATCH_H_

#include <cstdint>
#include <vector>

namespace coterie {

class PackedAdapter;

// One of the largest logits of a row.
struct TopLogit {
  float value = 0;
  int32_t id = 0;
};
// The order they stand in: the larger value first, of equal ones the lower id.
inline bool Before(const TopLogit& a, const TopLogit& b) {
  return a.value != b.value ? a.value > b.value : a.id < b.id;
}
constexpr int kMaxTopLogits = 64;  // of one row

// One engine step: the tokens of `n_seqs` sequences, prompts in chunks and decodes side by side, each
// sequence under its own (weighted) adapters. Host memory, plain arrays in CSR form; the engine refills one
// Batch for every step so that nothing is allocated in the loop.
struct Batch {
  std::vector<int32_t> token_ids;   // [n_tokens], the sequences one after the other
  std::vector<int32_t> positions;   // [n_tokens], position of each token in its sequence, from 0
  std::vector<int32_t> cu_seqlens;  // [n_seqs + 1], tokens of sequence s: [cu_seqlens[s], cu_seqlens[s + 1])

  // KV blocks of sequence s, in order of position: block_ids[block_offsets[s] .. block_offsets[s + 1]).
  // They cover every position up to and including the sequence's last token of this step.
  std::vector<int32_t> block_offsets;  // [n_seqs + 1]
  std::vector<int32_t> block_ids;      // [n_blocks_used]

  // Adapters of sequence s: slots adapter_slots[adapter_offsets[s] .. adapter_offsets[s + 1]); none = the
  // base. The products are added in this order, each times its weight.
  std::vector<int32_t> adapter_offsets;        // [n_seqs + 1]
  std::vector<int32_t> adapter_slots;          // [n_uses], index into `adapters`
  std::vector<float> adapter_weights;          // [n_uses]
  std::vector<const PackedAdapter*> adapters;  // [n_distinct], borrowed; pinned by the engine for the step

  // Tokens whose logits are wanted, ascending indices into token_ids.
  std::vector<int32_t> logit_rows;  // [n_logit_rows]
  // How many of each such row's logits are wanted, the largest: 1 to kMaxTopLogits, or 0 for the whole row.
  // Empty: whole rows.
  std::vector<int32_t> logit_top_k;  // [n_logit_rows]

  int n_tokens() const { return static_cast<int>(token_ids.size()); }
  int n_seqs() const { return cu_seqlens.empty() ? 0 : static_cast<int>(cu_seqlens.size()) - 1; }
  void Clear();
  // Memory for steps of up to so many of each, so that nothing is allocated when they come.
  void Reserve(int max_tokens, int max_seqs, int max_blocks, int max_uses, int max_logit_rows);
  // Becomes `step` with only its logit rows for tokens, all of them wanted; sequences without any are left
  // out. For what of the last layer nothing but logits comes from.
  void KeepLogitRows(const Batch& step);
  // Becomes tokens [begin, end) of `step`, whose logit rows are those that are among them; sequences without
  // any are left out. What stands in the KV cache of earlier tokens counts as before.
  void KeepTokens(const Batch& step, int begin, int end);

 private:
  // Ends a sequence of the tokens appended last: blocks and adapters are those of sequence s of `step`.
  void EndSequence(const Batch& step, int s);
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_BATCH_H_
