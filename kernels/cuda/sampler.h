#ifndef COTERIE_KERNELS_CUDA_SAMPLER_H_
#define COTERIE_KERNELS_CUDA_SAMPLER_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/sampling_data.h"

namespace coterie::cuda {

// How the work is cut. No result depends on it.
struct SamplerShape {
  int chunk_tokens = 8192;   // of a row, for one block
  int chunk_threads = 256;   // of that block, whole warps
  int finish_threads = 512;  // of the block that draws a row's token, at least kSampleBins for speed
};

// Device memory that sampling writes in between, for up to `max_rows` rows.
struct SamplerScratch {
  float* adjusted = nullptr;  // [max_rows, vocab_size]: logits that were penalised, biased, masked or mixed
  uint32_t* lists = nullptr;  // [max_rows, vocab_size]: ids of tokens that may be among those kept
  uint64_t* tops = nullptr;   // [3, max_rows, n_chunks]: of logits, of adjusted ones, of mixtures
  uint64_t* sums = nullptr;   // [3, max_rows, n_chunks]: masses of rows to mix, to draw from, to report
  uint64_t* bins = nullptr;   // [2, max_rows, n_chunks, kSampleBins]: to draw from, to report
  int max_rows = 0;
  int n_chunks = 0;
  SamplerShape shape;
};
constexpr int kSampleBins = 128;
constexpr int kMaxMixRows = 256;  // of one mixture

// Bytes for so many rows: about as much again as the logits themselves, twice.
size_t SamplerScratchBytes(int max_rows, int vocab_size, const SamplerShape& shape = {});
// Lays it out in `memory`, aligned to 16 bytes. Whatever that holds will do.
SamplerScratch MakeSamplerScratch(void* memory, int max_rows, int vocab_size, const SamplerShape& shape = {});

// Samples the step's rows of `logits` [rows, vocab_size], which it leaves as they are: token by token what
// kernels/cpu/step_sampler.h gives for the same logits, bit by bit. tokens [rows] are kNotFinite where
// nothing could be chosen; `logprobs` are in the order of StepResult. The grids are made for `rows` rows;
// those that the step has not are passed over. The step's counts resets were applied before.
//
// Three launches, and two more for mixtures: `mixtures` false leaves those out. On paper, on an H200 with 128
// Ki tokens: 64 greedy rows are read once, 32 MB out of the second cache, 10 us with the launches. Rows that
// are drawn are read three times: for the top; for the sums, 55 instructions a token, 15 us for 64 rows on
// all multiprocessors; and by one block a row that collects the candidates, which takes what one
// multiprocessor can read, 8 us, and 5 to 10 us to rank them. One row alone takes 20 us. That is for some
// thousands of candidates. A row so flat that top-k, top-p or min-p cut among most of the vocabulary (a
// temperature of 5, say) takes 70 to 100 us, alone or beside others: its one block goes through 128 Ki
// candidates a dozen times, 5 to 8 us each, to narrow the cut and then the draw down seven bits at a time.
// Blocks of all the row's chunks could count those bits in place of one, for a launch each time that every
// step would pay; nobody was seen to serve such rows.
void SampleRows(const SamplingData& data, const float* logits, int rows, bool mixtures,
                const SamplerScratch& scratch, int32_t* tokens, TokenLogprob* logprobs, cudaStream_t stream);

// Resets the counts of seats, each named once: `tokens` as Batch::counts_tokens. Both are memory that the
// device can read, pinned host memory as well. `more`: the tokens are added to what a reset before has
// counted.
void ApplyCountsResets(const CountsReset* resets, int n_resets, const int32_t* tokens, int vocab_size,
                       uint32_t* counts, cudaStream_t stream, bool more = false);

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_SAMPLER_H_
