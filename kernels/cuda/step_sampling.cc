#include "kernels/cuda/step_sampling.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "common/check.h"
#include "kernels/cuda/sampler.h"

namespace coterie::cuda {
namespace {

// Tokens of counts resets that are there from the beginning: a step rarely brings more.
constexpr size_t kFirstResetTokens = size_t{1} << 16;

size_t ResetBytes(size_t n_resets, size_t n_tokens) {
  return n_resets * sizeof(CountsReset) + n_tokens * sizeof(int32_t);
}

// Makes `memory` at least so large; what it held is lost. On failure it stays as it was.
Status Grow(size_t bytes, std::string_view what, PinnedMemory* memory) {
  if (bytes <= memory->bytes()) return absl::OkStatus();
  ASSIGN_OR_RETURN(*memory, PinnedMemory::Allocate(std::max(bytes, 2 * memory->bytes()), what));
  return absl::OkStatus();
}

RowSpec ToSpec(const RowSampling& row, int vocab_size) {
  RowSpec spec = {};
  spec.seed = row.seed;
  spec.position = row.position;
  spec.temperature = row.temperature;
  spec.top_p = row.top_p;
  spec.min_p = row.min_p;
  spec.top_k = row.top_k;
  spec.repetition_penalty = row.repetition_penalty;
  spec.frequency_penalty = row.frequency_penalty;
  spec.presence_penalty = row.presence_penalty;
  spec.seat = row.seat;
  spec.bias_begin = row.bias_begin;
  spec.bias_end = row.bias_end;
  spec.mask = row.mask;
  spec.mix_rows = 1;
  spec.mix_weight = row.mix_weight;
  spec.score_token = row.score_token;
  spec.n_best = NumLogprobs(row, vocab_size) - 1;
  if (row.score_token < 0) {
    spec.penalised = row.has_penalties();
    COTERIE_CHECK(!spec.penalised || row.seat >= 0) << "penalties without a seat that counts tokens";
    spec.adjusted = spec.penalised || row.bias_begin < row.bias_end || row.mask >= 0;
  }
  COTERIE_CHECK_LE(spec.n_best, static_cast<int32_t>(kMaxLogprobs)) << "most probable tokens to report";
  return spec;
}

}  // namespace

StatusOr<StepSampling> StepSampling::Create(const StepLimits& limits) {
  StepSampling sampling(limits);
  const auto rows = static_cast<size_t>(limits.max_logit_rows);
  if (rows == 0 || limits.vocab_size == 0) return sampling;
  ASSIGN_OR_RETURN(sampling.tokens_, PinnedMemory::Allocate(rows * sizeof(int32_t), "sampled tokens"));
  ASSIGN_OR_RETURN(sampling.logprobs_, PinnedMemory::Allocate(MaxLogprobs(limits) * sizeof(TokenLogprob),
                                                              "log-probabilities of tokens"));
  ASSIGN_OR_RETURN(sampling.resets_,
                   PinnedMemory::Allocate(ResetBytes(static_cast<size_t>(limits.max_seqs), kFirstResetTokens),
                                          "token counts"));
  sampling.kept_rows_.reserve(rows);
  sampling.to_reset_.reserve(static_cast<size_t>(limits.max_seqs));
  return sampling;
}

size_t StepSampling::DataBytes(const StepLimits& limits) {
  const auto rows = static_cast<size_t>(limits.max_logit_rows);
  const auto choosing = static_cast<size_t>(std::min(limits.max_logit_rows, limits.max_seqs));
  return sizeof(SamplingHeader) + rows * sizeof(RowSpec) +
         choosing * (kMaxLogitBiasEntries * sizeof(LogitBias) +
                     static_cast<size_t>(MaskWords(limits.vocab_size)) * sizeof(uint32_t));
}

size_t StepSampling::MaxLogprobs(const StepLimits& limits) {
  return static_cast<size_t>(limits.max_logit_rows) * (1 + kMaxLogprobs);
}

size_t StepSampling::PinnedBytes(const StepLimits& limits) {
  return static_cast<size_t>(limits.max_logit_rows) * sizeof(int32_t) +
         MaxLogprobs(limits) * sizeof(TokenLogprob) +
         ResetBytes(static_cast<size_t>(limits.max_seqs), kFirstResetTokens);
}

size_t StepSampling::LayOut(const Batch& batch, void* data) {
  const size_t n_rows = batch.sampling.size();
  COTERIE_CHECK_EQ(n_rows, batch.logit_rows.size()) << "rows with sampling parameters";
  COTERIE_CHECK_LE(n_rows, static_cast<size_t>(limits_.max_logit_rows)) << "rows to sample";
  n_rows_ = static_cast<int>(n_rows);
  n_logprobs_ = 0;
  mixtures_ = false;
  kept_rows_.clear();

  const size_t biases_at = sizeof(SamplingHeader) + n_rows * sizeof(RowSpec);
  const size_t masks_at = biases_at + batch.biases.size() * sizeof(LogitBias);
  const size_t bytes = masks_at + batch.mask_words.size() * sizeof(uint32_t);
  COTERIE_CHECK_LE(bytes, DataBytes(limits_)) << "bytes of biases, masks and rows to sample";
  char* const to = static_cast<char*>(data);
  const SamplingHeader header = {n_rows_, static_cast<int32_t>(biases_at), static_cast<int32_t>(masks_at), 0};
  std::memcpy(to, &header, sizeof(header));
  for (size_t i = 0; i < n_rows; ++i) {
    RowSpec spec = ToSpec(batch.sampling[i], limits_.vocab_size);
    size_t n_mixed = 1;
    if (spec.mixed()) {
      n_mixed = static_cast<size_t>(batch.sampling[i].mix_rows);
      COTERIE_CHECK(n_mixed >= 2 && n_mixed <= kMaxMixRows && i + n_mixed <= n_rows)
          << "rows of a mixture: " << batch.sampling[i].mix_rows;
      spec.mix_rows = static_cast<int32_t>(n_mixed);
      mixtures_ = true;
    }
    spec.logprobs_at = static_cast<int32_t>(n_logprobs_);
    n_logprobs_ += static_cast<size_t>(1 + spec.n_best);
    for (size_t end = i + n_mixed;; ++i) {
      if (batch.sampling[i].keep_logits) kept_rows_.push_back(static_cast<int32_t>(i));
      std::memcpy(to + sizeof(header) + i * sizeof(spec), &spec, sizeof(spec));
      if (i + 1 == end) break;
      spec = {};  // a later row of the mixture has its weight alone
      spec.mix_weight = batch.sampling[i + 1].mix_weight;
      COTERIE_CHECK(spec.mixed()) << "a row without weight within a mixture";
    }
  }
  if (!batch.biases.empty()) std::memcpy(to + biases_at, batch.biases.data(), masks_at - biases_at);
  if (!batch.mask_words.empty()) std::memcpy(to + masks_at, batch.mask_words.data(), bytes - masks_at);
  return bytes;
}

Status StepSampling::EnqueueResets(const Batch& batch, uint32_t* counts, cudaStream_t stream) {
  if (batch.counts_resets.empty()) return absl::OkStatus();
  // Of several resets of one seat the last counts: their blocks would not run in order.
  to_reset_.clear();
  for (auto reset = batch.counts_resets.rbegin(); reset != batch.counts_resets.rend(); ++reset) {
    const auto same = [&](const CountsReset& other) { return other.seat == reset->seat; };
    if (std::none_of(to_reset_.begin(), to_reset_.end(), same)) to_reset_.push_back(*reset);
  }
  const size_t n_resets = to_reset_.size(), n_tokens = batch.counts_tokens.size();
  if (!Grow(ResetBytes(n_resets, n_tokens), "token counts", &resets_).ok()) {
    return ResetInPieces(batch, counts, stream);
  }
  auto* const resets = resets_.As<CountsReset>();
  auto* const tokens = reinterpret_cast<int32_t*>(resets + n_resets);
  std::copy(to_reset_.begin(), to_reset_.end(), resets);
  std::copy(batch.counts_tokens.begin(), batch.counts_tokens.end(), tokens);
  ApplyCountsResets(resets, static_cast<int>(n_resets), tokens, limits_.vocab_size, counts, stream);
  return absl::OkStatus();
}

Status StepSampling::ResetInPieces(const Batch& batch, uint32_t* counts, cudaStream_t stream) {
  auto* const piece = resets_.As<CountsReset>();
  auto* const tokens = reinterpret_cast<int32_t*>(piece + 1);
  const auto room = static_cast<int32_t>((resets_.bytes() - sizeof(CountsReset)) / sizeof(int32_t));
  for (const CountsReset& reset : to_reset_) {
    int32_t at = reset.begin;
    do {  // once for a reset without tokens, too
      const int32_t n = std::min(room, reset.end - at);
      std::copy_n(batch.counts_tokens.begin() + at, n, tokens);
      *piece = {reset.seat, 0, std::clamp(reset.answer - at, 0, n), n};
      ApplyCountsResets(piece, 1, tokens, limits_.vocab_size, counts, stream, /*more=*/at > reset.begin);
      RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(stream), "token counts"));
      at += n;
    } while (at < reset.end);
  }
  return absl::OkStatus();
}

