#ifndef COTERIE_TESTS_MODEL_LORA_PACKED_ADAPTER_H_
#define COTERIE_TESTS_MODEL_LORA_PACKED_ADAPTER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cpu/lora_adapter.h"
#include "model/lora/lora_adapter.h"
#include "model/lora/packed_file.h"
#include "tests/model/lora/tiny_adapter.h"

namespace coterie::testing {

// The packed file of TinyAdapter, and what it was made of.
struct TinyPacked {
  explicit TinyPacked(bool eight_bits = false) {
    const std::string weights = TinyAdapter().Weights().Bytes();
    adapter = std::move(LoraAdapter::Parse(TinyAdapterJson(),
                                           {reinterpret_cast<const uint8_t*>(weights.data()), weights.size()},
                                           "tiny", base))
                  .value();
    pairs = adapter->ToHost();
    packed = std::move(cpu::CpuAdapter::Pack(pairs, {.eight_bits = eight_bits})).value();
    key = {adapter->digest(), PackedLayout("test", Sha256("base"), {true, false})};
    file = PackedFileHead(key, pairs, packed->weights());
    file.append(reinterpret_cast<const char*>(packed->weights().data()), packed->bytes());
  }

  ModelConfig base = TinyConfig();
  std::unique_ptr<const LoraAdapter> adapter;
  std::vector<HostLora> pairs;
  std::unique_ptr<cpu::CpuAdapter> packed;
  PackedKey key;
  std::string file;
};

inline std::span<const uint8_t> BytesOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_MODEL_LORA_PACKED_ADAPTER_H_
