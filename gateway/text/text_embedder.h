#ifndef COTERIE_GATEWAY_TEXT_TEXT_EMBEDDER_H_
#define COTERIE_GATEWAY_TEXT_TEXT_EMBEDDER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/status.h"
#include "gateway/runtime/cancel_flag.h"

namespace coterie::gateway {

// Text to a vector of unit norm, by the model that made the experts' prototypes. Thread-safe.
class TextEmbedder {
 public:
  enum class Urgency {
    kRequest,  // the question of a request: somebody waits for its first token
    kBulk,     // an embedding for its own sake
  };
  using Done = std::function<void(StatusOr<std::vector<float>>)>;
  struct Work {
    uint64_t passes = 0;
    uint64_t texts = 0;  // embedded by these passes
  };

  virtual ~TextEmbedder() = default;
  // Tokenises here and may embed a kRequest here, so it belongs on the work pool; other texts are embedded
  // elsewhere, together. Calls `done` once with [dim] values, from here or from a thread that must not be
  // held (every embedding waits for it). Of a longer text than the encoder reads the first tokens count, of a
  // kRequest longer than its own, smaller limit the first and the last. InvalidArgument for what cannot be
  // tokenised, ResourceExhausted when too much waits, Unavailable after Stop.
  // Cancelled where `cancelled` was set before the text's pass began.
  virtual void Embed(std::string_view text, Urgency urgency, CancelFlag cancelled, Done done) = 0;
  // Of the tokens that a kBulk text is read as; 0 for one that cannot be tokenised.
  virtual size_t CountTokens(std::string_view text) const = 0;
  // Refuses what waits and whatever comes, and returns when no pass runs any more, and no `done` but on
  // threads that called Embed.
  virtual void Stop() {}
  virtual Work work() const { return {}; }
  virtual size_t dim() const = 0;
  virtual const Digest& digest() const = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_TEXT_TEXT_EMBEDDER_H_
