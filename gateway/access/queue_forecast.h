#ifndef COTERIE_GATEWAY_ACCESS_QUEUE_FORECAST_H_
#define COTERIE_GATEWAY_ACCESS_QUEUE_FORECAST_H_

#include "absl/time/time.h"
#include "common/clock.h"

namespace coterie::gateway {

// How long work of one kind will wait, from how fast such work began of late, and whether it can still end
// before its deadline. Work is counted in units of cost. Not thread-safe.
class QueueForecast {
 public:
  // With less work than this ahead nothing is refused: so little is over soon, and the rate of single
  // requests says nothing about many at once.
  static constexpr double kLeastAhead = 8;

  // Work of `cost` units, which was let in at `since`, got to where it waits for nobody any more.
  void Began(MonotonicTime since, double cost, MonotonicTime now);
  // From there it took so long to its end.
  void Ended(absl::Duration run);

  // Until `ahead` units have begun; zero where too few have been seen to tell.
  absl::Duration Wait(double ahead) const;
  absl::Duration run() const { return absl::Seconds(run_seconds_); }  // mean
  // False for work that will not end within `left` behind `ahead` units. A wait of four fifths of the time
  // left beside the run counts as too long, since both are means; and at most half of it is taken for the
  // run, since what is asked may be shorter than most.
  bool CanEndWithin(absl::Duration left, double ahead) const;

 private:
  int n_seen_ = 0;
  MonotonicTime last_ = MonotonicTime::InfinitePast();
  double seconds_ = 0;  // over these, exponentially weighted, ...
  double units_ = 0;    // ... so many units began
  double run_seconds_ = 1.0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ACCESS_QUEUE_FORECAST_H_
