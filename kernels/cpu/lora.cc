#include <algorithm>
#include <array>

#include "common/check.h"
#include "kernels/cpu/cpu_backend.h"

namespace coterie::cpu {
namespace {

// Modules that read the same input: Q K V, O, gate and up, down.
constexpr int kInputCount = 4;
constexpr int InputOf(LoraModule module) {
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

// B of one module; its rank-long input starts at `t_column` of the stacked A x.
struct LoraB {
  std::unique_ptr<CpuMatrix> matrix;  // [n_out, rank]; null: the adapter does not change this module
  float scale = 0;
  int t_column = 0;
};

struct LayerLora {
  std::array<std::unique_ptr<CpuMatrix>, kInputCount>
      a;  // A of the modules of one input, stacked: [Σ rank, n_in]
  std::array<LoraB, kLoraModuleCount> b;
};

class CpuAdapter final : public PackedAdapter {
 public:
  size_t bytes() const override { return bytes_; }

  std::vector<LayerLora> layers;
  size_t bytes_ = 0;
};

constexpr int kMaxLoraLayers = 1024;
// Rows that one thread takes on at a time: a long prompt of one adapter is work for all of them.
constexpr size_t kLoraRows = 64;

}  // namespace

StatusOr<std::unique_ptr<PackedAdapter>> CpuBackend::PackAdapter(std::span<const HostLora> pairs) {
  auto adapter = std::make_unique<CpuAdapter>();
  // Sorted by layer and module, the stacking order of A.
  std::vector<const HostLora*> sorted;
  for (const HostLora& pair : pairs) {
    if (pair.layer < 0 || pair.layer >= kMaxLoraLayers) {
      return absl::InvalidArgumentError(absl::StrCat("LoRA pair of layer ", pair.layer));
    }
    if (pair.a.n_out != pair.b.n_in || IsQuantised(PanelKindOf(pair.a.dtype)) ||
        IsQuantised(PanelKindOf(pair.b.dtype))) {
      return absl::InvalidArgumentError(absl::StrCat(
          "LoRA pair of layer ", pair.layer, ": A is [", pair.a.n_out, ", ", pair.a.n_in, "], B is [",
          pair.b.n_out, ", ", pair.b.n_in, "]; both must be F32, F16 or BF16 of one rank"));
    }
    sorted.push_back(&pair);
  }
  std::stable_sort(sorted.begin(), sorted.end(), [](const HostLora* x, const HostLora* y) {
    return x->layer != y->layer ? x->layer < y->layer : x->module < y->module;
  });
  for (size_t first = 0; first < sorted.size();) {
    const int layer = sorted[first]->layer;
    const int input = InputOf(sorted[first]->module);
    if (static_cast<size_t>(layer) >= adapter->layers.size())
      adapter->layers.resize(static_cast<size_t>(layer) + 1);
    LayerLora& to = adapter->layers[static_cast<size_t>(layer)];
    std::vector<HostMatrix> stacked;
    int64_t column = 0;
    for (; first < sorted.size() && sorted[first]->layer == layer && InputOf(sorted[first]->module) == input;
         ++first) {
      const HostLora& pair = *sorted[first];
      LoraB& b = to.b[static_cast<size_t>(pair.module)];
      if (b.matrix != nullptr) {
        return absl::InvalidArgumentError(absl::StrCat("two LoRA pairs for one module of layer ", layer));
      }
      stacked.push_back(pair.a);
      ASSIGN_OR_RETURN(b.matrix, CpuMatrix::Pack({&pair.b, 1}));
      b.scale = pair.scale;
      b.t_column = static_cast<int>(column);
      column += pair.a.n_out;
      adapter->bytes_ += b.matrix->bytes();
    }
    ASSIGN_OR_RETURN(to.a[static_cast<size_t>(input)], CpuMatrix::Pack(stacked));
    adapter->bytes_ += to.a[static_cast<size_t>(input)]->bytes();
  }
  return adapter;
}

// Part of the rows of one group.
struct CpuBackend::LoraWork {
  const LoraGroup* group;
  const LayerLora* lora;
  const CpuMatrix* a;
  std::span<const int32_t> rows;
  float* t;  // [rows, Σ rank]
};

// What a call has to do, in the order of the groups; valid until the next call.
std::span<const CpuBackend::LoraWork> CpuBackend::PlanLora(const LoraCall& call, int64_t n_in) {
  const std::span<const LoraGroup> groups = static_cast<const CpuStep&>(*call.step).lora_groups();
  if (groups.empty() || call.targets.empty()) return {};
  const size_t input = static_cast<size_t>(InputOf(call.targets.front().module));
  const size_t layer = static_cast<size_t>(call.layer);
  // Bounded by the rows of a step; its memory is used again.
  thread_local std::vector<LoraWork> works;
  works.clear();
  size_t t_floats = 0;
  for (const LoraGroup& group : groups) {
    const CpuAdapter& adapter = static_cast<const CpuAdapter&>(*group.adapter);
    if (layer >= adapter.layers.size()) continue;
    const LayerLora& lora = adapter.layers[layer];
    const CpuMatrix* a = lora.a[input].get();
    if (a == nullptr) continue;
    COTERIE_CHECK_EQ(a->n_in(), n_in) << "inputs of LoRA A in layer " << call.layer;
    for (size_t first = 0; first < group.rows.size(); first += kLoraRows) {
      const auto rows = std::span<const int32_t>(group.rows).subspan(first);
      works.push_back({&group, &lora, a, rows.first(std::min(kLoraRows, rows.size())), nullptr});
    }
    t_floats += group.rows.size() * static_cast<size_t>(a->n_out());
  }
  lora_.Reserve(t_floats * sizeof(float));
  float* t = lora_.as<float>();
  for (LoraWork& work : works) {
    work.t = t;
    t += work.rows.size() * static_cast<size_t>(work.a->n_out());
  }
  return works;
}

// t = A x, in items that may run in any order: a work each, or, where those are few, a panel each.
bool CpuBackend::ShrinksWhole(std::span<const LoraWork> works) const {
  return static_cast<int64_t>(works.size()) >= 2 * pool_.n_threads();
}
int64_t CpuBackend::ShrinkItems(std::span<const LoraWork> works) const {
  if (ShrinksWhole(works)) return static_cast<int64_t>(works.size());
  int64_t n_panels = 0;
  for (const LoraWork& work : works) n_panels += work.a->n_panels();
  return n_panels;
}
void CpuBackend::Shrink(std::span<const LoraWork> works, const float* x, int64_t item) const {
  const bool whole = ShrinksWhole(works);
  const LoraWork* work = works.data();
  if (whole) {
    work += item;
  } else {
    for (; item >= work->a->n_panels(); ++work) item -= work->a->n_panels();
  }
  LinearCall call;
  call.matrix = work->a;
  call.y = work->t;
  call.args.n_in = work->a->n_in();
  call.args.rows = static_cast<int>(work->rows.size());
  call.args.x = x;
  call.args.x_stride = work->a->n_in();
  call.args.x_rows = work->rows.data();
  call.args.y_stride = work->a->n_out();
  RunPanels(call, whole ? 0 : item, whole ? work->a->n_panels() : item + 1);
}

// y += B t: each thread owns a range of columns of every target and walks the works in order, so that a row's
// adapters add in their order.
void CpuBackend::Expand(std::span<const LoraWork> works, std::span<const LoraTarget> targets, float* y,
                        int64_t y_stride) {
  const int64_t n = pool_.n_threads();
  pool_.RunRanges(n, 1, [&](int64_t begin, int64_t end, int) {
    for (const LoraWork& work : works) {
      for (const LoraTarget& target : targets) {
        const LoraB& b = work.lora->b[static_cast<size_t>(target.module)];
        if (b.matrix == nullptr) continue;
        const PanelSegment& segment = b.matrix->segments().front();
        LinearArgs args = {};
        args.kind = segment.kind;
        args.panels = segment.panels.data();
        args.n_out = segment.n_out;
        args.n_in = b.matrix->n_in();
        args.rows = static_cast<int>(work.rows.size());
        args.x = work.t + b.t_column;
        args.x_stride = work.a->n_out();
        args.y = y + target.y_column;
        args.y_stride = y_stride;
        args.y_rows = work.rows.data();
        args.accumulate = true;
        args.alpha = work.group->weight * b.scale;
        kernels_->linear(args, false, segment.n_panels() * begin / n, segment.n_panels() * end / n);
      }
    }
  });
}

void CpuBackend::Lora(const StepContext& step, int layer, std::span<const LoraTarget> targets,
                      const float* x_dev, int n_in, float* y_dev, int y_stride) {
  const std::span<const LoraWork> works = PlanLora({&step, layer, targets}, n_in);
  if (works.empty()) return;
  pool_.RunItems(ShrinkItems(works), [&](int64_t item, int) { Shrink(works, x_dev, item); });
  Expand(works, targets, y_dev, y_stride);
}

// A x needs nothing of the base's product, so both are one part for the pool: adapters cost one more.
void CpuBackend::LinearLora(const LoraCall& lora, const float* x_dev, int rows, const PackedMatrix& w,
                            const DeviceBuffer* bias, bool accumulate, float* y_dev) {
  const CpuMatrix& matrix = static_cast<const CpuMatrix&>(w);
  const std::span<const LoraWork> works = PlanLora(lora, matrix.n_in());
  if (works.empty()) return Linear(x_dev, rows, w, bias, accumulate, y_dev);
  const LinearCall call = PrepareLinear(x_dev, rows, matrix, bias, accumulate, y_dev);
  const int64_t n_panels = matrix.n_panels();
  const int64_t n_ranges = std::min<int64_t>(int64_t{kLinearPieces} * pool_.n_threads(), n_panels);
  pool_.RunItems(n_ranges + ShrinkItems(works), [&](int64_t item, int) {
    if (item < n_ranges) {
      RunPanels(call, n_panels * item / n_ranges, n_panels * (item + 1) / n_ranges);
    } else {
      Shrink(works, x_dev, item - n_ranges);
    }
  });
  Expand(works, lora.targets, y_dev, matrix.n_out());
}

}  // namespace coterie::cpu
