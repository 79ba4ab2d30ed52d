#ifndef COTERIE_ROUTER_DRIFT_H_
#define COTERIE_ROUTER_DRIFT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "common/routing_reference.h"

namespace coterie {

// Mean and spread of numbers that come one by one, in which a number counts half as much once `half_life`
// more have come (West 1979, with weights that decay). Plain data; not thread-safe.
class DecayingMoments {
 public:
  explicit DecayingMoments(double half_life);  // above 0
  void Add(double x);

  uint64_t n() const { return n_; }  // ever added
  double mean() const { return mean_; }
  double variance() const;        // unbiased for independent numbers; 0 of fewer than two
  double effective_n() const;     // of as many equally weighted ones the mean would be as sure
  double standard_error() const;  // of the mean

 private:
  double decay_;
  uint64_t n_ = 0;
  double weight_ = 0;           // sum of weights
  double squared_weights_ = 0;  // sum of their squares
  double mean_ = 0;
  double squares_ = 0;  // weighted sum of squared differences from the mean
};

struct DriftOptions {
  double half_life = 200;  // questions
  uint64_t min_questions = 50;
  double standard_errors = 3;
  double margin = 0.05;  // of the score, a cosine
};

// How far the questions that are routed to an expert have come from what it was made for.
struct Drift {
  uint64_t n = 0;             // questions seen
  double mean_score = 0;      // of the latest ones
  double shift = 0;           // the reference's mean minus that: positive when they lie farther away
  double standard_error = 0;  // of the shift
  bool significant = false;
};

// Significant: from min_questions on, the mean lies below the reference's by more than `margin` and by more
// than so many standard errors, the reference's own included.
Drift CompareWithReference(const DecayingMoments& scores, const RoutingReference& reference,
                           const DriftOptions& options);

// One sentence with the figures where the drift is significant, else empty.
std::string DriftFinding(std::string_view expert, const Drift& drift, const RoutingReference& reference);

}  // namespace coterie

#endif  // COTERIE_ROUTER_DRIFT_H_
