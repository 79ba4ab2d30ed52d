#ifndef COTERIE_KERNELS_CUDA_STEP_GRAPHS_H_
#define COTERIE_KERNELS_CUDA_STEP_GRAPHS_H_

#include <cuda_runtime.h>

#include <functional>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"

namespace coterie::cuda {

// The captured steps of one stream. One thread. Wherever memory is wanting for a graph, the step's work is
// done without one, and no graph is used again: the device is full.
class StepGraphs {
 public:
  // Whatever adapters the rows have, and how many of them: one graph.
  struct Key {
    int rows = 0;
    bool adapters = false;
    bool mixtures = false;  // of output distributions
    auto operator<=>(const Key&) const = default;
  };

  // `log` is told when graphs are given up; may be null.
  StepGraphs(cudaStream_t stream, std::function<void(std::string_view)> log)
      : stream_(stream), log_(std::move(log)) {}
  ~StepGraphs();
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;

  // The rows of the smallest graph that holds `rows`; 0: none does.
  int RowsOf(int rows) const;
  void SetMaxRows(int rows) { max_rows_ = rows; }

  // Begins the replay of the step's graph, or its capture where it was never seen. The error of a launch
  // before, if any: what follows could take it for its own.
  Status Begin(const Key& key);
  // Launches the graph, or does the step's work without one.
  Status End();

  bool capturing() const { return mode_ == Mode::kCapturing; }
  bool replaying() const { return mode_ == Mode::kReplaying; }
  // What was enqueued into the capture, to be done again without a graph.
  void Remember(std::function<void()> work) { work_.push_back(std::move(work)); }

 private:
  enum class Mode { kOff, kCapturing, kReplaying };
  using Work = std::vector<std::function<void()>>;
  struct Graph {
    cudaGraphExec_t exec = nullptr;
    Work work;  // the same: the first launch of a graph takes memory, and so may a later one
  };
  StatusOr<cudaGraphExec_t> Capture();
  // No step is a graph any more.
  void GiveUp(const Status& why);
  void DoWithout(const Work& work, const Status& why);

  const cudaStream_t stream_;
  const std::function<void(std::string_view)> log_;
  int max_rows_ = 0;
  Mode mode_ = Mode::kOff;
  Key key_;
  Work work_;
  std::map<Key, Graph> graphs_;
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_STEP_GRAPHS_H_
