#include "model/text/base_text.h"

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "common/content_kind.h"
#include "common/file.h"
#include "common/hidden_paths.h"
#include "common/path_name.h"
#include "model/text/gguf_tokenizer.h"

namespace coterie {
namespace {

constexpr size_t kMaxTemplateFileBytes = 16 << 20;

// The template's source: GGUF metadata; for a folder chat_template.jinja, else tokenizer_config.json's field
// (a text, or a list of named ones of which "default" counts). Empty: the model has none.
StatusOr<std::string> ReadTemplate(const ModelFiles& files) {
  if (files.gguf() != nullptr) {
    const StatusOr<std::string_view> source = files.gguf()->GetString("tokenizer.chat_template");
    return source.ok() ? std::string(*source) : std::string();
  }
  const std::filesystem::path file = files.folder() / "chat_template.jinja";
  std::error_code ignored;  // what cannot be looked at cannot be read either, and says so then
  if (std::filesystem::exists(file, ignored)) return ReadFile(file, kMaxTemplateFileBytes);
  const std::filesystem::path config = files.folder() / "tokenizer_config.json";
  if (!std::filesystem::exists(config, ignored)) return std::string();
  ASSIGN_OR_RETURN(const std::string text, ReadFile(config, kMaxTemplateFileBytes));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return ExplainRefusal(absl::InvalidArgumentError("not a JSON object"), Content::kJson, text,
                          "tokenizer_config.json");
  }
  const auto found = json.find("chat_template");
  if (found == json.end() || found->is_null()) return std::string();
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array()) {
    for (const nlohmann::json& named : *found) {
      if (named.is_object() && named.value("name", nlohmann::json()) == "default" &&
          named.contains("template") && named["template"].is_string()) {
        return named["template"].get<std::string>();
      }
    }
  }
  return absl::InvalidArgumentError(
      "tokenizer_config.json: chat_template is neither a text nor a list with a \"default\"");
}

StatusOr<ChatTemplate> LoadTemplate(const ModelFiles& files, const Tokenizer& tokenizer) {
  ASSIGN_OR_RETURN(const std::string source, ReadTemplate(files));
  // Templates write these by name.
  ChatTemplate::SpecialTokens special;
  const SpecialTokenIds& ids = tokenizer.special_ids();
  const auto add = [&](const char* name, int32_t id) {
    if (id >= 0) special.emplace_back(name, tokenizer.Decode(std::array{id}, /*skip_special=*/false));
  };
  add("bos_token", ids.bos);
  add("eos_token", ids.eos.empty() ? -1 : ids.eos.front());
  add("unk_token", ids.unk);
  add("pad_token", ids.pad);
  StatusOr<ChatTemplate> chat_template = ChatTemplate::Create(source, std::move(special));
  if (!chat_template.ok()) {
    return Annotate(chat_template.status(), absl::StrCat("the chat template of ", PathName(files.name())));
  }
  return chat_template;
}

}  // namespace

StatusOr<BaseText> LoadBaseText(const ModelFiles& files) {
  ASSIGN_OR_RETURN(std::shared_ptr<const Tokenizer> tokenizer, files.gguf() != nullptr
                                                                   ? LoadTokenizer(*files.gguf())
                                                                   : Tokenizer::FromFolder(files.folder()));
  BaseText text;
  text.warnings = tokenizer->warnings();
  StatusOr<ChatTemplate> chat_template = LoadTemplate(files, *tokenizer);
  if (chat_template.ok()) {
    text.chat_template = *std::move(chat_template);
  } else {
    // Clients read it.
    const Status why = WithoutPaths(chat_template.status(), files.folder(), "the model");
    text.chat_template = ChatTemplate::Unusable(why);
    text.warnings.push_back(absl::StrCat("conversations cannot be answered, prompts can: ", why.message()));
  }
  text.end_tokens = FindEndTokens(files, *tokenizer, text.chat_template);
  text.tokenizer = std::move(tokenizer);
  return text;
}

}  // namespace coterie
