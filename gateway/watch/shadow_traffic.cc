#include "gateway/watch/shadow_traffic.h"

#include <algorithm>
#include <utility>

#include "common/clock.h"
#include "common/random.h"

namespace coterie::gateway {
namespace {

constexpr int kMaxGivenWay = 64;                                // times, of one prompt
constexpr absl::Duration kScoreTimeout = absl::Seconds(30);     // of one prompt under one adapter
constexpr absl::Duration kLookAround = absl::Milliseconds(10);  // while scoring

PlacementRequest::Adapter AdapterOf(const CatalogueEntry& entry, const ExpertVersion& version) {
  return {entry.name, version.adapter, version.adapter_bytes};
}

}  // namespace

Status ShadowTraffic::Validate(const ShadowOptions& options) {
  if (!(options.share >= 0 && options.share <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("shadow share ", options.share, " is not in [0, 1]"));
  }
  if (options.max_tokens < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("shadow tokens is ", options.max_tokens, ", at least 2 are needed to score one"));
  }
  return absl::OkStatus();
}

ShadowTraffic::ShadowTraffic(const GatewayCore* core, const ShadowOptions& options)
    : core_(core), options_(options), n_drawn_(DrawSeed()) {
  thread_ = std::thread([this] { Run(); });
}

ShadowTraffic::~ShadowTraffic() {
  Stop();
  if (thread_.joinable()) thread_.join();
}

void ShadowTraffic::Stop() {
  std::shared_ptr<ShadowAttempt> attempt;
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    attempt = attempt_;
    changed_.SignalAll();
  }
  if (attempt != nullptr) attempt->GiveUp();
}

bool ShadowTraffic::Wants(const RequestContext& context) {
  if (!context.cache_salt.empty() || context.no_shadow) return false;
  // The golden ratio's multiples, well mixed: a draw that needs no lock.
  const uint64_t bits = Mix(n_drawn_.fetch_add(0x9e3779b97f4a7c15u, std::memory_order_relaxed));
  return ToUnitInterval(bits) < options_.share;
}

void ShadowTraffic::Offer(const Decision& decision, std::span<const int32_t> prompt_ids,
                          size_t question_begin, size_t question_end) {
  if (decision.candidates.empty() || decision.plan.experts.size() != 1) return;  // not routed to one expert
  const size_t begin = std::max<size_t>(1, question_begin);
  const size_t end = std::min<size_t>(question_end, options_.max_tokens);
  if (begin >= end) return;
  const auto state = core_->routers->Current();
  Sample sample;
  sample.expert = decision.plan.experts[0].name;
  const std::shared_ptr<const CatalogueEntry> chosen = state->catalogue().Find(sample.expert);
  if (chosen == nullptr) return;  // withdrawn since
  // A prompt is scored under one adapter at a time, which a composite expert is not.
  if (decision.plan.composite || chosen->live.is_composite()) return;
  sample.under = {AdapterOf(*chosen, chosen->live), {}};
  for (const Decision::Weighed& candidate : decision.candidates) {
    const std::shared_ptr<const CatalogueEntry> entry = state->catalogue().Find(candidate.name);
    if (candidate.name == sample.expert || entry == nullptr || entry->live.is_composite()) continue;
    sample.has_runner_up = true;
    sample.under.push_back(AdapterOf(*entry, entry->live));
    break;
  }
  if (chosen->canary.has_value() && !chosen->canary->version.is_composite()) {
    sample.has_canary = true;
    sample.under.push_back(AdapterOf(*chosen, chosen->canary->version));
  }
  sample.prompt_ids.assign(prompt_ids.begin(), prompt_ids.begin() + static_cast<ptrdiff_t>(end));
  sample.question_begin = begin;
  sample.taken = MonotonicNow();

  MutexLock lock(&mutex_);
  if (stop_) return;
  if (waiting_.size() >= options_.max_waiting) {
    ++counts_.dropped;
    return;
  }
  waiting_.push_back(std::move(sample));
  changed_.Signal();
}

