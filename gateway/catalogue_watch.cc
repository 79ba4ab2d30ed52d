#include "gateway/catalogue_watch.h"

#include <utility>

#include "spdlog/spdlog.h"

namespace coterie::gateway {

StatusOr<std::unique_ptr<CatalogueWatch>> CatalogueWatch::Start(ExpertStore* store,
                                                                RouterState::Options options,
                                                                RoutingFiles files, absl::Duration interval) {
  std::unique_ptr<CatalogueWatch> watch(
      new CatalogueWatch(store, std::move(options), std::move(files), interval));
  {
    MutexLock lock(&watch->build_mutex_);
    RETURN_IF_ERROR(watch->files_.Refresh(&watch->options_.routing).status());
    ASSIGN_OR_RETURN(auto state, watch->Build());
    watch->routers_ = std::make_unique<RouterStates>(std::move(state));
  }
  watch->thread_ = std::thread([raw = watch.get()] { raw->Run(); });
  return watch;
}

CatalogueWatch::~CatalogueWatch() {
  {
    MutexLock lock(&stop_mutex_);
    stop_ = true;
  }
  stopping_.SignalAll();
  if (thread_.joinable()) thread_.join();
}

void CatalogueWatch::Run() {
  // The same fault again and again is one line.
  const auto log = [](const char* what, const Status& status, std::string* last_words) {
    if (!status.ok() && status.message() != *last_words) {
      spdlog::error("{}: {}", what, std::string(status.message()));
    }
    *last_words = std::string(status.message());
  };
  std::string catalogue_words, files_words;
  while (true) {
    {
      MutexLock lock(&stop_mutex_);
      if (!stop_) stopping_.WaitFor(&stop_mutex_, interval_);
      if (stop_) return;
    }
    log("catalogue", Refresh(), &catalogue_words);
    log("routing files", RefreshFiles(), &files_words);
  }
}

Status CatalogueWatch::Refresh() {
  MutexLock lock(&build_mutex_);
  RETURN_IF_ERROR(store_->Refresh().status());
  return Follow();
}

Status CatalogueWatch::RefreshFiles() {
  MutexLock lock(&build_mutex_);
  ASSIGN_OR_RETURN(const bool changed, files_.Refresh(&options_.routing));
  if (!changed) return absl::OkStatus();
  options_changed_ = true;
  return Follow();
}

Status CatalogueWatch::Follow() {
  const uint64_t generation = store_->Snapshot()->generation;
  const bool same = generation == routers_->Current()->catalogue().generation;
  if (same && !options_changed_) return absl::OkStatus();
  ASSIGN_OR_RETURN(auto state, Build());
  routers_->Set(std::move(state));
  if (std::exchange(options_changed_, false)) {
    spdlog::info("routing files read again: {} rules, {} classes of the classifier",
                 options_.routing.rules.size(), options_.routing.classifier.classes.size());
  }
  if (!same) spdlog::info("catalogue generation {}", generation);
  return absl::OkStatus();
}

StatusOr<std::shared_ptr<const RouterState>> CatalogueWatch::Build() {
  const std::shared_ptr<const Catalogue> catalogue = store_->Snapshot();
  absl::flat_hash_map<Digest, std::vector<float>> kept;
  std::vector<std::vector<float>> prototypes;  // by entry
  for (const CatalogueEntry& entry : catalogue->entries) {
    const Digest& revision = entry.live.revision;
    if (const auto known = prototypes_.find(revision); known != prototypes_.end()) {
      kept.insert(*known);
    } else {
      ASSIGN_OR_RETURN(Prototypes read, store_->ReadPrototypes(revision));
      kept.emplace(revision, std::move(read.values));
    }
    prototypes.push_back(kept.at(revision));
  }
  ASSIGN_OR_RETURN(auto state, RouterState::Create(options_, *catalogue, std::move(prototypes)));
  prototypes_ = std::move(kept);
  return state;
}

}  // namespace coterie::gateway
