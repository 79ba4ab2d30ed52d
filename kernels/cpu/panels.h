#ifndef COTERIE_KERNELS_CPU_PANELS_H_
#define COTERIE_KERNELS_CPU_PANELS_H_

#include <vector>

#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/device.h"

namespace coterie::cpu {

// Outputs [out_begin, out_begin + n_out) of a packed matrix, all of one panel kind.
struct PanelSegment {
  PanelKind kind = PanelKind::kF32;
  int64_t out_begin = 0;
  int64_t n_out = 0;
  uint8_t* panels = nullptr;  // [ceil(n_out / 16), PanelBytes(kind, n_in)]: in `owned`, or lent
  AlignedBuffer owned;

  int64_t n_panels() const { return (n_out + kPanelOutputs - 1) / kPanelOutputs; }
};

// A weight matrix in panels (kernel_table.h). Quantised weights stay quantised. Every value dequantises
// exactly as the file's format says: w = d·u + m with one rounding, which is what the two roundings of the
// reference give, d·u being exact (at most 11 + 7 + 5 significant bits).
class CpuMatrix final : public PackedMatrix {
 public:
  // Packs the parts into one matrix, their outputs side by side, on all cores. InvalidArgument naming the
  // part whose shape or row order is wrong, or the tensor and row that cannot be rounded; ResourceExhausted
  // naming the bytes that were not there.
  static StatusOr<std::unique_ptr<CpuMatrix>> Pack(std::span<const HostMatrix> parts);

  // The same in the caller's memory: LentBytes(parts) zero bytes on a 64-byte boundary, which must outlive
  // the matrix. There are three steps, so that a caller who lays out many matrices in one piece of memory
  // knows all sizes first, and may copy the bytes of an earlier Fill instead of calling it. The caller has
  // checked the parts (host_matrix.h), of which none is to be rounded. Only Fill reads their data.
  static int64_t LentBytes(std::span<const HostMatrix> parts);
  static std::unique_ptr<CpuMatrix> Over(std::span<const HostMatrix> parts, uint8_t* memory);
  void Fill(std::span<const HostMatrix> parts);

  int64_t n_out() const override { return n_out_; }
  int64_t n_in() const override { return n_in_; }
  size_t bytes() const override;
  bool quantised() const override { return any_quantised_; }

  const std::vector<PanelSegment>& segments() const { return segments_; }
  int64_t n_panels() const { return n_panels_; }
  bool any_float() const { return any_float_; }

  // Row `row` [n_in], dequantised.
  void DequantiseRow(int64_t row, float* to) const;

 private:
  explicit CpuMatrix(std::span<const HostMatrix> parts);  // segments without memory
  int64_t SegmentBytes(const PanelSegment& segment) const {
    return segment.n_panels() * PanelBytes(segment.kind, n_in_);
  }
  // Writes panels [first, last) of a segment.
  Status FillPanels(std::span<const HostMatrix> parts, const PanelSegment& segment, int64_t first,
                    int64_t last) const;

  int64_t n_out_ = 0;
  int64_t n_in_ = 0;
  int64_t n_panels_ = 0;
  bool any_quantised_ = false;
  bool any_float_ = false;
  std::vector<PanelSegment> segments_;
};

// The panel kind a file's type is packed into.
PanelKind PanelKindOf(DType dtype);

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_PANELS_H_
