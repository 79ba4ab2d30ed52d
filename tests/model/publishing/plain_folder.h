#ifndef COTERIE_TESTS_MODEL_PUBLISHING_PLAIN_FOLDER_H_
#define COTERIE_TESTS_MODEL_PUBLISHING_PLAIN_FOLDER_H_

#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/formats/half.h"
#include "model/format/model_files.h"
#include "model/format/safetensors.h"
#include "tests/model/format/gguf_writer.h"
#include "tests/model/format/temp_folder.h"
#include "tests/model/lora/tiny_adapter.h"

namespace coterie::testing {

// What PEFT's save_pretrained() writes of a tiny adapter.
inline void WritePlain(const TempFolder& folder, std::string_view more_config = "") {
  folder.Write("adapter_config.json", TinyAdapterJson(more_config));
  folder.Write("adapter_model.safetensors", TinyAdapter().Weights().Bytes());
}

// The tiny adapter as llama.cpp's converter writes it: F32, and for the llama architecture the rows of B of Q
// in the order of its rotary embedding.
struct GgufAdapter {
  ModelConfig base = TinyConfig();
  float alpha = 4;
  bool permute = true;

  GgufWriter Write() const {
    GgufWriter writer;
    writer.AddString("general.type", "adapter")
        .AddString("general.architecture", ArchitectureName(base.architecture))
        .AddString("adapter.type", "lora")
        .AddF32("adapter.lora.alpha", alpha);
    TinyAdapter adapter;
    adapter.base = base;
    const std::string weights = adapter.Weights().Bytes();
    const auto file = SafetensorsFile::Parse(AsBytes(weights), "tiny").value();
    for (int layer = 0; layer < base.n_layers; ++layer) {
      for (const bool is_q : {true, false}) {
        const std::string module =
            "base_model.model." + LoraModuleName(layer, is_q ? LoraModule::kQ : LoraModule::kDown);
        const std::string name = absl::StrCat("blk.", layer, is_q ? ".attn_q" : ".ffn_down", ".weight.lora_");
        const TensorView* a = file.Find(module + ".lora_A.weight");
        const TensorView* b = file.Find(module + ".lora_B.weight");
        writer.AddF32Tensor(name + "a", a->shape, Floats(*a));
        std::vector<float> rows = Floats(*b);
        if (is_q && permute && base.architecture == Architecture::kLlama) {
          const std::vector<float> plain = rows;
          const auto order = HalfSplitRowOrder(base.n_heads, base.head_dim);
          const auto rank = static_cast<size_t>(b->shape[1]);
          for (size_t r = 0; r < order.size(); ++r) {
            std::copy_n(&plain[r * rank], rank, &rows[static_cast<size_t>(order[r]) * rank]);
          }
        }
        writer.AddF32Tensor(name + "b", b->shape, rows);
      }
    }
    return writer;
  }

  // Of an F32 or BF16 tensor.
  static std::vector<float> Floats(const TensorView& tensor) {
    std::vector<float> values(static_cast<size_t>(tensor.n_elements()));
    for (size_t i = 0; i < values.size(); ++i) {
      if (tensor.dtype == DType::kF32) {
        std::memcpy(&values[i], tensor.bytes.data() + 4 * i, 4);
      } else {
        values[i] = Bf16ToFloat(LoadU16(tensor.bytes.data() + 2 * i));
      }
    }
    return values;
  }
};

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_MODEL_PUBLISHING_PLAIN_FOLDER_H_
