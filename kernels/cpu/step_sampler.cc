#include "kernels/cpu/step_sampler.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"

namespace coterie::cpu {

void StepOutput::Reserve(int max_rows) {
  tokens.reserve(static_cast<size_t>(max_rows));
  logprobs.reserve(static_cast<size_t>(max_rows));
}

void StepOutput::Clear() {
  tokens.clear();
  logprobs.clear();
  logits.clear();
}

void StepSampler::Begin(const Batch& batch, StepOutput* output) {
  COTERIE_CHECK_EQ(batch.sampling.size(), batch.logit_rows.size()) << "rows with sampling parameters";
  batch_ = &batch;
  output_ = output;
  n_mixed_ = 0;
  output->Clear();
  const std::span<const int32_t> tokens = batch.counts_tokens;
  for (const CountsReset& reset : batch.counts_resets) {
    const auto range = [&](int32_t begin, int32_t end) {
      return tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    };
    counts_.Reset(reset.seat, range(reset.begin, reset.answer), range(reset.answer, reset.end));
  }
}

int StepSampler::TopNeeded(int row, int most) const {
  return Sampler::TopNeeded(batch_->sampling[static_cast<size_t>(row)], vocab_size_, most);
}

void StepSampler::TakeRow(std::span<const float> logits) {
  const RowSampling& row = Current();
  if (row.keep_logits) output_->logits.insert(output_->logits.end(), logits.begin(), logits.end());
  if (row.mix_weight > 0) {
    MixRow(logits);
  } else {
    SampleRow(row, logits);
  }
}

void StepSampler::MixRow(std::span<const float> logits) {
  const RowSampling& first = batch_->sampling[output_->tokens.size()];
  if (n_mixed_ == 0) mixture_.Begin();
  mixture_.Add(logits, Current().mix_weight);
  const auto n_rows = static_cast<size_t>(first.mix_rows);
  if (++n_mixed_ < n_rows) return;
  n_mixed_ = 0;
  SampleRow(first, mixture_.Logits());
  const int32_t token = output_->tokens.back();
  output_->tokens.insert(output_->tokens.end(), n_rows - 1, token);
}

void StepSampler::SampleRow(const RowSampling& row, std::span<const float> logits) {
  int32_t token = row.score_token;
  const bool is_late = row.late_mask != nullptr && !row.late_mask->ready.load(std::memory_order_acquire);
  if (is_late) {
    token = kMaskIsLate;
  } else if (token < 0) {
    SamplerInputs inputs;
    inputs.biases =
        std::span(batch_->biases)
            .subspan(static_cast<size_t>(row.bias_begin), static_cast<size_t>(row.bias_end - row.bias_begin));
    const auto words = static_cast<size_t>(MaskWords(vocab_size_));
    if (row.mask >= 0) {
      inputs.mask = std::span(batch_->mask_words).subspan(static_cast<size_t>(row.mask) * words, words);
    }
    if (row.late_mask != nullptr) inputs.mask = row.late_mask->words;
    if (row.has_penalties()) inputs.counts = counts_.Of(row.seat);
    token = sampler_.Sample(row, logits, inputs);
  }
  if (row.n_logprobs >= 0) {
    const size_t begin = output_->logprobs.size();
    output_->logprobs.resize(begin + static_cast<size_t>(NumLogprobs(row, vocab_size_)));
    const std::span<TokenLogprob> out = std::span(output_->logprobs).subspan(begin);
    // A row whose mask allows no token, or is late, has no log-probabilities.
    const bool finite = sampler_.Logprobs(logits, std::max(token, 0), out);
    if (!finite || token < 0) std::fill(out.begin(), out.end(), TokenLogprob{kNotFinite, NAN});
    if (!finite && !is_late) token = kNotFinite;
  }
  Choose(row, token);
}

void StepSampler::TakeRow(std::span<const TopLogit> top) {
  const RowSampling& row = Current();
  Choose(row, sampler_.SampleTop(row, top));
}

void StepSampler::Choose(const RowSampling& row, int32_t token) {
  output_->tokens.push_back(token);
  if (row.seat >= 0 && row.score_token < 0 && token >= 0) counts_.Add(row.seat, token);
}

}  // namespace coterie::cpu
