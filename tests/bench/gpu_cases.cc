#include "tests/bench/gpu_cases.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "tests/bench/gpu_lines.h"
#include "tests/bench/random_adapter.h"

namespace coterie::bench {
GpuBench::GpuBench(const GpuBenchOptions& options, const ModelConfig& shape, BenchDevice* device)
    : options_(options), shape_(shape), device_(device) {}

bool GpuBench::Wants(const std::string& part) const {
  return std::find(options_.parts.begin(), options_.parts.end(), part) != options_.parts.end();
}

bool GpuBench::OutOfTime(const std::string& what) {
  if (Seconds(start_) < options_.budget_seconds) return false;
  Print(absl::StrCat("\"case\": \"skipped\", \"what\": ", JsonText(what), ", \"why\": \"the budget of ",
                     options_.budget_seconds, " s is spent\""));
  return true;
}

void GpuBench::Try(const std::string& what, const std::function<Status()>& body) {
  if (OutOfTime(what)) return;
  const Status status = body();
  if (status.ok()) return;
  ++n_failed_;
  Print(absl::StrCat("\"case\": \"failed\", \"what\": ", JsonText(what),
                     ", \"error\": ", JsonText(ToStd(status.message()))));
}

void GpuBench::Run() {
  Print(absl::StrCat("\"case\": \"device\", ", device_->Facts(), ", \"shape\": ", JsonText(options_.shape),
                     ", \"layers\": ", options_.layers, ", \"rounds\": ", options_.rounds,
                     ", \"steps\": ", options_.steps));
  Ceilings();
  for (const std::string& weights : options_.weights) {
    Try("weights of " + weights, [&]() -> Status {
      const Clock::time_point start = Clock::now();
      ASSIGN_OR_RETURN(const Loaded loaded, Load(weights));
      Print(absl::StrCat("\"case\": \"load\", \"weights\": ", JsonText(weights), ", \"seconds\": ",
                         Seconds(start), ", \"weight_bytes\": ", loaded.deep->decoder().info().weight_bytes,
                         ", \"numerics_class\": ", JsonText(loaded.deep->decoder().info().numerics_class)));
      const bool first = weights == options_.weights.front();
      const auto measure = [&](const char* part, Status (GpuBench::*body)(const Loaded&), bool only_first) {
        if (Wants(part) && (first || !only_first)) {
          Try(absl::StrCat(part, " on ", weights), [&] { return (this->*body)(loaded); });
        }
      };
      measure("decode", &GpuBench::MeasureDecode, false);
      measure("prefill", &GpuBench::MeasurePrefill, false);
      measure("prefill", &GpuBench::MeasureFastPrefill, false);
      measure("idle", &GpuBench::MeasureIdle, true);
      measure("upload", &GpuBench::MeasureUpload, true);
      measure("graphs", &GpuBench::MeasureGraphs, true);
      return absl::OkStatus();
    });
  }
  Print(absl::StrCat("\"case\": \"end\", \"seconds\": ", Seconds(start_), ", \"failed\": ", n_failed_));
}

void GpuBench::Ceilings() {
  if (!Wants("ceilings")) return;
  const size_t bytes = static_cast<size_t>(options_.copy_mb) * 1'000'000;
  Try("copy bandwidth", [&]() -> Status {
    ASSIGN_OR_RETURN(copy_rate_, device_->CopyBytesPerSecond(bytes, 7));
    Print(absl::StrCat("\"case\": \"copy\", \"bytes\": ", bytes, ", \"gb_per_second\": ", copy_rate_ / 1e9));
    return absl::OkStatus();
  });
  Try("link", [&]() -> Status {
    ASSIGN_OR_RETURN(link_rate_, device_->UploadBytesPerSecond(bytes / 4, 7));
    Print(absl::StrCat("\"case\": \"link\", \"bytes\": ", bytes / 4,
                       ", \"gb_per_second\": ", link_rate_ / 1e9));
    return absl::OkStatus();
  });
}

StatusOr<MadeModel*> GpuBench::BaseOf(DType dtype) {
  if (base_ == nullptr || base_->dtype() != dtype) {
    base_.reset();
    ModelConfig config = shape_;
    config.n_layers = options_.layers;
    ASSIGN_OR_RETURN(base_, MadeModel::Make(config, dtype));
  }
  return base_.get();
}

StatusOr<std::unique_ptr<GpuModel>> GpuBench::Make(const WeightFormat& format, MadeModel* base,
                                                   const Making& making) {
  CudaBackendOptions options;
  options.weights = format.load;
  options.graphs = making.graphs;
  options.prefill = making.prefill;
  options.fast_rows = options_.fast_rows;
  GpuModelSizes sizes;
  sizes.max_batch = options_.max_batch;
  sizes.context = options_.context;
  sizes.max_steps = options_.steps + 8;
  sizes.prompt_tokens = options_.prompt;
  sizes.chunk_tokens = std::min(kChunkTokens, std::max(options_.prompt, options_.context));
  ModelConfig config = shape_;
  config.n_layers = making.n_layers;
  for (const int rank : making.ranks) {
    // Ranks as slots hold them, and what alignment costs.
    sizes.adapter_bytes += kAdapters * (AdapterBytes(config, rank) + (size_t{1} << 20));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<GpuModel> model,
                   GpuModel::Make(base, making.n_layers, options, sizes, device_));
  RETURN_IF_ERROR(model->AddAdapters(making.ranks, kAdapters));
  return model;
}

StatusOr<GpuBench::Loaded> GpuBench::Load(const std::string& weights) {
  Loaded loaded;
  loaded.name = weights;
  // Packing adapters takes seconds: the first format has all, the others the rank that is compared.
  loaded.ranks = weights == options_.weights.front() ? kRanks : std::vector<int>{kRanks.front()};
  std::string stored = weights;
  if (weights == "FP8" || weights == "BF16->Q8_0") {
    loaded.format.load =
        weights == "FP8" ? CudaBackendOptions::Weights::kFp8 : CudaBackendOptions::Weights::kQ8_0;
    stored = "BF16";
  }
  ASSIGN_OR_RETURN(loaded.format.layers, DTypeNamed(stored));
  ASSIGN_OR_RETURN(MadeModel* const base, BaseOf(loaded.format.layers));
  loaded.format.embedding = base->embedding_dtype();
  Making making;
  making.ranks = loaded.ranks;
  making.n_layers = options_.layers;
  ASSIGN_OR_RETURN(loaded.deep, Make(loaded.format, base, making));
  making.n_layers = std::max(1, options_.layers / 2);
  ASSIGN_OR_RETURN(loaded.shallow, Make(loaded.format, base, making));
  return loaded;
}

std::vector<GpuBench::DecodeCase> GpuBench::DecodeCases(const Loaded& loaded) const {
  std::vector<DecodeCase> cases;  // first those without adapters, which the others are compared with
  for (const int batch : {1, 4, 16, 64}) cases.push_back({batch});
  cases.push_back({16, 16, {16}});
  if (loaded.name == options_.weights.front()) {
    cases.push_back({1, 1, {16}});
    cases.push_back({16, 1, {16}});
    for (const int rank : {8, 64}) cases.push_back({16, 16, {rank}});
    cases.push_back({16, 16, kMixed});
    cases.push_back({64, 16, {16}});
    cases.push_back({64, 16, kMixed});
  }
  std::erase_if(cases, [&](const DecodeCase& c) { return c.batch > options_.max_batch; });
  return cases;
}

// What one layer takes is the difference of the two depths; a whole base is that many layers and the rest.
std::string GpuBench::DecodeFields(const Loaded& loaded, const DecodeCase& c, double deep,
                                   double shallow) const {
  const int layers = loaded.deep->n_layers(), fewer = loaded.shallow->n_layers();
  DecodeStep step;
  step.batch = c.batch;
  step.context = options_.context + options_.steps / 2;
  for (int i = 0; i < std::min(c.n_adapters, c.batch); ++i) {
    step.ranks.push_back(c.ranks[static_cast<size_t>(i) % c.ranks.size()]);
  }
  const StepBytes bytes = LeastBytes(shape_, layers, loaded.format, step);
  const StepBytes all_bytes = LeastBytes(shape_, shape_.n_layers, loaded.format, step);
  std::string fields = absl::StrCat(
      "\"case\": \"decode\", \"weights\": ", JsonText(loaded.name), ", \"batch\": ", c.batch,
      ", \"adapters\": ", c.n_adapters, ", \"ranks\": [", absl::StrJoin(c.ranks, ", "),
      "], \"context\": ", step.context, ", \"layers\": ", layers, ", \"ms\": ", Milliseconds(deep));
  absl::StrAppend(&fields, ", \"bytes\": ", bytes.total(), ", \"weight_bytes\": ", bytes.weights,
                  ", \"adapter_bytes\": ", bytes.adapters, ", \"kv_bytes\": ", bytes.kv,
                  ", \"activation_bytes\": ", bytes.activations,
                  ", \"gb_per_second\": ", bytes.total() / deep / 1e9,
                  ", \"of_copy_bandwidth\": ", Ratio(bytes.total() / deep, copy_rate_));
  if (fewer < layers) {
    const double layer = (deep - shallow) / (layers - fewer);
    const double whole = deep + (shape_.n_layers - layers) * layer;
    absl::StrAppend(
        &fields, ", \"fewer_layers\": ", fewer, ", \"fewer_layers_ms\": ", Milliseconds(shallow),
        ", \"layer_ms\": ", Milliseconds(layer), ", \"rest_ms\": ", Milliseconds(deep - layers * layer),
        ", \"extrapolated_layers\": ", shape_.n_layers, ", \"extrapolated_ms\": ", Milliseconds(whole),
        ", \"extrapolated_bytes\": ", all_bytes.total(),
        ", \"extrapolated_of_copy_bandwidth\": ", Ratio(all_bytes.total() / whole, copy_rate_),
        ", \"extrapolated_tokens_per_second\": ", c.batch / whole);
  }
  return fields;
}

// The line of case i by what was measured so far. A later line of the same case stands for it.
void GpuBench::PrintDecode(const Loaded& loaded, const std::vector<DecodeCase>& cases,
                           const DecodeTimes& times, size_t i) const {
  const std::vector<double>& deep = times.deep[i];
  std::string fields = DecodeFields(loaded, cases[i], Median(deep), Median(times.shallow[i]));
  // The same batch without adapters, round by round.
  for (size_t base = 0; base < cases.size(); ++base) {
    if (cases[i].n_adapters == 0 || cases[base].n_adapters > 0 || cases[base].batch != cases[i].batch)
      continue;
    std::vector<double> ratios;
    for (size_t r = 0; r < deep.size(); ++r) ratios.push_back(times.deep[base][r] / deep[r]);
    absl::StrAppend(&fields, ", \"rate_to_base\": ", Median(ratios));
  }
  const auto [least, most] = std::minmax_element(deep.begin(), deep.end());
  Print(absl::StrCat(fields, ", \"least_ms\": ", Milliseconds(*least), ", \"most_ms\": ", Milliseconds(*most),
                     ", \"rounds\": ", deep.size()));
}

Status GpuBench::MeasureDecode(const Loaded& loaded) {
  const std::vector<DecodeCase> cases = DecodeCases(loaded);
  DecodeTimes times;
  times.deep.resize(cases.size());
  times.shallow.resize(cases.size());
  // Rounds over all cases and both depths, so that what disturbs one disturbs all. Each case is told after
  // its first round, and once more at the end: a run that is cut off has told what it could.
  for (int round = 0; round < options_.rounds; ++round) {
    if (round > 0 && OutOfTime(absl::StrCat("round ", round + 1, " of decode on ", loaded.name))) break;
    for (size_t i = 0; i < cases.size(); ++i) {
      const DecodeCase& c = cases[i];
      for (const auto& [model, of_depth] :
           {std::pair(loaded.deep.get(), &times.deep), {loaded.shallow.get(), &times.shallow}}) {
        const std::vector<int> slots =
            c.n_adapters == 0 ? std::vector<int>() : model->SlotsOf(c.ranks, c.n_adapters);
        ASSIGN_OR_RETURN(const GpuModel::Decoded run, model->Decode(c.batch, slots, options_.steps));
        (*of_depth)[i].push_back(run.seconds_per_step);
      }
      if (round == 0) PrintDecode(loaded, cases, times, i);
    }
  }
  for (size_t i = 0; i < cases.size() && times.deep[i].size() > 1; ++i) PrintDecode(loaded, cases, times, i);
  return absl::OkStatus();
}

}  // namespace coterie::bench
