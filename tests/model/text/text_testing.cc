#include "tests/model/text/text_testing.h"

#include "absl/strings/str_format.h"
#include "model/text/byte_alphabet.h"
#include "model/text/unicode.h"
#include "nlohmann/json.hpp"

namespace coterie {

std::string ByteCharacter(unsigned char byte) {
  std::string out;
  text::AppendRune(text::kByteAlphabet.RuneOf(byte), &out);
  return out;
}

TokenizerSpec SmallByteLevelSpec(const std::string& pre, const std::vector<std::string>& merges) {
  TokenizerSpec spec;
  spec.model = "gpt2";
  spec.pre = pre;
  spec.tokens = {"<|im_start|>", "<|im_end|>", "<tool>"};
  spec.token_types = {3, 3, 4};
  for (int byte = 0; byte < 256; ++byte)
    spec.tokens.push_back(ByteCharacter(static_cast<unsigned char>(byte)));
  spec.merges = merges;
  for (const std::string& merge : merges) {
    std::string merged = merge;
    merged.erase(merged.find(' '), 1);
    spec.tokens.push_back(merged);
  }
  spec.token_types.resize(spec.tokens.size(), 1);
  spec.bos_id = 0;
  spec.eos_id = 1;
  return spec;
}

TokenizerSpec SmallSentencePieceSpec(const std::vector<std::string>& pieces) {
  TokenizerSpec spec;
  spec.model = "llama";
  spec.tokens = {"<unk>", "<s>", "</s>"};
  spec.token_types = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) spec.tokens.push_back(absl::StrFormat("<0x%02X>", byte));
  spec.token_types.resize(spec.tokens.size(), 6);
  spec.tokens.insert(spec.tokens.end(), pieces.begin(), pieces.end());
  spec.token_types.resize(spec.tokens.size(), 1);
  for (size_t id = 0; id < spec.tokens.size(); ++id) spec.scores.push_back(-static_cast<float>(id));
  spec.unk_id = 0;
  spec.bos_id = 1;
  spec.eos_id = 2;
  return spec;
}

std::string SmallWordPieceJson(const std::vector<std::string>& pieces) {
  using Json = nlohmann::json;
  Json vocab = {{"[PAD]", 0}, {"[UNK]", 1}, {"[CLS]", 2}, {"[SEP]", 3}};
  for (const std::string& piece : pieces) vocab[piece] = vocab.size();
  Json added = Json::array();
  for (const char* token : {"[PAD]", "[UNK]", "[CLS]", "[SEP]"}) {
    added.push_back({{"id", vocab[token]},
                     {"content", token},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const auto special = [](const char* id) { return Json{{"SpecialToken", {{"id", id}, {"type_id", 0}}}}; };
  const auto ids = [](const char* token, int id) {
    return Json{{"id", token}, {"ids", Json::array({id})}, {"tokens", Json::array({token})}};
  };
  const Json root = {
      {"version", "1.0"},
      {"added_tokens", added},
      {"normalizer",
       {{"type", "BertNormalizer"},
        {"clean_text", true},
        {"handle_chinese_chars", true},
        {"lowercase", true}}},
      {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", Json::array({special("[CLS]"), Json{{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                                special("[SEP]")})},
        {"special_tokens", {{"[CLS]", ids("[CLS]", 2)}, {"[SEP]", ids("[SEP]", 3)}}}}},
      {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
      {"model",
       {{"type", "WordPiece"},
        {"unk_token", "[UNK]"},
        {"continuing_subword_prefix", "##"},
        {"max_input_chars_per_word", 100},
        {"vocab", vocab}}}};
  return root.dump();
}

}  // namespace coterie
