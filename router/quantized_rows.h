#ifndef COTERIE_ROUTER_QUANTIZED_ROWS_H_
#define COTERIE_ROUTER_QUANTIZED_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace coterie::router_internal {

// An int8 copy of the rows of an index, a quarter of their size, for a first pass that only bounds each
// score: a scan of float rows is as slow as memory is. With x = x' + dx (x' the quantised row) and the query
// likewise,
//   x·q = x'·q' + dx·q + x'·dq,   so   |x·q - x'·q'| <= |dx| |q| + |x'| |dq|
// by Cauchy and Schwarz: a bound that always holds, about 0.015 for unit vectors of dimension 384. Rows whose
// upper bound does not reach the best lower bounds need not be looked at again, the rest is computed in float
// as ever, so the result is that of the full scan, bit for bit, on every machine. Immutable; thread-safe.
class QuantizedRows {
 public:
  static constexpr size_t kBlockRows = 16;  // a last block that is not full takes the space of a full one

  // Whether this machine has the instructions that make the first pass worth its while.
  static bool Supported();

  QuantizedRows() = default;
  // `rows` [n_rows, stride], stride a multiple of 16.
  QuantizedRows(std::span<const float> rows, size_t stride);

  // A query made ready once, for the rows of many parts of an index.
  struct Query {
    bool near_unit_norm = false;   // there are no bounds for others
    std::vector<int8_t> values;    // [stride]
    std::vector<uint8_t> shifted;  // values + 128
    float scale = 0, norm = 0, residual = 0;
  };
  // `query` [stride].
  static Query Prepare(std::span<const float> query);

  // lower[r] <= the score that DotRows computes for row r <= upper[r], for a query near unit norm.
  // `use_vnni`: where the machine has it; the bounds are the same without.
  void Bounds(const Query& query, float* lower, float* upper, bool use_vnni = true) const;

  size_t n_rows() const { return n_rows_; }

 private:
  size_t n_rows_ = 0;
  size_t stride_ = 0;
  // Blocks of 16 rows side by side, so that one instruction multiplies four values of all sixteen with the
  // same four of the query and no sum crosses lanes: [n_blocks, stride / 4, 16, 4].
  std::vector<int8_t> values_;
  // Per row, zero for the rows that fill up the last block. As bfloat16, each rounded up: a scale is what the
  // values are multiples of, the others are bounds.
  std::vector<uint16_t> scales_;     // x' = scale * values
  std::vector<uint16_t> norms_;      // |x'|
  std::vector<uint16_t> residuals_;  // |dx|
  std::vector<int32_t> offsets_;     // 128 x the sum of its int8 values; empty without VNNI
};

}  // namespace coterie::router_internal

#endif  // COTERIE_ROUTER_QUANTIZED_ROWS_H_
