#include "model/format/architectures.h"

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status.h"

namespace coterie {
namespace {

using enum Architecture;
constexpr ArchitectureTraits kRows[] = {
    {.architecture = kLlama, .name = "llama", .permuted_gguf = true},
    {.architecture = kQwen2, .name = "qwen2"},
    {.architecture = kQwen3, .name = "qwen3", .qk_norm = true},
    {.architecture = kPhi3, .name = "phi3", .partial_rotary = true, .fused_products = true},
    {.architecture = kGemma3,
     .name = "gemma3",
     .feed_forward = LinearInput::Op::kGeGlu,
     .qk_norm = true,
     .post_norms = true,
     .scaled_embedding = true,
     .local_rope = true,
     .norms_less_one = true},
};

}  // namespace

std::span<const ArchitectureTraits> AllArchitectures() { return kRows; }

const ArchitectureTraits& TraitsOf(Architecture architecture) {
  const ArchitectureTraits& row = kRows[static_cast<int>(architecture)];
  COTERIE_CHECK(row.architecture == architecture);
  return row;
}

std::string_view ArchitectureName(Architecture architecture) { return TraitsOf(architecture).name; }

std::string ArchitectureNames() {
  std::string out;
  for (const ArchitectureTraits& row : kRows) {
    const bool last = &row == std::end(kRows) - 1;
    absl::StrAppend(&out, out.empty() ? "" : last ? " and " : ", ", ToAbsl(row.name));
  }
  return out;
}

}  // namespace coterie
