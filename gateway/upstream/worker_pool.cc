#include "gateway/upstream/worker_pool.h"

#include <algorithm>
#include <random>
#include <set>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/log/named.h"
#include "common/log_allowance.h"
#include "gateway/upstream/gang.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {
namespace {

// Each sequence has one job at most, so this is beyond what admission lets in.
constexpr size_t kMaxPlacementJobs = 65'536;

uint64_t RandomStart() {
  std::random_device device;
  // The upper half is drawn, the lower counts: 2^32 sequences before it could meet another gateway's.
  return (uint64_t{device()} << 32) | 1;
}

}  // namespace

StatusOr<std::unique_ptr<WorkerPool>> WorkerPool::Start(Options options, WorkerDirectory directory,
                                                        TimerQueue* timers) {
  ASSIGN_OR_RETURN(Placer placer, Placer::Create(options.placement));
  std::unique_ptr<WorkerPool> pool(new WorkerPool(std::move(options), std::move(directory), placer, timers));
  if (pool->directory_.changes()) {
    pool->resolver_ = std::thread([pool = pool.get()] { pool->FollowName(); });
  } else {
    ASSIGN_OR_RETURN(const std::vector<std::string> addresses, pool->directory_.Resolve());
    pool->Adopt(addresses);
  }
  return pool;
}

WorkerPool::WorkerPool(Options options, WorkerDirectory directory, const Placer& placer, TimerQueue* timers)
    : options_(std::move(options)),
      directory_(std::move(directory)),
      placer_(placer),
      timers_(timers),
      next_sequence_id_(RandomStart()),
      placement_pool_(std::make_shared<WorkPool>("placement", 1, kMaxPlacementJobs)) {}

WorkerPool::~WorkerPool() { Stop(); }

void WorkerPool::Stop() {
  std::map<std::string, std::shared_ptr<WorkerLink>> links;
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
    links = std::move(links_);
    links_.clear();
  }
  if (resolver_.joinable()) resolver_.join();
  for (auto& [address, link] : links) link->Stop(absl::UnavailableError("the gateway is shutting down"));
  // Every stream was cancelled; gRPC ends a cancelled call whatever the peer does.
  COTERIE_CHECK(streams_.WaitForAll(absl::Minutes(1))) << "streams to workers did not end";
  placement_pool_->Stop();
}

void WorkerPool::FollowName() {
  LogAllowance failures(absl::Minutes(1));  // a name server may be away for days
  while (true) {
    StatusOr<std::vector<std::string>> addresses = directory_.Resolve();
    if (addresses.ok()) {
      Adopt(*addresses);
    } else if (const auto n_left_out = failures.Note(MonotonicNow())) {
      spdlog::warn("{} ({} more times since the last such line)",
                   Named("why", std::string(addresses.status().message())), Named("left_out", *n_left_out));
    }
    MutexLock lock(&mutex_);
    resolve_error_ = addresses.ok() ? "" : std::string(addresses.status().message());
    const MonotonicTime until = MonotonicNow() + options_.resolve_interval;
    while (!stopping_ && MonotonicNow() < until) changed_.WaitUntil(&mutex_, until);
    if (stopping_) return;
  }
}

void WorkerPool::Adopt(const std::vector<std::string>& addresses) {
  std::vector<std::shared_ptr<WorkerLink>> gone;
  {
    MutexLock lock(&mutex_);
    if (stopping_) return;
    for (const std::string& address : addresses) {
      if (!links_.contains(address))
        links_[address] =
            WorkerLink::Start(options_.link, address, timers_, &streams_, placement_pool_, board_);
    }
    for (auto it = links_.begin(); it != links_.end();) {
      const bool named = std::binary_search(addresses.begin(), addresses.end(), it->first);
      // A name drops a worker that is not ready for a moment; its answers go on as long as its stream is up.
      const WorkerHealth health = it->second->Report().health;
      const bool in_use = health == WorkerHealth::kReady || health == WorkerHealth::kSuspect ||
                          (health == WorkerHealth::kDraining && it->second->sequences() > 0);
      if (named || in_use) {
        ++it;
      } else {
        gone.push_back(std::move(it->second));
        it = links_.erase(it);
      }
    }
  }
  for (const auto& link : gone) link->Stop(absl::UnavailableError("the worker left the directory"));
}

