#ifndef COTERIE_KERNELS_BATCH_H_
#define COTERIE_KERNELS_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/gate.h"
#include "kernels/sampling.h"

namespace coterie {

// Stands in place of a token id: the token that row `row` of the step launched just before has sampled. Where
// that row is not finite it is any token, and nothing computed from it is used.
constexpr int32_t FromRow(int row) { return -1 - row; }
constexpr int RowOf(int32_t token_id) { return -1 - token_id; }  // of a negative id

constexpr int MaskWords(int vocab_size) { return (vocab_size + 31) / 32; }
inline bool MaskAllows(std::span<const uint32_t> mask_words, size_t token) {
  return (mask_words[token / 32] >> (token % 32) & 1) != 0;
}

// From block `first` on, the sequence at `seat` has the KV blocks Batch::changed_blocks[begin, end), and none
// behind them.
struct BlocksChange {
  int32_t seat = 0;
  int32_t first = 0;
  int32_t begin = 0;
  int32_t end = 0;
};

// One engine step: the tokens of `n_seqs` sequences, prompts in chunks and decodes side by side, each
// sequence under its own (weighted) adapters. Host memory, plain arrays in CSR form; the engine refills one
// Batch for every step so that nothing is allocated in the loop.
struct Batch {
  // [n_tokens], the sequences one after the other. Each is an id or FromRow(r), the token that row r of the
  // step before sampled.
  std::vector<int32_t> token_ids;
  std::vector<int32_t> positions;   // [n_tokens], of each token in its sequence, from 0
  std::vector<int32_t> cu_seqlens;  // [n_seqs + 1], tokens of sequence s: [cu_seqlens[s], cu_seqlens[s + 1])

  // The seat of each sequence: its row of the block table (block_table.h). The KV blocks of that row cover
  // every position up to and including the last token that the sequence has in this step.
  std::vector<int32_t> seats;               // [n_seqs], each once
  std::vector<BlocksChange> block_changes;  // since the step before; applied before this one is computed
  std::vector<int32_t> changed_blocks;

  // Adapters of sequence s: slots adapter_slots[adapter_offsets[s] .. adapter_offsets[s + 1]); none = the
  // base. The products are added in this order, each times its weight.
  std::vector<int32_t> adapter_offsets;  // [n_seqs + 1]
  std::vector<int32_t> adapter_slots;    // [n_uses], of the model's AdapterSlots
  std::vector<float> adapter_weights;    // [n_uses]
  // Gates that a sequence's adapters are weighted by, too; sequences from gates.size() on have none.
  std::vector<Gate> gates;

  // Tokens whose logits are computed (ascending indices into token_ids), and how each row of logits is
  // sampled.
  std::vector<int32_t> logit_rows;         // [n_logit_rows]
  std::vector<RowSampling> sampling;       // [n_logit_rows]
  std::vector<LogitBias> biases;           // row after row; a row names each token once
  std::vector<uint32_t> mask_words;        // [n_masks, MaskWords(vocab_size)]
  std::vector<CountsReset> counts_resets;  // applied before the step's rows are sampled
  std::vector<int32_t> counts_tokens;

  int n_tokens() const { return static_cast<int>(token_ids.size()); }
  int n_seqs() const { return cu_seqlens.empty() ? 0 : static_cast<int>(cu_seqlens.size()) - 1; }
  // Null: none.
  const Gate* GateOf(int seq) const {
    const auto s = static_cast<size_t>(seq);
    return s < gates.size() && gates[s].kind != GateKind::kNone ? &gates[s] : nullptr;
  }
  // Gives a gate to the sequence whose adapters were appended last.
  void GateLast(const Gate& gate);
  // token_ids, each FromRow(r) replaced by sampled[r] (the tokens of the step before).
  void ResolveTokens(std::span<const int32_t> sampled, std::vector<int32_t>* ids) const;
  void Clear();
  // Appends a change: from block `first` on, the seat's sequence has `blocks`.
  void ChangeBlocks(int seat, int first, std::span<const int32_t> blocks);
  // Reserves memory for steps of up to so many of each, so that steps allocate nothing. `max_blocks` is the
  // number of blocks in all changes of a step together.
  void Reserve(int max_tokens, int max_seqs, int max_blocks, int max_uses, int max_logit_rows);

  // --- Parts of a step: its tokens, seats and adapters, but neither block changes nor sampling. ---
  // Becomes the rows of `step` whose logits are wanted: its tokens are the logit rows of `step`, each a logit
  // row again. Sequences without one are left out. Used in the last layer once K and V are written, since
  // from there on only these rows matter.
  void KeepLogitRows(const Batch& step);
  // Becomes tokens [begin, end) of `step` with the logit rows among them. Sequences without a token there are
  // left out. Earlier tokens of a sequence are read from the KV cache, as in any step.
  void KeepTokens(const Batch& step, int begin, int end);

 private:
  // Ends the sequence whose tokens were appended last; it has the seat and adapters of sequence s of `step`.
  void EndSequence(const Batch& step, int s);
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_BATCH_H_
