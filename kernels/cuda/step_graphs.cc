#include "kernels/cuda/step_graphs.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/memory.h"

namespace coterie::cuda {

StepGraphs::~StepGraphs() {
  for (const auto& [key, graph] : graphs_) cudaGraphExecDestroy(graph.exec);
}

int StepGraphs::RowsOf(int rows) const {
  // Products have tiles of eight rows; below that, a smaller batch reads fewer activations.
  const int rounded = rows <= 2 ? rows : rows <= 4 ? 4 : (rows + 7) / 8 * 8;
  return rows > max_rows_ ? 0 : std::min(rounded, max_rows_);
}

Status StepGraphs::Begin(const Key& key) {
  key_ = key;
  const Status before = ToStatus(cudaGetLastError(), "a step");
  // Other threads go on allocating meanwhile.
  if (graphs_.contains(key)) {
    mode_ = Mode::kReplaying;
  } else {
    const Status begun =
        ToStatus(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capturing a step");
    mode_ = begun.ok() ? Mode::kCapturing : Mode::kOff;
    if (!begun.ok()) GiveUp(begun);
  }
  return before;
}

StatusOr<cudaGraphExec_t> StepGraphs::Capture() {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  RETURN_IF_ERROR(ToStatus(cudaStreamEndCapture(stream_, &graph), "capturing a step"));
  const Status made = ToStatus(cudaGraphInstantiate(&exec, graph, 0), "making a graph of a step");
  cudaGraphDestroy(graph);
  RETURN_IF_ERROR(made);
  return exec;
}

void StepGraphs::GiveUp(const Status& why) {
  max_rows_ = 0;
  if (log_) log_(absl::StrCat("steps run without CUDA graphs from now on, and slower: ", why.message()));
}

void StepGraphs::DoWithout(const Work& work, const Status& why) {
  GiveUp(why);
  for (const auto& again : work) again();
}

Status StepGraphs::End() {
  const Mode mode = std::exchange(mode_, Mode::kOff);
  if (mode == Mode::kOff) return absl::OkStatus();
  if (mode == Mode::kCapturing) {
    Work work = std::exchange(work_, {});
    const StatusOr<cudaGraphExec_t> exec = Capture();
    if (!exec.ok()) {
      DoWithout(work, exec.status());
      return absl::OkStatus();
    }
    graphs_[key_] = {*exec, std::move(work)};
  }
  const Graph& graph = graphs_[key_];
  const Status launched = ToStatus(cudaGraphLaunch(graph.exec, stream_), "launching a step");
  if (!absl::IsResourceExhausted(launched)) return launched;
  DoWithout(graph.work, launched);
  return absl::OkStatus();
}

}  // namespace coterie::cuda
