// The cases beside decoding: idle time, graphs, uploads, prefill.
#include <algorithm>
#include <map>
#include <set>

#include "tests/bench/gpu_cases.h"
#include "tests/bench/gpu_lines.h"

namespace coterie::bench {

// A step that was enqueued before the device had finished the one before takes what its work takes; any time
// beyond that, the device stood idle.
Status GpuBench::MeasureIdle(const Loaded& loaded) {
  for (const int batch : {1, 16}) {
    if (batch > options_.max_batch) continue;
    StatusOr<GpuModel::Decoded> run = loaded.deep->Decode(batch, {}, options_.steps, /*marks=*/true);
    if (absl::IsUnimplemented(run.status())) {
      Print(absl::StrCat("\"case\": \"idle\", \"batch\": ", batch,
                         ", \"idle_share\": null, \"why\": ", JsonText(ToStd(run.status().message()))));
      continue;
    }
    RETURN_IF_ERROR(run.status());
    ASSIGN_OR_RETURN(const std::vector<double> periods, device_->TakeMarks());
    double total = 0, least = periods.empty() ? 0 : periods[0];
    for (const double period : periods) {
      total += period;
      least = std::min(least, period);
    }
    const double median = Median(periods);
    const bool fed = 2 * run->n_fed > static_cast<int>(periods.size());  // then the median step was
    Print(absl::StrCat(
        "\"case\": \"idle\", \"batch\": ", batch, ", \"steps\": ", periods.size(), ", \"fed_steps\": ",
        run->n_fed, ", \"step_ms\": ", Milliseconds(median), ", \"least_step_ms\": ", Milliseconds(least),
        ", \"wall_step_ms\": ", Milliseconds(run->seconds_per_step), ", \"idle_share\": ",
        fed ? absl::StrCat(std::max(0.0, 1 - median * static_cast<double>(periods.size()) / total))
            : absl::StrCat(1 - least / median)));
  }
  return absl::OkStatus();
}

Status GpuBench::MeasureGraphs(const Loaded& loaded) {
  ASSIGN_OR_RETURN(MadeModel* const base, BaseOf(loaded.format.layers));
  Making making;
  making.n_layers = loaded.shallow->n_layers();
  making.graphs = false;
  ASSIGN_OR_RETURN(const std::unique_ptr<GpuModel> plain, Make(loaded.format, base, making));
  for (const int batch : {1, 16}) {
    if (batch > options_.max_batch) continue;
    std::vector<double> with, without;
    for (int round = 0; round < options_.rounds; ++round) {
      ASSIGN_OR_RETURN(const GpuModel::Decoded one, loaded.shallow->Decode(batch, {}, options_.steps));
      ASSIGN_OR_RETURN(const GpuModel::Decoded other, plain->Decode(batch, {}, options_.steps));
      with.push_back(one.seconds_per_step);
      without.push_back(other.seconds_per_step);
    }
    Print(absl::StrCat("\"case\": \"graphs\", \"batch\": ", batch, ", \"layers\": ", plain->n_layers(),
                       ", \"graph_ms\": ", Milliseconds(Median(with)),
                       ", \"no_graph_ms\": ", Milliseconds(Median(without)),
                       ", \"speedup\": ", Ratio(Median(without), Median(with))));
  }
  return absl::OkStatus();
}

Status GpuBench::MeasureUpload(const Loaded& loaded) {
  for (const int rank : kRanks) {
    std::vector<double> rates;
    size_t bytes = 0;
    for (int round = 0; round < options_.rounds; ++round) {
      ASSIGN_OR_RETURN(const GpuModel::Uploaded run,
                       loaded.deep->Upload(loaded.deep->SlotsOf({rank}, kAdapters)));
      bytes = run.bytes;
      rates.push_back(static_cast<double>(run.bytes) / run.seconds);
    }
    Print(absl::StrCat("\"case\": \"upload\", \"rank\": ", rank, ", \"adapters\": ", kAdapters,
                       ", \"bytes\": ", bytes, ", \"gb_per_second\": ", Median(rates) / 1e9,
                       ", \"of_link\": ", Ratio(Median(rates), link_rate_)));
  }
  return absl::OkStatus();
}

StatusOr<double> GpuBench::LibrarySeconds(int64_t m, int64_t n, int64_t k) {
  double& seconds = library_seconds_[{m, n, k}];
  if (seconds == 0) {
    ASSIGN_OR_RETURN(seconds, device_->ProductSeconds(m, n, k, 9));
  }
  return seconds;
}

Status GpuBench::MeasurePrefill(const Loaded& loaded) {
  return MeasurePrefillOf(loaded, loaded.deep.get(), "invariant");
}

// With products by cuBLASLt, over fewer layers: the share of its peak is of the same products.
Status GpuBench::MeasureFastPrefill(const Loaded& loaded) {
  ASSIGN_OR_RETURN(MadeModel* const base, BaseOf(loaded.format.layers));
  Making making;
  making.n_layers = loaded.shallow->n_layers();
  making.prefill = CudaBackendOptions::Prefill::kFast;
  const StatusOr<std::unique_ptr<GpuModel>> model = Make(loaded.format, base, making);
  std::string why;
  if (absl::IsFailedPrecondition(model.status())) {  // the library is not here
    why = ToStd(model.status().message());
  } else {
    RETURN_IF_ERROR(model.status());
    if ((*model)->decoder().info().batch_invariant) why = "this device has no such products";
  }
  if (!why.empty()) {
    Print(absl::StrCat("\"case\": \"prefill\", \"prefill\": \"fast\", \"weights\": ", JsonText(loaded.name),
                       ", \"tokens\": ", options_.prompt,
                       ", \"of_library\": null, \"why\": ", JsonText(why)));
    return absl::OkStatus();
  }
  return MeasurePrefillOf(loaded, model->get(), "fast");
}

Status GpuBench::MeasurePrefillOf(const Loaded& loaded, GpuModel* model, const char* kind) {
  const int chunk = std::min(kChunkTokens, options_.prompt), layers = model->n_layers();
  // 256: where unpacking should begin to pay (fast_products.cc).
  std::set<int> prompts = {options_.prompt};
  for (const int tokens : {256, 512}) prompts.insert(std::min(tokens, options_.prompt));
  for (const int tokens : prompts) {
    std::vector<double> times;
    RETURN_IF_ERROR(model->Prefill(tokens).status());
    for (int round = 0; round < options_.rounds; ++round) {
      ASSIGN_OR_RETURN(const double seconds, model->Prefill(tokens));
      times.push_back(seconds);
    }
    double flops = 0, library = 0;
    std::string why;
    std::map<int, int> chunks;  // rows -> how many such
    for (int done = 0; done < tokens; done += chunk) ++chunks[std::min(chunk, tokens - done)];
    for (const auto& [rows, n] : chunks) {
      for (const ProductShape& p : LayerProducts(shape_)) {
        const int n_products = n * layers;
        flops += 2.0 * rows * static_cast<double>(p.n_out * p.n_in) * n_products;
        if (!why.empty()) continue;
        const StatusOr<double> product = LibrarySeconds(rows, p.n_out, p.n_in);
        if (product.ok()) library += *product * n_products;
        if (!product.ok()) why = ToStd(product.status().message());
      }
    }
    const double seconds = Median(times);
    std::string fields = absl::StrCat(
        "\"case\": \"prefill\", \"prefill\": ", JsonText(kind), ", \"weights\": ", JsonText(loaded.name),
        ", \"tokens\": ", tokens, ", \"chunk\": ", chunk, ", \"layers\": ", layers,
        ", \"ms\": ", Milliseconds(seconds), ", \"tokens_per_second\": ", tokens / seconds,
        ", \"product_tflops\": ", flops / seconds / 1e12);
    if (why.empty()) {
      absl::StrAppend(&fields, ", \"library_ms\": ", Milliseconds(library),
                      ", \"library_tflops\": ", flops / library / 1e12,
                      ", \"of_library\": ", Ratio(library, seconds));
    } else {
      absl::StrAppend(&fields, ", \"of_library\": null, \"why\": ", JsonText(why));
    }
    Print(fields);
  }
  return absl::OkStatus();
}

}  // namespace coterie::bench
