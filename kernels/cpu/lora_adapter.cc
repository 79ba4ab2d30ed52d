#include "kernels/cpu/lora_adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/memory.h"
#include "kernels/cpu/half.h"

namespace coterie::cpu {
namespace {

constexpr int kMaxLoraLayers = 1024;

bool IsFloat(DType dtype) { return !IsQuantised(PanelKindOf(dtype)); }

Status CheckPair(const HostLora& pair) {
  if (pair.layer < 0 || pair.layer >= kMaxLoraLayers) {
    return absl::InvalidArgumentError(absl::StrCat("LoRA pair of layer ", pair.layer));
  }
  if (pair.a.n_out <= 0 || pair.a.n_in <= 0 || pair.b.n_out <= 0 || pair.a.n_out != pair.b.n_in ||
      pair.a.data == nullptr || pair.b.data == nullptr || !IsFloat(pair.a.dtype) || !IsFloat(pair.b.dtype)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "LoRA pair of layer ", pair.layer, ": A is [", pair.a.n_out, ", ", pair.a.n_in, "], B is [",
        pair.b.n_out, ", ", pair.b.n_in, "]; both must be F32, F16 or BF16 of one rank"));
  }
  return absl::OkStatus();
}

// Row `row` of a float matrix, widened.
void WidenRow(const HostMatrix& matrix, int64_t row, float* to) {
  const uint8_t* from = matrix.data + row * RowBytes(matrix.dtype, matrix.n_in);
  if (matrix.dtype == DType::kF32) {
    std::memcpy(to, from, static_cast<size_t>(matrix.n_in) * sizeof(float));
    return;
  }
  for (int64_t k = 0; k < matrix.n_in; ++k) {
    uint16_t half;
    std::memcpy(&half, from + 2 * k, 2);
    to[k] = matrix.dtype == DType::kF16 ? HalfToFloat(half) : Bf16ToFloat(half);
  }
}

// w = d · (u - 128) for up to 32 values (docs/numerics.md, "LoRA"); returns the bits of d.
uint16_t QuantiseBlock(const float* w, int n, uint8_t* u) {
  float most = 0;
  for (int k = 0; k < n; ++k) most = std::max(most, std::fabs(w[k]));
  const uint16_t half = most < 0x1p-100f ? 0 : FloatToBf16(most / 127.0f);
  const float d = Bf16ToFloat(half);
  for (int k = 0; k < n; ++k) {
    const float code = half == 0 ? 0.0f : std::clamp(std::nearbyint(w[k] / d), -127.0f, 127.0f);
    u[k] = static_cast<uint8_t>(static_cast<int>(code) + 128);
  }
  return half;
}

// Output `output` of the stacked A.
void PackShrinkRow(const float* w, int64_t n_in, int output, int rank, uint8_t* panels) {
  const int64_t n_blocks = n_in / kPanelBlock;
  const int panel = output / kPanelOutputs;
  const int lane = output % kPanelOutputs;
  const bool half = rank - panel * kPanelOutputs <= kPanelOutputs / 2;
  const int outputs = half ? kPanelOutputs / 2 : kPanelOutputs;
  uint8_t* block = panels + panel * n_blocks * kLoraOutputBlockBytes * kPanelOutputs;
  for (int64_t b = 0; b < n_blocks; ++b, block += kLoraOutputBlockBytes * outputs) {
    uint8_t u[kPanelBlock];
    const uint16_t d = QuantiseBlock(w + b * kPanelBlock, kPanelBlock, u);
    std::memcpy(block + 2 * lane, &d, 2);
    uint8_t* codes = block + 2 * outputs;
    for (int k = 0; k < kPanelBlock; k += 4) {
      const int place = half && k >= 16 ? 64 * ((k - 16) / 4) + 4 * (lane + 8) : 64 * (k / 4) + 4 * lane;
      std::memcpy(codes + place, u + k, 4);
    }
  }
}

void PackExpandRow(const float* w, int rank, int64_t output, uint8_t* panels) {
  const int lane = static_cast<int>(output % kPanelOutputs);
  uint8_t* block = panels + output / kPanelOutputs * LoraExpandPanelBytes(rank);
  for (int begin = 0; begin < rank; begin += kPanelBlock) {
    const int n = std::min(kPanelBlock, rank - begin);
    uint8_t u[kPanelBlock] = {};
    const uint16_t d = QuantiseBlock(w + begin, n, u);
    std::memcpy(block + 2 * lane, &d, 2);
    block += 2 * kPanelOutputs;
    for (int k = 0; k < n; k += 4, block += 64) std::memcpy(block + 4 * lane, u + k, 4);
  }
}

int64_t ExpandBytes(int64_t n_out, int rank) {
  return (n_out + kPanelOutputs - 1) / kPanelOutputs * LoraExpandPanelBytes(rank);
}

// The pairs of one input of one layer, in the order of their modules.
using Pairs = std::span<const HostLora* const>;

bool FitsEightBits(Pairs pairs) {
  return std::all_of(pairs.begin(), pairs.end(), [](const HostLora* pair) {
    return pair->quantise && pair->a.n_in % kPanelBlock == 0 && pair->a.row_order.empty() &&
           pair->b.row_order.empty();
  });
}

