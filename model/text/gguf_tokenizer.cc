#include "model/text/gguf_tokenizer.h"

#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace coterie {
namespace {

std::string Key(const char* name) { return absl::StrCat("tokenizer.ggml.", name); }

Status ReadId(const GgufFile& file, const char* name, std::optional<int32_t>* id) {
  const std::string key = Key(name);
  if (!file.Has(key)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int64_t value, file.GetInt(key));
  // Some converters write -1 (as 32 or 64 bits) for "none".
  if (value == -1 || value == std::numeric_limits<uint32_t>::max()) return absl::OkStatus();
  if (value < 0 || value > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat(key, " is ", value, ", not a token id"));
  }
  *id = static_cast<int32_t>(value);
  return absl::OkStatus();
}

Status ReadBool(const GgufFile& file, const char* name, std::optional<bool>* value) {
  const std::string key = Key(name);
  if (!file.Has(key)) return absl::OkStatus();
  ASSIGN_OR_RETURN(*value, file.GetBool(key));
  return absl::OkStatus();
}

}  // namespace

StatusOr<TokenizerSpec> ReadTokenizerSpec(const GgufFile& file) {
  TokenizerSpec spec;
  ASSIGN_OR_RETURN(spec.model, file.GetString(Key("model")));
  if (file.Has(Key("pre"))) {
    ASSIGN_OR_RETURN(spec.pre, file.GetString(Key("pre")));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string_view> tokens, file.GetStrings(Key("tokens")));
  spec.tokens.assign(tokens.begin(), tokens.end());
  if (file.Has(Key("merges"))) {
    ASSIGN_OR_RETURN(const std::vector<std::string_view> merges, file.GetStrings(Key("merges")));
    spec.merges.assign(merges.begin(), merges.end());
  }
  if (file.Has(Key("scores"))) {
    ASSIGN_OR_RETURN(spec.scores, file.GetFloats(Key("scores")));
  }
  if (file.Has(Key("token_type"))) {
    ASSIGN_OR_RETURN(const std::vector<int64_t> types, file.GetInts(Key("token_type")));
    spec.token_types.reserve(types.size());
    for (const int64_t type : types) {
      if (type < 0 || type > 6)
        return absl::InvalidArgumentError(absl::StrCat("token type ", type, ", want 0 to 6"));
      spec.token_types.push_back(static_cast<int32_t>(type));
    }
  }
  RETURN_IF_ERROR(ReadId(file, "bos_token_id", &spec.bos_id));
  RETURN_IF_ERROR(ReadId(file, "eos_token_id", &spec.eos_id));
  RETURN_IF_ERROR(ReadId(file, "unknown_token_id", &spec.unk_id));
  RETURN_IF_ERROR(ReadId(file, "padding_token_id", &spec.pad_id));
  RETURN_IF_ERROR(ReadId(file, "eot_token_id", &spec.eot_id));
  RETURN_IF_ERROR(ReadId(file, "eom_token_id", &spec.eom_id));
  RETURN_IF_ERROR(ReadBool(file, "add_bos_token", &spec.add_bos));
  RETURN_IF_ERROR(ReadBool(file, "add_eos_token", &spec.add_eos));
  RETURN_IF_ERROR(ReadBool(file, "add_space_prefix", &spec.add_space_prefix));
  return spec;
}

StatusOr<std::shared_ptr<const Tokenizer>> LoadTokenizer(const GgufFile& file) {
  StatusOr<TokenizerSpec> spec = ReadTokenizerSpec(file);
  if (!spec.ok()) return Annotate(spec.status(), file.name());
  StatusOr<std::shared_ptr<const Tokenizer>> tokenizer = Tokenizer::Create(*spec);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), file.name());
  return tokenizer;
}

}  // namespace coterie
