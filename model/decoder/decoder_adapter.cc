#include "model/decoder/decoder.h"
#include "model/lora/lora_adapter.h"

namespace coterie {

StatusOr<std::unique_ptr<LoadedAdapter>> Decoder::LoadAdapter(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(std::unique_ptr<const LoraAdapter> adapter, LoraAdapter::Load(folder, config_));
  auto loaded = std::make_unique<LoadedAdapter>();
  ASSIGN_OR_RETURN(loaded->packed, backend_->PackAdapter(adapter->ToHost()));
  loaded->digest = adapter->digest();
  loaded->first_layer = adapter->first_layer();
  loaded->bytes = loaded->packed->bytes();
  return loaded;
}

}  // namespace coterie