// Writes the pairs at `to`, returns the end of what was written.
uint8_t* PackEightBits(Pairs pairs, LayerLora* layer, LoraInput* input, uint8_t* to) {
  std::vector<float> row;
  input->panels = to;
  int output = 0;
  for (const HostLora* pair : pairs) {
    row.resize(static_cast<size_t>(pair->a.n_in));
    for (int64_t r = 0; r < pair->a.n_out; ++r) {
      WidenRow(pair->a, r, row.data());
      PackShrinkRow(row.data(), pair->a.n_in, output++, input->rank, to);
    }
  }
  to += LoraShrinkBytes(input->rank, input->n_in);
  for (const HostLora* pair : pairs) {
    LoraB& b = layer->b[static_cast<size_t>(pair->module)];
    b.panels = to;
    row.resize(static_cast<size_t>(b.rank));
    for (int64_t n = 0; n < b.n_out; ++n) {
      WidenRow(pair->b, n, row.data());
      PackExpandRow(row.data(), b.rank, n, to);
    }
    to += ExpandBytes(b.n_out, b.rank);
  }
  return to;
}

}  // namespace

int LoraInputOf(LoraModule module) {
  switch (module) {
    case LoraModule::kQ:
    case LoraModule::kK:
    case LoraModule::kV:
      return 0;
    case LoraModule::kO:
      return 1;
    case LoraModule::kGate:
    case LoraModule::kUp:
      return 2;
    case LoraModule::kDown:
      return 3;
  }
  return 0;
}

StatusOr<std::unique_ptr<CpuAdapter>> CpuAdapter::Pack(std::span<const HostLora> pairs, bool eight_bits) {
  auto adapter = std::unique_ptr<CpuAdapter>(new CpuAdapter);
  std::vector<const HostLora*> sorted;
  for (const HostLora& pair : pairs) {
    RETURN_IF_ERROR(CheckPair(pair));
    sorted.push_back(&pair);
  }
  std::stable_sort(sorted.begin(), sorted.end(), [](const HostLora* x, const HostLora* y) {
    return x->layer != y->layer ? x->layer < y->layer : x->module < y->module;
  });
  if (!sorted.empty()) adapter->layers_.resize(static_cast<size_t>(sorted.back()->layer) + 1);

  // What stands where, then the weights themselves.
  struct Group {
    Pairs pairs;
    LayerLora* layer;
    LoraInput* input;
  };
  std::vector<Group> groups;
  int64_t n_bytes = 0;
  for (size_t first = 0; first < sorted.size();) {
    const int layer = sorted[first]->layer;
    const int input = LoraInputOf(sorted[first]->module);
    size_t last = first;
    while (last < sorted.size() && sorted[last]->layer == layer && LoraInputOf(sorted[last]->module) == input)
      ++last;
    LayerLora& to = adapter->layers_[static_cast<size_t>(layer)];
    LoraInput& in = to.inputs[static_cast<size_t>(input)];
    const Group group = {Pairs(sorted).subspan(first, last - first), &to, &in};
    in.n_in = group.pairs.front()->a.n_in;
    for (const HostLora* pair : group.pairs) {
      LoraB& b = to.b[static_cast<size_t>(pair->module)];
      if (b.rank != 0) {
        return absl::InvalidArgumentError(absl::StrCat("two LoRA pairs for one module of layer ", layer));
      }
      if (pair->a.n_in != in.n_in) {
        return absl::InvalidArgumentError(absl::StrCat("LoRA pairs of layer ", layer,
                                                       " that share an input: ", in.n_in, " and ",
                                                       pair->a.n_in, " values"));
      }
      b.rank = static_cast<int>(pair->a.n_out);
      b.n_out = static_cast<int>(pair->b.n_out);
      b.scale = pair->scale;
      b.t_column = in.rank;
      b.q_column = in.n_codes;
      b.first_block = in.n_blocks;
      in.rank += b.rank;
      in.n_codes += (b.rank + 15) / 16 * 16;
      in.n_blocks += (b.rank + kPanelBlock - 1) / kPanelBlock;
    }
    if (eight_bits && FitsEightBits(group.pairs)) {
      n_bytes += LoraShrinkBytes(in.rank, in.n_in);
      for (const HostLora* pair : group.pairs)
        n_bytes += ExpandBytes(pair->b.n_out, static_cast<int>(pair->a.n_out));
      groups.push_back(group);
    } else {
      std::vector<HostMatrix> stacked;
      for (const HostLora* pair : group.pairs) {
        stacked.push_back(pair->a);
        LoraB& b = to.b[static_cast<size_t>(pair->module)];
        ASSIGN_OR_RETURN(b.matrix, CpuMatrix::Pack({&pair->b, 1}));
        adapter->bytes_ += b.matrix->bytes();
      }
      ASSIGN_OR_RETURN(in.matrix, CpuMatrix::Pack(stacked));
      adapter->bytes_ += in.matrix->bytes();
    }
    first = last;
  }
  RETURN_IF_ERROR(CheckMemoryFor(static_cast<uint64_t>(n_bytes), "a packed adapter"));
  adapter->panels_ = AlignedBuffer(static_cast<size_t>(n_bytes));
  if (n_bytes > 0 && adapter->panels_.data() == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", n_bytes, " bytes of a packed adapter"));
  }
  adapter->bytes_ += static_cast<size_t>(n_bytes);
  uint8_t* to = adapter->panels_.data();
  for (const Group& group : groups) to = PackEightBits(group.pairs, group.layer, group.input, to);
  return adapter;
}

}  // namespace coterie::cpu