std::vector<std::shared_ptr<WorkerLink>> WorkerPool::Links() const {
  MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<WorkerLink>> links;
  links.reserve(links_.size());
  for (const auto& [address, link] : links_) links.push_back(link);
  return links;
}

StatusOr<WorkerPool::Placed> WorkerPool::Place(const PlacementRequest& request,
                                               std::vector<uint32_t>* homeless) {
  StatusOr<WorkerBoard::Chosen> chosen = board_->Place(placer_, request);
  if (chosen.ok()) {
    return Placed{std::move(chosen->link),           std::move(chosen->placement.worker_id),
                  std::move(chosen->numerics_class), chosen->batch_invariant,
                  chosen->placement.room_tokens,     std::move(chosen->placement.reason)};
  }
  // Who draws the tokens of several workers knows nothing of what a constraint allows.
  const bool may_share =
      request.n_rows > 1 && request.n_rows == request.adapters.size() && !request.constrained;
  StatusOr<Placed> placed = may_share ? PlaceTogether(request, chosen.status(), homeless) : chosen.status();
  if (placed.ok() || !absl::IsUnavailable(placed.status())) return placed;
  std::string words(placed.status().message());
  for (const auto& link : Links()) {
    const WorkerReport report = link->Report();
    if (report.health != WorkerHealth::kReady)
      absl::StrAppend(&words, "; ", report.address, ": ", report.message);
  }
  MutexLock lock(&mutex_);
  if (!resolve_error_.empty()) absl::StrAppend(&words, "; ", resolve_error_);
  return absl::UnavailableError(words);
}

StatusOr<WorkerPool::Placed> WorkerPool::PlaceTogether(const PlacementRequest& request, const Status& alone,
                                                       std::vector<uint32_t>* homeless) {
  StatusOr<std::vector<WorkerBoard::ChosenPart>> chosen = board_->PlaceGang(placer_, request, homeless);
  // Why no single worker can take it says more where several cannot either.
  if (!chosen.ok()) return homeless->size() < request.adapters.size() ? chosen.status() : alone;
  Placed placed;
  std::vector<Gang::Part> parts;
  std::set<std::string> classes;
  for (WorkerBoard::ChosenPart& part : *chosen) {
    std::vector<std::string> names;
    for (const uint32_t member : part.members) names.push_back(request.adapters[member].name);
    absl::StrAppend(&placed.reason, placed.reason.empty() ? "several workers together: " : "; ",
                    part.chosen.placement.worker_id, " with ", absl::StrJoin(names, ", "));
    classes.insert(part.chosen.numerics_class);
    placed.batch_invariant &= part.chosen.batch_invariant;
    const uint64_t room = part.chosen.placement.room_tokens;
    placed.room_tokens = parts.empty() ? room : std::min(placed.room_tokens, room);
    parts.push_back(
        {std::move(part.chosen.link), std::move(part.chosen.placement.worker_id), std::move(part.members)});
  }
  placed.worker = parts.front().worker;
  placed.numerics_class = absl::StrJoin(classes, "+");
  placed.home =
      std::make_shared<Gang>(std::move(parts), options_.gang_top_tokens, [this] { return NextSequenceId(); });
  return placed;
}

void WorkerPool::Prefetch(const PlacementRequest& request) {
  if (request.adapters.empty()) return;
  const StatusOr<WorkerBoard::Chosen> placed = board_->Place(placer_, request);
  if (!placed.ok()) return;
  for (const PlacementRequest::Adapter& adapter : request.adapters) {
    if (placed->link->Prefetch(adapter.digest)) {
      n_prefetches_.fetch_add(1, std::memory_order_relaxed);
    }
  }
}

std::vector<WorkerReport> WorkerPool::Report() const {
  std::vector<WorkerReport> reports;
  for (const auto& link : Links()) reports.push_back(link->Report());
  return reports;
}

std::vector<std::string> WorkerPool::Holders(std::span<const Digest> adapters) const {
  std::vector<std::string> ids;
  for (const auto& link : Links()) {
    const bool all = std::all_of(adapters.begin(), adapters.end(),
                                 [&link](const Digest& adapter) { return link->Holds(adapter); });
    if (all) ids.push_back(link->Report().identity.worker_id);
  }
  return ids;
}

size_t WorkerPool::ready() const {
  const auto links = Links();
  return static_cast<size_t>(std::count_if(links.begin(), links.end(), [](const auto& link) {
    return link->Report().health == WorkerHealth::kReady;
  }));
}

}  // namespace coterie::gateway
