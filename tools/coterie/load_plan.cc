#include "tools/coterie/load_plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace coterie::command {

uint64_t LoadRandom::Next() {
  state_ += 0x9E3779B97F4A7C15ULL;
  uint64_t x = state_;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

double LoadRandom::Uniform() { return (static_cast<double>(Next() >> 12) + 0.5) * 0x1p-52; }

double LoadRandom::Exponential() { return -std::log(Uniform()); }

double LoadRandom::Normal() {
  const double radius = std::sqrt(2 * Exponential());
  return radius * std::cos(2 * std::numbers::pi * Uniform());
}

StatusOr<LengthDistribution> LengthDistribution::Parse(std::string_view what, std::string_view text,
                                                       int most) {
  const Status refused = absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(what), "=", ToAbsl(text),
                   ": must be N, N-M, exponential:MEAN or lognormal:MEDIAN:SIGMA, with lengths from 1 to ",
                   most, " and SIGMA from 0 to 5"));
  const auto length = [most](absl::string_view word, double* value) {
    return absl::SimpleAtod(word, value) && *value >= 1 && *value <= most;
  };
  LengthDistribution result(1);
  result.most_ = most;
  const std::vector<absl::string_view> parts = absl::StrSplit(ToAbsl(text), ':');
  if (parts.size() == 1) {
    const std::vector<absl::string_view> ends = absl::StrSplit(parts[0], '-');
    int low = 0, high = 0;
    if (ends.size() > 2 || !absl::SimpleAtoi(ends.front(), &low) || !absl::SimpleAtoi(ends.back(), &high) ||
        low < 1 || high < low || high > most) {
      return refused;
    }
    result.low_ = low;
    result.high_ = high;
    return result;
  }
  if (!length(parts[1], &result.center_)) return refused;
  if (parts[0] == "exponential" && parts.size() == 2) {
    result.kind_ = Kind::kExponential;
  } else if (parts[0] == "lognormal" && parts.size() == 3) {
    result.kind_ = Kind::kLognormal;
    if (!absl::SimpleAtod(parts[2], &result.sigma_) || !(result.sigma_ >= 0 && result.sigma_ <= 5))
      return refused;
  } else {
    return refused;
  }
  return result;
}

int LengthDistribution::Draw(LoadRandom* random) const {
  double value = low_;
  switch (kind_) {
    case Kind::kUniform:
      value = low_ + std::floor(random->Uniform() * (high_ - low_ + 1));
      break;
    case Kind::kExponential:
      value = std::round(center_ * random->Exponential());
      break;
    case Kind::kLognormal:
      value = std::round(center_ * std::exp(sigma_ * random->Normal()));
      break;
  }
  return static_cast<int>(std::clamp(value, 1.0, static_cast<double>(most_)));
}

std::vector<PlannedRequest> MakeLoadPlan(const LoadPlanOptions& options) {
  // One stream for each thing drawn: other lengths do not move the arrivals.
  LoadRandom seeds(options.seed);
  LoadRandom arrivals(seeds.Next()), prompts(seeds.Next()), answers(seeds.Next()), choices(seeds.Next()),
      texts(seeds.Next());
  std::vector<double> cumulative;  // of the experts' shares
  for (size_t i = 0; i < options.experts.size(); ++i) {
    const double share = options.choice == ExpertChoice::kZipf
                             ? std::pow(static_cast<double>(i + 1), -options.zipf_exponent)
                             : 1;
    cumulative.push_back((i == 0 ? 0 : cumulative.back()) + share);
  }
  std::vector<PlannedRequest> plan(static_cast<size_t>(options.n_warmup + options.n_requests));
  double time = 0;
  for (size_t i = 0; i < plan.size(); ++i) {
    PlannedRequest& request = plan[i];
    const size_t n_warmup = static_cast<size_t>(options.n_warmup);
    if (options.rate > 0 && i >= n_warmup) {
      if (i > n_warmup) time += (options.poisson ? arrivals.Exponential() : 1.0) / options.rate;
      request.start_seconds = time;
    }
    request.prompt_words = options.prompt_words.Draw(&prompts);
    request.output_tokens = options.output_tokens.Draw(&answers);
    request.text_seed = texts.Next();
    if (options.experts.empty()) continue;
    size_t chosen = (i < n_warmup ? i : i - n_warmup) % options.experts.size();
    if (options.choice != ExpertChoice::kTurn) {
      const double at = choices.Uniform() * cumulative.back();
      chosen = static_cast<size_t>(std::upper_bound(cumulative.begin(), cumulative.end(), at) -
                                   cumulative.begin());
      chosen = std::min(chosen, options.experts.size() - 1);
    }
    request.expert = options.experts[chosen];
  }
  return plan;
}

std::string FillerText(uint64_t seed, int n_words) {
  // Each is one token, with a space before it, in the vocabularies of common models.
  static constexpr std::array<std::string_view, 32> kWords = {
      "water",  "table",  "green",  "letter", "morning", "river",  "paper",  "stone",
      "simple", "number", "garden", "light",  "window",  "early",  "summer", "market",
      "voice",  "bridge", "plain",  "winter", "round",   "island", "story",  "metal",
      "quiet",  "travel", "corner", "field",  "silver",  "cloud",  "answer", "north"};
  LoadRandom random(seed);
  std::string text;
  for (int i = 0; i < n_words; ++i) {
    if (i > 0) text += ' ';
    // The first word is one that needs no space before it to be one token.
    text += i == 0 ? kWords[random.Next() % 4] : kWords[random.Next() % kWords.size()];
  }
  return text;
}

}  // namespace coterie::command
