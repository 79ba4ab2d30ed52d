#ifndef COTERIE_TESTS_BENCH_HARNESS_H_
#define COTERIE_TESTS_BENCH_HARNESS_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/flags.h"
#include "common/status.h"
#include "kernels/cpu/aligned_buffer.h"
#include "kernels/create.h"

// What the programs of this folder share: their command line, their clock, and the figures that stand beside
// every measurement.
namespace coterie::bench {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point since);

// The upper median; `values` must not be empty.
double Median(std::vector<double> values);

// This process's resident memory now, in units of 10^6 bytes like every other size printed here; 0 where the
// system does not say.
double ResidentMb();

// How long something takes, in microseconds.
struct Times {
  double best = 0, median = 0, p90 = 0;
  double best_cpu =
      0;  // of the calling thread: what neighbours on the machine do not touch, but for the memory
};
double MicrosecondsOf(const std::function<void()>& body);
double ThreadCpuMicroseconds();  // of the calling thread, since it began
// At least `n_runs` runs and a fifth of a second, after one that does not count.
Times Measure(const std::function<void()>& body, size_t n_runs = 20);

// The flags of a program that computes on the CPU backend.
struct BackendFlags {
  int threads = 0;
  std::string isa = "auto";
  std::string mode = "fast";
  bool arrow_gates = false;

  void Declare(FlagSet* flags);
  CpuBackendOptions Options() const;
};

// The flag that says how weights of floats are held, and what it means to DecoderOptions::float_weights.
struct WeightsFlag {
  std::string weights = "as-is";

  void Declare(FlagSet* flags);
  std::optional<DType> FloatWeights() const;
};

// Parses the command line, explains itself or what is wrong with it, or runs `body`. The result is for main.
int Main(FlagSet* flags, int argc, char** argv, const std::function<Status()>& body);

// Sums 256 MiB with every thread, from huge pages and fetching ahead as the kernels do: what this machine
// reads at this moment.
class BandwidthProbe {
 public:
  explicit BandwidthProbe(int n_threads);  // 0: one per core
  double MeasureGbPerSecond();

 private:
  size_t n_threads_;
  cpu::AlignedBuffer memory_;
  std::atomic<uint64_t> sink_{0};
};

}  // namespace coterie::bench

#endif  // COTERIE_TESTS_BENCH_HARNESS_H_
