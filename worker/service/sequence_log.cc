#include "worker/service/sequence_log.h"

#include <algorithm>

#include "common/adapter_failure.h"
#include "common/clock.h"
#include "common/lost_worker.h"
#include "common/utf8.h"
#include "worker/service/convert.h"

namespace coterie::worker {

void SequenceLog::Add(const OutputEvent& event, std::span<const TokenLogprob> scored, MonotonicTime now) {
  if (event.first) {
    started_ = true;
    cached_prompt_tokens_ = event.cached_prompt_tokens;
    queued_ms_ = event.queued_ms;
  }
  switch (event.kind) {
    case OutputEvent::Kind::kToken:
      tokens_.push_back(static_cast<uint32_t>(event.token));
      stride_ = scored.size();
      logprobs_.insert(logprobs_.end(), scored.begin(), scored.end());
      break;
    case OutputEvent::Kind::kPromptLogprob:
      prompt_stride_ = scored.size();
      prompt_logprobs_.insert(prompt_logprobs_.end(), scored.begin(), scored.end());
      break;
    case OutputEvent::Kind::kLogits:
      break;  // the gang's
    case OutputEvent::Kind::kFinish:
      finish_ = event.finish;
      stop_token_ = event.token;
      error_ = event.status;
      finished_at_ = now;
      break;
  }
}

size_t SequenceLog::bytes() const {
  return sizeof(*this) + tokens_.capacity() * sizeof(tokens_[0]) +
         (logprobs_.capacity() + prompt_logprobs_.capacity()) * sizeof(TokenLogprob) +
         error_.message().size();
}

bool SequenceLog::pending() const {
  return n_sent_ < tokens_.size() || n_prompt_sent_ < prompt_logprobs_.size() ||
         (finished() && !finish_sent_);
}

void SequenceLog::Take(v1::SequenceOutput* out, size_t* budget) {
  const bool first = n_sent_ == 0 && !prompt_begun_;
  out->set_sequence_id(sequence_id_);
  out->set_position(begin_ + static_cast<uint32_t>(n_sent_));
  if (started_ && first) {
    out->set_cached_prompt_tokens(cached_prompt_tokens_);
    out->set_queued_ms(queued_ms_);
  }
  while (n_prompt_sent_ < prompt_logprobs_.size() && *budget > 0) {
    LogprobsToProto(std::span(prompt_logprobs_).subspan(n_prompt_sent_, prompt_stride_),
                    out->add_prompt_logprobs());
    n_prompt_sent_ += prompt_stride_;
    prompt_begun_ = true;
    *budget -= std::min(*budget, prompt_stride_);
  }
  if (n_prompt_sent_ > 0 && n_prompt_sent_ == prompt_logprobs_.size()) {
    std::vector<TokenLogprob>().swap(prompt_logprobs_);
    n_prompt_sent_ = 0;
  }
  while (n_sent_ < tokens_.size() && *budget > 0) {
    out->add_token_ids(tokens_[n_sent_]);
    if (stride_ > 0)
      LogprobsToProto(std::span(logprobs_).subspan(n_sent_ * stride_, stride_), out->add_logprobs());
    ++n_sent_;
    *budget -= std::min(*budget, stride_ + 1);
  }
  if (!finished() || n_sent_ < tokens_.size() || n_prompt_sent_ < prompt_logprobs_.size()) return;
  finish_sent_ = true;
  out->set_finish(FinishToProto(finish_));
  if (finish_ == FinishReason::kStop && stop_token_ >= 0)
    out->set_stop_token_id(static_cast<uint32_t>(stop_token_));
  if (finish_ == FinishReason::kError) {
    out->set_error_code(static_cast<uint32_t>(error_.code()));
    // Bytes of an adapter's files may stand in it: a message with such a text would end the stream.
    out->set_error_message(Printable(ToStd(error_.message())));
    if (const auto adapter = FailedAdapter(error_)) out->set_failed_adapter(adapter->ToBytes());
    if (const std::string worker = LostWorker(error_); !worker.empty()) out->set_lost_worker(worker);
  }
}

bool SequenceLog::Rewind(uint32_t next_position) {
  if (next_position < begin_ || next_position > end()) return false;
  // Of the prompt's log-probabilities only all are known to have arrived, once a token came after them.
  if (scores_prompt_ && next_position == begin_) return false;
  n_sent_ = next_position - begin_;
  finish_sent_ = false;
  return true;
}

}  // namespace coterie::worker
