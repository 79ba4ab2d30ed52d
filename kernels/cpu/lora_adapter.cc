#include "kernels/cpu/lora_adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>

#include "common/memory.h"
#include "kernels/arrow.h"
#include "kernels/formats/dequantize.h"
#include "kernels/formats/half.h"
#include "kernels/host_matrix.h"

namespace coterie::cpu {
namespace {

constexpr int kMaxLoraLayers = 1024;
// Limit of rows and columns: far beyond any model, and low enough that byte counts stay far below 2^63.
constexpr int64_t kMaxLoraSize = 1 << 24;

bool IsFloat(DType dtype) { return !IsQuantised(PanelKindOf(dtype)); }

Status CheckPair(const HostLora& pair) {
  if (pair.layer < 0 || pair.layer >= kMaxLoraLayers) {
    return absl::InvalidArgumentError(absl::StrCat("LoRA pair of layer ", pair.layer));
  }
  const auto fits = [](int64_t n, int64_t most) { return n > 0 && n <= most; };
  if (!fits(pair.a.n_out, kMaxLoraRank) || !fits(pair.a.n_in, kMaxLoraSize) ||
      !fits(pair.b.n_out, kMaxLoraSize) || pair.a.n_out != pair.b.n_in || !IsFloat(pair.a.dtype) ||
      !IsFloat(pair.b.dtype)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "LoRA pair of layer ", pair.layer, ": A is [", pair.a.n_out, ", ", pair.a.n_in, "], B is [",
        pair.b.n_out, ", ", pair.b.n_in, "]; both must be F32, F16 or BF16 of one rank, at most ",
        kMaxLoraRank, " and ", kMaxLoraSize));
  }
  return absl::OkStatus();
}

// Row `row` of a float matrix, widened.
void WidenRow(const HostMatrix& matrix, int64_t row, float* to) {
  Dequantize(matrix.dtype, matrix.data + row * RowBytes(matrix.dtype, matrix.n_in), matrix.n_in, to);
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

std::vector<HostMatrix> StackedA(Pairs pairs) {
  std::vector<HostMatrix> parts;
  for (const HostLora* pair : pairs) parts.push_back(pair->a);
  return parts;
}

std::vector<const HostLora*> InForwardOrder(std::span<const HostLora> pairs) {
  std::vector<const HostLora*> sorted;
  for (const HostLora& pair : pairs) sorted.push_back(&pair);
  std::stable_sort(sorted.begin(), sorted.end(), [](const HostLora* x, const HostLora* y) {
    const auto place = [](const HostLora& pair) {
      return std::tuple(pair.layer, LoraInputOf(pair.module), pair.module);
    };
    return place(*x) < place(*y);
  });
  return sorted;
}

}  // namespace

int LoraInputOf(LoraModule module) {
  switch (module) {
    case LoraModule::kQ:
    case LoraModule::kK:
    case LoraModule::kV:
    case LoraModule::kQkv:
      return 0;
    case LoraModule::kO:
      return 1;
    case LoraModule::kGate:
    case LoraModule::kUp:
    case LoraModule::kGateUp:
      return 2;
    case LoraModule::kDown:
      return 3;
  }
  return 0;
}

// The pairs of one input of one layer.
struct CpuAdapter::Group {
  Pairs pairs;
  LayerLora* layer;
  LoraInput* input;
  bool eight_bits;

  LoraB& b(const HostLora& pair) const { return layer->b[static_cast<size_t>(pair.module)]; }
  // Bytes of this group behind the groups before it, which take `begin` bytes.
  int64_t End(int64_t begin) const;
  // Points everything into `memory`.
  void Place(uint8_t* memory);
  // Writes the weights there.
  void FillEightBits() const;
  void FillAsStored() const;
  void FillArrows() const;
};

// Matrices as stored begin at a cache line; 8-bit panels need no alignment.
int64_t CpuAdapter::Group::End(int64_t begin) const {
  if (eight_bits) {
    begin += LoraShrinkBytes(input->rank, input->n_in);
    for (const HostLora* pair : pairs) begin += ExpandBytes(pair->b.n_out, static_cast<int>(pair->a.n_out));
    return begin;
  }
  begin = (begin + 63) / 64 * 64 + CpuMatrix::LentBytes(StackedA(pairs));
  for (const HostLora* pair : pairs) begin += CpuMatrix::LentBytes({&pair->b, 1});
  return begin;
}

void CpuAdapter::Group::Place(uint8_t* memory) {
  if (eight_bits) {
    input->panels = memory;
    memory += LoraShrinkBytes(input->rank, input->n_in);
    for (const HostLora* pair : pairs) {
      b(*pair).panels = memory;
      memory += ExpandBytes(pair->b.n_out, static_cast<int>(pair->a.n_out));
    }
    return;
  }
  const std::vector<HostMatrix> a = StackedA(pairs);
  input->matrix = CpuMatrix::Over(a, memory);
  memory += CpuMatrix::LentBytes(a);
  for (const HostLora* pair : pairs) {
    b(*pair).matrix = CpuMatrix::Over({&pair->b, 1}, memory);
    memory += CpuMatrix::LentBytes({&pair->b, 1});
  }
}

void CpuAdapter::Group::FillEightBits() const {
  std::vector<float> row;
  int output = 0;
  for (const HostLora* pair : pairs) {
    row.resize(static_cast<size_t>(pair->a.n_in));
    for (int64_t r = 0; r < pair->a.n_out; ++r) {
      WidenRow(pair->a, r, row.data());
      PackShrinkRow(row.data(), pair->a.n_in, output++, input->rank, input->panels);
    }
  }
  for (const HostLora* pair : pairs) {
    const LoraB& to = b(*pair);
    row.resize(static_cast<size_t>(to.rank));
    for (int64_t n = 0; n < to.n_out; ++n) {
      WidenRow(pair->b, n, row.data());
      PackExpandRow(row.data(), to.rank, n, to.panels);
    }
  }
}

