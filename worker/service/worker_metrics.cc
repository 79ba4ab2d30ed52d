#include "worker/service/worker_metrics.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

namespace coterie::worker {

WorkerMetrics::WorkerMetrics(MetricsRegistry* registry, const Engine* engine, const PeerTraffic* traffic)
    : registry_(registry), engine_(engine), experts_(registry) {
  const EngineStats& s = engine->stats();
  const AdapterStoreStats& a = engine->adapter_stats();
  const double n_blocks = std::max(1, engine->model_info().n_kv_blocks);
  AddLevel("coterie_worker_sequences_running", "Sequences in the step loop.",
           [&s] { return s.running.load(); });
  AddLevel("coterie_worker_sequences_waiting", "Sequences waiting for a seat, KV blocks or an adapter.",
           [&s] { return s.waiting.load(); });
  AddLevel("coterie_worker_sequences_paused", "Sequences whose readers have not taken what was written.",
           [&s] { return s.paused.load(); });
  AddLevel("coterie_worker_kv_usage_ratio", "KV blocks in use by sequences, of all.",
           [&s, n_blocks] { return s.kv_blocks_used.load() / n_blocks; });
  AddLevel("coterie_worker_kv_cached_ratio", "KV blocks that hold a shareable prefix, of all.",
           [&s, n_blocks] { return s.kv_blocks_cached.load() / n_blocks; });
  AddLevel("coterie_worker_adapters_resident", "Adapters in device slots.",
           [&a] { return a.resident.load(); });
  AddLevel("coterie_worker_adapter_memory_bytes", "Packed adapters in memory.",
           [&a] { return a.bytes.load(); });
  const LanguageModelInfo& m = engine->model_info();
  AddLevel("coterie_worker_weights_bytes", "Packed weights of the base.",
           [bytes = static_cast<double>(m.weight_bytes)] { return bytes; });
  AddLevel("coterie_worker_kv_cache_bytes", "The whole KV cache, used or not.",
           [bytes = static_cast<double>(m.kv_bytes)] { return bytes; });
  AddTotal("coterie_worker_steps_total", "Engine steps.", [&s] { return s.steps.load(); });
  AddTotal("coterie_worker_prompt_tokens_total", "Prompt tokens computed, recomputed ones included.",
           [&s] { return s.prompt_tokens.load(); });
  AddTotal("coterie_worker_generated_tokens_total", "Answer tokens.",
           [&s] { return s.generated_tokens.load(); });
  AddTotal("coterie_worker_preemptions_total", "Times a sequence lost its KV blocks to another.",
           [&s] { return s.preemptions.load(); });
  AddTotal("coterie_worker_not_finite_total",
           "Sequences ended because an expert (or the base) gave logits that are no finite numbers.",
           [&s] { return s.not_finite.load(); });
  AddTotal("coterie_worker_late_masks_total",
           "Rows computed again, since which tokens their constraint allows came later than their logits.",
           [&s] { return s.late_masks.load(); });
  AddTotal("coterie_worker_prefix_cache_queried_tokens_total", "Tokens looked up in the prefix cache.",
           [&s] { return s.prefix_queried_tokens.load(); });
  AddTotal("coterie_worker_prefix_cache_hit_tokens_total", "Tokens found there.",
           [&s] { return s.prefix_hit_tokens.load(); });
  AddTotal("coterie_worker_adapter_hits_total", "Sequences that found their adapters in memory.",
           [&a] { return a.hits.load(); });
  AddTotal("coterie_worker_adapter_misses_total", "Sequences that waited for an adapter to load.",
           [&a] { return a.misses.load(); });
  AddTotal("coterie_worker_adapter_failures_total", "Adapters that could not be loaded.",
           [&a] { return a.failures.load(); });
  constexpr char kLoads[] = "coterie_worker_adapter_loads_total";
  constexpr char kLoadsHelp[] =
      "Adapters loaded: copied as they were packed before, or read, checked and packed from PEFT files.";
  AddTotal(kLoads, kLoadsHelp, [&a] { return a.loads_from_packed.load(); }, {{"from", "packed"}});
  AddTotal(kLoads, kLoadsHelp, [&a] { return a.loads_from_peft.load(); }, {{"from", "peft"}});
  AddTotal("coterie_worker_adapter_evictions_total", "Adapters evicted from memory.",
           [&a] { return a.evictions.load(); });
  AddTotal("coterie_worker_bytes_between_workers_total",
           "Bytes sent to other workers; 0 on the introvert path.", [traffic] { return traffic->bytes(); });
  AddDistribution("coterie_worker_step_seconds", "Time of an engine step.", s.step_seconds);
  AddDistribution("coterie_worker_adapter_load_seconds", "Time to load an adapter into memory.",
                  a.load_seconds);
  // The names that vLLM gave to what schedulers of inference clusters read.
  AddLevel("vllm:num_requests_running", "Sequences in the step loop, as vLLM reports them.",
           [&s] { return s.running.load(); });
  AddLevel("vllm:num_requests_waiting", "Sequences waiting, as vLLM reports them.",
           [&s] { return s.waiting.load(); });
  AddLevel("vllm:kv_cache_usage_perc", "KV blocks in use by sequences, 0 to 1, as vLLM reports them.",
           [&s, n_blocks] { return s.kv_blocks_used.load() / n_blocks; });
  gateways_ = &registry->Gauge("coterie_worker_gateways", "Gateways attached.");
  first_token_ = &registry->Histogram("coterie_worker_time_to_first_token_seconds",
                                      "From a sequence's arrival at the worker to its first token.",
                                      DoublingBuckets(0.005, 14));
  lora_info_family_ =
      &prometheus::BuildGauge()
           .Name("vllm:lora_requests_info")
           .Help("Running and waiting adapters, as vLLM reports them; the value is a Unix time.")
           .Register(*registry->registry());
}

void WorkerMetrics::ShowConstraints(const GrammarMatchersStats* stats) {
  using Count = std::atomic<uint64_t>;
  const auto read = [stats](Count GrammarMatchersStats::*count) {
    return [stats, count] { return stats == nullptr ? 0 : (stats->*count).load(); };
  };
  AddTotal("coterie_worker_constraints_compiled_total",
           "Constraints (JSON schemas, regexes, choices) compiled.", read(&GrammarMatchersStats::compiled));
  AddTotal("coterie_worker_constraints_hit_total", "Answers whose constraint had been compiled before.",
           read(&GrammarMatchersStats::hits));
  AddTotal("coterie_worker_constraints_refused_total",
           "Constraints that are not served or too large, as the worker found.",
           read(&GrammarMatchersStats::refused));
  prometheus::Counter& seconds =
      registry_->Counter("coterie_worker_constraint_compile_seconds_total",
                         "Time spent compiling constraints, beside the step loop.");
  if (stats == nullptr) return;
  AlsoPublish([stats, &seconds] {
    seconds.Increment(static_cast<double>(stats->compile_nanos.load()) * 1e-9 - seconds.Value());
  });
}

void WorkerMetrics::AlsoPublish(std::function<void()> publish) { others_.push_back(std::move(publish)); }

void WorkerMetrics::AddLevel(const std::string& name, const std::string& help, std::function<double()> read) {
  levels_.push_back({&registry_->Gauge(name, help), std::move(read)});
}

void WorkerMetrics::AddTotal(const std::string& name, const std::string& help, std::function<uint64_t()> read,
                             const MetricLabels& labels) {
  totals_.push_back({&registry_->Counter(name, help, labels), std::move(read)});
}

void WorkerMetrics::AddDistribution(const std::string& name, const std::string& help,
                                    const Histogram& source) {
  distributions_.push_back({&registry_->Histogram(name, help, source.bounds()), &source,
                            std::vector<double>(source.bounds().size() + 1, 0.0)});
}

void WorkerMetrics::ObserveFinish(FinishReason reason, const std::vector<std::string>& experts) {
  registry_
      ->Counter("coterie_worker_sequences_total", "Sequences ended, by reason.", {{"reason", NameOf(reason)}})
      .Increment();
  if (experts.empty()) experts_.CountFinish("base");
  for (const std::string& expert : experts) experts_.CountFinish(expert);
}

void WorkerMetrics::Publish(size_t gateways, const std::set<std::string>& running,
                            const std::set<std::string>& waiting) {
  for (const std::function<void()>& publish : others_) publish();
  for (Level& level : levels_) level.gauge->Set(level.read());
  for (Total& total : totals_) {
    const uint64_t now = total.read();
    total.counter->Increment(static_cast<double>(now - total.published));
    total.published = now;
  }
  for (Distribution& d : distributions_) {
    std::vector<double> increments(d.published.size());
    for (size_t i = 0; i < increments.size(); ++i) {
      const double now = static_cast<double>(d.source->bucket(i));
      increments[i] = now - d.published[i];
      d.published[i] = now;
    }
    const double sum = d.source->sum();
    d.histogram->ObserveMultiple(increments, sum - d.sum);
    d.sum = sum;
  }
  gateways_->Set(static_cast<double>(gateways));
  const std::string labels = absl::StrCat(absl::StrJoin(running, ","), "|", absl::StrJoin(waiting, ","));
  if (lora_info_ == nullptr || labels != lora_info_labels_) {
    if (lora_info_ != nullptr) lora_info_family_->Remove(lora_info_);
    lora_info_ = &lora_info_family_->Add({{"max_lora", absl::StrCat(engine_->options().adapters.n_slots)},
                                          {"running_lora_adapters", absl::StrJoin(running, ",")},
                                          {"waiting_lora_adapters", absl::StrJoin(waiting, ",")}});
    lora_info_labels_ = labels;
  }
  lora_info_->Set(absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()));
}

}  // namespace coterie::worker
