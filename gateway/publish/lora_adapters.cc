#include "gateway/publish/lora_adapters.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/hidden_paths.h"
#include "common/ids.h"
#include "common/log/named.h"
#include "common/quoted.h"
#include "common/refused_field.h"
#include "common/utf8.h"
#include "gateway/access/retry_delay.h"
#include "gateway/publish/own_routing_view.h"
#include "model/publishing/make_expert.h"
#include "model/publishing/make_prototypes.h"
#include "model/publishing/read_folder.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {
namespace {

constexpr size_t kMaxWaiting = 16;  // loads and unloads
constexpr size_t kWriteBytes = 1 << 20;

// A folder as vLLM loads them, with nothing that says which questions are its own: it answers to its name.
// Its prototype is the opposite of its name's vector, which no question comes near, and the card demands a
// cosine of 1 besides.
Status KeepFromRouting(const std::string& name, RoutingView* view, LoraLoad* load, FolderContent* content) {
  const std::vector<std::string> texts = {name};
  ASSIGN_OR_RETURN(EmbeddedTexts away, view->Embed(texts));
  for (float& value : away.values) value = -value;
  content->prototypes = WritePrototypes(away.values, away.dim, away.embedder);
  if (!content->card.has_value()) load->card.min_score = 1;
  return absl::OkStatus();
}

Status WriteExpert(const MadeExpert& made, ExpertStore::Upload* upload) {
  for (const MadeExpert::File& file : made.files) {
    std::string_view rest = file.content;
    do {
      RETURN_IF_ERROR(upload->Write(file.name, rest.substr(0, kWriteBytes)));
      rest.remove_prefix(std::min(rest.size(), kWriteBytes));
    } while (!rest.empty());
  }
  return absl::OkStatus();
}

}  // namespace

LoraAdapters::LoraAdapters(const GatewayCore* core, ExpertStore* store, CatalogueWatch* watch,
                           const ModelConfig* base, LoraFolders folders)
    : core_(core),
      store_(store),
      watch_(watch),
      base_(base),
      folders_(std::move(folders)),
      thread_("publish", 1, kMaxWaiting) {}

LoraAdapters::~LoraAdapters() {
  ends_.Set();
  thread_.Stop();
}

Status LoraAdapters::Load(LoraLoad load, Done done) {
  return WithRetryDelay(
      thread_.Submit([this, load = std::move(load), done = std::move(done)] { done(LoadNow(load)); }),
      absl::Seconds(1));
}

Status LoraAdapters::Unload(std::string name, Done done) {
  return WithRetryDelay(
      thread_.Submit([this, name = std::move(name), done = std::move(done)] { done(UnloadNow(name)); }),
      absl::Seconds(1));
}

Status LoraAdapters::CheckName(const std::string& name) const {
  if (store_ == nullptr) {
    return absl::FailedPreconditionError("this gateway has no expert store (--store) to publish to");
  }
  return OfField(Annotate(ValidateExpertName(name), "lora_name"), "lora_name");
}

StatusOr<std::string> LoraAdapters::LoadNow(const LoraLoad& load) {
  RETURN_IF_ERROR(CheckName(load.name));
  if (ends_.is_set()) return absl::UnavailableError("this gateway is about to end");
  const StatusOr<std::filesystem::path> folder = folders_.Resolve(load.path);
  if (!folder.ok()) return OfField(folder.status(), "lora_path");
  if (!load.in_place && core_->routers->Current()->catalogue().Find(load.name) != nullptr) {
    return OfField(
        absl::InvalidArgumentError(absl::StrCat("an expert ", load.name,
                                                " is loaded already; \"load_inplace\": true makes this "
                                                "its next version")),
        "lora_name");
  }
  // Where the operator keeps adapters is known to the caller as they wrote it.
  const auto shown = [&](const Status& status) {
    return OfField(WithoutPaths(status, *folder, absl::StrCat("lora_path ", Quoted(load.path))), "lora_path");
  };
  std::vector<Status> problems;
  FolderContent content = ReadFolder(*folder, base_, &problems);
  if (!problems.empty()) return shown(problems.front());
  OwnRoutingView view(core_, ends_);
  LoraLoad completed = load;
  CardFields& card = completed.card;
  if (!content.card.has_value()) card.name = load.name;
  if (card.description.empty() && !content.card.has_value()) {
    card.description = absl::StrCat("adapter ", load.name, ", loaded by its name");
  }
  if (!content.prototypes.has_value() && load.examples.empty()) {
    RETURN_IF_ERROR(KeepFromRouting(load.name, &view, &completed, &content));
  }
  const StatusOr<MadeExpert> made = MakeExpert(content, card, completed.examples, &view);
  if (!made.ok()) return shown(made.status());
  if (made->name != load.name) {
    return OfField(absl::InvalidArgumentError(absl::StrCat("lora_name is ", load.name,
                                                           ", the card in the folder "
                                                           "names the expert ",
                                                           made->name)),
                   "lora_name");
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<ExpertStore::Upload> upload, store_->BeginUpload());
  RETURN_IF_ERROR(WriteExpert(*made, upload.get()));
  const StatusOr<PublishResult> published = upload->Commit(load.name);
  if (!published.ok()) return WithoutPaths(published.status(), store_->root(), "the expert store");
  RETURN_IF_ERROR(watch_->Refresh());
  std::vector<std::string> lines = {published->words};
  if (made->separation.has_value()) {
    for (std::string& line : SeparationInWords(*made->separation, made->name))
      lines.push_back(std::move(line));
  }
  spdlog::info("{} was loaded over HTTP: {}", Named("expert", load.name),
               Named("what", Printable(published->words)));
  return absl::StrJoin(lines, "\n");
}

StatusOr<std::string> LoraAdapters::UnloadNow(const std::string& name) {
  RETURN_IF_ERROR(CheckName(name));
  const StatusOr<uint64_t> generation = store_->Remove(name);
  if (!generation.ok()) {
    return OfField(WithoutPaths(generation.status(), store_->root(), "the expert store"), "lora_name");
  }
  RETURN_IF_ERROR(watch_->Refresh());
  spdlog::info("{} was unloaded over HTTP", Named("expert", name));
  return absl::StrCat(name, " was withdrawn (generation ", *generation, ")");
}

}  // namespace coterie::gateway