void CpuAdapter::Group::FillAsStored() const {
  input->matrix->Fill(StackedA(pairs));
  for (const HostLora* pair : pairs) b(*pair).matrix->Fill({&pair->b, 1});
}

void CpuAdapter::Group::FillArrows() const {
  for (const HostLora* pair : pairs) {
    const std::vector<float> direction = ArrowDirection(pair->a, pair->b);
    std::copy(direction.begin(), direction.end(), b(*pair).arrow);
  }
}

// Derives everything but the pointers into memory, from the shapes and types of the pairs alone.
StatusOr<std::vector<CpuAdapter::Group>> CpuAdapter::Plan(Pairs sorted, const LoraPacking& packing) {
  for (const HostLora* pair : sorted) RETURN_IF_ERROR(CheckPair(*pair));
  if (!sorted.empty()) layers_.resize(static_cast<size_t>(sorted.back()->layer) + 1);
  std::vector<Group> groups;
  for (size_t first = 0; first < sorted.size();) {
    const int layer = sorted[first]->layer;
    const int input = LoraInputOf(sorted[first]->module);
    size_t last = first;
    while (last < sorted.size() && sorted[last]->layer == layer && LoraInputOf(sorted[last]->module) == input)
      ++last;
    LayerLora& to = layers_[static_cast<size_t>(layer)];
    LoraInput& in = to.inputs[static_cast<size_t>(input)];
    const Pairs pairs = sorted.subspan(first, last - first);
    in.n_in = pairs.front()->a.n_in;
    for (const HostLora* pair : pairs) {
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
    groups.push_back({pairs, &to, &in, packing.eight_bits && FitsEightBits(pairs)});
    first = last;
  }
  return groups;
}

// Of what arrow gates read, for all ranks, in whole cache lines.
int64_t CpuAdapter::ArrowBytes(std::span<const Group> groups, const LoraPacking& packing) {
  if (!packing.arrow) return 0;
  int64_t n_floats = 0;
  for (const Group& group : groups) n_floats += group.input->rank;
  return (n_floats * int64_t{sizeof(float)} + 63) / 64 * 64;
}

int64_t CpuAdapter::BytesOf(std::span<const Group> groups, const LoraPacking& packing) {
  int64_t n_bytes = ArrowBytes(groups, packing);
  for (const Group& group : groups) n_bytes = group.End(n_bytes);
  return n_bytes;
}

Status CpuAdapter::Allocate(std::span<Group> groups, const LoraPacking& packing) {
  const int64_t n_bytes = BytesOf(groups, packing);
  RETURN_IF_ERROR(CheckMemoryFor(static_cast<uint64_t>(n_bytes), "a packed adapter"));
  memory_ = AlignedBuffer(static_cast<size_t>(n_bytes));
  if (n_bytes > 0 && memory_.data() == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", n_bytes, " bytes of a packed adapter"));
  }
  if (packing.arrow) PlaceArrows(groups);
  int64_t begin = ArrowBytes(groups, packing);
  for (Group& group : groups) {
    group.Place(memory_.data() + (group.eight_bits ? begin : (begin + 63) / 64 * 64));
    begin = group.End(begin);
  }
  return absl::OkStatus();
}

void CpuAdapter::PlaceArrows(std::span<const Group> groups) {
  float* to = memory_.as<float>();
  std::fill_n(memory_.data(), ArrowBytes(groups, {.arrow = true}), uint8_t{0});
  for (const Group& group : groups) {
    for (const HostLora* pair : group.pairs) {
      LoraB& b = group.b(*pair);
      b.arrow = to;
      to += b.rank;
    }
  }
}

StatusOr<std::unique_ptr<CpuAdapter>> CpuAdapter::Pack(std::span<const HostLora> pairs,
                                                       const LoraPacking& packing) {
  auto adapter = std::unique_ptr<CpuAdapter>(new CpuAdapter);
  const std::vector<const HostLora*> sorted = InForwardOrder(pairs);
  ASSIGN_OR_RETURN(std::vector<Group> groups, adapter->Plan(sorted, packing));
  for (const HostLora* pair : sorted) {
    RETURN_IF_ERROR(CheckMatrixParts({&pair->a, 1}));
    RETURN_IF_ERROR(CheckMatrixParts({&pair->b, 1}));
  }
  RETURN_IF_ERROR(adapter->Allocate(groups, packing));
  for (const Group& group : groups) {
    group.eight_bits ? group.FillEightBits() : group.FillAsStored();
    if (packing.arrow) group.FillArrows();
  }
  return adapter;
}

StatusOr<std::unique_ptr<CpuAdapter>> CpuAdapter::Copy(std::span<const HostLora> pairs,
                                                       const LoraPacking& packing,
                                                       std::span<const uint8_t> weights) {
  auto adapter = std::unique_ptr<CpuAdapter>(new CpuAdapter);
  const std::vector<const HostLora*> sorted = InForwardOrder(pairs);
  ASSIGN_OR_RETURN(std::vector<Group> groups, adapter->Plan(sorted, packing));
  const int64_t n_bytes = BytesOf(groups, packing);
  if (static_cast<size_t>(n_bytes) != weights.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a packed adapter of ", weights.size(), " bytes; such pairs take ", n_bytes));
  }
  RETURN_IF_ERROR(adapter->Allocate(groups, packing));
  if (!weights.empty()) std::memcpy(adapter->memory_.data(), weights.data(), weights.size());
  return adapter;
}

}  // namespace coterie::cpu
