#include "worker/gang/gang_draw.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/check.h"

namespace coterie {
namespace {

std::unique_ptr<Sequence> WholeSequence(SequenceRequest whole, std::span<const float> weights,
                                        int max_sequence_tokens) {
  whole.gang.reset();
  whole.adapters.clear();
  whole.mixture.clear();
  for (const float weight : weights) whole.mixture.push_back({.n_adapters = 0, .weight = weight});
  std::unique_ptr<Sequence> sequence = MakeSequence(std::move(whole), Digest(), max_sequence_tokens);
  int seat = 0;
  for (SequenceRow& row : sequence->rows) {
    row.seat = seat++;
    row.n_table_blocks = std::numeric_limits<int>::max();  // it has no KV, and no step asks for more of it
  }
  return sequence;
}

}  // namespace

GangDraw::GangDraw(SequenceRequest whole, std::span<const float> weights, int vocab_size,
                   int max_sequence_tokens)
    : vocab_size_(static_cast<size_t>(vocab_size)),
      allowed_(whole.allowed_tokens),
      sequence_(WholeSequence(std::move(whole), weights, max_sequence_tokens)),
      builder_(sequence_->n_rows(), sequence_->n_rows(), 0, sequence_->n_rows(), vocab_size,
               /*late_masks=*/false),
      sampler_(vocab_size, sequence_->n_rows()) {}

int32_t GangDraw::Draw(std::span<const float> rows, std::span<const uint32_t> told) {
  Sequence* s = sequence_.get();
  const auto n_rows = static_cast<size_t>(s->n_rows());
  COTERIE_CHECK_EQ(rows.size(), n_rows * vocab_size_) << "logits of all members";
  std::vector<uint32_t>& mask = s->request.allowed_tokens;
  mask.assign(told.begin(), told.end());
  for (size_t i = 0; i < allowed_.size() && i < mask.size(); ++i) mask[i] &= allowed_[i];
  const bool any = std::any_of(mask.begin(), mask.end(), [](uint32_t word) { return word != 0; });
  if (!any) mask = allowed_;

  const StepEntry entry{s, s->n_tokens() - 1, 1};
  sampler_.Begin(builder_.Build({&entry, 1}, &rows_), &output_);
  for (size_t i = 0; i < n_rows; ++i) sampler_.TakeRow(rows.subspan(i * vocab_size_, vocab_size_));
  const int32_t token = output_.tokens.front();
  if (token >= 0) s->tokens.push_back(token);
  return token;
}

}  // namespace coterie
