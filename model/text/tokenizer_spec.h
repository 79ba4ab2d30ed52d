#ifndef COTERIE_MODEL_TEXT_TOKENIZER_SPEC_H_
#define COTERIE_MODEL_TEXT_TOKENIZER_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace coterie {

// A GGUF file's tokenizer, key by key (tokenizer.ggml.*; format: ggml/docs/gguf.md). Absent keys keep the
// defaults.
struct TokenizerSpec {
  std::string model;  // "gpt2": byte-level BPE; "llama": SentencePiece BPE with scores
  // For gpt2: how words are cut (pre_kinds.h). Empty or "default": the file does not say (pre_kind_guess.h).
  std::string pre;
  std::vector<std::string> tokens;  // by id
  std::vector<std::string> merges;  // "left right", by rank; gpt2 only
  std::vector<float> scores;        // by id; llama only: the greater score merges first
  // By id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. Empty: all normal.
  std::vector<int32_t> token_types;
  std::optional<int32_t> bos_id, eos_id, unk_id, pad_id;
  std::optional<int32_t> eot_id, eom_id;  // further tokens that end an answer
  std::optional<bool> add_bos, add_eos;   // absent: as the kind does
  std::optional<bool> add_space_prefix;   // llama: absent means true
};

}  // namespace coterie

#endif  // COTERIE_MODEL_TEXT_TOKENIZER_SPEC_H_
