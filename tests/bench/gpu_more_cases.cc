// The cases beside decoding: idle time, graphs, uploads, prefill.
#include <algorithm>
#include <map>

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
  ASSIGN_OR_RETURN(const std::unique_ptr<GpuModel> plain,
                   Make(loaded, base, loaded.shallow->n_layers(), false));
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

Status GpuBench::MeasurePrefill(const Loaded& loaded) {
  const int chunk = std::min(kChunkTokens, options_.prompt);
  for (const int tokens : {std::min(512, options_.prompt), options_.prompt}) {
    std::vector<double> times;
    RETURN_IF_ERROR(loaded.deep->Prefill(tokens).status());
    for (int round = 0; round < options_.rounds; ++round) {
      ASSIGN_OR_RETURN(const double seconds, loaded.deep->Prefill(tokens));
      times.push_back(seconds);
    }
    double flops = 0, library = 0;
    std::string why;
    std::map<int, int> chunks;  // rows -> how many such
    for (int done = 0; done < tokens; done += chunk) ++chunks[std::min(chunk, tokens - done)];
    for (const auto& [rows, n] : chunks) {
      for (const ProductShape& p : LayerProducts(shape_)) {
        const int n_products = n * options_.layers;
        flops += 2.0 * rows * static_cast<double>(p.n_out * p.n_in) * n_products;
        if (!why.empty()) continue;
        const StatusOr<double> product = device_->ProductSeconds(rows, p.n_out, p.n_in, 9);
        if (product.ok()) library += *product * n_products;
        if (!product.ok()) why = ToStd(product.status().message());
      }
    }
    const double seconds = Median(times);
    std::string fields = absl::StrCat(
        "\"case\": \"prefill\", \"weights\": ", JsonText(loaded.name), ", \"tokens\": ", tokens,
        ", \"chunk\": ", chunk, ", \"layers\": ", options_.layers, ", \"ms\": ", Milliseconds(seconds),
        ", \"tokens_per_second\": ", tokens / seconds, ", \"product_tflops\": ", flops / seconds / 1e12);
    if (why.empty()) {
      absl::StrAppend(&fields, ", \"library_ms\": ", Milliseconds(library),
                      ", \"library_tflops\": ", flops / library / 1e12,
                      ", \"of_library\": ", Ratio(library, seconds));
    } else {
      absl::StrAppend(&fields, ", \"of_library\": null, \"why\": ", JsonText(why));
    }
    Print(fields);
    if (tokens == options_.prompt) break;
  }
  return absl::OkStatus();
}

}  // namespace coterie::bench
