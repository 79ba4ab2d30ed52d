#ifndef COTERIE_KERNELS_GATE_WEIGHTS_H_
#define COTERIE_KERNELS_GATE_WEIGHTS_H_

#include <cstdint>
#include <span>

#include "common/gate.h"
#include "kernels/lora.h"

namespace coterie {

// The arithmetic of gates, for one token at one module: the same bits everywhere (docs/numerics.md, "Gates").

// The scores of GateKind::kNoisy, one for each adapter of the sequence in order: uniform in [-1, 1), the
// spread that a linear router as PyTorch initialises it has over a normalised input. Adapter i's is a
// function of (seed, position, layer, module, i) alone.
void NoisyScores(uint64_t seed, int position, int layer, LoraModule module, std::span<float> scores);

// weights = softmax of the `top_k` highest scores, of equal ones the earlier; 0 for the others. All NaN where
// a score is not finite.
void GateWeights(std::span<const float> scores, int top_k, std::span<float> weights);

}  // namespace coterie

#endif  // COTERIE_KERNELS_GATE_WEIGHTS_H_
