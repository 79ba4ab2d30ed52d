#include "model/format/tensor_view.h"

#include "common/quoted.h"
#include "model/format/describe.h"

namespace coterie {

int64_t TensorView::n_elements() const {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;  // the readers have checked that this cannot overflow
  return n;
}

StatusOr<int64_t> CheckedElementCount(std::string_view name, std::span<const int64_t> shape) {
  constexpr int64_t kMaxElements = int64_t{1} << 62;
  int64_t n = 1;
  bool empty = false;
  for (const int64_t d : shape) {
    if (d < 0 || (d > 0 && n > kMaxElements / d)) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(name), ": shape ", ShapeText(shape),
                                                     " has more than ", kMaxElements, " elements"));
    }
    // A zero must not hide an overflow in the dimensions after it.
    empty |= d == 0;
    if (d > 0) n *= d;
  }
  return empty ? 0 : n;
}

StatusOr<int64_t> CheckedTensorBytes(std::string_view name, DType dtype, std::span<const int64_t> shape) {
  ASSIGN_OR_RETURN(const int64_t n, CheckedElementCount(name, shape));
  const int64_t block = BlockElements(dtype);
  const int64_t last = shape.empty() ? 1 : shape.back();
  if (last % block != 0) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(name), ": last dimension ", last,
                                                   " is not a multiple of ", block, ", the block of ",
                                                   ToAbsl(DTypeName(dtype))));
  }
  const int64_t n_blocks = n / block;
  if (n_blocks > (int64_t{1} << 62) / BlockBytes(dtype)) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", Quoted(name), ": shape ", ShapeText(shape), " overflows the size in bytes"));
  }
  return n_blocks * BlockBytes(dtype);
}

}  // namespace coterie
