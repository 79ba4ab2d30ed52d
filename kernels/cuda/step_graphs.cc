#include "kernels/cuda/step_graphs.h"

#include <algorithm>

#include "kernels/cuda/memory.h"

namespace coterie::cuda {

StepGraphs::~StepGraphs() {
  for (const auto& [key, graph] : graphs_) cudaGraphExecDestroy(graph);
}

int StepGraphs::RowsOf(int rows) const {
  // Products have tiles of eight rows; below that, a smaller batch reads fewer activations.
  const int rounded = rows <= 2 ? rows : rows <= 4 ? 4 : (rows + 7) / 8 * 8;
  return rows > max_rows_ ? 0 : std::min(rounded, max_rows_);
}

void StepGraphs::Begin(const Key& key) {
  key_ = key;
  if (graphs_.contains(key)) {
    mode_ = Mode::kReplaying;
    return;
  }
  // Other threads go on allocating meanwhile.
  if (cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal) == cudaSuccess)
    mode_ = Mode::kCapturing;
}

StatusOr<cudaGraphExec_t> StepGraphs::Capture() {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  RETURN_IF_ERROR(ToStatus(cudaStreamEndCapture(stream_, &graph), "capturing a step"));
  const cudaError_t error = cudaGraphInstantiate(&exec, graph, 0);
  cudaGraphDestroy(graph);
  RETURN_IF_ERROR(ToStatus(error, "making a graph of a step"));
  return exec;
}

Status StepGraphs::End() {
  const Mode mode = std::exchange(mode_, Mode::kOff);
  if (mode == Mode::kOff) return absl::OkStatus();
  if (mode == Mode::kCapturing) {
    const std::vector<std::function<void()>> work = std::exchange(work_, {});
    const StatusOr<cudaGraphExec_t> exec = Capture();
    if (!exec.ok()) {
      cudaGetLastError();
      max_rows_ = 0;
      for (const auto& again : work) again();
      return absl::OkStatus();
    }
    graphs_[key_] = *exec;
  }
  return ToStatus(cudaGraphLaunch(graphs_[key_], stream_), "launching a step");
}

}  // namespace coterie::cuda
