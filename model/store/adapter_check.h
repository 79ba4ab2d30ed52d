#ifndef COTERIE_MODEL_STORE_ADAPTER_CHECK_H_
#define COTERIE_MODEL_STORE_ADAPTER_CHECK_H_

#include "common/digest.h"
#include "model/format/model_config.h"
#include "model/lora/peft_config.h"
#include "model/store/expert_store.h"

namespace coterie {

// The validator of a store whose experts are served over `base`: whatever LoraAdapter::Load refuses is
// refused when it is published, with the same words. A card that names another base by digest is
// FailedPrecondition. `base_digest`: of the base's weights; empty when unknown, then cards are believed.
// Thread-safe.
AdapterValidator AdapterFitsBase(ModelConfig base, Digest base_digest, LoraLimits limits = {});

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_ADAPTER_CHECK_H_
