#include "model/publishing/check_folder.h"

#include <span>
#include <utility>

#include "model/format/safetensors.h"
#include "model/lora/lora_adapter.h"
#include "model/publishing/check_weights.h"
#include "model/store/expert_card.h"
#include "model/store/prototypes.h"
#include "model/store/staging.h"

namespace coterie {
namespace {

std::span<const uint8_t> BytesOf(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

void CheckAdapter(const FolderContent& content, const std::filesystem::path& path, const ModelConfig* base,
                  FolderReport* report) {
  const LoraLimits limits;
  PeftConfig peft;
  const size_t n_before = report->problems.size();
  if (content.config.has_value()) {
    const std::string name = (path / kConfigFile).string();
    // What the store takes at most: a longer one is not looked into.
    if (const size_t limit = StagingFolder::Limits{}.max_config_bytes; content.config->size() > limit) {
      report->problems.push_back(absl::InvalidArgumentError(
          absl::StrCat(name, " has ", content.config->size(), " bytes, the limit is ", limit)));
    } else {
      peft = ReadPeftConfig(*content.config, name, limits, &report->problems);
    }
  }
  const bool config_is_sound = content.config.has_value() && report->problems.size() == n_before;
  if (!content.weights.has_value()) return;
  const auto file = SafetensorsFile::Parse(BytesOf(*content.weights), (path / kWeightsFile).string());
  if (!file.ok()) {
    report->problems.push_back(file.status());
    return;
  }
  report->summary = WeightsInWords(*file);
  if (config_is_sound && base != nullptr) {
    std::vector<Status> problems =
        LoraAdapter::Problems(*content.config, BytesOf(*content.weights), path.string(), *base, limits);
    for (Status& problem : problems) report->problems.push_back(std::move(problem));
    return;
  }
  CheckWeightsAlone(*file, config_is_sound ? &peft : nullptr, limits, &report->problems);
  if (base == nullptr) {
    report->notes.emplace_back(
        "shapes were not held against a base; name it with --base, or see what a "
        "gateway says when it is published");
  }
}

}  // namespace

FolderReport CheckFolder(const std::filesystem::path& path, const ModelConfig* base) {
  FolderReport report;
  const FolderContent content = ReadFolder(path, base, &report.problems);
  report.notes = content.notes;
  if (!content.composite) CheckAdapter(content, path, base, &report);
  if (content.card.has_value()) {
    const ExpertCard card = ReadExpertCard(*content.card, (path / kCardFile).string(), {}, &report.problems);
    if (content.composite) {
      report.summary = absl::StrCat(ToAbsl(NameOf(card.mode)), " of ", card.members.size(), " experts");
      report.notes.emplace_back("whether there are such members, a gateway says when it is published");
    }
  }
  if (content.prototypes.has_value()) {
    const auto prototypes = ParsePrototypes(BytesOf(*content.prototypes), (path / kPrototypesFile).string());
    if (!prototypes.ok()) report.problems.push_back(prototypes.status());
  }
  if (report.problems.empty()) {
    if (const Status missing = CheckCardAndPrototypes(content, path); !missing.ok()) {
      report.notes.emplace_back(missing.message());
    }
  }
  return report;
}

Status CheckAgainstBase(const FolderContent& content, const std::filesystem::path& path,
                        const ModelConfig& base) {
  if (content.composite) return absl::OkStatus();
  if (!content.config.has_value() || !content.weights.has_value()) {
    return absl::NotFoundError(absl::StrCat(path.string(), " holds no adapter"));
  }
  return LoraAdapter::Parse(*content.config, BytesOf(*content.weights), path.string(), base).status();
}

}  // namespace coterie
