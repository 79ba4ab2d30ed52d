#include "model/decoder/decoder.h"
#include "model/lora/lora_adapter.h"

namespace coterie {

// The product of the base that an adapter's module adds to.
const PackedMatrix& Decoder::ProductOf(int layer, LoraModule module) const {
  const Layer& weights = layers_[static_cast<size_t>(layer)];
  switch (module) {
    case LoraModule::kQ:
    case LoraModule::kK:
    case LoraModule::kV:
      return *weights.qkv;
    case LoraModule::kO:
      return *weights.o;
    case LoraModule::kGate:
    case LoraModule::kUp:
      return *weights.gate_up;
    case LoraModule::kDown:
      break;
  }
  return *weights.down;
}

StatusOr<std::unique_ptr<LoadedAdapter>> Decoder::LoadAdapter(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(std::unique_ptr<const LoraAdapter> adapter, LoraAdapter::Load(folder, config_));
  auto loaded = std::make_unique<LoadedAdapter>();
  std::vector<HostLora> pairs = adapter->ToHost();
  for (HostLora& pair : pairs) pair.quantise = ProductOf(pair.layer, pair.module).quantised();
  ASSIGN_OR_RETURN(loaded->packed, backend_->PackAdapter(pairs));
  loaded->digest = adapter->digest();
  loaded->first_layer = adapter->first_layer();
  loaded->bytes = loaded->packed->bytes();
  return loaded;
}

}  // namespace coterie
