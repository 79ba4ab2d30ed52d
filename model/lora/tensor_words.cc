#include "model/lora/tensor_words.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "common/quoted.h"

namespace coterie {
namespace {

bool Has(std::string_view text, std::string_view part) {
  return absl::StrContains(ToAbsl(text), ToAbsl(part));
}

std::vector<std::string_view> NamesOf(const SafetensorsFile& file) {
  std::vector<std::string_view> names;
  for (const TensorView& tensor : file.tensors()) names.push_back(tensor.name);
  for (const auto& [name, type] : file.other_tensors()) names.push_back(name);
  return names;
}

// "layers.0.self_attn.v_proj": what every tool that writes adapters leaves of a module's name.
std::string_view Stem(std::string_view module) {
  constexpr std::string_view kPrefix = "model.";
  return module.substr(0, kPrefix.size()) == kPrefix ? module.substr(kPrefix.size()) : module;
}

// Which other naming the file has, told by any of its names; empty: unknown.
std::string_view OtherNaming(std::string_view name) {
  if (Has(name, ".lora_A.default.") || Has(name, ".lora_B.default.")) {
    return "the name of the adapter (\"default\") stands in it, as in a state_dict(); save it with PEFT's "
           "save_pretrained()";
  }
  if (Has(name, "lora_down") || Has(name, "lora_up") || name.substr(0, 5) == "lora_") {
    return "that is the naming of diffusion tools (lora_up, lora_down), not PEFT's; convert it";
  }
  if (Has(name, ".lora_a") || Has(name, ".lora_b")) {
    return "that is MLX's naming (lora_a, lora_b, and transposed), not PEFT's; convert it";
  }
  if (Has(name, "lora_A") || Has(name, "lora_B")) {
    return "another prefix: PEFT's save_pretrained() writes base_model.model. before the model's own name";
  }
  return "";
}

}  // namespace

Status MissingTensor(const SafetensorsFile& file, std::string_view wanted, std::string_view module) {
  const std::vector<std::string_view> names = NamesOf(file);
  std::string words = absl::StrCat(file.name(), ": tensor ", Quoted(wanted),
                                   " is missing, but target_modules select ", ToAbsl(module), "; ");
  if (names.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(words, "the file holds no tensor at all; save the adapter again"));
  }
  absl::StrAppend(&words, "the file holds ", names.size(),
                  names.size() == 1 ? " tensor: " : " tensors, such as ");
  const bool is_a = Has(wanted, ".lora_A.");
  const std::string stem = absl::StrCat(ToAbsl(Stem(module)), ".");
  for (const std::string_view name : names) {
    if (!Has(name, stem) || Has(name, "magnitude")) continue;
    // The other factor is there under the right name: half of a pair, so no matter of naming.
    if (Has(name, is_a ? ".lora_B.weight" : ".lora_A.weight") && name.substr(0, 10) == wanted.substr(0, 10)) {
      return absl::InvalidArgumentError(
          absl::StrCat(words, Quoted(name),
                       ", the other half of that pair; the file is incomplete: save the adapter again"));
    }
    if (const std::string_view why = OtherNaming(name); !why.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(words, Quoted(name), ": ", ToAbsl(why)));
    }
  }
  if (const std::string_view why = OtherNaming(names[0]);
      !why.empty() && names[0].substr(0, 17) != "base_model.model.") {
    return absl::InvalidArgumentError(absl::StrCat(words, Quoted(names[0]), ": ", ToAbsl(why)));
  }
  if (!Has(names[0], "lora")) {
    return absl::InvalidArgumentError(
        absl::StrCat(words, Quoted(names[0]), ": these are no LoRA weights; is it a whole model?"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(words, Quoted(names[0]), "; is it one shard of several, or made for another base?"));
}

Status UnexpectedTensor(std::string_view file, std::string_view tensor) {
  const std::string what = absl::StrCat(ToAbsl(file), ": tensor ", Quoted(tensor));
  if (Has(tensor, "lora_embedding_")) {
    return absl::UnimplementedError(absl::StrCat(
        what, ": adapters on embeddings are not supported; train without embed_tokens in target_modules"));
  }
  if (Has(tensor, "lora_magnitude_vector")) {
    return absl::UnimplementedError(absl::StrCat(what, ": DoRA is not supported; train with use_dora=False"));
  }
  if (tensor.ends_with("embed_tokens.weight") || tensor.ends_with("lm_head.weight")) {
    return absl::UnimplementedError(
        absl::StrCat(what,
                     " belongs to no linear layer that can be adapted: it is a whole embedding or output "
                     "head, and the base's own "
                     "are served. Where training left it as it was, save the adapter without it "
                     "(save_pretrained(..., save_embedding_layers=False)); one that was trained or resized "
                     "cannot be served"));
  }
  if (tensor.ends_with(".bias")) {
    return absl::UnimplementedError(
        absl::StrCat(what, ": trained biases are not supported; train with bias=\"none\""));
  }
  return absl::FailedPreconditionError(
      absl::StrCat(what,
                   " belongs to no linear layer of this base that the configuration's target_modules select; "
                   "is the adapter for "
                   "another base, or its adapter_config.json another adapter's?"));
}

}  // namespace coterie
