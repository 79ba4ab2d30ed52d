#ifndef COTERIE_TESTS_BENCH_GPU_MODEL_H_
#define COTERIE_TESTS_BENCH_GPU_MODEL_H_

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/decoder/decoder.h"
#include "tests/bench/bench_device.h"
#include "tests/bench/made_model.h"

namespace coterie::bench {

struct GpuModelSizes {
  int max_batch = 64;
  int context = 512;        // of every sequence when decoding begins
  int max_steps = 64;       // of decode after it
  int prompt_tokens = 0;    // longest prompt that is measured; 0: none
  int chunk_tokens = 2048;  // of a prompt in one step
  size_t adapter_bytes = 0;
};

// A decoder over the first layers of a made base, and sequences that decode on it: all begin with a context
// of the same length, which is computed once and decoded from again and again.
class GpuModel {
 public:
  static StatusOr<std::unique_ptr<GpuModel>> Make(MadeModel* base, int n_layers,
                                                  const CudaBackendOptions& options,
                                                  const GpuModelSizes& sizes, BenchDevice* device);

  // Makes `n` adapters of each rank, and fills their slots.
  Status AddAdapters(const std::vector<int>& ranks, int n);
  // Slots of `n` adapters, of these ranks in turn.
  std::vector<int> SlotsOf(const std::vector<int>& ranks, int n) const;

  // Seconds of each of `n_steps` steps of decode, sequence i under the adapter in slots[i % slots.size()], if
  // any: what the wall clock says for all of them, divided. Two steps are in flight where the device works
  // by itself. `marks`: a mark on the device's clock behind each step.
  struct Decoded {
    double seconds_per_step = 0;
    int n_fed = 0;  // steps that were there before the device had finished the one before (only with marks)
  };
  StatusOr<Decoded> Decode(int batch, const std::vector<int>& slots, int n_steps, bool marks = false);

  // Seconds of one prompt of `n_tokens`, in chunks, its last token sampled.
  StatusOr<double> Prefill(int n_tokens);

  // Seconds to bring the adapters of these slots to the device once more, and their bytes.
  struct Uploaded {
    double seconds = 0;
    size_t bytes = 0;
  };
  StatusOr<Uploaded> Upload(const std::vector<int>& slots);

  Decoder& decoder() { return *decoder_; }
  int n_layers() const { return decoder_->config().n_layers; }

 private:
  GpuModel(const GpuModelSizes& sizes, BenchDevice* device) : sizes_(sizes), device_(device) {}
  Status ComputeContexts();
  // Launches a step once there is room for it; waits until no more than `n_left` are in flight.
  Status Enqueue(const Batch& batch);
  Status CollectUntil(size_t n_left);
  // A prompt in chunks, on its own row of KV blocks; its last token is sampled.
  Status EnqueuePrompt(int seat, int n_tokens, int first_block, int n_blocks);
  Status FillSlot(int slot, std::shared_ptr<const PackedAdapter> adapter);
  int BlocksOfSequence() const;

  const GpuModelSizes sizes_;
  BenchDevice* const device_;
  std::unique_ptr<Decoder> decoder_;
  std::deque<StepTicket> in_flight_;
  std::vector<std::shared_ptr<const PackedAdapter>> adapters_;  // by slot
  std::map<int, std::vector<int>> slots_;                       // by rank
};

}  // namespace coterie::bench

#endif  // COTERIE_TESTS_BENCH_GPU_MODEL_H_
