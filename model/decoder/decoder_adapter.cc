#include <utility>

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
    case LoraModule::kQkv:
      return *weights.qkv;
    case LoraModule::kO:
      return *weights.o;
    case LoraModule::kGate:
    case LoraModule::kUp:
    case LoraModule::kGateUp:
      return *weights.gate_up;
    case LoraModule::kDown:
      break;
  }
  return *weights.down;
}

void Decoder::MarkQuantised(std::vector<HostLora>* pairs) const {
  for (HostLora& pair : *pairs) pair.quantise = ProductOf(pair.layer, pair.module).quantised();
}

Digest Decoder::AdapterLayout() const {
  std::vector<bool> quantised;
  for (int layer = 0; layer < config_.n_layers; ++layer) {
    for (int module = 0; module < kLoraModuleCount; ++module) {
      quantised.push_back(ProductOf(layer, static_cast<LoraModule>(module)).quantised());
    }
  }
  return PackedLayout(backend_->adapter_layout(), info_.base_digest, quantised);
}

StatusOr<std::unique_ptr<LoadedAdapter>> Decoder::CopyPacked(const PackedKey& key, const MappedFile& file) {
  ASSIGN_OR_RETURN(PackedFile packed, ParsePackedFile(file.bytes(), key, config_));
  MarkQuantised(&packed.pairs);
  auto loaded = std::make_unique<LoadedAdapter>();
  ASSIGN_OR_RETURN(loaded->packed, backend_->CopyAdapter(packed.pairs, packed.weights));
  // Asked last: a file that was cut off while it was read has given us zeros.
  RETURN_IF_ERROR(file.CheckWhole());
  loaded->digest = key.adapter;
  loaded->first_layer = packed.pairs.front().layer;
  loaded->from_packed = true;
  loaded->bytes = loaded->packed->bytes();
  return loaded;
}

StatusOr<std::unique_ptr<LoadedAdapter>> Decoder::PackFiles(const std::filesystem::path& folder,
                                                            std::vector<HostLora>* pairs) {
  ASSIGN_OR_RETURN(const std::unique_ptr<const LoraAdapter> adapter, LoraAdapter::Load(folder, config_));
  *pairs = adapter->ToHost();
  MarkQuantised(pairs);
  auto loaded = std::make_unique<LoadedAdapter>();
  ASSIGN_OR_RETURN(loaded->packed, backend_->PackAdapter(*pairs));
  loaded->digest = adapter->digest();
  loaded->first_layer = adapter->first_layer();
  loaded->bytes = loaded->packed->bytes();
  for (HostLora& pair : *pairs) pair.a.data = pair.b.data = nullptr;  // they go with the adapter
  return loaded;
}

StatusOr<std::unique_ptr<LoadedAdapter>> Decoder::LoadAdapter(const std::filesystem::path& folder) {
  std::vector<HostLora> pairs;
  const StatusOr<Digest> named = Digest::FromHex(folder.filename().string());
  if (options_.packed == nullptr || !named.ok()) return PackFiles(folder, &pairs);
  const PackedKey key = {*named, AdapterLayout()};
  const auto file = options_.packed->Open(key);
  Status status = file.status();
  if (file.ok()) {
    auto loaded = CopyPacked(key, **file);
    // Packing would take as much memory, and the files' besides.
    if (loaded.ok() || absl::IsResourceExhausted(loaded.status())) return loaded;
    status = loaded.status();
  }
  const bool replace = !absl::IsNotFound(status);
  if (replace) options_.packed->Refuse(key, status);
  ASSIGN_OR_RETURN(std::unique_ptr<LoadedAdapter> loaded, PackFiles(folder, &pairs));
  if (loaded->digest == *named) {
    loaded->keep = [to = options_.packed, key, replace, pairs = std::move(pairs), packed = loaded->packed] {
      to->Save(key, pairs, packed->weights(), replace);
    };
  }
  return loaded;
}

}  // namespace coterie
