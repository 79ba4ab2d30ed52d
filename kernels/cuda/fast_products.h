#ifndef COTERIE_KERNELS_CUDA_FAST_PRODUCTS_H_
#define COTERIE_KERNELS_CUDA_FAST_PRODUCTS_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "common/mutex.h"
#include "common/status.h"
#include "kernels/cuda/matrix.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/vendor_product.h"

namespace coterie::cuda {

struct FastProductsOptions {
  // Products of fewer rows are linear.cu's. 0: where these begin to pay, which depends on the form of the
  // weights (FewestRows).
  int fewest_rows = 0;
  // Most device memory for weights that are unpacked at a time; at least one strip of 16 outputs is.
  size_t unpack_bytes = size_t{256} << 20;
};

// Products of many rows by cuBLASLt: faster than linear_large.cu, but with sums in an order of its own, so
// that a prompt's rows do not get the bits that they would get one at a time. Weights are rounded to
// bfloat16: of BF16 and F32, rows of those lie there already; all others are unpacked first, into memory that
// all products share.
//
// Each shape of weights has one algorithm for any number of rows, chosen when the weights are packed: the
// library's first for kCanonicalRows that sums K in one pass. So the bits of a product depend on the
// library's version and the device; on the number of rows as far as its maker lets them.
//
// Run: one thread, the step's. Prepare: any.
class FastProducts {
 public:
  static constexpr int kCanonicalRows = 1024;
  // What its maker recommends for Hopper.
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  // On the current device, for products on `stream`. The errors are VendorHandle::Open's.
  static StatusOr<std::unique_ptr<FastProducts>> Open(const FastProductsOptions& options, int n_processors,
                                                      cudaStream_t stream);

  std::string Version() const { return handle_->library().Version(); }

  // Device memory for weights of up to [max_output, max_input].
  size_t MemoryBytes(int64_t max_output, int64_t max_input) const;
  // Allocates it, once; before any step. ResourceExhausted naming what was not there.
  Status Reserve(int64_t max_output, int64_t max_input) ABSL_LOCKS_EXCLUDED(mutex_);
  // Chooses the algorithms for the products of `w` and runs each once, so that the library loads its kernels
  // now and not in a step. FailedPrecondition naming the shape that it has none for.
  Status Prepare(const CudaMatrix& w) ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether a product with so many rows is computed here. Rows that are no multiple of 16 bytes never are.
  bool Takes(int rows, const WeightSegment& w) const;
  // Enqueues y[:, w.first_out ...] = x [rows, w.n_in] · wᵀ (+ bias of all outputs of the matrix; null: none),
  // or += that; y is [rows, y_pitch]. x and y are aligned as allocations are. What fails is told by
  // TakeError.
  void Run(const uint16_t* x, int rows, const WeightSegment& w, const float* bias, bool accumulate, float* y,
           int64_t y_pitch) ABSL_LOCKS_EXCLUDED(mutex_);
  // The first error of Run since the last call.
  Status TakeError() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Outputs, inputs, pitches of w and y, bytes that w and y are aligned to.
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, uint32_t, uint32_t>;
  struct Plan {
    std::unique_ptr<VendorProduct> product;
    VendorLibrary::Proposal algorithm;
  };
  // Outputs that are multiplied at a time: as many in each piece, but for the last.
  struct Piece {
    int64_t first_out = 0, n_out = 0;
  };

  FastProducts(const FastProductsOptions& options, int n_processors, cudaStream_t stream)
      : options_(options), n_processors_(n_processors), stream_(stream) {}
  int64_t OutputsOfPiece(const WeightSegment& w) const;
  size_t UnpackBytes(int64_t max_output, int64_t max_input) const;
  Status ReserveLocked(size_t unpack_bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Status PrepareSegmentLocked(const WeightSegment& w, int64_t y_pitch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  StatusOr<Plan> MakePlanLocked(const Key& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Computes it once, for whatever these weights are.
  Status TryLocked(const Key& key, const Plan& plan, const void* weights)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Status RunLocked(const uint16_t* x, int rows, const WeightSegment& w, const float* bias, bool accumulate,
                   float* y, int64_t y_pitch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Status RunPieceLocked(const uint16_t* x, int rows, const WeightSegment& w, const Piece& piece,
                        bool accumulate, float* y, int64_t y_pitch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Piece PieceFrom(const WeightSegment& w, int64_t first_out) const;
  static Key KeyOf(const WeightSegment& w, const Piece& piece, int64_t y_pitch);

  const FastProductsOptions options_;
  const int n_processors_;
  const cudaStream_t stream_;
  std::unique_ptr<VendorHandle> handle_;
  Mutex mutex_;  // a step meets nobody there but a load
  std::map<Key, Plan> plans_ ABSL_GUARDED_BY(mutex_);
  DeviceMemory workspace_ ABSL_GUARDED_BY(mutex_);
  DeviceMemory unpacked_ ABSL_GUARDED_BY(mutex_);
  Status error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_FAST_PRODUCTS_H_
