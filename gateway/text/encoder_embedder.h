#ifndef COTERIE_GATEWAY_TEXT_ENCODER_EMBEDDER_H_
#define COTERIE_GATEWAY_TEXT_ENCODER_EMBEDDER_H_

#include <filesystem>
#include <memory>

#include "gateway/text/text_embedder.h"
#include "kernels/device.h"

namespace coterie::gateway {

struct EmbedderOptions {
  NumericsMode mode = NumericsMode::kFast;
  int n_threads = 1;  // cores, and passes at once; 0: all cores, and one pass
  // Of a longer question (Urgency::kRequest) so many tokens are read, half of them its first and half its
  // last: people ask before or after what they quote, and every token costs. Other texts are read to the
  // encoder's own limit.
  int max_question_tokens = 64;
};

// The sentence encoder in `folder` (model/encoder) behind an EmbedBatcher.
StatusOr<std::unique_ptr<TextEmbedder>> LoadEmbedder(const std::filesystem::path& folder,
                                                     const EmbedderOptions& options);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_TEXT_ENCODER_EMBEDDER_H_
