#include "model/publishing/make_expert.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/ids.h"
#include "common/json.h"
#include "common/quoted.h"
#include "model/store/expert_card.h"
#include "model/store/prototypes.h"
#include "model/store/staging.h"

namespace coterie {
namespace {

// "HuggingFaceTB/SmolLM2-135M-Instruct" -> "SmolLM2-135M-Instruct"; empty where the configuration says
// nothing that can stand on a card.
std::string BaseOfConfig(const std::string& config) {
  const StatusOr<Json> json = ParseJson(config, "config");
  if (!json.ok() || !json->is_object()) return "";
  const auto it = json->find("base_model_name_or_path");
  if (it == json->end() || !it->is_string()) return "";
  std::string name = it->get<std::string>();
  while (name.ends_with('/')) name.pop_back();
  name = name.substr(name.rfind('/') + 1);
  return name.size() <= 200 ? Shown(name) : "";
}

// The fields that `fields` says, by the names of their flags.
std::vector<std::string> SaidFields(const CardFields& fields) {
  std::vector<std::string> said;
  const auto note = [&said](bool is_said, const char* flag) {
    if (is_said) said.emplace_back(flag);
  };
  note(!fields.version.empty(), "--version");
  note(!fields.description.empty(), "--description");
  note(!fields.tags.empty(), "--tags");
  note(!fields.licence.empty(), "--licence");
  note(fields.min_score.has_value(), "--min-score");
  return said;
}

class ExpertMaker {
 public:
  ExpertMaker(const FolderContent& folder, const CardFields& fields, const std::vector<std::string>& examples,
              RoutingView* view)
      : folder_(folder), fields_(fields), examples_(examples), view_(view) {}

  StatusOr<MadeExpert> Make() {
    if (!folder_.composite && (!folder_.config.has_value() || !folder_.weights.has_value())) {
      return absl::FailedPreconditionError(
          absl::StrCat(folder_.folder.string(), " holds no adapter that can be read"));
    }
    made_.notes = folder_.notes;
    ASSIGN_OR_RETURN(std::string card, Card());
    if (folder_.composite && !folder_.prototypes.has_value() && examples_.empty()) {
      made_.files = {{std::string(kCardFile), std::move(card)}};
      return std::move(made_);
    }
    std::string prototypes;
    if (!folder_.prototypes.has_value() && examples_.empty()) {
      return absl::InvalidArgumentError(
          "prototypes, by which questions find the expert, are made of examples: add --examples FILE, "
          "questions "
          "of its field one on a line, or --documents FOLDER");
    }
    EmbeddedTexts embedded;
    if (!examples_.empty()) {
      ASSIGN_OR_RETURN(embedded, EmbedAll());
    }
    ASSIGN_OR_RETURN(prototypes, PrototypesFile(embedded));
    if (!examples_.empty()) RETURN_IF_ERROR(Measure(embedded));
    if (!folder_.composite) {
      made_.files = {{std::string(kConfigFile), *folder_.config},
                     {std::string(kWeightsFile), *folder_.weights}};
    }
    made_.files.push_back({std::string(kCardFile), std::move(card)});
    made_.files.push_back({std::string(kPrototypesFile), std::move(prototypes)});
    return std::move(made_);
  }

