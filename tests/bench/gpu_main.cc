// Speed of the decoder on a GPU, one JSON object a line: decode at several batch sizes with adapters and
// without, prefill, uploads of adapters, idle time between steps, graphs against none; beside the ceilings of
// that device, measured in the same run: a large copy, the link, the vendor's products.
//
//   bench_gpu [--device=cuda:0|cpu] [--shape=8b] [--layers=8] [--weights=BF16,FP8,Q4_K] [--parts=decode,...]
//
// The base is made, a part of its layers is loaded, and what all of them take is extrapolated: both stand in
// each line. On --device=cpu everything runs in its smallest form, to try the program anywhere.
#include "tests/bench/gpu_cases.h"

namespace coterie::bench {
namespace {

StatusOr<std::unique_ptr<BenchDevice>> OpenDevice(const std::string& name) {
  if (name == "cpu") return MakeCpuDevice();
  int number = 0;
  if (name.rfind("cuda:", 0) != 0 || !absl::SimpleAtoi(name.substr(5), &number) || number < 0) {
    return absl::InvalidArgumentError(absl::StrCat("--device is \"", name, "\"; it may be cpu or cuda:N"));
  }
  return OpenCudaDevice(number);
}

Status Run(const GpuBenchOptions& options) {
  ASSIGN_OR_RETURN(const ModelConfig shape, ShapeNamed(options.shape));
  if (options.layers > shape.n_layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("--layers is ", options.layers, "; ", options.shape, " has ", shape.n_layers));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<BenchDevice> device, OpenDevice(options.device));
  GpuBench bench(options, shape, device.get());
  bench.Run();
  return bench.ok() ? absl::OkStatus() : absl::InternalError("a case failed; see the lines above");
}

}  // namespace
}  // namespace coterie::bench

int main(int argc, char** argv) {
  coterie::bench::GpuBenchOptions options;
  coterie::FlagSet flags("bench_gpu", "The decoder on a GPU, beside what that GPU can do.");
  flags.String("device", &options.device, "NAME", "cuda:N, or cpu to try the program");
  flags.String("shape", &options.shape, "NAME", "tiny, 135m, 1b, 8b or 70b");
  flags.Int("layers", &options.layers, 1, 1024, "N", "layers of the shape that are loaded");
  flags.Strings("weights", &options.weights, "TYPE",
                "types of the weights; FP8 and BF16->Q8_0 are made of BF16 when it is loaded");
  flags.Strings("parts", &options.parts, "PART", "ceilings, decode, prefill, idle, upload, graphs");
  flags.Int("rounds", &options.rounds, 1, 1000, "N", "times over all cases; medians are printed");
  flags.Int("steps", &options.steps, 1, 100000, "N", "steps of decode that are timed together");
  flags.Int("max-batch", &options.max_batch, 1, 1024, "N", "no case has more sequences");
  flags.Int("context", &options.context, 1, 1 << 20, "N", "tokens of each sequence before decoding");
  flags.Int("prompt", &options.prompt, 1, 1 << 20, "N", "tokens of the longest prompt");
  flags.Int("fast-rows", &options.fast_rows, 0, 1 << 20, "N",
            "rows from which cuBLASLt computes products, where it is asked for; 0: where it pays");
  flags.Int("copy-mb", &options.copy_mb, 1, 1 << 20, "N",
            "megabytes of the copy that measures the bandwidth");
  flags.Int("budget-seconds", &options.budget_seconds, 1, 100000, "N", "no case begins after that");
  return coterie::bench::Main(&flags, argc, argv, [&] { return coterie::bench::Run(options); });
}
