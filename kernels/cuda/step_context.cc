#include "kernels/cuda/step_context.h"

#include <algorithm>

namespace coterie::cuda {

StatusOr<std::unique_ptr<CudaSeats>> CudaSeats::Create(const SeatLimits& limits) {
  auto seats = std::unique_ptr<CudaSeats>(new CudaSeats(limits));
  const auto n_ids = static_cast<size_t>(limits.n_seats) * static_cast<size_t>(limits.max_blocks);
  ASSIGN_OR_RETURN(seats->table, DeviceMemory::Allocate(n_ids * sizeof(int32_t), "the block table"));
  RETURN_IF_ERROR(SetToZero(seats->table.data(), seats->table.bytes(), "the block table"));
  const size_t counts_bytes = TokenCountsBytes(limits.n_seats, limits.vocab_size);
  ASSIGN_OR_RETURN(seats->counts, DeviceMemory::Allocate(counts_bytes, "token counts"));
  RETURN_IF_ERROR(SetToZero(seats->counts.data(), counts_bytes, "token counts"));
  return seats;
}

StatusOr<std::unique_ptr<CudaStep>> CudaStep::Create(const StepLimits& limits, const StepRoom& room,
                                                     AttentionItems items) {
  auto step = std::unique_ptr<CudaStep>(new CudaStep(limits, std::move(items)));
  const size_t bytes = StepLayout(room).bytes();
  for (Staging& staging : step->staging_) {
    ASSIGN_OR_RETURN(staging.memory, PinnedMemory::Allocate(bytes, "the data of a step"));
    RETURN_IF_ERROR(ToStatus(cudaEventCreateWithFlags(&staging.copied, cudaEventDisableTiming), "an event"));
  }
  ASSIGN_OR_RETURN(step->region, DeviceMemory::Allocate(bytes, "the data of a step"));
  RETURN_IF_ERROR(ToStatus(cudaEventCreateWithFlags(&step->done, cudaEventDisableTiming), "an event"));
  if (limits.vocab_size == 0) return step;
  ASSIGN_OR_RETURN(step->sampling, StepSampling::Create(limits));
  ASSIGN_OR_RETURN(step->sampling_data,
                   PinnedMemory::Allocate(StepSampling::DataBytes(limits), "the sampling of a step"));
  return step;
}

CudaStep::~CudaStep() {
  if (done != nullptr) cudaEventDestroy(done);
  for (Staging& staging : staging_) {
    if (staging.copied == nullptr) continue;
    cudaEventSynchronize(staging.copied);
    cudaEventDestroy(staging.copied);
  }
}

uint8_t* CudaStep::NextStaging() {
  Staging& staging = staging_[++turn_ % staging_.size()];
  cudaEventSynchronize(staging.copied);
  return staging.memory.As<uint8_t>();
}

Status CudaStep::CopyStaging(size_t bytes, void* to, cudaStream_t stream) {
  Staging& staging = staging_[turn_ % staging_.size()];
  RETURN_IF_ERROR(ToStatus(cudaMemcpyAsync(to, staging.memory.data(), bytes, cudaMemcpyHostToDevice, stream),
                           "the data of a step"));
  return ToStatus(cudaEventRecord(staging.copied, stream), "the data of a step");
}

}  // namespace coterie::cuda
