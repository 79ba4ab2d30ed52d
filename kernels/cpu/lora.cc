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
struct Expand {
  std::unique_ptr<CpuMatrix> b;  // [n_out, rank]; null: the adapter does not change this module
  float scale = 0;
  int t_column = 0;
};

struct LayerLora {
  std::array<std::unique_ptr<CpuMatrix>, kInputCount>
      a;  // A of the modules of one input, stacked: [Σ rank, n_in]
  std::array<Expand, kLoraModuleCount> b;
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
      Expand& expand = to.b[static_cast<size_t>(pair.module)];
      if (expand.b != nullptr) {
        return absl::InvalidArgumentError(absl::StrCat("two LoRA pairs for one module of layer ", layer));
      }
      stacked.push_back(pair.a);
      ASSIGN_OR_RETURN(expand.b, CpuMatrix::Pack({&pair.b, 1}));
      expand.scale = pair.scale;
      expand.t_column = static_cast<int>(column);
      column += pair.a.n_out;
      adapter->bytes_ += expand.b->bytes();
    }
    ASSIGN_OR_RETURN(to.a[static_cast<size_t>(input)], CpuMatrix::Pack(stacked));
    adapter->bytes_ += to.a[static_cast<size_t>(input)]->bytes();
  }
  return adapter;
}

// Panels [begin, end) of t = A x for some rows of x.
void CpuBackend::Shrink(const CpuMatrix& a, std::span<const int32_t> rows, const float* x, float* t,
                        int64_t begin, int64_t end) const {
  LinearArgs args = {};
  args.n_in = a.n_in();
  args.rows = static_cast<int>(rows.size());
  args.x = x;
  args.x_stride = a.n_in();
  args.x_rows = rows.data();
  args.y_stride = a.n_out();
  int64_t first = 0;  // the segment's first panel among all
  for (const PanelSegment& segment : a.segments()) {
    const int64_t from = std::max(begin - first, int64_t{0});
    const int64_t to = std::min(end - first, segment.n_panels());
    first += segment.n_panels();
    if (from >= to) continue;
    args.kind = segment.kind;
    args.panels = segment.panels.data();
    args.n_out = segment.n_out;
    args.y = t + segment.out_begin;
    kernels_->linear(args, false, from, to);
  }
}

// Two steps: t = A x for every group of rows, then the products with B are added, each thread owning a range
// of columns of every target and walking the groups in order, so that a row's adapters add in their order.
void CpuBackend::Lora(const StepContext& step, int layer, std::span<const LoraTarget> targets,
                      const float* x_dev, int n_in, float* y_dev, int y_stride) {
  const std::span<const LoraGroup> groups = static_cast<const CpuStep&>(step).lora_groups();
  if (groups.empty() || targets.empty()) return;
  const size_t input = static_cast<size_t>(InputOf(targets.front().module));

  struct Work {
    const LoraGroup* group;
    const LayerLora* lora;
    const CpuMatrix* a;
    std::span<const int32_t> rows;  // a part of the group's
    float* t;                       // [rows, Σ rank]
  };
  // Bounded by the sequences of a step; kept small and local.
  thread_local std::vector<Work> works;
  works.clear();
  size_t t_floats = 0;
  for (const LoraGroup& group : groups) {
    const CpuAdapter& adapter = static_cast<const CpuAdapter&>(*group.adapter);
    if (static_cast<size_t>(layer) >= adapter.layers.size()) continue;
    const LayerLora& lora = adapter.layers[static_cast<size_t>(layer)];
    const CpuMatrix* a = lora.a[input].get();
    if (a == nullptr) continue;
    COTERIE_CHECK_EQ(a->n_in(), n_in) << "inputs of LoRA A in layer " << layer;
    for (size_t first = 0; first < group.rows.size(); first += kLoraRows) {
      const auto rows = std::span<const int32_t>(group.rows).subspan(first);
      works.push_back({&group, &lora, a, rows.first(std::min(kLoraRows, rows.size())), nullptr});
    }
    t_floats += group.rows.size() * static_cast<size_t>(a->n_out());
  }
  if (works.empty()) return;
  lora_.Reserve(t_floats * sizeof(float));
  float* t = lora_.as<float>();
  for (Work& work : works) {
    work.t = t;
    t += work.rows.size() * static_cast<size_t>(work.a->n_out());
  }
  const std::vector<Work>& todo = works;

  // Few parts are cut further, by panels, so that no thread stands by.
  const bool by_panel = todo.size() < 2 * static_cast<size_t>(pool_.n_threads());
  int64_t n_items = static_cast<int64_t>(todo.size());
  if (by_panel) {
    n_items = 0;
    for (const Work& work : todo) n_items += work.a->n_panels();
  }
  pool_.RunItems(n_items, [&](int64_t item, int) {
    if (!by_panel) {
      const Work& work = todo[static_cast<size_t>(item)];
      Shrink(*work.a, work.rows, x_dev, work.t, 0, work.a->n_panels());
      return;
    }
    const Work* work = todo.data();
    for (; item >= work->a->n_panels(); ++work) item -= work->a->n_panels();
    Shrink(*work->a, work->rows, x_dev, work->t, item, item + 1);
  });

  pool_.RunRanges(pool_.n_threads(), 1, [&](int64_t begin, int64_t end, int) {
    for (const Work& work : todo) {
      for (const LoraTarget& target : targets) {
        const Expand& expand = work.lora->b[static_cast<size_t>(target.module)];
        if (expand.b == nullptr) continue;
        const PanelSegment& segment = expand.b->segments().front();
        LinearArgs args = {};
        args.kind = segment.kind;
        args.panels = segment.panels.data();
        args.n_out = segment.n_out;
        args.n_in = expand.b->n_in();
        args.rows = static_cast<int>(work.rows.size());
        args.x = work.t + expand.t_column;
        args.x_stride = work.a->n_out();
        args.y = y_dev + target.y_column;
        args.y_stride = y_stride;
        args.y_rows = work.rows.data();
        args.accumulate = true;
        args.alpha = work.group->weight * expand.scale;
        const int64_t n = pool_.n_threads();
        kernels_->linear(args, false, segment.n_panels() * begin / n, segment.n_panels() * end / n);
      }
    }
  });
}

}  // namespace coterie::cpu
