#include "model/publishing/write_card.h"

#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/strings/str_join.h"
#include "common/quoted.h"
#include "common/utf8.h"
#include "model/store/expert_card.h"

namespace coterie {
namespace {

// A JSON string is a double-quoted scalar of YAML, too.
std::string YamlText(const std::string& text) { return nlohmann::json(text).dump(); }

}  // namespace

StatusOr<std::string> WriteCard(const CardFields& fields) {
  std::vector<std::string> texts = {fields.name,    fields.version, fields.description,
                                    fields.licence, fields.base,    fields.embedder};
  texts.insert(texts.end(), fields.tags.begin(), fields.tags.end());
  for (const std::string& text : texts) {
    if (IsWellFormed(text)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("the card's text ", Quoted(text), " is not well-formed UTF-8"));
  }
  if (fields.description.empty()) {
    return absl::InvalidArgumentError(
        "the card needs a description: one line about what the expert is for (--description)");
  }
  std::string yaml;
  const auto line = [&yaml](std::string_view key, const std::string& text) {
    if (!text.empty()) absl::StrAppend(&yaml, ToAbsl(key), ": ", YamlText(text), "\n");
  };
  line("name", fields.name);
  line("version", fields.version.empty() ? "1" : fields.version);
  line("description", fields.description);
  if (!fields.tags.empty()) {
    absl::StrAppend(&yaml, "tags: [",
                    absl::StrJoin(fields.tags, ", ",
                                  [](std::string* out, const auto& tag) { out->append(YamlText(tag)); }),
                    "]\n");
  }
  if (fields.min_score.has_value())
    absl::StrAppend(&yaml, "thresholds: {min_score: ", *fields.min_score, "}\n");
  line("base", fields.base);
  line("embedder", fields.embedder);
  line("licence", fields.licence);
  if (fields.n_texts > 0) absl::StrAppend(&yaml, "training: {prototypes_from_texts: ", fields.n_texts, "}\n");
  RETURN_IF_ERROR(ParseExpertCard(yaml, "the card made from the flags").status());
  return yaml;
}

}  // namespace coterie
