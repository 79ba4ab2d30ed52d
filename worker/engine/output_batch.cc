#include "worker/engine/output_batch.h"

#include <iterator>
#include <utility>

#include "worker/engine/sequence.h"

namespace coterie {

OutputBatch::OutputBatch() = default;
OutputBatch::~OutputBatch() = default;
OutputBatch::OutputBatch(OutputBatch&&) noexcept = default;
OutputBatch& OutputBatch::operator=(OutputBatch&&) noexcept = default;

bool OutputBatch::empty() const {
  return steps == 0 && events.empty() && residency.empty() && prefixes.empty() && retired.empty() &&
         device_lost.ok();
}

void OutputBatch::Clear() {
  steps = 0;
  events.clear();
  logprobs.clear();
  residency.clear();
  prefixes.clear();
  retired.clear();
  device_lost = absl::OkStatus();
}

void OutputBatch::Reserve(int max_seqs) {
  constexpr size_t kSteps = 32;
  const size_t n = kSteps * static_cast<size_t>(max_seqs);
  events.reserve(n);
  logprobs.reserve(n);
  prefixes.reserve(n);
  residency.reserve(kSteps);
  retired.reserve(n);
}

void OutputBatch::Append(OutputBatch* later) {
  steps += later->steps;
  const uint32_t shift = static_cast<uint32_t>(logprobs.size());
  for (OutputEvent& event : later->events) {
    event.logprobs_begin += shift;
    events.push_back(std::move(event));
  }
  logprobs.insert(logprobs.end(), later->logprobs.begin(), later->logprobs.end());
  residency.insert(residency.end(), later->residency.begin(), later->residency.end());
  prefixes.insert(prefixes.end(), later->prefixes.begin(), later->prefixes.end());
  std::move(later->retired.begin(), later->retired.end(), std::back_inserter(retired));
  device_lost.Update(later->device_lost);
  later->Clear();
}

}  // namespace coterie
