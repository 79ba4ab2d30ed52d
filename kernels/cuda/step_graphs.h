#ifndef COTERIE_KERNELS_CUDA_STEP_GRAPHS_H_
#define COTERIE_KERNELS_CUDA_STEP_GRAPHS_H_

#include <cuda_runtime.h>

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "common/status.h"

namespace coterie::cuda {

// The captured steps of one stream. One thread.
class StepGraphs {
 public:
  // Whatever adapters the rows have, and how many of them: one graph.
  struct Key {
    int rows = 0;
    bool adapters = false;
    bool mixtures = false;  // of output distributions
    auto operator<=>(const Key&) const = default;
  };

  explicit StepGraphs(cudaStream_t stream) : stream_(stream) {}
  ~StepGraphs();
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;

  // The rows of the smallest graph that holds `rows`; 0: none does.
  int RowsOf(int rows) const;
  void SetMaxRows(int rows) { max_rows_ = rows; }

  // Begins the replay of the step's graph, or its capture where it was never seen.
  void Begin(const Key& key);
  // Launches it. Where no graph can be made of the capture, does the step's work without one, and makes none
  // again.
  Status End();

  bool capturing() const { return mode_ == Mode::kCapturing; }
  bool replaying() const { return mode_ == Mode::kReplaying; }
  // What was enqueued into the capture, to be done again without a graph.
  void Remember(std::function<void()> work) { work_.push_back(std::move(work)); }

 private:
  enum class Mode { kOff, kCapturing, kReplaying };
  StatusOr<cudaGraphExec_t> Capture();

  const cudaStream_t stream_;
  int max_rows_ = 0;
  Mode mode_ = Mode::kOff;
  Key key_;
  std::vector<std::function<void()>> work_;
  std::map<Key, cudaGraphExec_t> graphs_;
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_STEP_GRAPHS_H_