Status StepSampling::EnqueueCopies(const int32_t* tokens, const TokenLogprob* logprobs, const float* logits,
                                   cudaStream_t stream) {
  const auto copy = [&](void* to, const void* from, size_t bytes) {
    return ToStatus(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "results of a step");
  };
  if (n_rows_ > 0) {
    RETURN_IF_ERROR(copy(tokens_.data(), tokens, static_cast<size_t>(n_rows_) * sizeof(int32_t)));
  }
  if (n_logprobs_ > 0) {
    RETURN_IF_ERROR(copy(logprobs_.data(), logprobs, n_logprobs_ * sizeof(TokenLogprob)));
  }
  const auto vocab_size = static_cast<size_t>(limits_.vocab_size);
  RETURN_IF_ERROR(Grow(kept_rows_.size() * vocab_size * sizeof(float), "logits that a step reports", &kept_));
  for (size_t i = 0, end = 0; i < kept_rows_.size(); i = end) {  // runs of neighbouring rows
    for (end = i + 1; end < kept_rows_.size() && kept_rows_[end] == kept_rows_[end - 1] + 1;) ++end;
    RETURN_IF_ERROR(copy(kept_.As<float>() + i * vocab_size,
                         logits + static_cast<size_t>(kept_rows_[i]) * vocab_size,
                         (end - i) * vocab_size * sizeof(float)));
  }
  return absl::OkStatus();
}

StepResult StepSampling::Result() const {
  const auto vocab_size = static_cast<size_t>(limits_.vocab_size);
  return {{tokens_.As<int32_t>(), static_cast<size_t>(n_rows_)},
          {logprobs_.As<TokenLogprob>(), n_logprobs_},
          {kept_.As<float>(), kept_rows_.size() * vocab_size}};
}

}  // namespace coterie::cuda
