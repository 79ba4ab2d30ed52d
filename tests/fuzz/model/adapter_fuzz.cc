// Two bytes of length, an adapter_config.json of that length, then a safetensors file: an adapter for a tiny
// base.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "model/lora/lora_adapter.h"
#include "tests/model/format/tiny_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint16_t config_bytes;
  if (size < sizeof config_bytes) return 0;
  std::memcpy(&config_bytes, data, sizeof config_bytes);
  data += sizeof config_bytes;
  size -= sizeof config_bytes;
  const size_t split = std::min<size_t>(config_bytes, size);
  const auto adapter =
      coterie::LoraAdapter::Parse({reinterpret_cast<const char*>(data), split}, {data + split, size - split},
                                  "fuzz", coterie::testing::TinyConfig());
  if (adapter.ok()) (void)(*adapter)->ToHost();
  return 0;
}
