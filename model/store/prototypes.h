#ifndef COTERIE_MODEL_STORE_PROTOTYPES_H_
#define COTERIE_MODEL_STORE_PROTOTYPES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/status.h"

namespace coterie {

struct PrototypeLimits {
  size_t max_prototypes = 1024;  // per expert
  size_t max_dim = 8192;
  size_t max_bytes = (size_t{1024} * 8192 * 4) + (1 << 20);  // of the file
};

// The vectors by which an expert is found: the file prototypes.safetensors with one tensor `prototypes [n,
// dim]` F32, every row finite and of unit norm within 1e-3.
struct Prototypes {
  size_t n = 0;
  size_t dim = 0;
  std::vector<float> values;  // [n, dim]
  // Of the file's metadata: the embedder that made them. Vectors of two embedders have nothing to do with
  // each other, even where they have the same dimension.
  std::string embedder;  // its name, for people; may be empty
  std::optional<Digest> embedder_digest;
  // They are those of a composite expert's members, put together when it was published.
  bool united = false;
};

// The key of the file's metadata that says so.
inline constexpr std::string_view kUnitedPrototypes = "prototypes_of";

// InvalidArgument naming `name`, the row or tensor, the value and the limit; what the file is instead, where
// it is no such file at all.
StatusOr<Prototypes> ParsePrototypes(std::span<const uint8_t> bytes, std::string_view name,
                                     const PrototypeLimits& limits = {});

// Whether questions embedded by `embedder` [dim] can be held against these. InvalidArgument for another
// dimension, FailedPrecondition when they say that another embedder made them; those that say nothing are
// believed. 0 and an empty digest: any.
Status CheckPrototypesFit(const Prototypes& prototypes, size_t dim, const Digest& embedder);

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_PROTOTYPES_H_
