#include "gateway/upstream/link_sequences.h"

#include <algorithm>

#include "coterie/v1/worker.pb.h"

namespace coterie::gateway {

void LinkSequences::Add(uint64_t id, const SequenceRequest& request,
                        std::shared_ptr<SequenceObserver> observer) {
  (void)Remove(id);
  const uint32_t position = static_cast<uint32_t>(request.resume_ids.size());
  const Entry& entry = entries_[id] = {std::move(observer), position, position + request.initial_credit,
                                       request.prompt_logprobs_from.has_value()};
  n_active_ += entry.active() ? 1 : 0;
}

bool LinkSequences::Remove(uint64_t id) {
  const auto it = entries_.find(id);
  if (it == entries_.end()) return false;
  n_active_ -= it->second.active() ? 1 : 0;
  entries_.erase(it);
  return true;
}

bool LinkSequences::Grant(uint64_t id, uint32_t tokens) {
  const auto it = entries_.find(id);
  if (it == entries_.end()) return false;
  n_active_ -= it->second.active() ? 1 : 0;
  it->second.credit_until += tokens;
  n_active_ += it->second.active() ? 1 : 0;
  return true;
}

std::shared_ptr<SequenceObserver> LinkSequences::Follow(const SequenceOutput& output) {
  const auto it = entries_.find(output.sequence_id);
  if (it == entries_.end()) return nullptr;
  Entry& entry = it->second;
  n_active_ -= entry.active() ? 1 : 0;
  const uint32_t end = output.position + static_cast<uint32_t>(output.token_ids.size());
  entry.next_position = std::max(entry.next_position, end);
  std::shared_ptr<SequenceObserver> observer = entry.observer;
  if (output.finish != FinishReason::kNone) {
    entries_.erase(it);
  } else {
    n_active_ += entry.active() ? 1 : 0;
  }
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
  n_active_ = 0;
  return observers;
}

Observed LinkSequences::Reattach(v1::Reattach* message, Observed* start_over) {
  Observed reattached;
  for (auto it = entries_.begin(); it != entries_.end();) {
    const auto here = it++;
    auto& [id, entry] = *here;
    if (entry.starts_over) {
      n_active_ -= entry.active() ? 1 : 0;
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
