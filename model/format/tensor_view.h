#ifndef COTERIE_MODEL_FORMAT_TENSOR_VIEW_H_
#define COTERIE_MODEL_FORMAT_TENSOR_VIEW_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/file.h"
#include "common/status.h"
#include "kernels/dtype.h"

namespace coterie {

// A tensor as it stands in a file: nothing is copied or converted. Immutable, cheap to copy, readable by any
// thread.
struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  // Row-major, outermost dimension first whatever the file's own habit: a linear weight is [n_out, n_in].
  // A block type packs its blocks along the last dimension.
  std::vector<int64_t> shape;
  std::span<const uint8_t> bytes;          // may be unaligned
  std::shared_ptr<const MappedFile> file;  // keeps `bytes` alive; null when they were parsed from memory

  int64_t n_elements() const;
};

// n_elements of a shape with every step checked; InvalidArgument naming `name` beyond 2^62 or below zero.
StatusOr<int64_t> CheckedElementCount(std::string_view name, std::span<const int64_t> shape);

// Bytes of a tensor of this type and shape; InvalidArgument when the last dimension is not a whole number of
// blocks or the size overflows.
StatusOr<int64_t> CheckedTensorBytes(std::string_view name, DType dtype, std::span<const int64_t> shape);

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_TENSOR_VIEW_H_
