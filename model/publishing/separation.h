#ifndef COTERIE_MODEL_PUBLISHING_SEPARATION_H_
#define COTERIE_MODEL_PUBLISHING_SEPARATION_H_

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace coterie {

// Another expert and how near a text comes to it.
struct Rival {
  std::string name;
  float score = 0;  // cosine with its nearest prototype
};

// One example, held against the expert that is to be and those that are there.
struct ExampleScore {
  std::string text;
  float own = 0;  // against prototypes made without it
  std::optional<Rival> rival;
};

// How well an expert would be found among the others.
struct Separation {
  size_t n_examples = 0;
  size_t n_reached = 0;          // more than any rival, and enough not to be left to the base
  size_t n_below_min_score = 0;  // left to the base
  float mean_score = 0;
  // The rival that comes nearest on average, where there is any expert; the share of examples it would take.
  std::optional<Rival> nearest_rival;
  std::vector<std::pair<std::string, size_t>> lost_to;  // the most first
  std::vector<std::string> lost_examples;               // a few

  double share() const { return static_cast<double>(n_reached) / static_cast<double>(n_examples); }
};

// Below this share an expert is not found by its own questions: a person should know before publishing it.
inline constexpr double kLowShare = 0.8;

// `examples` is not empty. `min_score`: below it the router leaves a question to the base; nothing: unknown.
Separation MeasureSeparation(const std::vector<ExampleScore>& examples, std::optional<double> min_score);

// Lines for people: what was measured, and where it is low a warning that begins with "warning: ".
std::vector<std::string> SeparationInWords(const Separation& separation, const std::string& name);

}  // namespace coterie

#endif  // COTERIE_MODEL_PUBLISHING_SEPARATION_H_
