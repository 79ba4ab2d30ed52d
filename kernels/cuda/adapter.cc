#include "kernels/cuda/adapter.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/step_data.h"
#include "kernels/formats/dequantize.h"
#include "kernels/formats/half.h"
#include "kernels/host_matrix.h"

namespace coterie::cuda {
namespace {

Status CheckLoraPair(const HostLora& pair) {
  const auto refuse = [&](auto... words) {
    return absl::InvalidArgumentError(absl::StrCat("LoRA pair of layer ", pair.layer, ": ", words...));
  };
  if (pair.layer < 0) return refuse("no such layer");
  for (const HostMatrix* matrix : {&pair.a, &pair.b}) {
    if (BlockElements(matrix->dtype) != 1) {
      return refuse("its matrices are ", std::string(DTypeName(matrix->dtype)),
                    "; they must be F32, F16 or BF16");
    }
  }
  const int64_t rank = pair.a.n_out;
  if (rank < 1 || rank != pair.b.n_in || rank > kMaxLoraRank) {
    return refuse("A has ", rank, " rows and B ", pair.b.n_in,
                  " columns; on a GPU both are one rank of at most ", kMaxLoraRank);
  }
  if (pair.a.n_in % 8 != 0 || pair.a.n_in < 8 || pair.b.n_out < 1) {
    return refuse("it has ", pair.a.n_in, " inputs; on a GPU they must be a multiple of 8");
  }
  return absl::OkStatus();
}

// Row `row` of a matrix of floats as bfloat16.
void RoundRow(const HostMatrix& matrix, int64_t row, std::vector<float>* scratch, uint16_t* to) {
  const int64_t from = RowInData(matrix, row);
  scratch->resize(static_cast<size_t>(matrix.n_in));
  Dequantize(matrix.dtype, matrix.data + from * RowBytes(matrix.dtype, matrix.n_in), matrix.n_in,
             scratch->data());
  for (size_t i = 0; i < scratch->size(); ++i) to[i] = FloatToBf16((*scratch)[i]);
}

StatusOr<std::vector<const HostLora*>> InOrder(std::span<const HostLora> pairs) {
  std::vector<const HostLora*> sorted;
  for (const HostLora& pair : pairs) {
    RETURN_IF_ERROR(CheckLoraPair(pair));
    sorted.push_back(&pair);
  }
  std::stable_sort(sorted.begin(), sorted.end(), [](const HostLora* x, const HostLora* y) {
    return x->layer != y->layer ? x->layer < y->layer : x->module < y->module;
  });
  return sorted;
}

}  // namespace

StatusOr<std::unique_ptr<CudaAdapter>> CudaAdapter::Make(std::span<const HostLora* const> sorted,
                                                         PinnedPool* pool) {
  auto adapter = std::make_unique<CudaAdapter>();
  size_t end = 0;
  const auto place = [&](int64_t values) {
    const size_t at = end;
    end += (static_cast<size_t>(values) * sizeof(uint16_t) + kMatrixAlignment - 1) / kMatrixAlignment *
           kMatrixAlignment;
    return at;
  };
  for (const HostLora* from : sorted) {
    Pair pair;
    pair.layer = from->layer;
    pair.module = from->module;
    pair.rank = static_cast<int>((from->a.n_out + kLoraRankStep - 1) / kLoraRankStep * kLoraRankStep);
    pair.n_in = from->a.n_in;
    pair.n_out = from->b.n_out;
    pair.scale = from->scale;
    pair.a = place(pair.rank * pair.n_in);
    pair.b = place(pair.rank * pair.n_out);
    adapter->pairs_.push_back(pair);
  }
  ASSIGN_OR_RETURN(adapter->memory_, pool->Take(end, "an adapter"));
  return adapter;
}

StatusOr<std::unique_ptr<CudaAdapter>> CudaAdapter::Pack(std::span<const HostLora> pairs, PinnedPool* pool) {
  ASSIGN_OR_RETURN(const std::vector<const HostLora*> sorted, InOrder(pairs));
  ASSIGN_OR_RETURN(std::unique_ptr<CudaAdapter> adapter, Make(sorted, pool));
  std::memset(adapter->memory_.data(), 0, adapter->memory_.bytes());
  std::vector<float> scratch;
  for (size_t i = 0; i < sorted.size(); ++i) {
    const Pair& pair = adapter->pairs_[i];
    const HostLora& from = *sorted[i];
    auto* const a = reinterpret_cast<uint16_t*>(adapter->memory_.As<uint8_t>() + pair.a);
    auto* const b = reinterpret_cast<uint16_t*>(adapter->memory_.As<uint8_t>() + pair.b);
    for (int64_t row = 0; row < from.a.n_out; ++row) RoundRow(from.a, row, &scratch, a + row * pair.n_in);
    for (int64_t row = 0; row < pair.n_out; ++row) RoundRow(from.b, row, &scratch, b + row * pair.rank);
  }
  return adapter;
}

StatusOr<std::unique_ptr<CudaAdapter>> CudaAdapter::Copy(std::span<const HostLora> pairs,
                                                         std::span<const uint8_t> weights, PinnedPool* pool) {
  ASSIGN_OR_RETURN(const std::vector<const HostLora*> sorted, InOrder(pairs));
  ASSIGN_OR_RETURN(std::unique_ptr<CudaAdapter> adapter, Make(sorted, pool));
  if (weights.size() != adapter->memory_.bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("a packed adapter of ", weights.size(),
                                                   " bytes; its pairs take ", adapter->memory_.bytes()));
  }
  std::memcpy(adapter->memory_.data(), weights.data(), weights.size());
  return adapter;
}

}  // namespace coterie::cuda
