#include "model/store/prototypes.h"

#include <cmath>
#include <cstring>

#include "common/quoted.h"
#include "common/utf8.h"
#include "model/format/safetensors.h"

namespace coterie {

StatusOr<Prototypes> ParsePrototypes(std::span<const uint8_t> bytes, std::string_view name,
                                     const PrototypeLimits& limits) {
  const auto file_name = ToAbsl(name);
  if (bytes.size() > limits.max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file_name, " has ", bytes.size(), " bytes, the limit is ", limits.max_bytes));
  }
  // One tensor needs no more than this; the format's own limits are those of whole models.
  const SafetensorsLimits format_limits{
      .max_header_bytes = 1 << 20, .max_tensors = 16, .max_metadata_bytes = 64 << 10};
  ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Parse(bytes, name, format_limits));
  if (file.tensors().size() + file.other_tensors().size() != 1 || file.Find("prototypes") == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(file_name, " must hold one tensor, prototypes [n, dim] F32; it holds ",
                     file.tensors().size() + file.other_tensors().size()));
  }
  const TensorView& tensor = *file.Find("prototypes");
  if (tensor.dtype != DType::kF32 || tensor.shape.size() != 2) {
    return absl::InvalidArgumentError(absl::StrCat(file_name, ": tensor prototypes has type ",
                                                   ToAbsl(DTypeName(tensor.dtype)), " and ",
                                                   tensor.shape.size(), " dimensions, want F32 [n, dim]"));
  }
  Prototypes prototypes;
  prototypes.n = static_cast<size_t>(tensor.shape[0]);
  prototypes.dim = static_cast<size_t>(tensor.shape[1]);
  if (prototypes.n < 1 || prototypes.n > limits.max_prototypes) {
    return absl::InvalidArgumentError(absl::StrCat(
        file_name, " has ", prototypes.n, " prototypes, the limits are 1 and ", limits.max_prototypes));
  }
  if (prototypes.dim < 1 || prototypes.dim > limits.max_dim) {
    return absl::InvalidArgumentError(absl::StrCat(file_name, " has prototypes of dimension ", prototypes.dim,
                                                   ", the limits are 1 and ", limits.max_dim));
  }
  prototypes.values.resize(prototypes.n * prototypes.dim);
  std::memcpy(prototypes.values.data(), tensor.bytes.data(), tensor.bytes.size());
  for (size_t row = 0; row < prototypes.n; ++row) {
    double norm_squared = 0;
    for (size_t i = 0; i < prototypes.dim; ++i) {
      const double value = prototypes.values[row * prototypes.dim + i];
      if (!std::isfinite(value)) {
        return absl::InvalidArgumentError(absl::StrCat(file_name, ": prototype ", row, " has value ", value,
                                                       " at ", i, ", want finite numbers"));
      }
      norm_squared += value * value;
    }
    if (std::abs(std::sqrt(norm_squared) - 1.0) > 1e-3) {
      return absl::InvalidArgumentError(absl::StrCat(file_name, ": prototype ", row, " has norm ",
                                                     std::sqrt(norm_squared), ", want 1 within 0.001"));
    }
  }
  prototypes.united = file.metadata().contains(std::string(kUnitedPrototypes));
  if (const auto it = file.metadata().find("embedder"); it != file.metadata().end()) {
    prototypes.embedder = CutUtf8(it->second, 256);
  }
  if (const auto it = file.metadata().find("embedder_digest"); it != file.metadata().end()) {
    const auto digest = Digest::FromHex(it->second);
    if (!digest.ok() || digest->empty()) {
      return absl::InvalidArgumentError(absl::StrCat(file_name, ": metadata embedder_digest is ",
                                                     Quoted(it->second),
                                                     ", want 64 lower-case hexadecimal digits"));
    }
    prototypes.embedder_digest = *digest;
  }
  return prototypes;
}

Status CheckPrototypesFit(const Prototypes& prototypes, size_t dim, const Digest& embedder) {
  if (dim != 0 && prototypes.dim != dim) {
    return absl::InvalidArgumentError(absl::StrCat("prototypes.safetensors has dimension ", prototypes.dim,
                                                   ", the embedder here has ", dim));
  }
  if (embedder.empty() || !prototypes.embedder_digest.has_value()) return absl::OkStatus();
  if (*prototypes.embedder_digest == embedder) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "prototypes.safetensors was made by the embedder ", prototypes.embedder_digest->Short(),
      prototypes.embedder.empty() ? "" : absl::StrCat(" (", prototypes.embedder, ")"),
      ", this gateway routes with ", embedder.Short(),
      ": cosines between the two mean nothing; make the prototypes with this gateway's embedder"));
}

}  // namespace coterie
