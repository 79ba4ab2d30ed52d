// A packed adapter for a tiny base, whose checksum is put right first: else nothing behind it would be tried.
#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/cpu/lora_adapter.h"
#include "model/lora/packed_file.h"
#include "tests/model/format/tiny_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using coterie::Digest;
  std::vector<uint8_t> bytes(data, data + size);
  coterie::PackedKey key;
  if (size >= 80) {
    const uint64_t sum = XXH3_64bits(data + 16, size - 16);
    std::memcpy(bytes.data() + 8, &sum, sizeof sum);
    key.adapter = *Digest::FromBytes({reinterpret_cast<const char*>(data) + 16, Digest::kBytes});
    key.layout = *Digest::FromBytes({reinterpret_cast<const char*>(data) + 48, Digest::kBytes});
  }
  auto file = coterie::ParsePackedFile(bytes, key, coterie::testing::TinyConfig());
  if (!file.ok()) return 0;
  for (size_t i = 0; i < file->pairs.size(); ++i) file->pairs[i].quantise = bytes.back() >> i % 8 & 1;
  for (const bool eight_bits : {false, true}) {
    (void)coterie::cpu::CpuAdapter::Copy(file->pairs, {.eight_bits = eight_bits}, file->weights);
  }
  return 0;
}
