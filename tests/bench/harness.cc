#include "tests/bench/harness.h"

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <thread>

#include "common/file.h"

namespace coterie::bench {

double Seconds(Clock::time_point since) {
  return std::chrono::duration<double>(Clock::now() - since).count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double ResidentMb() {
  const StatusOr<std::string> status = ReadFile("/proc/self/status", 1 << 20);
  const size_t at = status.ok() ? status->find("VmRSS:") : std::string::npos;
  return at == std::string::npos ? 0 : std::atof(status->c_str() + at + 6) * 1024 / 1e6;
}

double MicrosecondsOf(const std::function<void()>& body) {
  const Clock::time_point begin = Clock::now();
  body();
  return Seconds(begin) * 1e6;
}

double ThreadCpuMicroseconds() {
  timespec t;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

Times Measure(const std::function<void()>& body, size_t n_runs) {
  std::vector<double> times;
  body();
  double best_cpu = std::numeric_limits<double>::infinity();
  for (double total = 0; times.size() < n_runs || total < 200'000; total += times.back()) {
    const double cpu = ThreadCpuMicroseconds();
    times.push_back(MicrosecondsOf(body));
    best_cpu = std::min(best_cpu, ThreadCpuMicroseconds() - cpu);
  }
  std::sort(times.begin(), times.end());
  return {times[0], times[times.size() / 2], times[times.size() * 9 / 10], best_cpu};
}

void BackendFlags::Declare(FlagSet* flags) {
  flags->Section("How it computes");
  flags->Int("threads", &threads, 0, 1024, "N", "compute threads; 0: one for each core it may use");
  flags->Choice("isa", &isa, {"auto", "avx512_bf16", "avx512", "avx2", "neon_dot", "highway", "portable"},
                "the instruction set of the kernels");
  flags->Choice("mode", &mode, {"fast", "exact"}, "numerics");
  flags->Bool("arrow-gates", &arrow_gates, "pack experts with what arrow gates read");
}

CpuBackendOptions BackendFlags::Options() const {
  CpuBackendOptions options;
  options.n_threads = threads;
  options.isa = isa == "auto" ? "" : isa;
  options.arrow_gates = arrow_gates;
  options.mode = mode == "exact" ? NumericsMode::kExact : NumericsMode::kFast;
  return options;
}

void WeightsFlag::Declare(FlagSet* flags) {
  flags->Choice("weights", &weights, {"as-is", "q8_0", "q4_1"}, "what weights of floats are rounded to");
}

std::optional<DType> WeightsFlag::FloatWeights() const {
  if (weights == "q8_0") return DType::kQ8_0;
  if (weights == "q4_1") return DType::kQ4_1;
  return std::nullopt;
}

int Main(FlagSet* flags, int argc, char** argv, const std::function<Status()>& body) {
  Status status = flags->Parse(argc, argv);
  if (flags->help_requested()) {
    std::fputs(flags->Help().c_str(), stdout);
    return 0;
  }
  const int failed = status.ok() ? 1 : 2;
  if (status.ok()) status = body();
  if (status.ok()) return 0;
  std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  return failed;
}

BandwidthProbe::BandwidthProbe(int n_threads)
    : n_threads_(n_threads > 0 ? static_cast<size_t>(n_threads)
                               : std::max<size_t>(1, std::thread::hardware_concurrency())),
      memory_(size_t{256} << 20) {
  std::memset(memory_.data(), 1, memory_.n_bytes());  // untouched pages would all be the one page of zeros
}

double BandwidthProbe::MeasureGbPerSecond() {
  constexpr size_t kWords = 16;  // two cache lines
  std::vector<std::thread> threads;
  const Clock::time_point start = Clock::now();
  const size_t n = memory_.n_bytes() / sizeof(uint64_t);
  for (size_t t = 0; t < n_threads_; ++t) {
    threads.emplace_back([this, t, n] {
      const uint64_t* words = memory_.as<uint64_t>();
      uint64_t sums[kWords] = {};
      for (size_t i = n * t / n_threads_; i + kWords <= n * (t + 1) / n_threads_; i += kWords) {
        __builtin_prefetch(words + i + 512);
        __builtin_prefetch(words + i + 520);
        for (size_t l = 0; l < kWords; ++l) sums[l] += words[i + l];
      }
      for (const uint64_t sum : sums) sink_ += sum;
    });
  }
  for (std::thread& thread : threads) thread.join();
  return static_cast<double>(memory_.n_bytes()) / Seconds(start) / 1e9;
}

}  // namespace coterie::bench
