#include <algorithm>
#include <utility>

#include "common/content_kind.h"
#include "common/file.h"
#include "common/quoted.h"
#include "model/text/json_components.h"
#include "model/text/tokenizer.h"
#include "model/text/tokenizer_parts.h"

// tokenizer.json, version 1.0, as Hugging Face `tokenizers` 0.23 reads it.
namespace coterie {
namespace {

using text::Fields;
using text::Json;
using text::TokenizerParts;

// The largest in use (Qwen, Gemma) have 10 to 35 MB.
constexpr size_t kMaxFileBytes = size_t{128} << 20;

const Json& Member(const Json& object, const char* name) {
  static const Json kNull;
  const auto it = object.find(name);
  return it == object.end() ? kNull : *it;
}

StatusOr<int32_t> ParseId(const Json& json, std::string_view what) {
  if (!json.is_number_unsigned() || json.get<uint64_t>() >= text::kMaxVocabulary) {
    return absl::InvalidArgumentError(
        absl::StrCat("the id of ", ToAbsl(what), " must be a number below ", text::kMaxVocabulary));
  }
  return static_cast<int32_t>(json.get<uint64_t>());
}

// {"token": id, ...} of the model, by id.
StatusOr<std::vector<std::string>> ParseVocabulary(const Json& model) {
  const Json& vocab = Member(model, "vocab");
  if (!vocab.is_object()) return absl::InvalidArgumentError("model.vocab is not an object");
  std::vector<std::string> tokens;
  for (const auto& [token, value] : vocab.items()) {
    ASSIGN_OR_RETURN(const int32_t id, ParseId(value, absl::StrCat("token ", Quoted(token))));
    const auto index = static_cast<size_t>(id);
    if (index >= tokens.size()) tokens.resize(index + 1);
    if (!tokens[index].empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokens ", Quoted(tokens[index]), " and ", Quoted(token), " have one id, ", id));
    }
    tokens[index] = token;
  }
  return tokens;
}

// The added tokens, with the ids the reference gives them: a token of the model keeps the model's id; another
// must come with the next free one, which is what every file that a library wrote has.
StatusOr<std::vector<text::AddedToken>> ParseAddedTokens(const Json& json, std::vector<std::string>* tokens) {
  std::vector<text::AddedToken> added;
  if (json.is_null()) return added;
  if (!json.is_array()) return absl::InvalidArgumentError("added_tokens is not an array");
  if (json.size() > text::kMaxVocabulary) {
    return absl::InvalidArgumentError(absl::StrCat("added_tokens has ", json.size(), " entries"));
  }
  absl::flat_hash_map<std::string, int32_t> ids;
  for (size_t id = 0; id < tokens->size(); ++id) {
    if (!(*tokens)[id].empty()) ids.try_emplace((*tokens)[id], static_cast<int32_t>(id));
  }
  for (const Json& entry : json) {
    if (!entry.is_object()) return absl::InvalidArgumentError("an added token is not an object");
    const Json& content = Member(entry, "content");
    if (!content.is_string() || content.get_ref<const std::string&>().empty()) {
      return absl::InvalidArgumentError("an added token's content must be a string that is not empty");
    }
    text::AddedToken token;
    token.content = content.get<std::string>();
    const std::string name = absl::StrCat("added token ", Quoted(token.content));
    ASSIGN_OR_RETURN(token.id, ParseId(Member(entry, "id"), name));
    for (const auto& [field, target] :
         {std::pair("single_word", &token.single_word), std::pair("lstrip", &token.lstrip),
          std::pair("rstrip", &token.rstrip), std::pair("normalized", &token.normalized),
          std::pair("special", &token.special)}) {
      const Json& value = Member(entry, field);
      if (!value.is_boolean()) {
        return absl::InvalidArgumentError(absl::StrCat(name, ": \"", field, "\" must be true or false"));
      }
      *target = value.get<bool>();
    }
    const auto known = ids.find(token.content);
    if (known != ids.end() && known->second != token.id) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " has id ", token.id, ", but the vocabulary gives it ", known->second));
    }
    const auto index = static_cast<size_t>(token.id);
    if (index >= tokens->size()) tokens->resize(index + 1);
    if (!(*tokens)[index].empty() && (*tokens)[index] != token.content) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " has id ", token.id, ", which is ", Quoted((*tokens)[index])));
    }
    (*tokens)[index] = token.content;
    ids.try_emplace(token.content, token.id);
    added.push_back(std::move(token));
  }
  return added;
}

