#include "kernels/cuda/draw_row.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sampler.h"

namespace coterie::cuda {
namespace {

// A row that a block works on: what the tops say of it.
struct RowToFinish {
  RowSpec spec;
  DrawnRow reported, drawn;
  bool choosable;  // there is a token to choose
  bool draws, reports;

  __device__ RowToFinish(const SamplingData& data, const float* logits, const SamplerScratch& scratch,
                         const Chunk& chunk)
      : spec(Rows(data)[chunk.row]) {
    const float* const own = scratch.adjusted + chunk.row * static_cast<int64_t>(data.vocab_size);
    const uint64_t reported_top = chunk.TopOfRow(scratch.tops, spec.mixed() ? kOfMixture : kOfLogits);
    reported.logits = spec.mixed() ? own : logits + chunk.row * static_cast<int64_t>(data.vocab_size);
    reported.top = LogitOfTop(reported_top);
    reported.temperature = 1.0f;
    reported.vocab_size = data.vocab_size;
    reports = spec.n_best >= 0 && reported_top != kBrokenRow;

    drawn = reported;
    drawn_top = reported_top;
    if (spec.adjusted) {
      drawn_top = chunk.TopOfRow(scratch.tops, kOfAdjusted);
      drawn.logits = spec.mixed() ? own + data.vocab_size : own;
      drawn.top = LogitOfTop(drawn_top);
    }
    drawn.temperature = spec.temperature;
    // A mask that lets nothing through leaves nothing but masked logits.
    choosable = drawn_top != kBrokenRow && !(spec.mask >= 0 && drawn.top == kMaskedLogit);
    draws = spec.draws() && choosable;
  }
  uint64_t drawn_top;
};

// What drawing and reporting need of every chunk.
__global__ void AddUpRows(SamplingData data, const float* logits, SamplerScratch scratch) {
  const Chunk chunk(data, scratch);
  if (chunk.row >= data.header->n_rows || Rows(data)[chunk.row].mix_rows == 0) return;
  const RowToFinish row(data, logits, scratch, chunk);
  const DrawMemory memory = DrawMemory::Make();
  if (row.draws) AddUpToDraw(row.spec, row.drawn, chunk, scratch, memory);
  if (row.reports) AddUpToReport(row.spec, row.reported, chunk, scratch, memory);
}

// Draws or chooses the row's token, and reports it.
__global__ void FinishRows(SamplingData data, const float* logits, SamplerScratch scratch, int32_t* tokens,
                           TokenLogprob* logprobs) {
  const Chunk chunk(data, scratch, static_cast<int>(blockIdx.x));
  if (chunk.row >= data.header->n_rows || Rows(data)[chunk.row].mix_rows == 0) return;
  const RowToFinish row(data, logits, scratch, chunk);
  const RowSpec& spec = row.spec;
  const DrawMemory memory = DrawMemory::Make();
  int token = spec.score_token;
  if (token < 0) token = row.choosable ? IdOfTop(row.drawn_top) : kNotFinite;
  if (row.draws) {
    token = spec.sorts(data.vocab_size) ? DrawSorted(spec, row.drawn, chunk, scratch, memory)
                                        : DrawById(spec, row.drawn, chunk, scratch, memory);
  }
  if (spec.n_best >= 0) {
    TokenLogprob* const out = logprobs + spec.logprobs_at;
    if (row.reports && token >= 0) {
      Report(spec, row.reported, token, chunk, scratch, memory, out);
    } else {
      for (int i = Thread(); i <= spec.n_best; i += NumThreads()) out[i] = {kNotFinite, NAN};
    }
    if (!row.reports) token = kNotFinite;
  }
  for (int i = Thread(); i < spec.mix_rows; i += NumThreads()) tokens[chunk.row + i] = token;
  if (Thread() == 0 && spec.seat >= 0 && spec.score_token < 0 && token >= 0) {
    uint32_t& count = data.counts[spec.seat * static_cast<int64_t>(data.vocab_size) + token];
    count = (count + 1) | kSeenToken;
  }
}

size_t RoundUp16(size_t bytes) { return (bytes + 15) / 16 * 16; }

// Lays out the arrays of `scratch` from `memory` on; returns the bytes they take.
size_t LayOutScratch(char* memory, int max_rows, int vocab_size, const SamplerShape& shape,
                     SamplerScratch* scratch) {
  size_t bytes = 0;
  const auto take = [&]<class T>(T** array, size_t n) {
    *array = reinterpret_cast<T*>(memory + bytes);
    bytes += RoundUp16(n * sizeof(T));
  };
  const auto rows = static_cast<size_t>(max_rows), vocab = static_cast<size_t>(vocab_size);
  const size_t n_chunks =
      (vocab + static_cast<size_t>(shape.chunk_tokens) - 1) / static_cast<size_t>(shape.chunk_tokens);
  take(&scratch->adjusted, rows * vocab);
  take(&scratch->lists, rows * vocab);
  take(&scratch->tops, 3 * rows * n_chunks);
  take(&scratch->sums, 3 * rows * n_chunks);
  take(&scratch->bins, 2 * rows * n_chunks * kSampleBins);
  scratch->max_rows = max_rows;
  scratch->n_chunks = static_cast<int>(n_chunks);
  scratch->shape = shape;
  return bytes;
}

}  // namespace

size_t SamplerScratchBytes(int max_rows, int vocab_size, const SamplerShape& shape) {
  SamplerScratch scratch;
  return LayOutScratch(nullptr, max_rows, vocab_size, shape, &scratch);
}

SamplerScratch MakeSamplerScratch(void* memory, int max_rows, int vocab_size, const SamplerShape& shape) {
  SamplerScratch scratch;
  LayOutScratch(static_cast<char*>(memory), max_rows, vocab_size, shape, &scratch);
  return scratch;
}

void SampleRows(const SamplingData& data, const float* logits, int rows, bool mixtures,
                const SamplerScratch& scratch, int32_t* tokens, TokenLogprob* logprobs, cudaStream_t stream) {
  if (rows == 0) return;
  EnqueueTops(data, logits, rows, mixtures, scratch, stream);
  const SamplerShape& shape = scratch.shape;
  Launch(AddUpRows, static_cast<unsigned>(rows) * static_cast<unsigned>(scratch.n_chunks),
         static_cast<unsigned>(shape.chunk_threads), DrawMemory::Bytes(shape.chunk_threads), stream, data,
         logits, scratch);
  Launch(FinishRows, static_cast<unsigned>(rows), static_cast<unsigned>(shape.finish_threads),
         DrawMemory::Bytes(shape.finish_threads), stream, data, logits, scratch, tokens, logprobs);
}

}  // namespace coterie::cuda
