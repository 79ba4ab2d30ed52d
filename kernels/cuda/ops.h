#ifndef COTERIE_KERNELS_CUDA_OPS_H_
#define COTERIE_KERNELS_CUDA_OPS_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <span>

#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/matrix.h"
#include "kernels/cuda/step_data.h"

namespace coterie::cuda {

class FastProducts;

// The kernels' side of DecoderOps: each function enqueues its work on `stream` and returns. All pointers are
// device memory. `rows` is how many rows the grid is made for; the rows past StepData's count are computed,
// too, where that is harmless (a graph is captured for a rounded-up number), and written nowhere that anybody
// reads.
//
// Operands of products are bfloat16, sums and everything else float32.

// --- rows.cu ---
// x [rows, d] = rows token_ids of table [vocab, d].
void Embed(const StepData& step, const CudaMatrix& table, int rows, float* x, cudaStream_t stream);
// operand [rows, d] = x / sqrt(mean(x²) + eps) · weight [d].
void RmsNormOperand(const float* x, const float* weight, float eps, int rows, int d, uint16_t* operand,
                    cudaStream_t stream);
// operand [rows, f] = silu(gate) · up of gate_up [rows, 2 f], gate first.
void SwiGluOperand(const float* gate_up, int rows, int f, uint16_t* operand, cudaStream_t stream);
// operand [rows, d] = x.
void PlainOperand(const float* x, int rows, int d, uint16_t* operand, cudaStream_t stream);
// y [n_logit_rows, d] = rows logit_rows of x [n_tokens, d]; for up to `rows` of them.
void GatherRows(const StepData& step, const float* x, int rows, int d, float* y, cudaStream_t stream);

// --- linear.cu ---
// Where a module's product is added: kernels/lora.h.
struct LoraSite {
  int layer = 0;
  int n_targets = 0;
  LoraTarget targets[3];
  int n_out[3] = {};
};
// Scratch of products of few rows, with adapters and without, whose K several blocks share.
struct SplitScratch {
  float* sums = nullptr;         // [SplitScratchFloats], aligned to 16 bytes; null: blocks share none
  uint32_t* counters = nullptr;  // [SplitCounters]; 0 between launches
  int tokens = 0;                // room for so many rows
};
constexpr int kSplitTurns = 4;  // see linear_split.h
size_t SplitScratchFloats(int max_rows, int n_processors);
constexpr int SplitCounters(int n_processors) { return 2 * kSplitTurns * n_processors; }

// Scratch of products, for the largest step: of those with adapters, and of all.
struct LoraScratch {
  float* floats = nullptr;       // [LoraScratchFloats]
  uint32_t* progress = nullptr;  // [kLoraProgressWords]; 0 between launches
  int max_entries = 0;           // these three as LoraScratchFloats was told
  int max_adapters = 0;
  int max_rank = 0;
  SplitScratch split;
};
constexpr int kLoraProgressWords = 3;
// Entries: rows of all tiles of a step. `max_adapters`: of a row. `max_rank`: of an adapter at one input, the
// sum over the modules that read it, each filled up to a multiple of kLoraRankStep; so it is one, too.
size_t LoraScratchFloats(int max_entries, int max_adapters, int max_rank, int64_t max_n_in);

// y [rows, n_out] = x [rows, n_in] · wᵀ (+ bias), or y += that; then the adapters of the step at `site`
// (null: none): the sum of a row's adapters, in order, is added to y. One launch for up to kSmallRows rows
// and each of w's segments, or one for each window of such rows (linear_division.h). Each value is summed in
// one order, whatever `rows` is; but not where `fast` is given and takes the product (fast_products.h).
constexpr int kSmallRows = 64;
void LinearLora(const uint16_t* x, int rows, const CudaMatrix& w, const float* bias, bool accumulate,
                const LoraWork* work, const LoraSite& site, const LoraScratch& scratch, float* y,
                int n_processors, cudaStream_t stream, FastProducts* fast = nullptr);

// --- rope_kv.cu ---
// See DecoderOps::RopeAndKvWrite. K and V of `qkv` stay as they are.
void RopeAndKvWrite(const StepData& step, int rows, int layer, int n_heads, const float* q_norm,
                    const float* k_norm, float eps, const float* cos, const float* sin, int rotary_dim,
                    float* qkv, const KvLayout& kv, cudaStream_t stream);

// --- attention.cu ---
struct AttentionScratch {
  float* partial = nullptr;      // AttentionScratchFloats
  uint32_t* progress = nullptr;  // [kAttentionCounters, n_kv_heads]; 0 between launches
};
size_t AttentionScratchFloats(int n_kv_heads, int head_dim, int n_processors);

// operand [n_tokens, n_heads · head_dim], bfloat16: see DecoderOps::PagedAttention. `tile_vectors` is what
// the step's items were built with (attention_items.h): kAttentionTileVectors or kAttentionDecodeTileVectors.
void PagedAttention(const StepData& step, int tile_vectors, int layer, int n_heads, float scale, int window,
                    const float* qkv, const KvLayout& kv, const AttentionScratch& scratch, uint16_t* operand,
                    int n_processors, cudaStream_t stream);
// Head sizes that PagedAttention has kernels for.
bool AttentionHasHeadDim(int head_dim);

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_OPS_H_
