#include "gateway/watch/live_metrics.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "gateway/core/expert_holders.h"
#include "gateway/routing/drift_watch.h"
#include "gateway/watch/shadow_traffic.h"

namespace coterie::gateway {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

class Page {
 public:
  void Add(const char* name, MetricType type, const char* help, double value, const char* label = nullptr,
           std::string label_value = "") {
    std::vector<prometheus::ClientMetric::Label> labels;
    if (label != nullptr) labels.push_back({label, std::move(label_value)});
    Add(name, type, help, value, std::move(labels));
  }
  void Add(const char* name, MetricType type, const char* help, double value,
           std::vector<prometheus::ClientMetric::Label> labels) {
    if (families_.empty() || families_.back().name != name) families_.push_back({name, help, type, {}});
    prometheus::ClientMetric metric;
    metric.label = std::move(labels);
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    families_.back().metric.push_back(std::move(metric));
  }
  std::vector<MetricFamily> Take() { return std::move(families_); }

 private:
  std::vector<MetricFamily> families_;
};

void AddAdmission(const Admission& admission, Page* page) {
  constexpr MetricType kGauge = MetricType::Gauge;
  using Kind = Admission::Kind;
  page->Add("coterie_requests_paused", kGauge,
            "Answers whose clients do not read them; they hold no place among those that run.",
            admission.paused());
  page->Add("coterie_routes_running", kGauge, "Route requests under way.", admission.running(Kind::kRoute));
  page->Add("coterie_routes_waiting", kGauge, "Route requests waiting for admission.",
            admission.waiting(Kind::kRoute));
  page->Add("coterie_embed_texts_running", kGauge, "Texts of Embed requests under way.",
            admission.running(Kind::kEmbed));
  page->Add("coterie_embed_texts_waiting", kGauge, "Texts of Embed requests waiting for admission.",
            admission.waiting(Kind::kEmbed));
  for (const Admission::Refused& refused : admission.refused()) {
    page->Add("coterie_admission_refused_total", MetricType::Counter,
              "Requests that admission refused, by what they asked for and why.",
              static_cast<double>(refused.n), {{"kind", refused.kind}, {"reason", refused.reason}});
  }
}

// Of the experts with the most prompts, or questions, only: each is a handful of series.
constexpr size_t kMaxWatchedExperts = 100;

void AddShadow(const ShadowTraffic& shadow, const Catalogue& catalogue, Page* page) {
  const ShadowTraffic::Counts counts = shadow.counts();
  const std::pair<const char*, uint64_t> outcomes[] = {{"scored", counts.scored},
                                                       {"dropped", counts.dropped},
                                                       {"abandoned", counts.abandoned},
                                                       {"failed", counts.failed}};
  for (const auto& [outcome, n] : outcomes) {
    page->Add("coterie_shadow_prompts_total", MetricType::Counter,
              "Prompts taken to be scored under other experts, by what became of them.",
              static_cast<double>(n), "outcome", outcome);
  }
  page->Add("coterie_shadow_prompts_waiting", MetricType::Gauge, "Prompts that wait for idle workers.",
            static_cast<double>(shadow.waiting()));
  std::vector<ShadowTraffic::Seen> experts = shadow.All(catalogue);
  if (experts.size() > kMaxWatchedExperts) experts.resize(kMaxWatchedExperts);
  const auto add = [&](const char* name, const char* help, const auto& value) {
    for (const ShadowTraffic::Seen& seen : experts) {
      const RunningMoments moments = value(seen.regret);
      if (moments.n() == 0) continue;
      page->Add(name, MetricType::Gauge, help, moments.mean(), "expert", seen.entry->name);
    }
  };
  for (const ShadowTraffic::Seen& seen : experts) {
    page->Add("coterie_shadow_expert_prompts", MetricType::Gauge, "Prompts behind the means of an expert.",
              static_cast<double>(seen.regret.n()), "expert", seen.entry->name);
  }
  add("coterie_shadow_regret_nats",
      "Mean loss per token of the chosen expert minus the least of it, the runner-up and the base.",
      [](const ExpertRegret& r) { return r.regret(); });
  add("coterie_shadow_chosen_loss_nats", "Mean loss per token under the chosen expert.",
      [](const ExpertRegret& r) { return r.chosen(); });
  add("coterie_shadow_runner_up_loss_nats", "Mean loss per token under the runner-up.",
      [](const ExpertRegret& r) { return r.runner_up(); });
  add("coterie_shadow_base_loss_nats", "Mean loss per token under the base.",
      [](const ExpertRegret& r) { return r.base(); });
  add("coterie_shadow_canary_difference_nats",
      "Mean loss per token under the canary minus under the live version, on the same prompts.",
      [](const ExpertRegret& r) { return r.canary_minus_chosen(); });
}

void AddDrift(const DriftWatch& watch, const Catalogue& catalogue, Page* page) {
  const std::vector<DriftWatch::Seen> all = watch.All(catalogue);
  page->Add("coterie_experts_drifted", MetricType::Gauge,
            "Experts whose questions have left the field they were made for.",
            static_cast<double>(std::count_if(all.begin(), all.end(),
                                              [](const auto& seen) { return seen.drift.significant; })));
  for (size_t i = 0; i < std::min(all.size(), kMaxWatchedExperts); ++i) {
    page->Add("coterie_expert_score_shift_ratio", MetricType::Gauge,
              "The mean score that the card names minus the mean of the latest questions.",
              all[i].drift.shift, "expert", all[i].entry->name);
  }
}

constexpr std::array kHealths = {WorkerHealth::kConnecting, WorkerHealth::kReady,    WorkerHealth::kSuspect,
                                 WorkerHealth::kLost,       WorkerHealth::kDraining, WorkerHealth::kRefused};

void AddWorkers(const std::vector<WorkerReport>& reports, Page* page) {
  constexpr MetricType kGauge = MetricType::Gauge;
  for (const WorkerHealth health : kHealths) {
    size_t n = 0;
    for (const WorkerReport& report : reports) n += report.health == health;
    page->Add("coterie_workers", kGauge, "Workers by health.", static_cast<double>(n), "health",
              NameOf(health));
  }
  double bytes = 0;
  for (const WorkerReport& report : reports) bytes += static_cast<double>(report.state.bytes_between_workers);
  page->Add("coterie_bytes_between_workers_total", MetricType::Counter,
            "Bytes the workers sent to each other; none on the introvert path.", bytes);
  for (const WorkerReport& r : reports) {
    page->Add("coterie_worker_running", kGauge, "Sequences in the worker's batch.", r.state.running, "worker",
              r.address);
  }
  for (const WorkerReport& r : reports) {
    page->Add("coterie_worker_waiting", kGauge, "Sequences in the worker's queue.", r.state.waiting, "worker",
              r.address);
  }
  for (const WorkerReport& r : reports) {
    const double total = r.identity.kv_blocks == 0 ? 1.0 : r.identity.kv_blocks;
    page->Add("coterie_worker_kv_use_ratio", kGauge, "Share of the worker's KV blocks in use.",
              r.state.kv_blocks_used / total, "worker", r.address);
  }
  for (const WorkerReport& r : reports) {
    page->Add("coterie_worker_adapters_resident", kGauge, "Adapters in the worker's device slots.",
              r.state.adapters_resident, "worker", r.address);
  }
  for (const WorkerReport& r : reports) {
    page->Add("coterie_worker_preemptions_total", MetricType::Counter, "Sequences the worker had to preempt.",
              static_cast<double>(r.state.preemptions), "worker", r.address);
  }
  for (const WorkerReport& r : reports) {
    page->Add("coterie_worker_ejected", kGauge,
              "1 while the worker failed again and again and gets answers only where no other can take them.",
              r.ejected_for > absl::ZeroDuration() ? 1 : 0, "worker", r.address);
  }
  for (const WorkerReport& r : reports) {
    page->Add("coterie_worker_ejections_total", MetricType::Counter,
              "Times the worker was ejected for failing again and again.", static_cast<double>(r.ejections),
              "worker", r.address);
  }
}

void AddResidency(const GatewayCore& core, const Catalogue& catalogue, Page* page) {
  for (const std::string& name : core.metrics->experts.Named()) {
    const auto entry = catalogue.Find(name);
    if (entry == nullptr) continue;  // the base, or removed
    page->Add("coterie_expert_resident_workers", MetricType::Gauge,
              "Workers that hold the expert's live version in a device slot.",
              static_cast<double>(HoldersOf(*core.workers, entry->live).size()), "expert", name);
  }
}

}  // namespace

