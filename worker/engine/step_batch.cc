#include "worker/engine/step_batch.h"

#include "common/check.h"
#include "kernels/decoder_ops.h"
#include "worker/engine/mask_maker.h"

namespace coterie {
namespace {

RowSampling ToRow(const SamplingParams& params) {
  RowSampling row;
  static_cast<DrawParams&>(row) = params;
  row.seed = params.seed.value_or(0);
  if (params.logprobs.has_value()) row.n_logprobs = static_cast<int32_t>(*params.logprobs);
  return row;
}

}  // namespace

StepBatchBuilder::StepBatchBuilder(int max_tokens, int max_seqs, int max_blocks, int max_logit_rows,
                                   int vocab_size, bool late_masks)
    : vocab_size_(vocab_size), late_masks_(late_masks) {
  batch_.Reserve(max_tokens, max_seqs, max_blocks, max_seqs * static_cast<int>(kMaxAdaptersPerSequence),
                 max_logit_rows);
  if (!late_masks) {
    batch_.mask_words.reserve(static_cast<size_t>(max_seqs) * static_cast<size_t>(MaskWords(vocab_size)));
  }
}

const Batch& StepBatchBuilder::Build(std::span<const StepEntry> plan, std::vector<StepRow>* rows) {
  batch_.Clear();
  rows->clear();
  for (const StepEntry& entry : plan) AddSequence(entry, rows);
  return batch_;
}

// A sequence's rows stand side by side: so do the logits that are mixed.
void StepBatchBuilder::AddSequence(const StepEntry& entry, std::vector<StepRow>* rows) {
  Sequence* s = entry.sequence;
  const int32_t chosen_by = s->row_in_flight;  // before this step's row takes its place
  int adapter = 0;
  for (int row = 0; row < s->n_rows(); ++row) {
    AddTokens(entry, row, chosen_by, rows);
    AddBlocks(entry, &s->rows[row]);
    adapter = AddAdapters(*s, adapter, s->rows[row].n_adapters);
    if (s->request.gate.kind != GateKind::kNone) batch_.GateLast(s->request.gate);
  }
}

void StepBatchBuilder::AddTokens(const StepEntry& entry, int row, int32_t chosen_by,
                                 std::vector<StepRow>* rows) {
  Sequence* s = entry.sequence;
  for (int position = entry.first; position < entry.first + entry.n_tokens; ++position) {
    // Of a token that the step in flight is still choosing, its row.
    const int32_t id = position < s->n_tokens() ? s->tokens[position] : FromRow(chosen_by);
    if (Scheduler::WantsLogits(*s, position)) {
      batch_.logit_rows.push_back(batch_.n_tokens());
      AddLogitRow(s, row, position, rows);
    }
    batch_.token_ids.push_back(id);
    batch_.positions.push_back(position);
  }
  batch_.cu_seqlens.push_back(batch_.n_tokens());
}

// The first row says how the mixture is drawn from; the others bring their distributions.
void StepBatchBuilder::AddLogitRow(Sequence* s, int row, int position, std::vector<StepRow>* rows) {
  if (s->gang_logits != nullptr) return AddToldRow(s, row, position, rows);
  const bool scores = position + 1 < s->n_prompt;
  RowSampling sampling;
  StepRow::Use use = StepRow::Use::kIsMixed;
  if (row == 0) {
    sampling = SamplingOf(s, position, scores);
    sampling.mix_rows = s->n_rows();
    use = scores ? StepRow::Use::kScores : StepRow::Use::kChooses;
    if (!scores) s->row_in_flight = static_cast<int32_t>(rows->size());
  }
  sampling.mix_weight = s->rows[row].mix_weight;
  batch_.sampling.push_back(sampling);
  rows->push_back({s, position, use, NumLogprobs(sampling, vocab_size_)});
}

// Of a gang: the token is drawn elsewhere.
void StepBatchBuilder::AddToldRow(Sequence* s, int row, int position, std::vector<StepRow>* rows) {
  RowSampling sampling;
  sampling.keep_logits = true;
  batch_.sampling.push_back(sampling);
  rows->push_back({.sequence = s,
                   .position = position,
                   .use = row == 0 ? StepRow::Use::kChooses : StepRow::Use::kIsMixed,
                   .tells_logits = true});
}

RowSampling StepBatchBuilder::SamplingOf(Sequence* s, int position, bool scores) {
  const SamplingParams& params = s->request.sampling;
  RowSampling row;
  if (scores) {
    row.score_token = s->tokens[position + 1];
    row.n_logprobs = static_cast<int32_t>(params.logprobs.value_or(0));
    return row;
  }
  row = ToRow(params);
  row.position = static_cast<uint64_t>(position + 1 - s->n_prompt);
  row.bias_begin = static_cast<int32_t>(batch_.biases.size());
  for (const auto& [token, bias] : params.logit_bias) {
    batch_.biases.push_back({static_cast<int32_t>(token), bias});
  }
  row.bias_end = static_cast<int32_t>(batch_.biases.size());
  const std::vector<uint32_t>& mask = s->request.allowed_tokens;
  if (!mask.empty()) {
    row.mask = static_cast<int32_t>(batch_.mask_words.size() / mask.size());
    batch_.mask_words.insert(batch_.mask_words.end(), mask.begin(), mask.end());
  }
  if (s->masks != nullptr) AddMask(*s->masks, &row);
  if (params.has_penalties()) {
    row.seat = s->rows.front().seat;
    if (s->counts_stale) ResetCounts(s);
  }
  return row;
}

void StepBatchBuilder::ResetCounts(Sequence* s) {
  COTERIE_CHECK_EQ(s->n_choosing, 0) << "tokens of sequence " << s->request.id << " that nobody knows yet";
  const auto begin = static_cast<int32_t>(batch_.counts_tokens.size());
  batch_.counts_tokens.insert(batch_.counts_tokens.end(), s->tokens.begin(), s->tokens.end());
  batch_.counts_resets.push_back(
      {s->rows.front().seat, begin, begin + s->n_prompt, static_cast<int32_t>(batch_.counts_tokens.size())});
  s->counts_stale = false;
}

void StepBatchBuilder::AddMask(const AnswerMasks& masks, RowSampling* row) {
  if (late_masks_) {
    row->late_mask = &masks.mask;
    return;
  }
  COTERIE_CHECK(masks.ready()) << "a row launched without its mask";
  const std::vector<uint32_t>& words = masks.mask.words;
  row->mask = static_cast<int32_t>(batch_.mask_words.size() / words.size());
  batch_.mask_words.insert(batch_.mask_words.end(), words.begin(), words.end());
}

void StepBatchBuilder::AddBlocks(const StepEntry& entry, SequenceRow* row) {
  batch_.seats.push_back(row->seat);
  const int n_blocks = KvBlocksFor(entry.first + entry.n_tokens);
  if (row->n_table_blocks >= n_blocks) return;
  const auto first = static_cast<size_t>(row->n_table_blocks);
  batch_.ChangeBlocks(row->seat, row->n_table_blocks,
                      std::span(row->blocks).subspan(first, static_cast<size_t>(n_blocks) - first));
  row->n_table_blocks = n_blocks;
}

// The sequence's adapters [first, first + n), those of one row; returns the end.
int StepBatchBuilder::AddAdapters(const Sequence& s, int first, int n) {
  for (int i = first; i < first + n; ++i) {
    batch_.adapter_slots.push_back(s.adapters[i]->slot);
    batch_.adapter_weights.push_back(s.request.adapters[i].weight);
  }
  batch_.adapter_offsets.push_back(static_cast<int32_t>(batch_.adapter_slots.size()));
  return first + n;
}

}  // namespace coterie
