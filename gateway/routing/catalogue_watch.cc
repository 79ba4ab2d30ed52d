#include "gateway/routing/catalogue_watch.h"

#include <algorithm>
#include <utility>

#include "common/allocator.h"
#include "common/log/named.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {
namespace {

// At each look at the store: reading them again is cheap, but there may be a hundred thousand.
constexpr size_t kProblemsTriedAgain = 64;
constexpr size_t kProblemsLogged = 10;
constexpr size_t kMaxPrototypes = ExpertIndex::Options().max_prototypes;
// Experts read before the index takes them: a gateway that starts on a hundred thousand would otherwise hold
// all prototypes twice.
constexpr size_t kPutAtOnce = 512;

// Names of `before` that `next` lacks.
std::vector<std::string> Gone(const Catalogue& before, const Catalogue& next) {
  std::vector<std::string> names;
  auto it = next.entries.begin();
  for (auto old = before.entries.begin(); old != before.entries.end(); ++old) {
    while (it != next.entries.end() && it.name() < old.name()) ++it;
    if (it == next.entries.end() || it.name() != old.name()) names.emplace_back(old.name());
  }
  return names;
}

void LogNewProblems(const RouterState& before, const std::vector<ExpertProblem>& problems) {
  size_t n_new = 0;
  for (const ExpertProblem& problem : problems) {
    const ExpertProblem* known = before.ProblemOf(problem.name);
    if (known != nullptr && known->why == problem.why) continue;
    if (++n_new <= kProblemsLogged) {
      spdlog::warn("expert {} is not routed to: {}", Named("expert", problem.name),
                   Named("why", problem.why));
    }
  }
  if (n_new > kProblemsLogged) {
    spdlog::warn("and {} more; `coterie status` names them", Named("left_out", n_new - kProblemsLogged));
  }
}

}  // namespace

