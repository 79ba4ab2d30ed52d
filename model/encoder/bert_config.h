#ifndef COTERIE_MODEL_ENCODER_BERT_CONFIG_H_
#define COTERIE_MODEL_ENCODER_BERT_CONFIG_H_

#include <filesystem>
#include <string>
#include <string_view>

#include "common/status.h"

namespace coterie {

// The shape of a BERT encoder (arXiv 1810.04805) and how a sentence-transformers folder uses it. Every number
// is bounded.
struct BertConfig {
  int n_layers = 0;
  int hidden_size = 0;  // n_heads * head_dim
  int n_heads = 0;
  int head_dim = 0;
  int ffn_size = 0;
  int vocab_size = 0;
  int n_positions = 0;
  int n_token_types = 0;
  float layer_norm_eps = 0;
  int max_tokens = 0;  // of one text, [CLS] and [SEP] counted; longer ones are cut
};

// Reads config.json, modules.json, sentence_bert_config.json and the pooling module's config.json in
// `folder`, a model as sentence-transformers saves it: a BERT with mean pooling. Anything else (another model
// type, activation, pooling, a dense layer on top, prompts) is Unimplemented, naming file, field and value;
// numbers out of range are InvalidArgument.
StatusOr<BertConfig> ReadBertConfig(const std::filesystem::path& folder);

}  // namespace coterie

#endif  // COTERIE_MODEL_ENCODER_BERT_CONFIG_H_
