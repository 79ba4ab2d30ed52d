#include "kernels/cuda/fast_products.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "kernels/cuda/fast_kernels.h"
#include "kernels/cuda/ops.h"

namespace coterie::cuda {
namespace {

// Where the library begins to pay, computed for an H200; tests/gpu/check measures. linear_large.cu takes some
// 7 fs for each weight and row (about half of what mma.sync could do), twice that for two planes; the library
// about
// 3. Unpacking moves some 4.6 bytes a weight, about 1 ps, whatever the number of rows; 6 bytes of F16.
int FewestRows(WeightForm form) {
  if (IsRowMajor(form)) return kSmallRows + 1;
  return form == WeightForm::kF16 ? 128 : 256;
}
// Strips of a piece are a multiple of that: tiles of the library are up to 256 outputs.
constexpr int64_t kPieceStrips = 16;
// Rows of one call. A head of 262,144 outputs then has 2^30 results: some algorithms count those in 32 bits.
constexpr int kMostRows = 4096;

// Of an address or an offset, as far as allocations are aligned.
uint32_t AlignmentOf(uint64_t bytes) {
  uint32_t alignment = 256;
  while (bytes % alignment != 0) alignment /= 2;
  return alignment;
}

}  // namespace

StatusOr<std::unique_ptr<FastProducts>> FastProducts::Open(const FastProductsOptions& options,
                                                           int n_processors, cudaStream_t stream) {
  auto products = std::unique_ptr<FastProducts>(new FastProducts(options, n_processors, stream));
  ASSIGN_OR_RETURN(products->handle_, VendorHandle::Open());
  return products;
}

size_t FastProducts::UnpackBytes(int64_t max_output, int64_t max_input) const {
  constexpr WeightForm kAnyInRecords = WeightForm::kCodes8;
  const auto strip_bytes =
      static_cast<size_t>(PaddedInputs(kAnyInRecords, max_input)) * kStripOutputs * sizeof(uint16_t);
  return std::max(strip_bytes,
                  std::min(options_.unpack_bytes, static_cast<size_t>(Strips(max_output)) * strip_bytes));
}

size_t FastProducts::MemoryBytes(int64_t max_output, int64_t max_input) const {
  return kWorkspaceBytes + UnpackBytes(max_output, max_input);
}

Status FastProducts::Reserve(int64_t max_output, int64_t max_input) {
  const MutexLock lock(&mutex_);
  return ReserveLocked(UnpackBytes(max_output, max_input));
}

Status FastProducts::ReserveLocked(size_t unpack_bytes) {
  if (workspace_.bytes() == 0) {
    ASSIGN_OR_RETURN(workspace_, DeviceMemory::Allocate(kWorkspaceBytes, "the workspace of cuBLASLt"));
  }
  if (unpacked_.bytes() < unpack_bytes) {
    unpacked_ = DeviceMemory();  // both at once might not fit
    ASSIGN_OR_RETURN(unpacked_, DeviceMemory::Allocate(unpack_bytes, "weights that are unpacked"));
  }
  return absl::OkStatus();
}

int64_t FastProducts::OutputsOfPiece(const WeightSegment& w) const {
  if (IsRowMajor(w.form)) return w.n_out;
  const auto strip_bytes = UnpackedPitch(w) * int64_t{kStripOutputs} * int64_t{sizeof(uint16_t)};
  const int64_t n_strips = Strips(w.n_out);
  const int64_t most = std::max<int64_t>(1, static_cast<int64_t>(options_.unpack_bytes) / strip_bytes);
  if (most >= n_strips) return w.n_out;
  // Pieces of one size, so that no small one is left over, in which most multiprocessors would stand idle.
  const int64_t n_pieces = (n_strips + most - 1) / most;
  int64_t strips = (n_strips + n_pieces - 1) / n_pieces;
  const int64_t whole_tiles = (strips + kPieceStrips - 1) / kPieceStrips * kPieceStrips;
  if (whole_tiles <= most) strips = whole_tiles;
  return strips * kStripOutputs;
}

FastProducts::Piece FastProducts::PieceFrom(const WeightSegment& w, int64_t first_out) const {
  return {first_out, std::min(OutputsOfPiece(w), w.n_out - first_out)};
}

FastProducts::Key FastProducts::KeyOf(const WeightSegment& w, const Piece& piece, int64_t y_pitch) {
  const int64_t w_pitch = IsRowMajor(w.form) ? PaddedInputs(w.form, w.n_in) : UnpackedPitch(w);
  const uint32_t w_alignment = IsRowMajor(w.form) ? AlignmentOf(reinterpret_cast<uintptr_t>(w.codes)) : 256;
  const auto y_bytes = static_cast<uint64_t>(w.first_out + piece.first_out) * sizeof(float);
  return {piece.n_out, w.n_in, w_pitch, y_pitch, w_alignment, AlignmentOf(y_bytes)};
}

Status FastProducts::Prepare(const CudaMatrix& w) {
  const MutexLock lock(&mutex_);
  for (const WeightSegment& segment : w.segments()) {
    RETURN_IF_ERROR(PrepareSegmentLocked(segment, w.n_out()));
  }
  return absl::OkStatus();
}

Status FastProducts::PrepareSegmentLocked(const WeightSegment& w, int64_t y_pitch) {
  if (!Takes(std::numeric_limits<int>::max(), w)) return absl::OkStatus();
  RETURN_IF_ERROR(ReserveLocked(IsRowMajor(w.form) ? 0 : UnpackBytes(w.n_out, w.n_in)));
  for (int64_t first = 0; first < w.n_out;) {
    const Piece piece = PieceFrom(w, first);
    first += piece.n_out;
    const Key key = KeyOf(w, piece, y_pitch);
    if (plans_.contains(key)) continue;
    ASSIGN_OR_RETURN(Plan plan, MakePlanLocked(key));
    RETURN_IF_ERROR(TryLocked(key, plan, IsRowMajor(w.form) ? w.codes : unpacked_.data()));
    plans_.emplace(key, std::move(plan));
  }
  return absl::OkStatus();
}

StatusOr<FastProducts::Plan> FastProducts::MakePlanLocked(const Key& key) {
  const auto& [n, k, w_pitch, y_pitch, w_alignment, y_alignment] = key;
  Plan plan;
  VendorProduct::Shape shape;
  shape.n = n;
  shape.k = k;
  shape.w_pitch = w_pitch;
  shape.x_pitch = k;
  shape.y_pitch = y_pitch;
  shape.float_y = true;
  shape.w_alignment = w_alignment;
  shape.y_alignment = y_alignment;
  ASSIGN_OR_RETURN(plan.product, VendorProduct::Create(handle_.get(), shape));
  VendorProduct::Terms terms;
  terms.m = kCanonicalRows;
  terms.workspace_bytes = kWorkspaceBytes;
  terms.one_pass = true;
  terms.most = 16;
  ASSIGN_OR_RETURN(const std::vector<VendorLibrary::Proposal> proposals, plan.product->Propose(terms));
  for (const VendorLibrary::Proposal& proposal : proposals) {
    const auto fits = [&](int64_t m) { return plan.product->Fits(proposal, m, kWorkspaceBytes); };
    if (!fits(kSmallRows + 1) || !fits(kMostRows)) continue;
    plan.algorithm = proposal;
    return plan;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("cuBLASLt ", Version(), " has no algorithm for products with weights of [", n, ", ", k,
                   "] that sums in one pass; use --gpu-prefill=invariant"));
}

Status FastProducts::TryLocked(const Key& key, const Plan& plan, const void* weights) {
  const auto& [n, k, w_pitch, y_pitch, w_alignment, y_alignment] = key;
  constexpr int kRows = kSmallRows + 1;
  const auto n_floats = static_cast<size_t>((kRows - 1) * y_pitch + n);
  ASSIGN_OR_RETURN(const DeviceMemory y, DeviceMemory::Allocate(n_floats * sizeof(float), "a first product"));
  ASSIGN_OR_RETURN(const DeviceMemory x,
                   DeviceMemory::Allocate(static_cast<size_t>(kRows * k) * sizeof(uint16_t),
                                          "the rows of a first product"));
  RETURN_IF_ERROR(plan.product->Run(plan.algorithm, kRows, x.data(), weights, false, y.data(),
                                    workspace_.data(), kWorkspaceBytes, stream_));
  return ToStatus(cudaStreamSynchronize(stream_), "a first product of cuBLASLt");
}

bool FastProducts::Takes(int rows, const WeightSegment& w) const {
  if (w.n_in % 8 != 0) return false;
  return rows >= (options_.fewest_rows > 0 ? options_.fewest_rows : FewestRows(w.form));
}

void FastProducts::Run(const uint16_t* x, int rows, const WeightSegment& w, const float* bias,
                       bool accumulate, float* y, int64_t y_pitch) {
  const MutexLock lock(&mutex_);
  error_.Update(RunLocked(x, rows, w, bias, accumulate, y, y_pitch));
}

Status FastProducts::RunLocked(const uint16_t* x, int rows, const WeightSegment& w, const float* bias,
                               bool accumulate, float* y, int64_t y_pitch) {
  if (bias != nullptr) {
    AddBias(bias + w.first_out, rows, w.n_out, accumulate, y + w.first_out, y_pitch, stream_);
    accumulate = true;
  }
  for (int64_t first = 0; first < w.n_out;) {
    const Piece piece = PieceFrom(w, first);
    first += piece.n_out;
    RETURN_IF_ERROR(
        RunPieceLocked(x, rows, w, piece, accumulate, y + w.first_out + piece.first_out, y_pitch));
  }
  return absl::OkStatus();
}

Status FastProducts::RunPieceLocked(const uint16_t* x, int rows, const WeightSegment& w, const Piece& piece,
                                    bool accumulate, float* y, int64_t y_pitch) {
  const auto plan = plans_.find(KeyOf(w, piece, y_pitch));
  COTERIE_CHECK(plan != plans_.end()) << "a matrix that was not prepared";
  const auto* weights = reinterpret_cast<const uint16_t*>(w.codes);
  if (!IsRowMajor(w.form)) {
    weights = unpacked_.As<uint16_t>();
    UnpackStrips(w, piece.first_out / kStripOutputs, Strips(piece.n_out), unpacked_.As<uint16_t>(),
                 n_processors_, stream_);
  }
  for (int row = 0; row < rows; row += kMostRows) {
    RETURN_IF_ERROR(plan->second.product->Run(plan->second.algorithm, std::min(kMostRows, rows - row),
                                              x + row * w.n_in, weights, accumulate, y + row * y_pitch,
                                              workspace_.data(), kWorkspaceBytes, stream_));
  }
  return absl::OkStatus();
}

Status FastProducts::TakeError() {
  const MutexLock lock(&mutex_);
  return std::exchange(error_, absl::OkStatus());
}

}  // namespace coterie::cuda
