#ifndef COTERIE_GATEWAY_TEXT_TEXT_EMBEDDER_H_
#define COTERIE_GATEWAY_TEXT_TEXT_EMBEDDER_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/status.h"

namespace coterie::gateway {

// Text to a vector of unit norm, by the model that made the experts' prototypes. Thread-safe; a call computes
// for milliseconds, so it belongs on the work pool.
class TextEmbedder {
 public:
  virtual ~TextEmbedder() = default;
  // [dim]. Of a longer text the first max_tokens() tokens count. InvalidArgument for what cannot be
  // tokenised.
  virtual StatusOr<std::vector<float>> Embed(std::string_view text) const = 0;
  virtual size_t dim() const = 0;
  virtual const Digest& digest() const = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_TEXT_TEXT_EMBEDDER_H_
