#include "model/publishing/make_prototypes.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/format/write_safetensors.h"

namespace coterie {
namespace {

constexpr size_t kTextsPerPrototype = 8;
constexpr size_t kMostPrototypes = 8;
constexpr size_t kFolds = 5;
constexpr int kMostRounds = 20;  // of K-means; it seldom takes ten

float DotOf(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return static_cast<float>(sum);
}

// Where the largest cosine is.
size_t NearestRow(std::span<const float> text, std::span<const float> rows) {
  size_t best = 0;
  float best_score = -std::numeric_limits<float>::infinity();
  for (size_t r = 0; r * text.size() < rows.size(); ++r) {
    const float score = DotOf(text, rows.subspan(r * text.size(), text.size()));
    if (score > best_score) {
      best = r;
      best_score = score;
    }
  }
  return best;
}

// Of unit norm; false for a sum of nothing.
bool Normalise(std::span<double> sum, float* to) {
  double norm_squared = 0;
  for (const double value : sum) norm_squared += value * value;
  if (!(norm_squared > 0)) return false;
  for (size_t i = 0; i < sum.size(); ++i) to[i] = static_cast<float>(sum[i] / std::sqrt(norm_squared));
  return true;
}

// The first centroid is the mean's direction; each next begins at the text that is farthest from all before.
std::vector<float> FirstCentroids(const EmbeddedTexts& texts, size_t k) {
  std::vector<double> mean(texts.dim, 0);
  for (size_t i = 0; i < texts.n(); ++i) {
    for (size_t d = 0; d < texts.dim; ++d) mean[d] += static_cast<double>(texts.row(i)[d]);
  }
  std::vector<float> centroids(texts.dim);
  if (!Normalise(mean, centroids.data())) std::copy_n(texts.values.begin(), texts.dim, centroids.begin());
  std::vector<float> nearest(texts.n());
  for (size_t i = 0; i < texts.n(); ++i) nearest[i] = DotOf(texts.row(i), centroids);
  while (centroids.size() < k * texts.dim) {
    const auto farthest =
        static_cast<size_t>(std::min_element(nearest.begin(), nearest.end()) - nearest.begin());
    const std::span<const float> row = texts.row(farthest);
    centroids.insert(centroids.end(), row.begin(), row.end());
    for (size_t i = 0; i < texts.n(); ++i) nearest[i] = std::max(nearest[i], DotOf(texts.row(i), row));
  }
  return centroids;
}

}  // namespace

size_t PrototypesFor(size_t n_texts) {
  return std::clamp<size_t>(n_texts / kTextsPerPrototype, 1, kMostPrototypes);
}

std::vector<float> MakePrototypes(const EmbeddedTexts& texts) {
  const size_t k = PrototypesFor(texts.n());
  std::vector<float> centroids = FirstCentroids(texts, k);
  std::vector<size_t> assigned(texts.n(), k);
  for (int round = 0; round < kMostRounds; ++round) {
    bool moved = false;
    std::vector<double> sums(k * texts.dim, 0);
    for (size_t i = 0; i < texts.n(); ++i) {
      const size_t nearest = NearestRow(texts.row(i), centroids);
      moved = moved || nearest != assigned[i];
      assigned[i] = nearest;
      for (size_t d = 0; d < texts.dim; ++d) {
        sums[nearest * texts.dim + d] += static_cast<double>(texts.row(i)[d]);
      }
    }
    if (!moved) break;
    // One that no text is nearest to stays where it is.
    for (size_t c = 0; c < k; ++c) {
      Normalise(std::span(sums).subspan(c * texts.dim, texts.dim), &centroids[c * texts.dim]);
    }
  }
  return centroids;
}

float NearestPrototype(std::span<const float> text, std::span<const float> prototypes) {
  const size_t row = NearestRow(text, prototypes);
  return DotOf(text, prototypes.subspan(row * text.size(), text.size()));
}

std::vector<float> ScoresOfUnseen(const EmbeddedTexts& texts) {
  std::vector<float> scores(texts.n(), 1.0f);
  const size_t folds = std::min(kFolds, texts.n());
  if (folds < 2) return scores;
  for (size_t fold = 0; fold < folds; ++fold) {
    EmbeddedTexts others{.dim = texts.dim, .values = {}, .embedder = texts.embedder};
    for (size_t i = 0; i < texts.n(); ++i) {
      if (i % folds == fold) continue;
      others.values.insert(others.values.end(), texts.row(i).begin(), texts.row(i).end());
    }
    const std::vector<float> prototypes = MakePrototypes(others);
    for (size_t i = fold; i < texts.n(); i += folds) scores[i] = NearestPrototype(texts.row(i), prototypes);
  }
  return scores;
}

std::string WritePrototypes(std::span<const float> prototypes, size_t dim, const Digest& embedder) {
  TensorView tensor;
  tensor.name = "prototypes";
  tensor.shape = {static_cast<int64_t>(prototypes.size() / dim), static_cast<int64_t>(dim)};
  tensor.bytes = {reinterpret_cast<const uint8_t*>(prototypes.data()), prototypes.size() * sizeof(float)};
  return WriteSafetensors(
      {tensor}, {{"embedder_digest", embedder.ToHex()}, {"method", "spherical k-means of examples"}});
}

}  // namespace coterie
