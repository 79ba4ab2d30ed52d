#ifndef COTERIE_KERNELS_DEVICE_H_
#define COTERIE_KERNELS_DEVICE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/memory.h"
#include "common/status.h"
#include "kernels/dtype.h"

namespace coterie {

// kExact: float32 activations over dequantised weights, float32 KV: the mode compared with references.
// kFast: int8 activations over quantised weights, adapters beside them in 8 bits, bfloat16 KV: the mode that
// serves; its loss is measured.
enum class NumericsMode : uint8_t { kExact, kFast };

// A weight matrix [n_out, n_in] as it stands in a file: rows in blocks of `dtype`, row-major.
struct HostMatrix {
  DType dtype = DType::kF32;
  int64_t n_out = 0;
  int64_t n_in = 0;
  const uint8_t* data = nullptr;  // borrowed until packed; may be unaligned
  // Source row of each output row, or empty for the identity. Undoes the row permutation that GGUF files of
  // the llama family carry on Q and K.
  std::vector<int32_t> row_order;
  // A type that a matrix of floats is rounded to while it is packed (formats/quantize.h). Without, it stays
  // of its type.
  std::optional<DType> rounded_to = std::nullopt;
  std::string_view name = {};  // of the tensor, for errors; borrowed like `data`, may be empty

  DType packed_dtype() const { return rounded_to.value_or(dtype); }
};

// A matrix packed for the device, immutable; owned by whoever packed it and freed with the last reference.
class PackedMatrix {
 public:
  virtual ~PackedMatrix() = default;
  virtual int64_t n_out() const = 0;
  virtual int64_t n_in() const = 0;
  virtual size_t bytes() const = 0;  // device memory held
  // Whether any part of it is of a quantised type: the fast mode then quantises this product's activations.
  virtual bool quantised() const = 0;
};

// A plain float32 vector on the device: norm weights, biases, RoPE tables.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual float* data() const = 0;  // device pointer
  virtual size_t n_floats() const = 0;
};

// Memory that something will take.
struct MemoryDemand {
  std::string what;
  uint64_t bytes = 0;
  bool at_start = true;  // else with use, up to `bytes`
  std::string remedy;    // the option that makes it smaller
};

// A device as model loading sees it: its name, its memory, packing. The ops are in decoder_ops.h and
// encoder_ops.h; all three are interfaces without data, so one backend may implement several of them.
//
// Pointers named *_dev are device memory (host memory on the CPU). Activations are float32, row-major. Ops
// are enqueued in order; on the CPU they have finished when they return. Their order of operations is fixed
// by docs/numerics.md, so that a row's result never depends on the other rows of the batch, on how a prompt
// was cut into chunks, or on the number of threads. A wrong size is a bug of the caller: ops CHECK sizes and
// return no errors, so that nothing fails inside the step loop.
//
// Any thread may allocate and pack, before or beside steps; never inside one.
class Device {
 public:
  virtual ~Device() = default;

  virtual NumericsMode mode() const = 0;
  // Everything that can change a bit of the result: "cpu/4 fast a32 kv=bf16" and the like. Part of the
  // worker's numerics class.
  virtual std::string numerics_class() const = 0;
  // Whether a row's bits depend on nothing but its own sequence. Where they do not, a sequence that goes on
  // at another worker of the same class goes on with the same text, and is told so.
  virtual bool batch_invariant() const { return false; }
  virtual std::string device_name() const = 0;

  // How much more memory can be allocated.
  virtual MemoryRoom Room() const = 0;

  enum class Pages : uint8_t { kNow, kWhenUsed };
  // kNow fetches all pages in the call. kWhenUsed leaves each page to the first write to it: memory that is
  // never written costs nothing, and a first write takes longer.
  virtual StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(size_t n_floats, Pages pages = Pages::kNow) = 0;
  virtual StatusOr<std::unique_ptr<DeviceBuffer>> Upload(std::span<const float> values) = 0;
  // Packs `parts` into one matrix, their outputs side by side. All have the same n_in; dtypes may differ.
  // InvalidArgument names a part that cannot be rounded as it asks, Unimplemented one that this device does
  // not round.
  virtual StatusOr<std::unique_ptr<PackedMatrix>> PackMatrix(std::span<const HostMatrix> parts) = 0;
  // Bytes of device memory that such a matrix takes, packed.
  virtual size_t MatrixBytes(DType dtype, int64_t n_out, int64_t n_in) const = 0;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_DEVICE_H_
