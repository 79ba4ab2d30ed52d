// Any bytes as a safetensors file: parse it and read every tensor.
#include <cstddef>
#include <cstdint>

#include "model/format/dequantize.h"
#include "model/format/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = coterie::SafetensorsFile::Parse({data, size}, "fuzz.safetensors");
  if (!file.ok()) return 0;
  for (const coterie::TensorView& tensor : file->tensors()) coterie::DequantizeTensor(tensor);
  return 0;
}
