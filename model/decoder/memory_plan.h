#ifndef COTERIE_MODEL_DECODER_MEMORY_PLAN_H_
#define COTERIE_MODEL_DECODER_MEMORY_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "common/memory.h"
#include "common/status.h"
#include "kernels/decoder_ops.h"
#include "model/decoder/decoder.h"
#include "model/format/model_files.h"

namespace coterie {

// What a worker's memory goes to, worked out before any of it is taken.
struct MemoryPlan {
  struct Demand {
    std::string what;
    uint64_t bytes = 0;
    bool at_start = true;  // else as it is used, up to so much
    std::string remedy;    // what makes it smaller
  };
  std::vector<Demand> demands;

  uint64_t bytes_at_start() const;
  uint64_t bytes() const;
  // "weights 95 MB, KV cache 360 MB, ..., packed experts up to 512 MB"
  std::string ToText() const;
  // ResourceExhausted, with every demand, the room there is and what to change, when what is taken at start
  // does not fit.
  Status Check(const MemoryRoom& room) const;
};

// What a Decoder of these options will take; errors are Decoder::Create's about options and shapes.
StatusOr<MemoryPlan> PlanMemory(const ModelFiles& files, const DecoderOptions& options,
                                const DecoderOps& backend);

// Sizes that the plan and the decoder share.
StatusOr<KvCacheShape> KvShapeOf(const ModelConfig& config, const DecoderOptions& options,
                                 const DecoderOps& backend);
int SeatsOf(const DecoderOptions& options, const DecoderOps& backend);
int MaxPositions(const ModelConfig& config, const DecoderOptions& options, const KvCacheShape& shape);
// The largest part of a step that goes through the layers at once.
StepLimits LargestPart(const ModelConfig& config, const DecoderOptions& options, const KvCacheShape& shape,
                       const DecoderOps& backend);

}  // namespace coterie

#endif  // COTERIE_MODEL_DECODER_MEMORY_PLAN_H_
