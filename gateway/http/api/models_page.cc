#include "gateway/http/api/models_page.h"

#include <string_view>

#include "common/quoted.h"
#include "common/refused_field.h"
#include "common/unix_time.h"
#include "gateway/http/json_writer.h"

namespace coterie::gateway::http {
namespace {

// The fields that clients know, and those of vLLM's that say what an adapter belongs to.
void WriteModel(std::string_view id, std::string_view root, bool has_parent, int64_t created,
                uint32_t max_tokens, JsonWriter* json) {
  json->BeginObject().Key("id").String(id).Key("object").String("model").Key("created").Int(created);
  json->Key("owned_by").String("coterie").Key("root").String(root).Key("parent");
  has_parent ? json->String("base") : json->Null();
  json->Key("max_model_len").Uint(max_tokens).EndObject();
}

}  // namespace

ModelsPage::ModelsPage(const GatewayCore* core) : core_(core), created_(UnixSeconds()) {}

std::shared_ptr<const std::string> ModelsPage::Page() {
  const auto state = core_->routers->Current();
  MutexLock lock(&mutex_);
  if (page_ != nullptr && generation_ == state->catalogue().generation) return page_;
  page_ = Write(state->catalogue(), nullptr);
  generation_ = state->catalogue().generation;
  return page_;
}

std::shared_ptr<const std::string> ModelsPage::PageOf(const NamePatterns& experts) const {
  return Write(core_->routers->Current()->catalogue(), &experts);
}

std::shared_ptr<const std::string> ModelsPage::Write(const Catalogue& catalogue,
                                                     const NamePatterns* experts) const {
  const uint32_t max_tokens = core_->text->context_tokens();
  auto page = std::make_shared<std::string>();
  JsonWriter json(page.get());
  json.BeginObject().Key("object").String("list").Key("data").BeginArray();
  if (core_->embedder != nullptr) WriteModel("auto", core_->text->name(), false, created_, max_tokens, &json);
  WriteModel("base", core_->text->name(), false, created_, max_tokens, &json);
  for (const CatalogueEntry& entry : catalogue.entries) {
    if (experts != nullptr && !experts->Match(entry.name)) continue;
    WriteModel(entry.name, entry.live.adapter.ToHex(), true, entry.live.published_unix, max_tokens, &json);
  }
  json.EndArray().EndObject();
  return page;
}

StatusOr<std::string> ModelsPage::Entry(const std::string& model, const NamePatterns* experts) const {
  const StatusOr<ExpertSelector> selector = ParseExpertSelector(model);
  std::string root = core_->text->name();
  int64_t created = created_;
  bool is_expert = false;
  Status status = selector.status();
  if (selector.ok() && selector->kind == ExpertSelector::Kind::kNamed) {
    if (experts != nullptr && !experts->Match(selector->name)) {
      return OfField(absl::PermissionDeniedError(absl::StrCat("expert ", Quoted(selector->name),
                                                              " is not among those of the API key")),
                     "model");
    }
    const auto state = core_->routers->Current();
    const auto found = state->catalogue().Resolve(*selector);
    status = found.status();
    if (found.ok()) {
      root = found->version->adapter.ToHex();
      created = found->version->published_unix;
    }
    is_expert = true;
  } else if (model.empty() || (model == "auto" && core_->embedder == nullptr)) {
    status = absl::NotFoundError("");
  }
  if (!status.ok()) {
    return OfField(absl::NotFoundError(absl::StrCat("there is no model ", Quoted(model))), "model");
  }
  std::string entry;
  JsonWriter json(&entry);
  WriteModel(model, root, is_expert, created, core_->text->context_tokens(), &json);
  return entry;
}

}  // namespace coterie::gateway::http
