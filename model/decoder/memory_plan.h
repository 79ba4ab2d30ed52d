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

// The memory that a worker needs, by purpose; computed before any of it is allocated.
struct MemoryPlan {
  using Demand = MemoryDemand;
  std::vector<Demand> demands;

  uint64_t bytes_at_start() const;
  uint64_t bytes() const;
  // "weights 95 MB, KV cache 360 MB, ..., packed experts up to 512 MB"
  std::string ToText() const;
  // ResourceExhausted when the demands at start do not fit; names every demand, the room there is and what to
  // change.
  Status Check(const MemoryRoom& room) const;
};

// The memory that a Decoder of these options needs. Errors are those of Decoder::Create about options and
// shapes.
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