StatusOr<std::unique_ptr<CatalogueWatch>> CatalogueWatch::Start(ExpertStore* store,
                                                                RouterState::Options options, Digest embedder,
                                                                RoutingFiles files, absl::Duration interval) {
  std::unique_ptr<CatalogueWatch> watch(
      new CatalogueWatch(store, std::move(options), embedder, std::move(files), interval));
  {
    MutexLock lock(&watch->build_mutex_);
    RETURN_IF_ERROR(watch->files_.Refresh(&watch->options_.routing).status());
    ASSIGN_OR_RETURN(auto nothing, RouterState::Create(watch->options_, Catalogue(), {}));
    watch->routers_ = std::make_unique<RouterStates>(std::move(nothing));
    RETURN_IF_ERROR(watch->Follow());
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
      spdlog::error("{}: {}", Named("what", what), Named("why", std::string(status.message())));
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
  // What is wrong with the catalogue is to be told, and its last good generation to be followed.
  Status status = store_->Refresh().status();
  RETURN_IF_ERROR(Follow());
  return status;
}

Status CatalogueWatch::RefreshFiles() {
  MutexLock lock(&build_mutex_);
  ASSIGN_OR_RETURN(const bool changed, files_.Refresh(&options_.routing));
  if (!changed) return absl::OkStatus();
  options_changed_ = true;
  return Follow();
}

Status CatalogueWatch::Follow() {
  const std::shared_ptr<const RouterState> before = routers_->Current();
  RouterState::Parts parts = before->parts();
  const bool same = store_->Snapshot() == parts.catalogue;
  if (same && !options_changed_ && before->problems().empty()) return absl::OkStatus();
  parts.catalogue = store_->Snapshot();
  parts.problems.clear();
  ASSIGN_OR_RETURN(parts.index, Changed(*before, *parts.catalogue, &parts.problems));
  const bool index_changes = parts.index != before->parts().index;
  if (same && !options_changed_ && !index_changes) return absl::OkStatus();
  if (options_changed_) {
    ASSIGN_OR_RETURN(parts.policies, RoutingPolicies::Create(options_.routing));
  }
  LogNewProblems(*before, parts.problems);
  const uint64_t generation = parts.catalogue->generation;
  routers_->Set(std::make_shared<const RouterState>(options_.max_candidates, std::move(parts)));
  if (std::exchange(options_changed_, false)) {
    spdlog::info("routing files read again: {} rules, {} classes of the classifier",
                 Named("rules", options_.routing.rules.size()),
                 Named("classes", options_.routing.classifier.classes.size()));
  }
  if (!same) {
    spdlog::info("catalogue generation {}", Named("generation", generation));
    // The state before, and all that was read meanwhile.
    ReturnFreeMemory();
  }
  return absl::OkStatus();
}

StatusOr<std::shared_ptr<const ExpertIndex>> CatalogueWatch::Changed(const RouterState& before,
                                                                     const Catalogue& next,
                                                                     std::vector<ExpertProblem>* problems) {
  std::shared_ptr<const ExpertIndex> index = before.parts().index;
  // Those that go make room for those that come.
  ExpertIndex::Change change{.generation = next.generation, .removed = Gone(before.catalogue(), next)};
  const auto apply = [&]() -> Status {
    ASSIGN_OR_RETURN(index, index->With(std::exchange(change, {.generation = next.generation})));
    return absl::OkStatus();
  };
  // A few of those with problems are tried again each time, in turn.
  size_t n_again = kProblemsTriedAgain;
  const auto try_again = [&](const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mutex_) {
    if (n_again == 0 || name <= tried_last_) return false;
    --n_again;
    tried_last_ = name;
    return true;
  };
  if (before.problems().empty() || before.problems().back().name <= tried_last_) tried_last_.clear();
  const auto same_for_routing = [](const CatalogueEntry& a, const CatalogueEntry& b) {
    return a.live.adapter == b.live.adapter && a.live.revision == b.live.revision && a.tags == b.tags &&
           a.min_score == b.min_score;
  };
  // Of all prototypes together. Those that are replaced are not counted off: what is refused for them is
  // tried again.
  size_t room = kMaxPrototypes - std::min(kMaxPrototypes, before.index().n_prototypes());
  const CatalogueEntries& old = before.catalogue().entries;
  auto known = old.begin();
  for (auto it = next.entries.begin(); it != next.entries.end(); ++it) {
    while (known != old.end() && known.name() < it.name()) ++known;
    const bool there = known != old.end() && known.name() == it.name();
    const bool same = there && (known.IsShared(it) || same_for_routing(*known, *it));
    if (there) ++known;
    const ExpertProblem* problem = same ? before.ProblemOf(it.name()) : nullptr;
    if (same && problem == nullptr) continue;
    const CatalogueEntry entry = *it;
    if (problem != nullptr && !try_again(entry.name)) {
      problems->push_back(*problem);
      continue;
    }
    const size_t n_problems = problems->size();
    IndexedExpert expert = Index(entry, problems);
    if (const size_t n = expert.prototypes.size() / std::max<size_t>(1, dim_); n <= room) {
      room -= n;
    } else {
      expert.prototypes.clear();
      problems->push_back({entry.name, absl::StrCat("the index holds ", before.index().n_prototypes(),
                                                    " prototypes, the limit is ", kMaxPrototypes)});
    }
    // One that still has its problem is in the index already.
    if (problem == nullptr || problems->size() == n_problems) change.put.push_back(std::move(expert));
    if (change.put.size() >= kPutAtOnce) RETURN_IF_ERROR(apply());
  }
  if (!change.put.empty() || !change.removed.empty() || index->generation() != next.generation) {
    RETURN_IF_ERROR(apply());
  }
  return index;
}

IndexedExpert CatalogueWatch::Index(const CatalogueEntry& entry, std::vector<ExpertProblem>* problems) const {
  IndexedExpert expert{entry.name, entry.live.adapter, entry.tags, entry.min_score, {}};
  if (dim_ == 0) return expert;  // no question is embedded here
  StatusOr<std::vector<float>> prototypes = UsablePrototypes(entry);
  Status usable = prototypes.status();
  if (prototypes.ok()) {
    expert.prototypes = *std::move(prototypes);
    usable = ExpertIndex::Check(expert, dim_);
  }
  if (!usable.ok()) {
    expert.prototypes.clear();
    problems->push_back({entry.name, std::string(usable.message())});
  }
  return expert;
}

StatusOr<std::vector<float>> CatalogueWatch::UsablePrototypes(const CatalogueEntry& entry) const {
  ASSIGN_OR_RETURN(Prototypes prototypes, store_->ReadPrototypes(entry.live.revision));
  RETURN_IF_ERROR(CheckPrototypesFit(prototypes, dim_, embedder_));
  return std::move(prototypes.values);
}

}  // namespace coterie::gateway
