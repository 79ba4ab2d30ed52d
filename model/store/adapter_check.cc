#include "model/store/adapter_check.h"

#include <utility>

#include "model/lora/lora_adapter.h"

namespace coterie {

AdapterValidator AdapterFitsBase(ModelConfig base, Digest base_digest, LoraLimits limits) {
  return [base = std::move(base), base_digest, limits](const std::filesystem::path& folder,
                                                       const ExpertCard& card) -> StatusOr<Digest> {
    if (card.base_digest.has_value() && !base_digest.empty() && *card.base_digest != base_digest) {
      return absl::FailedPreconditionError(
          absl::StrCat("field base_digest of ", ToAbsl(kCardFile), " is ", card.base_digest->Short(),
                       "..., the base served here is ", base_digest.Short(),
                       "...; publish where that base is served, or train the adapter on this one"));
    }
    ASSIGN_OR_RETURN(const auto adapter, LoraAdapter::Load(folder, base, limits));
    return adapter->digest();
  };
}

}  // namespace coterie
