#ifndef COTERIE_MODEL_FORMAT_BASE_DIGEST_H_
#define COTERIE_MODEL_FORMAT_BASE_DIGEST_H_

#include <map>
#include <utility>
#include <vector>

#include "common/digest.h"
#include "model/format/model_files.h"

namespace coterie {

// The digest of a base (ModelFiles::ComputeDigest), made layer by layer for whoever reads the layers anyway:
// a second reading of a file that is larger than the page cache would come from the disk again. SHA-256 over
// the configuration and, of each weight in the order of roles and layers, its role, layer, type, size and the
// SHA-256 of each piece of a mebibyte, so that all cores can hash: one alone hashes less than a disk reads.
class BaseDigest {
 public:
  // `files` must outlive it.
  explicit BaseDigest(const ModelFiles& files) : files_(files) {}

  // Reads the weights of a layer, or kOnce: those that stand once.
  void Add(int layer);
  // Once all layers and kOnce were added.
  Digest Finish() const;

  static constexpr int kOnce = -1;

 private:
  const ModelFiles& files_;
  std::map<std::pair<WeightRole, int>, std::vector<Digest>> pieces_;  // by role and layer
};

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_BASE_DIGEST_H_
