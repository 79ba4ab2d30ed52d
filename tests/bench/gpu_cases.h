#ifndef COTERIE_TESTS_BENCH_GPU_CASES_H_
#define COTERIE_TESTS_BENCH_GPU_CASES_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "tests/bench/gpu_model.h"
#include "tests/bench/harness.h"
#include "tests/bench/step_cost.h"

namespace coterie::bench {

struct GpuBenchOptions {
  std::string device = "cuda:0";
  std::string shape = "8b";
  int layers = 8;  // of the shape's; half of them are measured beside, so that one layer is a difference
  std::vector<std::string> weights = {"BF16", "FP8", "Q4_K", "Q4_0"};
  std::vector<std::string> parts = {"ceilings", "decode", "graphs", "idle", "upload", "prefill"};
  int rounds = 3;
  int steps = 24;
  int max_batch = 64;
  int context = 512;
  int prompt = 8192;
  int fast_rows = 0;  // see CudaBackendOptions
  int copy_mb = 2048;
  int budget_seconds = 300;  // no case begins after that
};

// The cases of bench_gpu on one device, in order of worth. Each prints a JSON object in a line of its own,
// one of decode a first one after its first round, too: the last line of a case counts. One that fails prints
// its error and the others go on.
class GpuBench {
 public:
  GpuBench(const GpuBenchOptions& options, const ModelConfig& shape, BenchDevice* device);

  void Run();
  bool ok() const { return n_failed_ == 0; }

 private:
  // A format of weights, loaded at two depths.
  struct Loaded {
    std::string name;
    WeightFormat format;
    std::vector<int> ranks;  // of the adapters that are made
    std::unique_ptr<GpuModel> deep, shallow;
  };
  struct DecodeCase {
    int batch = 1;
    int n_adapters = 0;
    std::vector<int> ranks = {};
  };

  void Ceilings();
  StatusOr<MadeModel*> BaseOf(DType dtype);
  StatusOr<Loaded> Load(const std::string& weights);
  struct Making {
    int n_layers = 0;
    std::vector<int> ranks;  // of the adapters
    bool graphs = true;
    CudaBackendOptions::Prefill prefill = CudaBackendOptions::Prefill::kInvariant;
  };
  StatusOr<std::unique_ptr<GpuModel>> Make(const WeightFormat& format, MadeModel* base, const Making& making);
  std::vector<DecodeCase> DecodeCases(const Loaded& loaded) const;
  // Seconds of a step, by case and round, at both depths.
  struct DecodeTimes {
    std::vector<std::vector<double>> deep, shallow;
  };
  Status MeasureDecode(const Loaded& loaded);
  void PrintDecode(const Loaded& loaded, const std::vector<DecodeCase>& cases, const DecodeTimes& times,
                   size_t i) const;
  Status MeasureIdle(const Loaded& loaded);
  Status MeasureGraphs(const Loaded& loaded);
  Status MeasureUpload(const Loaded& loaded);
  Status MeasurePrefill(const Loaded& loaded);
  Status MeasureFastPrefill(const Loaded& loaded);
  Status MeasurePrefillOf(const Loaded& loaded, GpuModel* model, const char* kind);
  // Of y [m, n] = x [m, k] · w [n, k]ᵀ by the vendor's library; measured once.
  StatusOr<double> LibrarySeconds(int64_t m, int64_t n, int64_t k);
  std::string DecodeFields(const Loaded& loaded, const DecodeCase& c, double deep, double shallow) const;

  bool Wants(const std::string& part) const;
  bool OutOfTime(const std::string& what);
  // Runs one part; prints what went wrong with it.
  void Try(const std::string& what, const std::function<Status()>& body);

  const GpuBenchOptions options_;
  const ModelConfig shape_;
  BenchDevice* const device_;
  const Clock::time_point start_ = Clock::now();
  std::unique_ptr<MadeModel> base_;  // the one made last
  double copy_rate_ = 0;             // bytes per second, read and written; 0: not measured
  double link_rate_ = 0;
  std::map<std::tuple<int64_t, int64_t, int64_t>, double> library_seconds_;
  int n_failed_ = 0;
};

}  // namespace coterie::bench

#endif  // COTERIE_TESTS_BENCH_GPU_CASES_H_
