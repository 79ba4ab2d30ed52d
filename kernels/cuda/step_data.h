#ifndef COTERIE_KERNELS_CUDA_STEP_DATA_H_
#define COTERIE_KERNELS_CUDA_STEP_DATA_H_

#include <cstdint>

#include "kernels/lora.h"

namespace coterie::cuda {

// What kernels read of a step, in device memory at addresses that stay the same from step to step, so that a
// captured graph finds the next step's where it found its own. Counts are device memory, too: a grid is as
// large as the graph says and loops until the count it reads.

// A rank-r update of one product: y += weight · scale · B (A x). In bfloat16, ranks filled up with zeros to a
// multiple of 8 (kLoraRankStep), so that every row of B begins at a multiple of 16 bytes.
struct LoraPair {
  const uint16_t* a = nullptr;  // [rank, n_in]
  const uint16_t* b = nullptr;  // [n_out, rank]
  int32_t rank = 0;             // filled up; 0: this adapter does not change this product
  float scale = 0;
};
constexpr int kLoraRankStep = 8;
constexpr int kMaxLoraRank = 256;

// Up to kLoraTileRows rows of the step that use one adapter at the same position of their lists: entries
// [first, first + n_rows) of LoraWork's rows and weights.
struct LoraTile {
  int32_t slot;
  int32_t first;
  int32_t n_rows;
};
constexpr int kLoraTileRows = 8;

// The adapters of a step. Tiles come in the order in which their products are added: all first adapters of
// sequences, then all second ones. An adapter's pairs are at pairs[(slot · n_layers + layer) ·
// kLoraModuleCount + module].
struct LoraWork {
  const LoraPair* pairs = nullptr;  // [n_slots, n_layers, kLoraModuleCount]
  const int32_t* n_tiles = nullptr;
  const LoraTile* tiles = nullptr;
  const int32_t* rows = nullptr;   // [n_entries], rows of the step
  const float* weights = nullptr;  // [n_entries]
  int n_layers = 0;
  int max_tiles = 0;  // of the largest step: what partial results have room for
  int max_entries = 0;
};

// Query vectors of one sequence that attend together (a tile: AttentionTile of step_plan.h), over one split
// of its keys or over all of them. attention_items.h says which; no bit depends on it.
struct alignas(8) AttentionItem {
  int32_t seat;
  int32_t first_token;     // of the sequence in the step
  int32_t first_vector;    // vector v is query head v % group of token first_token + v / group
  int32_t n_vectors;       // v in [first_vector, first_vector + n_vectors)
  int32_t first_position;  // of the first vector's token
  int32_t last_position;   // of the last vector's token
  int32_t first_split;     // keys [split · kAttentionSplit, (split + 1) · kAttentionSplit) of the sequence
  int32_t end_split;
  int32_t partial_row;  // of a split tile: its split s has rows [partial_row + s · n_vectors ...) of scratch;
                        // else -1
  int32_t counter;  // of a split tile: counts the splits that are done
};
constexpr int kAttentionSplit = 512;             // keys; a multiple of kKvBlockTokens
constexpr int kAttentionTileVectors = 64;        // most vectors of a tile
constexpr int kAttentionDecodeTileVectors = 16;  // in steps of decode alone, where a group is no larger
constexpr int kAttentionPartialRows = 8192;      // of split tiles in one step, for each KV head
constexpr int kAttentionCounters = 1024;         // split tiles of one step

struct StepData {
  const int32_t* n_tokens = nullptr;
  const int32_t* token_ids = nullptr;   // [n_tokens], FromRow(r) as it stands
  const int32_t* positions = nullptr;   // [n_tokens]
  const int32_t* sequences = nullptr;   // [n_tokens], of each token
  const int32_t* cu_seqlens = nullptr;  // [n_seqs + 1]
  const int32_t* seats = nullptr;       // [n_seqs]
  const int32_t* logit_rows = nullptr;  // [n_logit_rows]
  const int32_t* n_logit_rows = nullptr;
  const int32_t* sampled = nullptr;      // of the step before, by row: what FromRow means
  const int32_t* block_table = nullptr;  // [n_seats, max_blocks]
  int max_blocks = 0;
  const int32_t* n_items = nullptr;  // of attention
  const AttentionItem* items = nullptr;
  LoraWork lora;
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_STEP_DATA_H_
