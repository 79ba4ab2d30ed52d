#include "worker/service/gateway_session.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/clock.h"
#include "common/utf8.h"
#include "common/worker_protocol.h"

namespace coterie::worker {
namespace {

// Tokens and log-probabilities of one message. With log-probabilities each takes about 20 bytes of it.
constexpr size_t kMaxEntriesPerStep = 200'000;
static_assert(2 * 20 * kMaxEntriesPerStep <= kMaxWorkerMessageBytes, "no gateway would read such a message");
// Ended answers kept for a gateway that might have missed their end. With log-probabilities one may take
// megabytes: then fewer are kept, and the gateway asks for such an answer again.
constexpr size_t kMaxFinished = 1024;
constexpr size_t kMaxFinishedBytes = size_t{16} << 20;

}  // namespace

SequenceLog* GatewaySession::Find(uint64_t sequence_id) {
  auto found = sequences_.find(sequence_id);
  return found == sequences_.end() ? nullptr : found->second.get();
}

SequenceLog* GatewaySession::Insert(std::unique_ptr<SequenceLog> log) {
  SequenceLog* raw = log.get();
  COTERIE_CHECK(sequences_.emplace(raw->sequence_id(), std::move(log)).second);
  return raw;
}

void GatewaySession::Erase(uint64_t sequence_id) {
  std::erase(ready_, sequence_id);
  sequences_.erase(sequence_id);
}

size_t GatewaySession::n_unfinished() const {
  return std::count_if(sequences_.begin(), sequences_.end(),
                       [](const auto& e) { return !e.second->finished(); });
}

void GatewaySession::Touch(SequenceLog* log) {
  if (log->queued || log->suspended || !log->pending()) return;
  log->queued = true;
  ready_.push_back(log->sequence_id());
}

void GatewaySession::Refuse(uint64_t sequence_id, Status status) {
  refused_.emplace_back(sequence_id, std::move(status));
}

void GatewaySession::Suspend(MonotonicTime now) {
  ready_.clear();
  refused_.clear();
  for (auto& [id, log] : sequences_) {
    log->queued = false;
    log->suspended = true;
  }
  suspended_since = sequences_.empty() ? MonotonicTime::InfiniteFuture() : now;
}

void GatewaySession::TakeOutput(v1::Step* step) {
  for (auto& [sequence_id, status] : refused_) {
    v1::SequenceOutput* out = step->add_outputs();
    out->set_sequence_id(sequence_id);
    out->set_finish(v1::FINISH_REASON_ERROR);
    out->set_error_code(static_cast<uint32_t>(status.code()));
    out->set_error_message(Printable(ToStd(status.message())));
  }
  refused_.clear();
  size_t budget = kMaxEntriesPerStep;
  size_t n_taken = 0;
  for (; n_taken < ready_.size() && budget > 0; ++n_taken) {
    SequenceLog* log = Find(ready_[n_taken]);
    log->Take(step->add_outputs(), &budget);
    if (log->pending()) break;  // the budget is used up
    log->queued = false;
  }
  ready_.erase(ready_.begin(), ready_.begin() + static_cast<ptrdiff_t>(n_taken));
}

void GatewaySession::DropFinished(MonotonicTime horizon, std::vector<uint64_t>* dropped) {
  std::vector<std::pair<MonotonicTime, uint64_t>> finished;
  size_t n_bytes = 0;
  for (auto& [id, log] : sequences_) {
    if (!log->finished() || log->pending()) continue;
    finished.emplace_back(log->finished_at(), id);
    n_bytes += log->bytes();
  }
  std::sort(finished.begin(), finished.end());
  size_t n_left = finished.size();
  for (const auto& [finished_at, id] : finished) {
    if (finished_at >= horizon && n_left <= kMaxFinished && n_bytes <= kMaxFinishedBytes) break;
    const SequenceLog* log = Find(id);
    dropped->push_back(log->engine_id());
    n_bytes -= log->bytes();
    --n_left;
    Erase(id);
  }
}

}  // namespace coterie::worker
