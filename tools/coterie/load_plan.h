#ifndef COTERIE_TOOLS_COTERIE_LOAD_PLAN_H_
#define COTERIE_TOOLS_COTERIE_LOAD_PLAN_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace coterie::command {

// splitmix64: the same numbers on every machine, unlike the distributions of <random>.
class LoadRandom {
 public:
  explicit LoadRandom(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  double Uniform();      // (0, 1)
  double Exponential();  // mean 1
  double Normal();       // mean 0, deviation 1 (Box-Muller)

 private:
  uint64_t state_;
};

// Lengths of prompts or answers. Written as "100" (always), "50-200" (uniform, both included),
// "exponential:MEAN" or "lognormal:MEDIAN:SIGMA" (SIGMA of the logarithm); draws stay within [1, most].
class LengthDistribution {
 public:
  explicit LengthDistribution(int always) : kind_(Kind::kUniform), low_(always), high_(always) {}
  // InvalidArgument naming `what`, the text and what is allowed.
  static StatusOr<LengthDistribution> Parse(std::string_view what, std::string_view text, int most);
  int Draw(LoadRandom* random) const;

 private:
  enum class Kind : uint8_t { kUniform, kExponential, kLognormal };
  Kind kind_;
  double low_ = 1, high_ = 1;  // kUniform
  double center_ = 1;          // mean or median
  double sigma_ = 0;
  int most_ = 1 << 30;
};

// How requests choose among experts: each in its turn, all alike, or the i-th (from 1) with probability
// proportional to 1 / i^s.
enum class ExpertChoice : uint8_t { kTurn, kUniform, kZipf };

struct LoadPlanOptions {
  uint64_t seed = 1;  // of everything drawn: equal options give equal plans
  int n_warmup = 0;   // these come first and start at 0
  int n_requests = 1;
  double rate = 0;      // requests a second (open loop); 0: none has a time (closed loop)
  bool poisson = true;  // exponential times between arrivals; else equal ones
  LengthDistribution prompt_words{100};
  LengthDistribution output_tokens{64};
  std::vector<std::string> experts;  // empty: `expert` stays empty
  ExpertChoice choice = ExpertChoice::kTurn;
  double zipf_exponent = 1;
};

struct PlannedRequest {
  double start_seconds = 0;  // after the first measured request may start
  std::string expert;
  int prompt_words = 1;
  int output_tokens = 1;
  uint64_t text_seed = 0;
};

// Warm-up first, then the measured requests in the order of their starts.
std::vector<PlannedRequest> MakeLoadPlan(const LoadPlanOptions& options);

// `n_words` words of plain English-like filler, another text for every seed: equal prompts would only measure
// the prefix cache.
std::string FillerText(uint64_t seed, int n_words);

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_LOAD_PLAN_H_
