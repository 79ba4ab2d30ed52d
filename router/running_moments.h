#ifndef COTERIE_ROUTER_RUNNING_MOMENTS_H_
#define COTERIE_ROUTER_RUNNING_MOMENTS_H_

#include <cmath>
#include <cstdint>

namespace coterie {

// Count, mean and spread of numbers that come one by one (Welford 1962). Plain data; not thread-safe.
class RunningMoments {
 public:
  void Add(double x) {
    ++n_;
    const double delta = x - mean_;
    mean_ += delta / static_cast<double>(n_);
    squares_ += delta * (x - mean_);
  }
  uint64_t n() const { return n_; }
  double mean() const { return mean_; }  // 0 of none
  // Unbiased; 0 of fewer than two.
  double variance() const { return n_ < 2 ? 0 : squares_ / static_cast<double>(n_ - 1); }
  // Of the mean.
  double standard_error() const { return n_ < 2 ? 0 : std::sqrt(variance() / static_cast<double>(n_)); }

 private:
  uint64_t n_ = 0;
  double mean_ = 0;
  double squares_ = 0;  // sum of squared differences from the mean
};

}  // namespace coterie

#endif  // COTERIE_ROUTER_RUNNING_MOMENTS_H_