std::vector<MetricFamily> LiveMetrics::Collect() const {
  constexpr MetricType kGauge = MetricType::Gauge;
  Page page;
  page.Add("coterie_requests_running", kGauge, "Requests admitted and not ended.",
           core_->admission->running());
  page.Add("coterie_requests_waiting", kGauge, "Requests waiting for admission.",
           core_->admission->waiting());
  AddAdmission(*core_->admission, &page);
  const auto router = core_->routers->Current();
  page.Add("coterie_catalogue_generation", kGauge, "Generation of the expert store that is served.",
           static_cast<double>(router->catalogue().generation));
  page.Add("coterie_experts", kGauge, "Experts in the catalogue.",
           static_cast<double>(router->catalogue().entries.size()));

  page.Add("coterie_experts_unroutable", kGauge,
           "Experts whose prototypes cannot be used: they answer by name, no question is routed to them.",
           static_cast<double>(router->problems().size()));
  if (core_->store != nullptr) {
    page.Add("coterie_catalogue_lost", kGauge,
             "1 while catalogue.json is damaged or missing and an earlier generation is served.",
             core_->store->Health().lost() ? 1 : 0);
    page.Add("coterie_catalogue_experts_damaged", kGauge, "Experts of the catalogue that cannot be read.",
             static_cast<double>(core_->store->Health().n_damaged));
  }

  if (core_->embedder != nullptr) {
    const TextEmbedder::Work work = core_->embedder->work();
    page.Add("coterie_embedder_passes_total", MetricType::Counter, "Passes of the encoder.",
             static_cast<double>(work.passes));
    page.Add("coterie_embedder_texts_total", MetricType::Counter,
             "Texts that these passes embedded; more than one a pass where requests came together.",
             static_cast<double>(work.texts));
  }

  page.Add("coterie_adapter_prefetches_total", MetricType::Counter,
           "Adapters that workers were told to load before the request for them came.",
           static_cast<double>(core_->workers->prefetches()));
  AddWorkers(core_->workers->Report(), &page);
  AddResidency(*core_, router->catalogue(), &page);
  if (core_->shadow != nullptr) AddShadow(*core_->shadow, router->catalogue(), &page);
  if (core_->drift != nullptr) AddDrift(*core_->drift, router->catalogue(), &page);
  return page.Take();
}

}  // namespace coterie::gateway
