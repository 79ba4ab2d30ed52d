// Two bytes of length, an adapter_config.json of that length, then a safetensors file: an adapter for a tiny
// base.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "model/lora/lora_adapter.h"

namespace {

coterie::ModelConfig Base() {
  coterie::ModelConfig c;
  c.n_layers = 2;
  c.hidden_size = 8;
  c.n_heads = 2;
  c.n_kv_heads = 1;
  c.head_dim = 4;
  c.ffn_size = 12;
  c.vocab_size = 16;
  c.context_length = 64;
  return c;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint16_t config_bytes;
  if (size < sizeof config_bytes) return 0;
  std::memcpy(&config_bytes, data, sizeof config_bytes);
  data += sizeof config_bytes;
  size -= sizeof config_bytes;
  const size_t split = std::min<size_t>(config_bytes, size);
  const auto adapter = coterie::LoraAdapter::Parse({reinterpret_cast<const char*>(data), split},
                                                   {data + split, size - split}, "fuzz", Base());
  if (adapter.ok()) (void)(*adapter)->ToHost();
  return 0;
}
