#ifndef COTERIE_KERNELS_SAMPLING_H_
#define COTERIE_KERNELS_SAMPLING_H_

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "common/sampling_params.h"
#include "common/token_logprob.h"

namespace coterie {

// The mask of a row that another thread makes while the step is computed, read when the row is sampled. By
// backends that have one step in flight; others want a row of Batch::mask_words.
struct LateMask {
  std::atomic<bool> ready{false};  // set behind `words`
  std::vector<uint32_t> words;     // [MaskWords(vocab_size)]
};

// How the token of one row of logits is chosen, and what is reported of the row. The token is a function of
// (parameters, seed, position, logits, token counts) alone, the same bits on every machine.
//
// In this order: repetition penalty (Keskar et al. 2019, CTRL: divide positive, multiply negative logits of
// tokens seen in prompt or answer); frequency and presence penalties (answer only); logit bias; mask;
// temperature 0: the largest logit, of equal ones the lowest id. Else: divide by temperature; top-k; top-p
// (Holtzman et al. 2020) within what top-k left; min-p against the most probable token; one draw by inverse
// distribution over what is left, renormalised, with Philox's draw number `position` of stream `seed`.
struct RowSampling : DrawParams {
  uint64_t seed = 0;
  uint64_t position = 0;

  // The row of token counts that penalties read, and to which the chosen token is added; -1: none. See
  // Batch::counts_resets.
  int32_t seat = -1;
  int32_t bias_begin = 0;  // of Batch::biases
  int32_t bias_end = 0;
  int32_t mask = -1;  // row of Batch::mask_words: only tokens whose bit is set may be chosen; -1: all
  // Likewise, and instead. A row whose mask is not ready by then gives kMaskIsLate: it is to be computed
  // again.
  const LateMask* late_mask = nullptr;

  // Rows whose distributions are mixed, p = Σ mix_weight · softmax(logits), are consecutive. The first says
  // how many there are, and its other fields apply to the mixture: penalties, truncation, the draw, the
  // report. Every row of the mixture gets the token that was drawn; only the first has log-probabilities. A
  // row that is not mixed has 1 and 0.
  int32_t mix_rows = 1;
  float mix_weight = 0;

  int32_t score_token = -1;  // >= 0: choose no token, report the log-probability of this one
  // -1: report no log-probabilities. Else those of the token and of this many most probable tokens, in the
  // distribution of the raw logits or of the mixture.
  int32_t n_logprobs = -1;
  bool keep_logits = false;  // report the row itself
};

struct LogitBias {
  int32_t token = 0;
  float bias = 0;
};

// Resets the token counts of a seat: tokens [begin, answer) of Batch::counts_tokens count as seen in the
// prompt, tokens [answer, end) as the answer.
struct CountsReset {
  int32_t seat = 0;
  int32_t begin = 0;
  int32_t answer = 0;
  int32_t end = 0;
};

// In place of a token.
constexpr int32_t kNotFinite = -1;  // one of its row's logits is NaN or infinite
constexpr int32_t kMaskIsLate =
    -2;  // see RowSampling::late_mask; its log-probabilities are those of kNotFinite

// The results of a step's logit rows, in the batch's order. Owned by the backend.
struct StepResult {
  std::span<const int32_t> tokens;  // [n_logit_rows]: the chosen or scored token, kNotFinite or kMaskIsLate
  // For each row with n_logprobs >= 0, NumLogprobs() entries: the token's own, then the most probable ones,
  // best first. For a row that is not finite: tokens kNotFinite, values NaN.
  std::span<const TokenLogprob> logprobs;
  std::span<const float> logits;  // [rows with keep_logits, vocab_size]
};

inline int NumLogprobs(const RowSampling& row, int vocab_size) {
  return row.n_logprobs < 0 ? 0 : 1 + (row.n_logprobs < vocab_size ? row.n_logprobs : vocab_size);
}

}  // namespace coterie

#endif  // COTERIE_KERNELS_SAMPLING_H_