Status RefuseUnlessEmpty(const Json& model, const char* field) {
  const Json& value = Member(model, field);
  if (value.is_null() || (value.is_string() && value.get_ref<const std::string&>().empty()))
    return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("model.", field, " is not supported"));
}

StatusOr<std::vector<std::pair<std::string, std::string>>> ParseMerges(const Json& json) {
  if (!json.is_array() || json.size() > 4 * text::kMaxVocabulary) {
    return absl::InvalidArgumentError("model.merges is not an array of a sensible size");
  }
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(json.size());
  for (const Json& merge : json) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    if (merge.is_string()) {  // the older form, "left right"
      const auto& line = merge.get_ref<const std::string&>();
      if (line.rfind("#version", 0) == 0) continue;
      const size_t space = line.find(' ');
      if (space != std::string::npos && line.find(' ', space + 1) == std::string::npos) {
        merges.emplace_back(line.substr(0, space), line.substr(space + 1));
        continue;
      }
    }
    return absl::InvalidArgumentError(absl::StrCat("merge ", merges.size(), " is not a pair of tokens"));
  }
  return merges;
}

Status FillBpe(const Json& model, std::shared_ptr<const text::Vocabulary> vocabulary, TokenizerParts* parts) {
  ASSIGN_OR_RETURN(const Fields fields, Fields::Of(model, "model"));
  RETURN_IF_ERROR(RefuseUnlessEmpty(model, "continuing_subword_prefix"));
  RETURN_IF_ERROR(RefuseUnlessEmpty(model, "end_of_word_suffix"));
  const Json& dropout = Member(model, "dropout");
  if (!dropout.is_null() && !(dropout.is_number() && dropout.get<double>() == 0)) {
    return absl::UnimplementedError("model.dropout is not supported: it makes tokens random");
  }
  text::BpeOptions options;
  ASSIGN_OR_RETURN(options.merges, ParseMerges(Member(model, "merges")));
  ASSIGN_OR_RETURN(options.fuse_unk, fields.BoolOr("fuse_unk", false));
  ASSIGN_OR_RETURN(options.byte_fallback, fields.BoolOr("byte_fallback", false));
  ASSIGN_OR_RETURN(options.ignore_merges, fields.BoolOr("ignore_merges", false));
  if (fields.Find("unk_token") != nullptr) {
    ASSIGN_OR_RETURN(const std::string unk, fields.String("unk_token"));
    options.has_unk = true;
    options.unk_id = vocabulary->IdOf(unk);
  }
  parts->special_ids.unk = options.unk_id;
  ASSIGN_OR_RETURN(parts->model, text::MakeBpe(std::move(vocabulary), parts->is_special, std::move(options)));
  return absl::OkStatus();
}

Status FillWordPiece(const Json& model, std::shared_ptr<const text::Vocabulary> vocabulary,
                     TokenizerParts* parts) {
  ASSIGN_OR_RETURN(const Fields fields, Fields::Of(model, "model"));
  text::WordPieceOptions options;
  ASSIGN_OR_RETURN(const std::string unk, fields.String("unk_token"));
  ASSIGN_OR_RETURN(options.continuing_prefix, fields.String("continuing_subword_prefix"));
  ASSIGN_OR_RETURN(options.max_characters_per_word, fields.Size("max_input_chars_per_word"));
  options.unk_id = vocabulary->IdOf(unk);
  parts->special_ids.unk = options.unk_id;
  ASSIGN_OR_RETURN(parts->model,
                   text::MakeWordPiece(std::move(vocabulary), parts->is_special, std::move(options)));
  return absl::OkStatus();
}

// {"[CLS]": {"ids": [101], ...}, ...}: appends the ids of one special token of a template.
Status AppendTemplateToken(const Fields& fields, const std::string& name, size_t vocabulary_size,
                           std::vector<int32_t>* ids) {
  const Json* tokens = fields.Find("special_tokens");
  const Json& token = tokens == nullptr || !tokens->is_object() ? Json() : Member(*tokens, name.c_str());
  const Json& token_ids = token.is_object() ? Member(token, "ids") : Json();
  if (!token_ids.is_array() || token_ids.size() > 64) {
    return fields.Bad("special_tokens", absl::StrCat("an object with the ids of ", Quoted(name)));
  }
  for (const Json& one : token_ids) {
    ASSIGN_OR_RETURN(const int32_t id, ParseId(one, Quoted(name)));
    if (static_cast<size_t>(id) >= vocabulary_size)
      return fields.Bad("special_tokens", "ids of the vocabulary");
    ids->push_back(id);
  }
  return absl::OkStatus();
}