void ShadowTraffic::MakeWay() {
  last_request_ns_.store(absl::ToInt64Nanoseconds(MonotonicNow().since_epoch()), std::memory_order_relaxed);
  if (!scoring_.load()) return;
  std::shared_ptr<ShadowAttempt> attempt;
  {
    MutexLock lock(&mutex_);
    make_way_ = true;
    attempt = attempt_;
  }
  if (attempt != nullptr) attempt->GiveUp();
}

bool ShadowTraffic::Idle() const {
  if (core_->admission->running() > 0 || core_->admission->waiting() > 0) return false;
  const int64_t now_ns = absl::ToInt64Nanoseconds(MonotonicNow().since_epoch());
  if (absl::Nanoseconds(now_ns - last_request_ns_.load(std::memory_order_relaxed)) < options_.quiet)
    return false;
  bool any_ready = false;
  for (const WorkerReport& report : core_->workers->Report()) {
    if (report.health != WorkerHealth::kReady) continue;
    if (report.state.running > 0 || report.state.waiting > 0) return false;
    any_ready = true;
  }
  return any_ready;
}

bool ShadowTraffic::OthersWork() const {
  // Ours is one of those that run; of another gateway's requests only the workers know.
  uint32_t running = 0;
  for (const WorkerReport& report : core_->workers->Report()) {
    if (report.health != WorkerHealth::kReady) continue;
    running += report.state.running;
    if (report.state.waiting > 0 && report.state.running > 0) return true;
  }
  return running > 1;
}

void ShadowTraffic::Run() {
  MonotonicTime busy = MonotonicNow();  // the last time it was seen so
  while (true) {
    Sample sample;
    {
      MutexLock lock(&mutex_);
      while (!stop_ && waiting_.empty()) changed_.Wait(&mutex_);
      // Not at once: the request it comes from has still to be answered.
      if (!stop_) changed_.WaitFor(&mutex_, options_.poll);
      if (stop_) return;
      if (MonotonicNow() - waiting_.front().taken > options_.max_age) {
        waiting_.pop_front();
        ++counts_.abandoned;
        continue;
      }
    }
    const MonotonicTime now = MonotonicNow();
    if (!Idle()) busy = now;
    if (now - busy < options_.quiet) continue;
    {
      MutexLock lock(&mutex_);
      sample = std::move(waiting_.front());
      waiting_.pop_front();
    }
    const Outcome outcome = Score(&sample);
    if (outcome == Outcome::kScored) Learn(sample);
    MutexLock lock(&mutex_);
    if (outcome == Outcome::kFailed) {
      ++counts_.failed;
    } else if (outcome == Outcome::kGaveWay && ++sample.n_given_way > kMaxGivenWay) {
      ++counts_.abandoned;
    } else if (outcome == Outcome::kGaveWay) {
      waiting_.push_front(std::move(sample));
    }
  }
}

ShadowTraffic::Outcome ShadowTraffic::Score(Sample* sample) {
  while (sample->losses.size() < sample->under.size()) {
    const StatusOr<double> loss = ScoreOne(*sample, sample->under[sample->losses.size()]);
    if (absl::IsCancelled(loss.status())) return Outcome::kGaveWay;
    if (!loss.ok()) return Outcome::kFailed;
    sample->losses.push_back(*loss);
  }
  return Outcome::kScored;
}

