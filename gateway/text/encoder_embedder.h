#ifndef COTERIE_GATEWAY_TEXT_ENCODER_EMBEDDER_H_
#define COTERIE_GATEWAY_TEXT_ENCODER_EMBEDDER_H_

#include <filesystem>
#include <memory>

#include "gateway/text/text_embedder.h"
#include "kernels/backend.h"

namespace coterie::gateway {

// The sentence encoder in `folder` (model/encoder) in one of its modes, on `n_threads` cores (0: all), behind
// an EmbedBatcher.
StatusOr<std::unique_ptr<TextEmbedder>> LoadEmbedder(const std::filesystem::path& folder, NumericsMode mode,
                                                     int n_threads);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_TEXT_ENCODER_EMBEDDER_H_
