// The four JSON files of a sentence-transformers folder, NUL between them: what is accepted is a shape that
// can be allocated and divided into heads.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "common/check.h"
#include "model/encoder/bert_config.h"

namespace {

std::filesystem::path MakeFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "coterie_bert_fuzz_XXXXXX").string();
  std::filesystem::path folder = mkdtemp(pattern.data());
  std::filesystem::create_directory(folder / "1_Pooling");
  return folder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n_bytes) {
  static const std::filesystem::path folder = MakeFolder();
  std::string_view rest(reinterpret_cast<const char*>(data), n_bytes);
  for (const char* name :
       {"config.json", "sentence_bert_config.json", "modules.json", "1_Pooling/config.json"}) {
    const std::string_view content = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(std::min(rest.size(), content.size() + 1));
    std::ofstream(folder / name, std::ios::binary) << content;
  }
  const auto config = coterie::ReadBertConfig(folder);
  if (!config.ok()) return 0;
  COTERIE_CHECK(config->n_layers > 0 && config->vocab_size > 0 && config->ffn_size > 0);
  COTERIE_CHECK_EQ(config->n_heads * config->head_dim, config->hidden_size);
  COTERIE_CHECK(config->max_tokens > 2 && config->max_tokens <= config->n_positions);
  return 0;
}
