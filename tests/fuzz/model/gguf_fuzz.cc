// Any bytes as a GGUF file: parse it, read every value as every type, and use what was accepted.
#include <cstddef>
#include <cstdint>

#include "model/format/dequantize.h"
#include "model/format/gguf.h"
#include "model/format/model_files.h"
#include "model/text/gguf_tokenizer.h"

using coterie::GgufFile;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto file = GgufFile::Parse({data, size}, "fuzz.gguf");
  if (!file.ok()) return 0;
  for (const std::string_view key : file->Keys()) {
    (void)file->GetString(key).status();
    (void)file->GetBool(key).status();
    (void)file->GetInt(key).status();
    (void)file->GetFloat(key).status();
    (void)file->GetStrings(key).status();
    (void)file->GetInts(key).status();
    (void)file->GetFloats(key).status();
  }
  for (const coterie::TensorView& tensor : file->tensors()) coterie::DequantizeTensor(tensor);
  if (const auto tokenizer = coterie::LoadTokenizer(*file); tokenizer.ok()) {
    const auto ids =
        (*tokenizer)->Encode("Hello, World! it's 123 \xE4\xBD\xA0", {.max_tokens = 64, .truncate = true});
    if (ids.ok()) (void)(*tokenizer)->Decode(*ids);
  }
  const auto model = coterie::ModelFiles::FromGguf(*std::move(file));
  if (model.ok()) {
    (void)(*model)->ComputeDigest();
    (void)coterie::RopeInverseFrequencies((*model)->config(), (*model)->config().context_length);
    (void)coterie::LocalRopeInverseFrequencies((*model)->config());
  }
  return 0;
}