 private:
  StatusOr<std::string> Card() {
    if (folder_.card.has_value()) {
      ASSIGN_OR_RETURN(const ExpertCard card,
                       ParseExpertCard(*folder_.card, (folder_.folder / kCardFile).string()));
      if (!fields_.name.empty() && fields_.name != card.name) {
        return absl::InvalidArgumentError(absl::StrCat(
            "--name is ", Quoted(fields_.name), ", the card in the folder names the expert ", card.name));
      }
      made_.name = card.name;
      if (card.min_score.has_value()) min_score_ = static_cast<double>(*card.min_score);
      if (const std::vector<std::string> said = SaidFields(fields_); !said.empty()) {
        made_.notes.push_back(absl::StrCat("the folder has a card, which wins: ", absl::StrJoin(said, ", "),
                                           said.size() == 1 ? " is" : " are", " not used"));
      }
      return *folder_.card;
    }
    CardFields fields = fields_;
    if (fields.name.empty()) fields.name = SuggestedName(folder_.folder);
    if (fields.base.empty()) fields.base = BaseOfConfig(*folder_.config);
    fields.n_texts = folder_.prototypes.has_value() ? 0 : examples_.size();
    RETURN_IF_ERROR(Annotate(ValidateExpertName(fields.name), "the expert's name (--name)"));
    made_.name = fields.name;
    min_score_ = fields.min_score;
    return WriteCard(fields);
  }

  StatusOr<std::string> PrototypesFile(const EmbeddedTexts& embedded) {
    if (!folder_.prototypes.has_value()) {
      return WritePrototypes(MakePrototypes(embedded), embedded.dim, embedded.embedder);
    }
    const std::string& bytes = *folder_.prototypes;
    ASSIGN_OR_RETURN(existing_,
                     ParsePrototypes({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()},
                                     (folder_.folder / kPrototypesFile).string()));
    if (!examples_.empty()) {
      RETURN_IF_ERROR(CheckPrototypesFit(*existing_, embedded.dim, embedded.embedder));
      made_.notes.emplace_back("the folder has prototypes, which win: the examples only measure them");
    }
    return bytes;
  }

  StatusOr<EmbeddedTexts> EmbedAll() {
    EmbeddedTexts all;
    for (size_t begin = 0; begin < examples_.size(); begin += kTextsPerEmbedding) {
      const size_t n = std::min(kTextsPerEmbedding, examples_.size() - begin);
      ASSIGN_OR_RETURN(const EmbeddedTexts part, view_->Embed(std::span(examples_).subspan(begin, n)));
      if (part.dim == 0 || part.values.size() != n * part.dim || (begin > 0 && part.dim != all.dim) ||
          (begin > 0 && part.embedder != all.embedder)) {
        return absl::InternalError(absl::StrCat("the embedder answers ", n, " texts with ",
                                                part.values.size(), " numbers of dimension ", part.dim,
                                                begin > 0 ? absl::StrCat(", before ", all.dim) : ""));
      }
      all.dim = part.dim;
      all.embedder = part.embedder;
      all.values.insert(all.values.end(), part.values.begin(), part.values.end());
    }
    return all;
  }

  Status Measure(const EmbeddedTexts& embedded) {
    std::vector<float> own;
    if (existing_.has_value()) {
      for (size_t i = 0; i < embedded.n(); ++i) {
        own.push_back(NearestPrototype(embedded.row(i), existing_->values));
      }
    } else {
      own = ScoresOfUnseen(embedded);
    }
    std::vector<ExampleScore> scores;
    const size_t n = std::min(kMostCompared, examples_.size());
    for (size_t i = 0; i < n; ++i) {
      const size_t at = i * examples_.size() / n;
      ASSIGN_OR_RETURN(std::optional<Rival> rival, view_->NearestRival(examples_[at], made_.name));
      scores.push_back({examples_[at], own[at], std::move(rival)});
    }
    made_.separation = MeasureSeparation(scores, min_score_);
    return absl::OkStatus();
  }

  const FolderContent& folder_;
  const CardFields& fields_;
  const std::vector<std::string>& examples_;
  RoutingView* const view_;
  MadeExpert made_;
  std::optional<double> min_score_;
  std::optional<Prototypes> existing_;
};

}  // namespace

StatusOr<MadeExpert> MakeExpert(const FolderContent& folder, const CardFields& fields,
                                const std::vector<std::string>& examples, RoutingView* view) {
  return ExpertMaker(folder, fields, examples, view).Make();
}

}  // namespace coterie
