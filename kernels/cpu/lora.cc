#include <algorithm>

#include "common/check.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/lora_adapter.h"
#include "kernels/cpu/lora_use.h"

// The base's product with the adapters' low-rank products beside it, in two parallel parts. First: quantise
// the activations and compute t = A x, by rows; where sequences have gates, weigh their rows (gates.cc).
// Second: the base's product and y += B t, by columns, so that a row of outputs is still in the cache when
// the adapters' share is added.
namespace coterie::cpu {
namespace {

// Rows of a long prompt in one work item.
constexpr int kLoraRows = 64;
// Rows whose outputs stay in the second cache between the base's product and the adapters'.
constexpr int kProductRows = 96;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

// The row groups of a call, in order; valid until the next call.
std::span<const CpuBackend::LoraUse> CpuBackend::PlanLora(const LoraCall& call, int64_t n_in) {
  const CpuStep& step = static_cast<const CpuStep&>(*call.step);
  const std::span<const LoraGroup> groups = step.plan().lora_groups();
  if (groups.empty() || call.targets.empty()) return {};
  const size_t at = static_cast<size_t>(LoraInputOf(call.targets.front().module));
  // Bounded by the rows of a step; its memory is reused.
  thread_local std::vector<LoraUse> uses;
  uses.clear();
  size_t n_floats = 0;
  size_t n_blocks = 0;
  size_t n_codes = 0;
  size_t n_weights = 0;
  const bool gated = !step.plan().gated_sequences().empty();
  for (const LoraGroup& group : groups) {
    const LayerLora* layer = step.AdapterOf(group).layer(static_cast<size_t>(call.layer));
    if (layer == nullptr) continue;
    const LoraInput& input = layer->inputs[at];
    if (input.rank == 0) continue;
    COTERIE_CHECK_EQ(input.n_in, n_in) << "inputs of LoRA A in layer " << call.layer;
    uses.push_back({&group, layer, &input, nullptr, nullptr, nullptr, nullptr});
    if (gated) n_weights += group.rows.size() * call.targets.size();
    n_floats += group.rows.size() * static_cast<size_t>(input.rank);
    n_blocks += group.rows.size() * static_cast<size_t>(input.n_blocks);
    n_codes += group.rows.size() * static_cast<size_t>(input.n_codes);
  }
  lora_.Reserve(n_blocks * sizeof(LoraBlock) + (n_floats + n_weights) * sizeof(float) + n_codes);
  LoraBlock* blocks = lora_.as<LoraBlock>();
  float* t = reinterpret_cast<float*>(blocks + n_blocks);
  float* weights = t + n_floats;
  int8_t* q = reinterpret_cast<int8_t*>(weights + n_weights);
  for (LoraUse& use : uses) {
    const size_t n_rows = use.group->rows.size();
    use.blocks = blocks;
    use.t = t;
    use.q = q;
    blocks += n_rows * static_cast<size_t>(use.input->n_blocks);
    t += n_rows * static_cast<size_t>(use.input->rank);
    q += n_rows * static_cast<size_t>(use.input->n_codes);
    if (!gated) continue;
    use.weights = weights;
    weights += n_rows * call.targets.size();
  }
  return uses;
}

// t = A x for rows [row_begin, row_end) of the group and panels [begin, end) of A.
void CpuBackend::Shrink(const LoraUse& use, const LinearCall& call, size_t row_begin, size_t row_end,
                        int64_t begin, int64_t end) const {
  if (row_begin == row_end) return;
  const LoraInput& input = *use.input;
  const int32_t* x_rows = use.group->rows.data() + row_begin;
  const int n_rows = static_cast<int>(row_end - row_begin);
  float* t = use.t + row_begin * static_cast<size_t>(input.rank);
  if (input.eight_bit()) {
    LoraShrinkArgs args = {};
    args.panels = input.panels;
    args.rank = input.rank;
    args.n_in = input.n_in;
    args.rows = n_rows;
    args.x = call.args.q;
    args.x_rows = x_rows;
    args.t = t;
    args.t_stride = input.rank;
    kernels_->shrink_lora(args, static_cast<int>(begin), static_cast<int>(end));
    return;
  }
  LinearCall product;
  product.matrix = input.matrix.get();
  product.y = t;
  product.args.n_in = input.n_in;
  product.args.rows = n_rows;
  product.args.x = call.args.x;
  product.args.x_stride = call.args.x_stride;
  product.args.x_rows = x_rows;
  product.args.y_stride = input.rank;
  RunPanels(product, {begin, end, end});
}

// Quantises t into codes.
void CpuBackend::QuantiseShrunk(const LoraUse& use, std::span<const LoraTarget> targets, size_t row_begin,
                                size_t row_end) const {
  const LoraInput& input = *use.input;
  if (!input.eight_bit()) return;
  for (size_t row = row_begin; row < row_end; ++row) {
    for (const LoraTarget& target : targets) {
      const LoraB& b = use.layer->b[static_cast<size_t>(target.module)];
      if (b.rank == 0) continue;
      kernels_->quantise_lora(use.t + row * static_cast<size_t>(input.rank) + b.t_column, b.rank,
                              use.q + row * static_cast<size_t>(input.n_codes) + b.q_column,
                              use.blocks + row * static_cast<size_t>(input.n_blocks) + b.first_block);
    }
  }
}

// First part: computes the input as codes, floats or both, as base and adapters need it, and t = A x.
void CpuBackend::ShrinkAll(std::span<const LoraUse> uses, std::span<const LoraTarget> targets,
                           const LinearInput& input, LinearCall* call) {
  const int rows = call->args.rows;
  bool quantise = call->fast;
  bool floats = !call->fast || call->matrix->any_float();
  for (const LoraUse& use : uses) (use.input->eight_bit() ? quantise : floats) = true;
  PlanInput(input, quantise, floats, call);
  const int n_threads = pool_.n_threads();
  size_t n_uses = 0;  // of rows
  for (const LoraUse& use : uses) n_uses += use.group->rows.size();
  if (n_uses < 2 * static_cast<size_t>(n_threads)) {
    // Too few rows for all threads: cut by panels.
    PrepareAllRows(*call);
    int64_t n_panels = 0;
    for (const LoraUse& use : uses) n_panels += use.input->n_panels();
    pool_.RunItems(n_panels, [&](int64_t item, int) {
      const LoraUse* use = uses.data();
      for (; item >= use->input->n_panels(); ++use) item -= use->input->n_panels();
      Shrink(*use, *call, 0, use->group->rows.size(), item, item + 1);
    });
    for (const LoraUse& use : uses) QuantiseShrunk(use, targets, 0, use.group->rows.size());
    return;
  }
  // At least four rows per item share the loads of an adapter, unless threads would be idle.
  const int64_t part = std::clamp<int64_t>(CeilDiv(rows, 2 * n_threads),
                                           std::min<int64_t>(4, CeilDiv(rows, n_threads)), kLoraRows);
  pool_.RunItems(CeilDiv(rows, part), [&](int64_t item, int thread) {
    const int begin = static_cast<int>(item * part);
    const int end = static_cast<int>(std::min<int64_t>(begin + part, rows));
    PrepareRows(*call, begin, end, thread);
    for (const LoraUse& use : uses) {
      const auto [first, last] = use.RowsWithin(begin, end);
      if (first == last) continue;
      Shrink(use, *call, first, last, 0, use.input->n_panels());
      QuantiseShrunk(use, targets, first, last);
    }
  });
}

// y += B t of one target for rows [row_begin, row_end) of the group, with `weights` [rows of the group], and
// panels [begin, end).
void CpuBackend::ExpandRows(const LoraUse& use, const LoraTarget& target, size_t row_begin, size_t row_end,
                            const float* weights, int64_t begin, int64_t end, float* y,
                            int64_t y_stride) const {
  const LoraInput& input = *use.input;
  const LoraB& b = use.layer->b[static_cast<size_t>(target.module)];
  const int n_rows = static_cast<int>(row_end - row_begin);
  const int32_t* y_rows = use.group->rows.data() + row_begin;
  if (input.eight_bit()) {
    LoraExpandArgs args = {};
    args.panels = b.panels;
    args.n_out = b.n_out;
    args.rank = b.rank;
    args.rows = n_rows;
    args.q = use.q + row_begin * static_cast<size_t>(input.n_codes) + b.q_column;
    args.q_stride = input.n_codes;
    args.blocks = use.blocks + row_begin * static_cast<size_t>(input.n_blocks) + b.first_block;
    args.block_stride = input.n_blocks;
    args.y = y + target.y_column;
    args.y_stride = y_stride;
    args.y_rows = y_rows;
    args.row_alphas = weights + row_begin;
    args.alpha = b.scale;
    kernels_->expand_lora(args, begin, end);
    return;
  }
  LinearCall product;
  product.matrix = b.matrix.get();
  product.y = y + target.y_column;
  product.args.n_in = b.rank;
  product.args.rows = n_rows;
  product.args.x = use.t + row_begin * static_cast<size_t>(input.rank) + b.t_column;
  product.args.x_stride = input.rank;
  product.args.y_stride = y_stride;
  product.args.y_rows = y_rows;
  product.args.accumulate = true;
  product.args.row_alphas = weights + row_begin;
  product.args.alpha = b.scale;
  RunPanels(product, {begin, end, end});
}

// y += B t for rows [row_begin, row_end) of the batch and the panels that begin in columns [column_begin,
// column_end) of y. Row groups go in order, so that the adapters of a row are added in their order.
void CpuBackend::Expand(std::span<const LoraUse> uses, std::span<const LoraTarget> targets, int row_begin,
                        int row_end, int64_t column_begin, int64_t column_end, float* y,
                        int64_t y_stride) const {
  for (const LoraUse& use : uses) {
    const auto [first, last] = use.RowsWithin(row_begin, row_end);
    if (first == last) continue;
    for (size_t i = 0; i < targets.size(); ++i) {
      const LoraTarget& target = targets[i];
      const LoraB& b = use.layer->b[static_cast<size_t>(target.module)];
      if (b.rank == 0) continue;
      const int64_t begin = CeilDiv(std::max<int64_t>(column_begin - target.y_column, 0), kPanelOutputs);
      const int64_t end =
          CeilDiv(std::clamp<int64_t>(column_end - target.y_column, 0, b.n_out), kPanelOutputs);
      if (begin >= end) continue;
      if (use.weights == nullptr) {
        ExpandRows(use, target, first, last, use.group->weights.data(), begin, end, y, y_stride);
        continue;
      }
      // Rows that a gate leaves out are not touched: runs of the others.
      const float* weights = use.WeightsAt(i);
      for (size_t from = first; from < last;) {
        size_t to = from;
        while (to < last && weights[to] != 0) ++to;
        if (to > from) ExpandRows(use, target, from, to, weights, begin, end, y, y_stride);
        from = to + 1;
      }
    }
  }
}

void CpuBackend::ExpandAll(std::span<const LoraUse> uses, std::span<const LoraTarget> targets, int rows,
                           float* y, int64_t y_stride) {
  pool_.RunRanges(CeilDiv(y_stride, kPanelOutputs), 1, [&](int64_t begin, int64_t end, int) {
    Expand(uses, targets, 0, rows, begin * kPanelOutputs, end * kPanelOutputs, y, y_stride);
  });
}

void CpuBackend::LinearLora(const LoraCall& lora, const LinearInput& x, int rows, const PackedMatrix& w,
                            const DeviceBuffer* bias, bool accumulate, float* y_dev) {
  const CpuMatrix& matrix = static_cast<const CpuMatrix&>(w);
  const std::span<const LoraUse> uses = PlanLora(lora, matrix.n_in());
  if (uses.empty()) return Linear(x, rows, w, bias, accumulate, y_dev);
  LinearCall call = DescribeLinear(rows, matrix, bias, accumulate, y_dev);
  ShrinkAll(uses, lora.targets, x, &call);
  if (uses.front().weights != nullptr) WeighByGates(lora, uses);
  // A thread may add to the columns of its own panels only.
  const bool together = std::all_of(matrix.segments().begin(), matrix.segments().end(),
                                    [](const PanelSegment& s) { return s.out_begin % kPanelOutputs == 0; }) &&
                        std::all_of(lora.targets.begin(), lora.targets.end(),
                                    [](const LoraTarget& t) { return t.y_column % kPanelOutputs == 0; });
  ForPanels(call, [&](const PanelRange& range, int) {
    if (!together) return RunPanels(call, range);
    for (int row = 0; row < rows; row += kProductRows) {
      const int row_end = std::min(row + kProductRows, rows);
      RunPanels(call.Rows(row, row_end), range);
      // Segments begin at whole panels: panel p holds columns 16 p to 16 p + 15.
      Expand(uses, lora.targets, row, row_end, range.begin * kPanelOutputs, range.end * kPanelOutputs, y_dev,
             matrix.n_out());
    }
  });
  if (!together) ExpandAll(uses, lora.targets, rows, y_dev, matrix.n_out());
}

StatusOr<std::unique_ptr<PackedAdapter>> CpuBackend::PackAdapter(std::span<const HostLora> pairs) {
  return CpuAdapter::Pack(pairs, {mode_ == NumericsMode::kFast, arrow_gates_});
}

// The layout is the same for every instruction set. Raise the number whenever a packed byte changes.
std::string CpuBackend::adapter_layout() const {
  return absl::StrCat("cpu-lora/1 ", mode_ == NumericsMode::kFast ? "fast" : "exact",
                      arrow_gates_ ? " arrow/1" : "");
}

StatusOr<std::unique_ptr<PackedAdapter>> CpuBackend::CopyAdapter(std::span<const HostLora> pairs,
                                                                 std::span<const uint8_t> weights) {
  return CpuAdapter::Copy(pairs, {mode_ == NumericsMode::kFast, arrow_gates_}, weights);
}

}  // namespace coterie::cpu
