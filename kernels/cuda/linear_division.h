#ifndef COTERIE_KERNELS_CUDA_LINEAR_DIVISION_H_
#define COTERIE_KERNELS_CUDA_LINEAR_DIVISION_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/ops.h"
#include "kernels/cuda/weight_layout.h"

// How the blocks of a product of few rows (linear_small.cu) divide its work. No bit depends on it.
namespace coterie::cuda {

// Rows that the kernel for so many has room for.
constexpr int kFewRows = 16;
constexpr int SmallTokens(int rows) { return rows <= kFewRows ? kFewRows : kSmallRows; }

// What a product is to be divided by.
struct SmallShape {
  WeightForm form = WeightForm::kBf16;
  int64_t n_out = 0, n_in = 0;
  int rows = 0;
  bool adapters = false;
  int split_tokens = 0;  // there is memory for the partial sums of so many rows; 0: for none
  int n_processors = 1;
  size_t shared_limit = 0;  // bytes of a block
};

// Blocks 0 to groups - 1 are a column, and so on. A column computes strips column, column + columns, ..., as
// many at a time as it has blocks; of these, each of its blocks computes kKParts / groups parts of K. With
// one block to a column the parts are added up in its shared memory, else in device memory (linear_split.h).
struct SmallDivision {
  int groups = 1;
  int columns = 1;
  int ring = 0;  // records of a warp's ring: RingRecords, or kLeastRingRecords where x wants the room

  // Shared memory, in bytes from its beginning.
  size_t sums = 0;    // [kKParts, tokens, kStripPitch] floats; of one group
  size_t deltas = 0;  // [kAdapterWarps, 1 or 2, tokens, kStripPitch] floats
  size_t x = 0;       // [kKParts / groups, staged_rows, x_pitch] bfloat16
  size_t bytes = 0;   // all of it
  int staged_rows = 0;
  int x_pitch = 0;  // 0: there is no room for x; it is read where it is
};

// `groups`: 1, 2, 4 or 8, or 0 for those that cost least. shape.rows are few enough: RowsOfSmallWindow.
SmallDivision DivideSmall(const SmallShape& shape, int groups = 0);

// Up to so many rows at a time of a product of shape.rows: all of them (of up to kSmallRows), but where the
// device has too little shared memory for so many, or where reading weights for each window costs less than
// reading x again and again. Windows of kFewRows always fit.
int RowsOfSmallWindow(const SmallShape& shape);

constexpr int kSmallAdapterWarps = 4;
// Records of a warp's ring, of which all but one are under way: as many as 8 KB hold, but no fewer than have
// 5 KB, 40 of a block, under way (linear_small.cu).
constexpr int RingRecords(WeightForm form) {
  const int of_8_kb = 8192 / RecordBytes(form), of_5_kb = (5120 + RecordBytes(form) - 1) / RecordBytes(form);
  return of_8_kb > of_5_kb + 1 ? of_8_kb : of_5_kb + 1;
}
constexpr int kLeastRingRecords = 2;

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_LINEAR_DIVISION_H_
