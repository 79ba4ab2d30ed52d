#ifndef COTERIE_WORKER_ENGINE_HISTOGRAM_H_
#define COTERIE_WORKER_ENGINE_HISTOGRAM_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace coterie {

// Counts of observations in buckets. Observe is wait-free, so the step loop may call it (prometheus-cpp's own
// histogram takes a lock); any thread may read at the same time.
class Histogram {
 public:
  // Upper bounds, ascending; one more bucket takes what lies above.
  explicit Histogram(std::vector<double> bounds);

  static std::vector<double> StepBounds();  // 1 ms to 10 s
  static std::vector<double> LoadBounds();  // 1 ms to 60 s

  void Observe(double value);

  const std::vector<double>& bounds() const { return bounds_; }
  uint64_t bucket(size_t i) const { return counts_[i].load(std::memory_order_relaxed); }  // not cumulative
  uint64_t count() const;
  double sum() const { return static_cast<double>(sum_nanos_.load(std::memory_order_relaxed)) * 1e-9; }

 private:
  const std::vector<double> bounds_;
  std::unique_ptr<std::atomic<uint64_t>[]> counts_;  // [bounds + 1]
  std::atomic<uint64_t> sum_nanos_{0};               // in units of 1e-9: a whole-number add is wait-free
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_HISTOGRAM_H_
