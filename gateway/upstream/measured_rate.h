#ifndef COTERIE_GATEWAY_UPSTREAM_MEASURED_RATE_H_
#define COTERIE_GATEWAY_UPSTREAM_MEASURED_RATE_H_

#include <algorithm>
#include <cmath>

namespace coterie::gateway {

// A figure that a worker measures of itself and sends with its state, made safe to reckon with. It begins
// where placement's own assumption is, follows what comes by an eighth of the way, takes what is beyond twice
// or half of itself as that, and never leaves its bounds; what is no positive number is passed over. So one
// absurd value moves it by an eighth, and a lying worker is believed within the bounds and no further.
class MeasuredRate {
 public:
  // 0 < least <= start <= most.
  MeasuredRate(double start, double least, double most)
      : start_(start), least_(least), most_(most), value_(start) {}

  void Note(double measured) {
    if (!(measured > 0) || !std::isfinite(measured)) return;
    value_ += (std::clamp(measured, value_ / 2, value_ * 2) - value_) / 8;
    value_ = std::clamp(value_, least_, most_);
    known_ = true;
  }
  void Reset() {
    value_ = start_;
    known_ = false;
  }
  // 0 while nothing was measured: the assumption counts.
  double value() const { return known_ ? value_ : 0; }
  double value_or_start() const { return value_; }

 private:
  double start_, least_, most_;
  double value_;
  bool known_ = false;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_MEASURED_RATE_H_
