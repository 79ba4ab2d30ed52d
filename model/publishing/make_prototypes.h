#ifndef COTERIE_MODEL_PUBLISHING_MAKE_PROTOTYPES_H_
#define COTERIE_MODEL_PUBLISHING_MAKE_PROTOTYPES_H_

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "common/digest.h"

namespace coterie {

// Vectors of texts, [n, dim] of unit norm, n and dim at least 1.
struct EmbeddedTexts {
  size_t dim = 0;
  std::vector<float> values;
  Digest embedder;  // which made them

  size_t n() const { return values.size() / dim; }
  std::span<const float> row(size_t i) const { return std::span(values).subspan(i * dim, dim); }
};

// How many prototypes `n_texts` texts of one field make: one for eight texts, at most eight, as the shipped
// experts have. With one for each text a stray question would claim its whole neighbourhood.
size_t PrototypesFor(size_t n_texts);

// The centroids [at most PrototypesFor(n), dim] of the texts by spherical K-means, of unit norm. The same
// texts in the same order always give the same ones.
std::vector<float> MakePrototypes(const EmbeddedTexts& texts);

// How each text scores against prototypes that were made without it (five folds), as a question that nobody
// has seen would. A single text has none, so its score is 1.
std::vector<float> ScoresOfUnseen(const EmbeddedTexts& texts);

// The largest cosine of `text` [dim] with any of `prototypes` [n, dim].
float NearestPrototype(std::span<const float> text, std::span<const float> prototypes);

// The file prototypes.safetensors of `prototypes` [n, dim].
std::string WritePrototypes(std::span<const float> prototypes, size_t dim, const Digest& embedder);

}  // namespace coterie

#endif  // COTERIE_MODEL_PUBLISHING_MAKE_PROTOTYPES_H_