StatusOr<double> ShadowTraffic::ScoreOne(const Sample& sample, const PlacementRequest::Adapter& adapter) {
  const Status gave_way = absl::CancelledError("gave way");
  {
    MutexLock lock(&mutex_);
    make_way_ = false;
    scoring_.store(true);  // before the look at admission: a request that comes after it finds us
  }
  StatusOr<double> loss = gave_way;
  if (core_->admission->running() == 0 && core_->admission->waiting() == 0) {
    const auto attempt = ShadowAttempt::Start(core_, sample.prompt_ids, sample.question_begin, adapter,
                                              MonotonicNow() + kScoreTimeout);
    bool give_up = false;
    {
      MutexLock lock(&mutex_);
      attempt_ = attempt;
      give_up = make_way_ || stop_;
    }
    const MonotonicTime until = MonotonicNow() + kScoreTimeout;
    if (give_up) attempt->GiveUp();
    while (!attempt->WaitFor(kLookAround)) {
      if (OthersWork() || MonotonicNow() > until) attempt->GiveUp();
    }
    loss = attempt->loss();
    // A queue that filled meanwhile is somebody's work too.
    if (absl::IsResourceExhausted(loss.status())) loss = gave_way;
  }
  MutexLock lock(&mutex_);
  attempt_.reset();
  scoring_.store(false);
  return loss;
}

void ShadowTraffic::Learn(const Sample& sample) {
  ShadowLosses losses;
  size_t at = 0;
  losses.chosen = sample.losses[at++];
  losses.base = sample.losses[at++];
  if (sample.has_runner_up) losses.runner_up = sample.losses[at++];
  if (sample.has_canary) losses.canary = sample.losses[at++];
  const std::optional<Digest> canary =
      sample.has_canary ? std::optional(sample.under.back().digest) : std::nullopt;
  const auto state = core_->routers->Current();
  const std::shared_ptr<const CatalogueEntry> entry = state->catalogue().Find(sample.expert);
  const bool present = entry != nullptr && entry->live.adapter == sample.under[0].digest;

  MutexLock lock(&mutex_);
  if (!present) {  // replaced while the prompt waited
    ++counts_.failed;
    return;
  }
  if (!learnt_.contains(sample.expert) && learnt_.size() >= options_.max_experts) {
    std::erase_if(learnt_, [&](const auto& one) { return state->catalogue().Find(one.first) == nullptr; });
    if (learnt_.size() >= options_.max_experts) {
      ++counts_.dropped;
      return;
    }
  }
  Learnt& learnt = learnt_[sample.expert];
  if (learnt.live != sample.under[0].digest) learnt = {.live = sample.under[0].digest, .canary = canary};
  if (learnt.canary != canary) {
    learnt.canary = canary;
    learnt.regret.ForgetCanary();
  }
  ++(learnt.regret.Add(losses) ? counts_.scored : counts_.failed);
}

ShadowTraffic::Counts ShadowTraffic::counts() const {
  MutexLock lock(&mutex_);
  return counts_;
}

size_t ShadowTraffic::waiting() const {
  MutexLock lock(&mutex_);
  return waiting_.size();
}

ExpertRegret ShadowTraffic::Of(const CatalogueEntry& entry) const {
  const std::optional<Digest> canary =
      entry.canary.has_value() ? std::optional(entry.canary->version.adapter) : std::nullopt;
  MutexLock lock(&mutex_);
  const auto it = learnt_.find(entry.name);
  if (it == learnt_.end() || it->second.live != entry.live.adapter) return ExpertRegret();
  ExpertRegret regret = it->second.regret;
  if (it->second.canary != canary) regret.ForgetCanary();
  return regret;
}

std::vector<ShadowTraffic::Seen> ShadowTraffic::All(const Catalogue& catalogue) const {
  std::vector<std::string> names;
  {
    MutexLock lock(&mutex_);
    for (const auto& [name, learnt] : learnt_) names.push_back(name);
  }
  std::vector<Seen> all;
  for (const std::string& name : names) {
    const std::shared_ptr<const CatalogueEntry> entry = catalogue.Find(name);
    if (entry == nullptr) continue;
    const ExpertRegret regret = Of(*entry);
    if (regret.n() > 0) all.push_back({entry, regret});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Seen& a, const Seen& b) { return a.regret.n() > b.regret.n(); });
  return all;
}

}  // namespace coterie::gateway