// "single": what stands before and behind the text.
Status ParseTemplate(const Fields& fields, TokenizerParts* parts) {
  ASSIGN_OR_RETURN(const Json* pieces, fields.Array("single"));
  if (pieces->size() > 64) return fields.Bad("single", "at most 64 pieces");
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  bool seen_text = false;
  for (const Json& piece : *pieces) {
    const Json& special = piece.is_object() ? Member(piece, "SpecialToken") : Json();
    const Json& sequence = piece.is_object() ? Member(piece, "Sequence") : Json();
    if (special.is_object() && Member(special, "id").is_string()) {
      RETURN_IF_ERROR(AppendTemplateToken(fields, Member(special, "id").get<std::string>(),
                                          parts->vocabulary->size(), seen_text ? &after : &before));
    } else if (sequence.is_object() && Member(sequence, "id") == "A" && !seen_text) {
      seen_text = true;
    } else {
      return fields.Bad("single", "special tokens around one sequence A");
    }
  }
  if (!seen_text) return fields.Bad("single", "special tokens around one sequence A");
  parts->prefix.insert(parts->prefix.begin(), before.begin(), before.end());
  parts->suffix.insert(parts->suffix.end(), after.begin(), after.end());
  return absl::OkStatus();
}

// ["[CLS]", 101]
Status ParseBertToken(const Fields& fields, const char* name, size_t vocabulary_size, int32_t* id) {
  const Json* pair = fields.Find(name);
  if (pair == nullptr || !pair->is_array() || pair->size() != 2)
    return fields.Bad(name, "a token and its id");
  ASSIGN_OR_RETURN(*id, ParseId((*pair)[1], name));
  if (static_cast<size_t>(*id) >= vocabulary_size) return fields.Bad(name, "a token of the vocabulary");
  return absl::OkStatus();
}

Status ParsePostProcessor(const Json& json, int depth, TokenizerParts* parts) {
  if (json.is_null()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Fields fields, Fields::Of(json, "post_processor"));
  if (fields.type() == "ByteLevel") return absl::OkStatus();  // touches offsets only
  if (fields.type() == "TemplateProcessing") return ParseTemplate(fields, parts);
  if (fields.type() == "BertProcessing") {
    int32_t cls = -1;
    int32_t sep = -1;
    RETURN_IF_ERROR(ParseBertToken(fields, "cls", parts->vocabulary->size(), &cls));
    RETURN_IF_ERROR(ParseBertToken(fields, "sep", parts->vocabulary->size(), &sep));
    parts->prefix.insert(parts->prefix.begin(), cls);
    parts->suffix.push_back(sep);
    return absl::OkStatus();
  }
  if (fields.type() == "Sequence") {
    ASSIGN_OR_RETURN(const Json* steps, fields.Array("processors"));
    if (depth >= 4 || steps->size() > 16) return fields.Bad("processors", "at most 16 steps, 4 deep");
    for (const Json& step : *steps) RETURN_IF_ERROR(ParsePostProcessor(step, depth + 1, parts));
    return absl::OkStatus();
  }
  return fields.Unknown();
}

// tokenizer_config.json's bos_token and the like: a string, or an object with its content. `otherwise` where
// it names none of the vocabulary.
int32_t ConfiguredId(const Json& config, const char* name, const text::Vocabulary& vocabulary,
                     int32_t otherwise) {
  const Json& value = Member(config, name);
  const Json& content = value.is_object() ? Member(value, "content") : value;
  if (!content.is_string()) return otherwise;
  const int32_t id = vocabulary.IdOf(content.get_ref<const std::string&>());
  return id < 0 ? otherwise : id;
}

// By tokenizer_config.json, or by special_tokens_map.json (older files) where that names none.
void FillSpecialIds(const Json& config, const Json& map, const text::Vocabulary& vocabulary,
                    SpecialTokenIds* ids) {
  const auto find = [&](const char* name, int32_t otherwise) {
    return ConfiguredId(config, name, vocabulary, ConfiguredId(map, name, vocabulary, otherwise));
  };
  ids->bos = find("bos_token", -1);
  ids->unk = find("unk_token", ids->unk);
  ids->pad = find("pad_token", -1);
  // Every end that either names: a file that was edited by hand ends answers as its editor meant.
  for (const char* name : {"eos_token", "eot_token", "eom_token"}) {
    for (const Json* source : {&config, &map}) {
      const int32_t id = ConfiguredId(*source, name, vocabulary, -1);
      if (id >= 0 && std::find(ids->eos.begin(), ids->eos.end(), id) == ids->eos.end())
        ids->eos.push_back(id);
    }
  }
}

