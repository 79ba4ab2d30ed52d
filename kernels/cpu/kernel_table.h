#ifndef COTERIE_KERNELS_CPU_KERNEL_TABLE_H_
#define COTERIE_KERNELS_CPU_KERNEL_TABLE_H_

#include <cstdint>

#include "kernels/number_limits.h"

// What one instruction set gives the CPU backend: plain functions over plain memory, each doing a range of
// the outputs of one op on the calling thread. Every table gives the same bits (docs/numerics.md). The
// structures here cross from files compiled for a higher instruction set to files that are not, so they hold
// plain data only, and functions are static: of shared ones the linker might keep the copy for the higher
// set.
namespace coterie::cpu {

constexpr int kPanelOutputs = 16;  // outputs side by side in the lanes of a vector
constexpr int kPanelBlock = 32;    // K values per quantised block

// The layout of a block, 16 outputs by 32 values of K, with its bytes in brackets. Scales come first, then
// codes: vector j of 64 bytes holds in lane n, byte i the code of output n at k = 4j + i. With 4-bit codes
// that is the low nibble, and the high nibble is k = 16 + 4j + i.
enum class PanelKind : uint8_t {
  kQ4_1,  // 4 bit, w = d·u + m; d[16], m[16] binary16 [320]
  kQ4_0,  // 4 bit, w = d·(u - 8); d[16] binary16 [288]
  kQ8_0,  // 8 bit, w = d·(u - 128); d[16] binary16 [544]; also Q5_0
  kQ4F,   // 4 bit, w = d·u + m; d[16], m[16] float32 [384]: Q4_K
  kQ8F,   // 8 bit, w = d·u + m; d[16], m[16] float32 [640]; codes below 32: Q5_1, Q5_K
  kQ6_K,  // 8 bit, w = d·(u - 128), one d per 16 K; d0[16], d1[16] float32 [640]; codes in [96, 159]
  kF32,   // one vector of 16 values per k
  kBF16,
  kF16,
};
constexpr int kPanelKindCount = 9;

static constexpr bool IsQuantised(PanelKind kind) { return kind < PanelKind::kF32; }

// Bytes of one panel (16 outputs) over n_in values of K.
static constexpr int64_t PanelBytes(PanelKind kind, int64_t n_in) {
  constexpr int kBlockBytes[kPanelKindCount] = {320, 288, 544, 384, 640, 640, 0, 0, 0};
  switch (kind) {
    case PanelKind::kF32:
      return n_in * kPanelOutputs * 4;
    case PanelKind::kBF16:
    case PanelKind::kF16:
      return n_in * kPanelOutputs * 2;
    default:
      return n_in / kPanelBlock * kBlockBytes[static_cast<int>(kind)];
  }
}

// Activations of the fast mode, quantised once per product and shared by every panel: 32 values x = scale ·
// (q + zero), q in [-128, 127]. All that a product reads about them is in this struct, so that a row is one
// pointer.
struct QuantisedBlock {
  int8_t q[32];
  float scale;
  float scaled_sum;     // scale · Σ (q + zero)
  int16_t half_sum[2];  // Σ (q + zero) over the first and the second 16 values
  int32_t zero;         // [-127, 127]
  int8_t zeros[4];      // four times the same: spreading one byte over a vector takes a shuffle
};

struct LinearArgs {
  PanelKind kind;
  const uint8_t* panels;  // [n_panels, PanelBytes(kind, n_in)]
  int64_t n_out;          // real outputs of this segment; the last panel may be partly padding
  int64_t n_in;
  int rows;
  const float* x;  // [rows, x_stride]: exact mode, and float weights in both modes
  int64_t x_stride;
  const QuantisedBlock* q;  // [rows, n_in / 32]: fast mode over quantised weights
  const float* bias;        // [n_out] or null
  float* y;                 // [rows, y_stride], column 0 is this segment's first output
  int64_t y_stride;
  bool accumulate;          // y = fma(alpha, product, y) instead of y = product
  const float* row_alphas;  // alpha of row r is row_alphas[r] · alpha; null: alpha
  float alpha;
  // The index of row r in x (float weights only) and in y; null: r itself. So the rows of an adapter may be
  // scattered over a batch.
  const int32_t* x_rows;
  const int32_t* y_rows;
  // The panel that this thread will probably read after this call's, to be prefetched.
  int64_t next_panel;
};

// ---- Adapters in 8 bits (fast mode): w = d · (u - 128), one bfloat16 d per output and 32 values of K. ----
// A, the modules of one input stacked: panels of 16 outputs. Where at most 8 outputs are left, the last panel
// has 8, so that common ranks are not padded. A block of 32 K in bytes: d[outputs], then vectors of 64 codes.
// In a panel of 16, vector j holds in lane n, byte i the code of output n at k = 4j + i; in one of 8, lane n
// < 8 that of output n at 4j + i and lane 8 + n that of the same output at 16 + 4j + i.
constexpr int kLoraOutputBlockBytes = 2 + kPanelBlock;  // bytes of one output in one block
static constexpr int LoraShrinkPanels(int rank) { return (rank + kPanelOutputs - 1) / kPanelOutputs; }
static constexpr int64_t LoraShrinkBytes(int rank, int64_t n_in) {
  const int outputs = (rank + kPanelOutputs / 2 - 1) / (kPanelOutputs / 2) * (kPanelOutputs / 2);
  return n_in / kPanelBlock * kLoraOutputBlockBytes * outputs;
}
// B: panels of 16 outputs over blocks of 32 ranks, the last block as short as the rank: d[16], then a vector
// for every 4 ranks.
static constexpr int64_t LoraExpandPanelBytes(int rank) {
  return static_cast<int64_t>(rank + kPanelBlock - 1) / kPanelBlock * 2 * kPanelOutputs +
         static_cast<int64_t>(rank + 3) / 4 * 64;
}

struct LoraShrinkArgs {
  const uint8_t* panels;  // [LoraShrinkBytes(rank, n_in)]
  int rank;               // of all modules stacked
  int64_t n_in;           // a multiple of 32
  int rows;
  const QuantisedBlock* x;  // [.., n_in / 32]: of the whole batch
  const int32_t* x_rows;    // where row r stands in x
  float* t;                 // [rows, t_stride]
  int64_t t_stride;
};

// The scale of 32 values of t = A x (fewer at the end of the rank): t = scale · q.
struct LoraBlock {
  float scale;
  int32_t offset;  // of Σ c q from what expand_lora multiplies: -128 Σ q, or 0
};

struct LoraExpandArgs {
  const uint8_t* panels;  // [ceil(n_out / 16), LoraExpandPanelBytes(rank)]
  int64_t n_out;
  int rank;
  int rows;
  const int8_t* q;  // [rows, q_stride]: codes of t, zeros up to the next multiple of 16
  int64_t q_stride;
  const LoraBlock* blocks;  // [rows, block_stride]
  int64_t block_stride;
  float* y;  // [.., y_stride], column 0 is the module's first output
  int64_t y_stride;
  const int32_t* y_rows;    // where row r stands in y; null: at r
  const float* row_alphas;  // [rows]: alpha of row r is row_alphas[r] · alpha
  float alpha;
};

// One head of a block of 16 keys. F32, F16: K [head_dim][16] (keys are lanes of the scores), V [16][v_stride]
// (dimensions are lanes of the output). BF16: two values to the lane, K [head_dim / 2][16][2] and
// V [8][v_stride][2]; beside an odd last dimension, and beside a last key at an even place, stands zero.
enum class KvType : uint8_t { kF32, kBF16, kF16 };
static constexpr int KvTypeBytes(KvType type) { return type == KvType::kF32 ? 4 : 2; }

constexpr int kAttentionRows = 48;     // query vectors that share one pass over the keys
constexpr int kAttentionSegment = 64;  // keys per online-softmax step, at absolute positions
constexpr int kKeysPerBlock = 16;      // == kKvBlockTokens
constexpr int kMaxHeadDim = 256;

// Up to kAttentionRows query vectors over the keys of one KV head.
struct AttendArgs {
  KvType type;
  const uint8_t* k;  // block b of this head: k + b · block_bytes
  const uint8_t* v;  // block b of this head: v + b · block_bytes
  int64_t block_bytes;
  const int32_t* block_ids;  // by position / 16; null: the identity
  int head_dim;
  int v_stride;  // head_dim rounded up to 16
  float scale;
  int n_rows;
  const float* q[kAttentionRows];  // [head_dim]
  float* out[kAttentionRows];      // [head_dim]
  int32_t lo[kAttentionRows];      // row r attends keys [lo, hi), hi > lo
  int32_t hi[kAttentionRows];
};

// Consecutive tokens of one KV head into one block, rounded.
struct KvWriteArgs {
  KvType type;
  int head_dim;
  int v_stride;
  const float* k;  // [n_tokens, stride], head_dim of each row
  const float* v;  // the same of V
  int64_t stride;
  int n_tokens;
  int slot;  // of the first token within the block
  uint8_t* k_block;
  uint8_t* v_block;
};

// Consecutive tokens of one sequence that stand in one block.
struct RopeKvArgs {
  float* qkv;  // [n_tokens, (n_heads + 2 n_kv_heads) · head_dim]
  int n_heads;
  int n_kv_heads;
  int head_dim;
  int v_stride;
  const float* q_norm;  // [head_dim] or null
  const float* k_norm;
  float eps;
  const float* cos;  // [n_tokens, rotary_dim / 2], from the first token's position on
  const float* sin;
  int rotary_dim;
  KvType type;
  int n_tokens;
  int slot;  // of the first token within the block
  uint8_t* k;
  uint8_t* v;
  int64_t k_head_bytes;  // from one KV head to the next in k and in v
  int64_t v_head_bytes;
};

struct KernelTable {
  const char* name;
  // With at least `wide_rows` rows, a tile of a quantised product spans `wide_panels` panels: ranges should
  // be cut at multiples of that.
  int wide_rows;
  int wide_panels;
  // x [n_blocks, 32].
  void (*quantise)(const float* x, int64_t n_blocks, QuantisedBlock* to);
  // Panels [begin, end) of the segment for all rows. `quantised_x` picks args.q over args.x.
  void (*linear)(const LinearArgs& args, bool quantised_x, int64_t panel_begin, int64_t panel_end);
  // The index of the first of y [n] that is above `most` or not finite; n if there is none.
  int64_t (*skip_at_most)(const float* y, int64_t n, float most);
  // t = A x for panels [begin, end).
  void (*shrink_lora)(const LoraShrinkArgs& args, int panel_begin, int panel_end);
  // t [rank] of one row and module to q [rank rounded up to 16] and blocks [ceil(rank / 32)].
  void (*quantise_lora)(const float* t, int rank, int8_t* q, LoraBlock* blocks);
  // y += alpha · B t for panels [begin, end).
  void (*expand_lora)(const LoraExpandArgs& args, int64_t panel_begin, int64_t panel_end);
  void (*rms_norm)(const float* x, const float* weight, float eps, int rows, int d, float* y);
  void (*layer_norm)(const float* x, const float* residual, const float* weight, const float* bias, float eps,
                     int rows, int d, float* y);
  void (*add_rms_norm)(const float* x, const float* weight, float eps, int rows, int d, float* y);
  void (*swiglu)(const float* gate_up, int rows, int f, float* h);
  void (*geglu)(const float* gate_up, int rows, int f, float* h);
  void (*gelu)(const float* x, int rows, int d, float* y);  // y may be x
  void (*rope_kv)(const RopeKvArgs& args);
  void (*write_kv)(const KvWriteArgs& args);
  void (*attend)(const AttendArgs& args);
  void (*mean_pool_normalize)(const float* x, int rows, int d, float* y);
  // scores[i] = query · rows[i] for n rows of dim values.
  void (*dot_rows)(const float* query, const float* rows, int64_t n, int64_t dim, float* scores);
  // The elementary functions, for their tests.
  void (*exp)(const float* x, int64_t n, float* y);
  void (*erf)(const float* x, int64_t n, float* y);
  void (*exp2_weight)(const float* x, int64_t n, float* y);
  void (*silu)(const float* x, int64_t n, float* y);
  void (*gelu_tanh)(const float* x, int64_t n, float* y);
  // The bfloat16 primitives, for theirs: y[i] = RoundToBf16(x[i]); y[i] = DotBf16(y[i], a[2i..], b[2i..]). n
  // is a multiple of 16.
  void (*round_bf16)(const float* x, int64_t n, uint16_t* y);
  void (*dot_bf16)(const uint16_t* a, const uint16_t* b, int64_t n, float* y);
};

// Null where this build lacks the instruction set. isa.h knows whether the machine has it.
const KernelTable* Avx512Bf16Table();
const KernelTable* Avx512Table();
const KernelTable* Avx2Table();
const KernelTable* NeonDotTable();
const KernelTable* HighwayTable();
const KernelTable* PortableTable();

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_KERNEL_TABLE_H_
