#ifndef COTERIE_MODEL_LORA_LORA_ADAPTER_H_
#define COTERIE_MODEL_LORA_LORA_ADAPTER_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/status.h"
#include "kernels/lora.h"
#include "model/format/model_config.h"
#include "model/lora/peft_config.h"

namespace coterie {

// The two factors of one linear layer: y += scale * B (A x). Bytes are owned by the adapter.
struct LoraPair {
  int layer = 0;
  LoraModule module = LoraModule::kQ;
  int rank = 0;
  int n_in = 0;
  int n_out = 0;
  float scale = 0;
  DType a_dtype = DType::kF32;
  DType b_dtype = DType::kF32;
  const uint8_t* a = nullptr;  // [rank, n_in]
  const uint8_t* b = nullptr;  // [n_out, rank]
};

// A PEFT LoRA adapter in host memory, checked against the base it is for. Immutable, readable by any thread.
//
// Rows of A and B are in transformers' order; the base undoes GGUF's row permutation when it is packed
// (model_files.h), so no permutation is needed here.
//
// Refused, naming field or tensor, value and limit:
//  - a configuration that ParsePeftConfig or ResolveModules refuses;
//  - tensors that are missing, unknown, not finite, or of another shape or rank than configuration and base
//    say;
//  - an update so large that answers could not be numbers (lora_magnitude.h);
//  - an adapter that would change nothing: in every pair the scale is zero or A or B is all zeros.
// Codes: InvalidArgument for broken files and those beyond `limits`, FailedPrecondition for sound ones that
// do not fit the base, Unimplemented for features we do not run.
class LoraAdapter {
 public:
  // adapter_config.json and adapter_model.safetensors in `folder`. Copies the weights: nothing refers to the
  // files afterwards.
  static StatusOr<std::unique_ptr<const LoraAdapter>> Load(const std::filesystem::path& folder,
                                                           const ModelConfig& base,
                                                           const LoraLimits& limits = {});
  // The same from memory, which may be freed afterwards; `name` stands in errors.
  static StatusOr<std::unique_ptr<const LoraAdapter>> Parse(std::string_view config_json,
                                                            std::span<const uint8_t> safetensors,
                                                            std::string_view name, const ModelConfig& base,
                                                            const LoraLimits& limits = {});
  // All that Parse refuses, in the order in which it would: of the configuration, or where that is right of
  // weights and base. At most a thousand; empty where Parse accepts.
  static std::vector<Status> Problems(std::string_view config_json, std::span<const uint8_t> safetensors,
                                      std::string_view name, const ModelConfig& base,
                                      const LoraLimits& limits = {});

  // By ascending (layer, module); never empty.
  const std::vector<LoraPair>& pairs() const { return pairs_; }
  // SHA-256 over every module's name, scale, and factors (type, shape, bytes), by ascending name: equal for
  // two adapters that compute the same from the same weights, however their configuration was written.
  const Digest& digest() const { return digest_; }
  size_t bytes() const { return n_bytes_; }
  // The lowest layer with a pair: below it the KV cache is the base's.
  int first_layer() const { return pairs_.front().layer; }
  int max_rank() const;
  // What DecoderOps::PackAdapter takes; borrows from this.
  std::vector<HostLora> ToHost() const;

 private:
  LoraAdapter() = default;
  // Null where something was wrong: up to `max_problems` of it are then in *problems, which comes empty.
  static std::unique_ptr<LoraAdapter> Read(std::string_view config_json, std::span<const uint8_t> safetensors,
                                           std::string_view name, const ModelConfig& base,
                                           const LoraLimits& limits, size_t max_problems,
                                           std::vector<Status>* problems);

  std::vector<LoraPair> pairs_;
  std::unique_ptr<uint8_t[]> storage_;
  size_t n_bytes_ = 0;
  Digest digest_;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_LORA_LORA_ADAPTER_H_
