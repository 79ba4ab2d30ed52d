#ifndef COTERIE_MODEL_PUBLISHING_GGUF_ADAPTER_H_
#define COTERIE_MODEL_PUBLISHING_GGUF_ADAPTER_H_

#include <string>
#include <vector>

#include "common/status.h"
#include "model/format/gguf.h"
#include "model/format/model_config.h"

namespace coterie {

// A GGUF LoRA adapter (general.type "adapter", adapter.type "lora"; ggml's docs/gguf.md and what llama.cpp's
// convert_lora_to_gguf.py writes) as the two files of a PEFT adapter that computes the same.
struct PeftFiles {
  std::string config;   // adapter_config.json
  std::string weights;  // adapter_model.safetensors
};

// Plain types are kept as they are, quantised ones become F32. The scale is llama.cpp's: alpha / rank of each
// pair, or 1 where alpha is 0. A converter permutes the rows of B of Q and K for the llama architecture, as
// it does the base's; to undo that takes `base` (the number of heads), which may be null for the others.
// What is wrong goes to *problems, all of it (each names file, key or tensor, value and what is expected);
// the result is then of no use.
PeftFiles ConvertGgufAdapter(const GgufFile& file, const ModelConfig* base, std::vector<Status>* problems);

}  // namespace coterie

#endif  // COTERIE_MODEL_PUBLISHING_GGUF_ADAPTER_H_
