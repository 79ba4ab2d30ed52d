#include "kernels/host_matrix.h"

#include "common/quoted.h"
#include "kernels/formats/quantize.h"

namespace coterie {
namespace {

Status CheckPart(const HostMatrix& part, int64_t n_in, size_t index) {
  const auto refuse = [&](std::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(
        "matrix part ", index, part.name.empty() ? "" : absl::StrCat(", tensor ", Quoted(part.name)), " (",
        ToAbsl(DTypeName(part.dtype)), " [", part.n_out, ", ", part.n_in, "]): ", ToAbsl(what)));
  };
  if (part.data == nullptr || part.n_out <= 0 || part.n_in <= 0) return refuse("empty");
  if (part.n_in != n_in) return refuse(absl::StrCat("its inputs differ from the first part's ", n_in));
  if (part.rounded_to && (BlockElements(part.dtype) != 1 || !CanQuantizeTo(*part.rounded_to))) {
    return refuse(absl::StrCat("cannot be rounded to ", ToAbsl(DTypeName(*part.rounded_to))));
  }
  for (const DType type : {part.dtype, part.packed_dtype()}) {
    if (part.n_in % BlockElements(type) != 0) return refuse("inputs are not whole blocks of the type");
  }
  if (!part.row_order.empty()) {
    if (static_cast<int64_t>(part.row_order.size()) != part.n_out)
      return refuse("row order of another length");
    for (int32_t row : part.row_order) {
      if (row < 0 || row >= part.n_out) return refuse(absl::StrCat("row order names row ", row));
    }
  }
  return absl::OkStatus();
}

}  // namespace

Status CheckMatrixParts(std::span<const HostMatrix> parts) {
  if (parts.empty()) return absl::InvalidArgumentError("a matrix of no parts");
  for (size_t i = 0; i < parts.size(); ++i) RETURN_IF_ERROR(CheckPart(parts[i], parts.front().n_in, i));
  return absl::OkStatus();
}

}  // namespace coterie
