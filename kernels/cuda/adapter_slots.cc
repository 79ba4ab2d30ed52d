#include "kernels/cuda/adapter_slots.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/memory.h"

namespace coterie::cuda {

namespace {

// The stream's pool holds on to what was freed, so that neither taking memory from it nor giving it back
// waits for the device: it gets it all at once here.
Status ReservePool(size_t bytes, cudaStream_t stream) {
  int device = 0;
  cudaMemPool_t pool = nullptr;
  RETURN_IF_ERROR(ToStatus(cudaGetDevice(&device), "the device"));
  RETURN_IF_ERROR(ToStatus(cudaDeviceGetDefaultMemPool(&pool, device), "the memory pool"));
  uint64_t keep = std::numeric_limits<uint64_t>::max();
  RETURN_IF_ERROR(
      ToStatus(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), "the memory pool"));
  if (bytes == 0) return absl::OkStatus();
  void* memory = nullptr;
  RETURN_IF_ERROR(
      AllocationStatus(cudaMallocAsync(&memory, bytes, stream), bytes, "device memory", "adapters"));
  RETURN_IF_ERROR(ToStatus(cudaFreeAsync(memory, stream), "memory of adapters"));
  return ToStatus(cudaStreamSynchronize(stream), "memory of adapters");
}

}  // namespace

StatusOr<std::unique_ptr<CudaAdapterSlots>> CudaAdapterSlots::Create(int n_slots, int n_layers,
                                                                     size_t reserved_bytes) {
  auto slots = std::unique_ptr<CudaAdapterSlots>(new CudaAdapterSlots(n_slots, n_layers));
  RETURN_IF_ERROR(ToStatus(cudaGetDevice(&slots->device_), "the device"));
  RETURN_IF_ERROR(
      ToStatus(cudaStreamCreateWithFlags(&slots->stream_, cudaStreamNonBlocking), "the stream of uploads"));
  for (Slot& slot : slots->slots_) {
    RETURN_IF_ERROR(
        ToStatus(cudaEventCreateWithFlags(&slot.arrived, cudaEventDisableTiming), "a slot's event"));
  }
  const size_t bytes = slots->TableBytes() * static_cast<size_t>(n_slots);
  ASSIGN_OR_RETURN(slots->table_, DeviceMemory::Allocate(bytes, "the table of adapters"));
  ASSIGN_OR_RETURN(slots->rows_, PinnedMemory::Allocate(bytes, "the table of adapters"));
  RETURN_IF_ERROR(ReservePool(reserved_bytes, slots->stream_));
  return slots;
}

CudaAdapterSlots::~CudaAdapterSlots() {
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  for (Slot& slot : slots_) {
    if (slot.memory != nullptr) cudaFreeAsync(slot.memory, stream_);
    if (slot.arrived != nullptr) cudaEventDestroy(slot.arrived);
  }
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void CudaAdapterSlots::Fill(int slot, std::shared_ptr<const PackedAdapter> adapter) {
  Slot& to = slots_.at(static_cast<size_t>(slot));
  COTERIE_CHECK(to.adapter == nullptr) << "slot " << slot << " is not empty";
  cudaSetDevice(device_);
  to.adapter = std::move(adapter);
  const Status copied = Copy(slot, static_cast<const CudaAdapter&>(*to.adapter));
  (absl::IsResourceExhausted(copied) ? to.error : status_).Update(copied);
}

Status CudaAdapterSlots::Copy(int slot, const CudaAdapter& from) {
  Slot& to = slots_[static_cast<size_t>(slot)];
  void* memory = nullptr;
  RETURN_IF_ERROR(AllocationStatus(cudaMallocAsync(&memory, from.bytes(), stream_), from.bytes(),
                                   "device memory", "an adapter"));
  to.memory = memory;
  const auto n_pairs = static_cast<size_t>(n_layers_) * kLoraModuleCount;
  LoraPair* const rows = rows_.As<LoraPair>() + static_cast<size_t>(slot) * n_pairs;
  std::fill_n(rows, n_pairs, LoraPair{});
  for (const CudaAdapter::Pair& pair : from.pairs()) {
    COTERIE_CHECK_LT(pair.layer, n_layers_) << "layer of an adapter";
    const auto at = [&](size_t offset) {
      return reinterpret_cast<const uint16_t*>(static_cast<const uint8_t*>(to.memory) + offset);
    };
    rows[pair.layer * kLoraModuleCount + static_cast<int>(pair.module)] = {at(pair.a), at(pair.b), pair.rank,
                                                                           pair.scale};
  }
  LoraPair* const table = table_.As<LoraPair>() + static_cast<size_t>(slot) * n_pairs;
  const auto copy = [&](void* device, const void* host, size_t bytes) {
    return ToStatus(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_),
                    "an adapter's upload");
  };
  RETURN_IF_ERROR(copy(to.memory, from.weights().data(), from.bytes()));
  RETURN_IF_ERROR(copy(table, rows, TableBytes()));
  return ToStatus(cudaEventRecord(to.arrived, stream_), "an adapter's upload");
}

bool CudaAdapterSlots::Ready(int slot) const {
  // A lost device is ready at once: the next step then says what happened.
  return !IsPending(slots_.at(static_cast<size_t>(slot)).arrived);
}

void CudaAdapterSlots::Clear(int slot) {
  Slot& from = slots_.at(static_cast<size_t>(slot));
  cudaSetDevice(device_);
  // An upload that was given up may still read the adapter: the last owner must not free it before.
  if (IsPending(from.arrived)) cudaEventSynchronize(from.arrived);
  if (from.memory != nullptr) cudaFreeAsync(from.memory, stream_);
  from.memory = nullptr;
  from.error = absl::OkStatus();
  from.adapter.reset();
}

}  // namespace coterie::cuda