Status NoObject(std::string_view text, std::string_view file) {
  return ExplainRefusal(absl::InvalidArgumentError("not a JSON object"), Content::kJson, text, file);
}

// An absent file (empty text) is an empty object.
StatusOr<Json> ParseSide(std::string_view text, const char* name) {
  if (text.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " has ", text.size(), " bytes, the limit is ", kMaxFileBytes));
  }
  if (text.empty()) return Json::object();
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return NoObject(text, name);
  return json;
}

// The contents of a file of `folder`; empty when there is none.
StatusOr<std::string> ReadSide(const std::filesystem::path& folder, const char* name) {
  StatusOr<std::string> read = ReadFile(folder / name, kMaxFileBytes);
  if (absl::IsNotFound(read.status())) return std::string();
  return read;
}

}  // namespace

StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromJson(std::string_view tokenizer_json,
                                                               std::string_view tokenizer_config_json,
                                                               std::string_view special_tokens_map_json) {
  if (tokenizer_json.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.json has ", tokenizer_json.size(), " bytes, the limit is ", kMaxFileBytes));
  }
  const Json root = Json::parse(tokenizer_json, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return NoObject(tokenizer_json, "tokenizer.json");
  ASSIGN_OR_RETURN(const Json config, ParseSide(tokenizer_config_json, "tokenizer_config.json"));
  ASSIGN_OR_RETURN(const Json map, ParseSide(special_tokens_map_json, "special_tokens_map.json"));
  if (!Member(root, "version").is_null() && Member(root, "version") != "1.0") {
    return absl::UnimplementedError("tokenizer.json: only version \"1.0\" is known");
  }
  const Json& model = Member(root, "model");
  if (!model.is_object()) {
    return absl::InvalidArgumentError(
        "tokenizer.json: field model is missing or no object; is it a tokenizer?");
  }

  auto parts = std::make_unique<TokenizerParts>();
  ASSIGN_OR_RETURN(std::vector<std::string> tokens, ParseVocabulary(model));
  // Words are made of the model's own tokens only; added ones are found in the text.
  ASSIGN_OR_RETURN(text::Vocabulary of_model, text::Vocabulary::Create(tokens));
  auto model_vocabulary = std::make_shared<const text::Vocabulary>(std::move(of_model));
  ASSIGN_OR_RETURN(parts->added_tokens, ParseAddedTokens(Member(root, "added_tokens"), &tokens));
  ASSIGN_OR_RETURN(text::Vocabulary vocabulary, text::Vocabulary::Create(std::move(tokens)));
  parts->vocabulary = std::make_shared<const text::Vocabulary>(std::move(vocabulary));
  ASSIGN_OR_RETURN(parts->normalizer, text::ParseNormalizer(Member(root, "normalizer")));
  ASSIGN_OR_RETURN(parts->pre_tokenizer, text::ParsePreTokenizer(Member(root, "pre_tokenizer")));
  ASSIGN_OR_RETURN(parts->decoder_steps, text::ParseDecoder(Member(root, "decoder")));
  RETURN_IF_ERROR(parts->Finish());

  // Old files leave the type out; BPE is the one with merges.
  const Json& type = Member(model, "type");
  const std::string kind = type.is_string() ? type.get<std::string>() : model.contains("merges") ? "BPE" : "";
  if (kind == "BPE") {
    RETURN_IF_ERROR(FillBpe(model, std::move(model_vocabulary), parts.get()));
  } else if (kind == "WordPiece") {
    RETURN_IF_ERROR(FillWordPiece(model, std::move(model_vocabulary), parts.get()));
  } else {
    return absl::UnimplementedError(absl::StrCat("tokenizer.json: model ", Quoted(kind),
                                                 " is not supported; known are BPE and WordPiece"));
  }
  RETURN_IF_ERROR(ParsePostProcessor(Member(root, "post_processor"), 0, parts.get()));

  FillSpecialIds(config, map, *parts->vocabulary, &parts->special_ids);
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(parts)));
}

StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromFolder(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(const std::string json, ReadFile(folder / "tokenizer.json", kMaxFileBytes));
  ASSIGN_OR_RETURN(const std::string config, ReadSide(folder, "tokenizer_config.json"));
  ASSIGN_OR_RETURN(const std::string map, ReadSide(folder, "special_tokens_map.json"));
  StatusOr<std::shared_ptr<const Tokenizer>> tokenizer = FromJson(json, config, map);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), folder.string());
  return tokenizer;
}

}  // namespace coterie
