#include "model/publishing/separation.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/quoted.h"

namespace coterie {
namespace {

constexpr size_t kShownExamples = 3;
constexpr size_t kShownRivals = 3;
constexpr size_t kShownExampleBytes = 80;
constexpr size_t kFewExamples = 10;  // of fewer, a share says little

}  // namespace

Separation MeasureSeparation(const std::vector<ExampleScore>& examples, std::optional<double> min_score) {
  Separation found;
  found.n_examples = examples.size();
  std::map<std::string, std::pair<double, size_t>> rivals;  // sum of scores, how often the nearest
  std::map<std::string, size_t> lost;
  double sum = 0;
  for (const ExampleScore& example : examples) {
    sum += static_cast<double>(example.own);
    if (example.rival.has_value()) {
      auto& [score, n] = rivals[example.rival->name];
      score += static_cast<double>(example.rival->score);
      ++n;
    }
    if (example.rival.has_value() && example.rival->score >= example.own) {
      ++lost[example.rival->name];
    } else if (min_score.has_value() && static_cast<double>(example.own) < *min_score) {
      ++found.n_below_min_score;
    } else {
      ++found.n_reached;
      continue;
    }
    if (found.lost_examples.size() < kShownExamples) found.lost_examples.push_back(example.text);
  }
  found.mean_score = static_cast<float>(sum / static_cast<double>(examples.size()));
  // The nearest to the most examples; of equals the one that comes nearer.
  size_t most = 0;
  for (const auto& [name, rival] : rivals) {
    const auto mean = static_cast<float>(rival.first / static_cast<double>(rival.second));
    if (rival.second > most || (rival.second == most && mean > found.nearest_rival->score)) {
      found.nearest_rival = Rival{name, mean};
      most = rival.second;
    }
  }
  found.lost_to.assign(lost.begin(), lost.end());
  std::stable_sort(found.lost_to.begin(), found.lost_to.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return found;
}

std::vector<std::string> SeparationInWords(const Separation& separation, const std::string& name) {
  std::vector<std::string> lines;
  const auto n = static_cast<int>(separation.n_examples);
  lines.push_back(absl::StrFormat(
      "%d of %d examples (%.0f %%) would reach %s, mean score %.2f; %s",
      static_cast<int>(separation.n_reached), n, separation.share() * 100, name, separation.mean_score,
      separation.nearest_rival.has_value()
          ? absl::StrFormat("nearest rival %s, %.2f where it is the nearest", separation.nearest_rival->name,
                            separation.nearest_rival->score)
          : "no other expert is there"));
  if (separation.n_examples < kFewExamples) {
    lines.push_back(absl::StrFormat("note: %d examples say little; a few dozen questions are good", n));
  }
  if (separation.share() >= kLowShare) return lines;
  std::vector<std::string> where;
  for (const auto& [rival, lost] : separation.lost_to) {
    if (where.size() == kShownRivals) break;
    where.push_back(absl::StrCat(lost, " to ", rival));
  }
  if (separation.n_below_min_score > 0) {
    where.push_back(absl::StrCat(separation.n_below_min_score, " to the base, below its least score"));
  }
  lines.push_back(absl::StrCat(
      "warning: only ", absl::StrFormat("%.0f %%", separation.share() * 100),
      " of the examples would reach it; the others go elsewhere: ", absl::StrJoin(where, ", "), ". Such as: ",
      absl::StrJoin(
          separation.lost_examples, "; ",
          [](std::string* out, const std::string& text) { out->append(Quoted(text, kShownExampleBytes)); }),
      ". Examples nearer to what it is for, or one expert for both fields, may help"));
  return lines;
}

}  // namespace coterie
