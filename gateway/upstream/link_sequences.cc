#include "gateway/upstream/link_sequences.h"

#include <algorithm>

#include "coterie/v1/worker.pb.h"

namespace coterie::gateway {

void LinkSequences::Add(uint64_t id, const SequenceRequest& request,
                        std::shared_ptr<SequenceObserver> observer) {
  const uint32_t position = static_cast<uint32_t>(request.resume_ids.size());
  entries_[id] = {std::move(observer), position, position + request.credit,
                  request.prompt_logprobs_from.has_value()};
}

bool LinkSequences::Grant(uint64_t id, uint32_t tokens) {
  const auto it = entries_.find(id);
  if (it == entries_.end()) return false;
  it->second.credit_until += tokens;
  return true;
}

size_t LinkSequences::n_active() const {
  return static_cast<size_t>(std::count_if(entries_.begin(), entries_.end(), [](const auto& entry) {
    return entry.second.next_position < entry.second.credit_until;
  }));
}

std::shared_ptr<SequenceObserver> LinkSequences::Follow(const SequenceOutput& output) {
  const auto it = entries_.find(output.sequence_id);
  if (it == entries_.end()) return nullptr;
  const uint32_t end = output.position + static_cast<uint32_t>(output.token_ids.size());
  it->second.next_position = std::max(it->second.next_position, end);
  std::shared_ptr<SequenceObserver> observer = it->second.observer;
  if (output.finish != FinishReason::kNone) entries_.erase(it);
  return observer;
}

Observed LinkSequences::All() const {
  Observed observers;
  for (const auto& [id, entry] : entries_) observers.emplace_back(id, entry.observer);
  return observers;
}

Observed LinkSequences::TakeAll() {
  Observed observers;
  for (auto& [id, entry] : entries_) observers.emplace_back(id, std::move(entry.observer));
  entries_.clear();
  return observers;
}

Observed LinkSequences::Reattach(v1::Reattach* message, Observed* start_over) {
  Observed reattached;
  for (auto it = entries_.begin(); it != entries_.end();) {
    const auto here = it++;
    auto& [id, entry] = *here;
    if (entry.starts_over) {
      start_over->emplace_back(id, std::move(entry.observer));
      entries_.erase(here);
      continue;
    }
    v1::Reattach::Position* position = message->add_sequences();
    position->set_sequence_id(id);
    position->set_next_position(entry.next_position);
    position->set_credit(entry.credit_until - std::min(entry.credit_until, entry.next_position));
    reattached.emplace_back(id, entry.observer);
  }
  return reattached;
}

}  // namespace coterie::gateway
