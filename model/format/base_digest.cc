#include "model/format/base_digest.h"

#include <algorithm>

#include "common/check.h"
#include "common/on_all_cores.h"

namespace coterie {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;

}  // namespace

void BaseDigest::Add(int layer) {
  struct Piece {
    std::span<const uint8_t> bytes;
    Digest* to;
  };
  std::vector<Piece> pieces;
  for (const WeightRole role : files_.Roles(/*per_layer=*/layer != kOnce)) {
    const int index = std::max(layer, 0);
    const std::span<const uint8_t> bytes = files_.Get(role, index).tensor.bytes;
    std::vector<Digest>& digests = pieces_[{role, index}];
    COTERIE_CHECK(digests.empty()) << "layer " << layer << " was added before";
    digests.resize((bytes.size() + kPieceBytes - 1) / kPieceBytes);
    for (size_t i = 0; i < digests.size(); ++i) {
      const size_t begin = i * kPieceBytes;
      pieces.push_back({bytes.subspan(begin, std::min(kPieceBytes, bytes.size() - begin)), &digests[i]});
    }
  }
  (void)OnAllCores(std::ssize(pieces), [&](int64_t i) -> Status {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    *piece.to = Hasher().Update(piece.bytes.data(), piece.bytes.size()).Finish();
    return absl::OkStatus();
  });
}

Digest BaseDigest::Finish() const {
  Hasher hasher;
  hasher.UpdateField("coterie base 2").UpdateField(CanonicalText(files_.config()));
  for (const bool per_layer : {false, true}) {
    const int n_layers = per_layer ? files_.config().n_layers : 1;
    for (const WeightRole role : files_.Roles(per_layer)) {
      for (int layer = 0; layer < n_layers; ++layer) {
        const auto pieces = pieces_.find({role, layer});
        COTERIE_CHECK(pieces != pieces_.end()) << WeightRoleName(role) << " of layer " << layer;
        const Weight& weight = files_.Get(role, layer);
        hasher.UpdateField(WeightRoleName(role)).UpdateU64(static_cast<uint64_t>(layer));
        hasher.UpdateField(DTypeName(weight.tensor.dtype)).UpdateU64(weight.row_order.empty() ? 0 : 1);
        hasher.UpdateU64(weight.tensor.bytes.size());
        for (const Digest& piece : pieces->second) hasher.Update(piece.bytes().data(), Digest::kBytes);
      }
    }
  }
  return hasher.Finish();
}

}  // namespace coterie
