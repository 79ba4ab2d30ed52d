#ifndef COTERIE_MODEL_FORMAT_ARCHITECTURES_H_
#define COTERIE_MODEL_FORMAT_ARCHITECTURES_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/linear_input.h"

namespace coterie {

// What the decoder's graph can run. Llama 2/3, SmolLM2, TinyLlama and Mistral are all kLlama.
enum class Architecture : uint8_t { kLlama, kQwen2, kQwen3, kPhi3, kGemma3 };

// A row of the table that tells architectures apart, beside what the files of a model say. The readers and
// the graph ask the row, never the name: a further architecture is a row, and what its files call things
// (weight_names.cc, hf_config.cc).
struct ArchitectureTraits {
  Architecture architecture;
  std::string_view name;                                    // in GGUF's general.architecture, and for people
  LinearInput::Op feed_forward = LinearInput::Op::kSwiGlu;  // of gate and up
  bool qk_norm = false;                                     // RMS norm of each head of Q and K
  bool post_norms = false;        // a norm of what attention gives, and one of what the feed-forward gives
  bool scaled_embedding = false;  // times √hidden_size
  bool local_rope = false;        // layers with a window have a RoPE theta of their own, and no scaling
  bool partial_rotary = false;    // only the first values of a head may rotate
  bool fused_products = false;    // the files have one tensor for Q, K and V, and one for gate and up
  bool permuted_gguf = false;     // rows of Q and K in GGUF: model_files.h
  bool norms_less_one = false;    // Hugging Face files hold the weights of norms less one
};

std::span<const ArchitectureTraits> AllArchitectures();
const ArchitectureTraits& TraitsOf(Architecture architecture);
std::string_view ArchitectureName(Architecture architecture);
// "llama, qwen2, … and gemma3"
std::string ArchitectureNames();

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_ARCHITECTURES_H_
