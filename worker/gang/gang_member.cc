#include "worker/gang/gang_member.h"

#include <algorithm>
#include <utility>

#include "common/lost_worker.h"
#include "kernels/batch.h"

namespace coterie {
namespace {

// What the leader draws from: the sequence as it came.
SequenceRequest WholeRequest(const Sequence& sequence) {
  SequenceRequest whole;
  whole.prompt_ids.assign(sequence.prompt().begin(), sequence.prompt().end());
  whole.resume_ids.assign(sequence.answer().begin(), sequence.answer().end());
  whole.sampling = sequence.request.sampling;
  whole.allowed_tokens = sequence.request.allowed_tokens;
  return whole;
}

}  // namespace

GangMember::GangMember(const GangOptions& options, Engine* engine, GangMeeting* meeting, PeerTraffic* traffic,
                       const Sequence& sequence)
    : options_(options),
      engine_(engine),
      meeting_(meeting),
      traffic_(traffic),
      engine_id_(sequence.request.id),
      plan_(*sequence.request.gang),
      max_sequence_tokens_(engine->max_sequence_tokens()),
      vocab_size_(static_cast<size_t>(engine->model_info().vocab_size)),
      logits_(sequence.gang_logits),
      wire_(engine->model_info().vocab_size, plan_.top_tokens),
      position_(sequence.answer_position()) {
  if (plan_.rank == 0) whole_ = WholeRequest(sequence);
  thread_ = std::thread([this] { Run(); });
}

GangMember::~GangMember() {
  OnFinished();
  thread_.join();
}

void GangMember::OnLogits(uint32_t position) {
  MutexLock lock(&mutex_);
  ready_ = position;
  changed_.Signal();
}

void GangMember::OnFinished() {
  {
    MutexLock lock(&mutex_);
    finished_ = true;
    changed_.Signal();
  }
  abort_->Raise();
}

bool GangMember::done() const {
  MutexLock lock(&mutex_);
  return done_;
}

void GangMember::Run() {
  Status status;
  {
    StatusOr<std::unique_ptr<Communicator>> communicator =
        meeting_->Join(plan_, options_.form_timeout, abort_);
    status = communicator.ok() ? Talk(communicator->get()) : communicator.status();
  }
  meeting_->Close(plan_);
  if (!status.ok()) {
    const bool leads = plan_.rank == 0;
    const std::optional<int> lost = LostMember(status);
    const bool other = lost && *lost > 0 && static_cast<size_t>(*lost) < plan_.workers.size();
    Status why(leads ? absl::StatusCode::kUnavailable : absl::StatusCode::kAborted,
               absl::StrCat("the gang of ", plan_.workers.size(), " workers is over: ", status.message()));
    if (leads && other) why = MarkLostWorker(std::move(why), plan_.workers[static_cast<size_t>(*lost)].name);
    engine_->Fail(engine_id_, std::move(why));
  }
  MutexLock lock(&mutex_);
  done_ = true;
}

Status GangMember::Talk(Communicator* communicator) {
  GangTalk talk(communicator, options_.call_timeout, traffic_);
  packed_.resize(plan_.workers[plan_.rank].members.size() * wire_.row_bytes());
  Status status = talk.Greet();
  if (status.ok()) status = plan_.rank == 0 ? Lead(&talk) : Follow(&talk);
  // Whoever has finished leaves without a word, and those who have not yet seen that they have too are told
  // so by nothing else.
  MutexLock lock(&mutex_);
  return finished_ ? absl::OkStatus() : status;
}

GangMember::Local GangMember::WaitForLogits() {
  const MonotonicTime until = MonotonicNow() + options_.round;
  MutexLock lock(&mutex_);
  while (!finished_ && ready_ != position_ && changed_.WaitUntil(&mutex_, until)) {
  }
  if (finished_) return Local::kFinished;
  return ready_ == position_ ? Local::kReady : Local::kNotYet;
}

void GangMember::PackLocal() {
  const size_t row_bytes = wire_.row_bytes();
  for (size_t row = 0; row * row_bytes < packed_.size(); ++row) {
    wire_.Pack(std::span(*logits_).subspan(row * vocab_size_, vocab_size_),
               std::span(packed_).subspan(row * row_bytes, row_bytes));
  }
}

void GangMember::GiveToken(int32_t token, std::span<const TokenLogprob> logprobs) {
  engine_->PutToken({engine_id_, position_, token, {logprobs.begin(), logprobs.end()}});
  ++position_;
}

// --- The leader ---

Status GangMember::Lead(GangTalk* talk) {
  draw_.emplace(std::move(whole_), plan_.weights, static_cast<int>(vocab_size_), max_sequence_tokens_);
  rows_.resize(plan_.weights.size() * vocab_size_);
  told_.assign(static_cast<size_t>(MaskWords(static_cast<int>(vocab_size_))), 0);
  has_.assign(plan_.workers.size(), false);
  while (true) {
    const Local local = WaitForLogits();
    if (local == Local::kFinished) return absl::OkStatus();
    ASSIGN_OR_RETURN(const bool all, Collect(talk, local));
    if (all) {
      RETURN_IF_ERROR(DrawAndTell(talk));
      continue;
    }
    for (int rank = 1; rank < static_cast<int>(has_.size()); ++rank) {
      RETURN_IF_ERROR(talk->Say(rank, {GangWord::Kind::kNotYet, position_}));
    }
  }
}

StatusOr<bool> GangMember::Collect(GangTalk* talk, Local local) {
  if (local == Local::kReady && !has_[0]) {
    // Also what stays here goes through the wire's form: the text must not depend on where a member stands.
    PackLocal();
    RETURN_IF_ERROR(Unpack(0, packed_));
    has_[0] = true;
  }
  for (size_t rank = 1; rank < has_.size(); ++rank) {
    ASSIGN_OR_RETURN(const GangWord word, talk->Hear(static_cast<int>(rank)));
    if (word.kind == GangWord::Kind::kRows) RETURN_IF_ERROR(TakeRowsOf(talk, rank));
  }
  return std::find(has_.begin(), has_.end(), false) == has_.end();
}

Status GangMember::TakeRowsOf(GangTalk* talk, size_t rank) {
  taken_.resize(plan_.workers[rank].members.size() * wire_.row_bytes());
  RETURN_IF_ERROR(talk->TakeRows(static_cast<int>(rank), taken_));
  has_[rank] = true;
  return Unpack(rank, taken_);
}

Status GangMember::Unpack(size_t rank, std::span<const std::byte> rows) {
  const size_t row_bytes = wire_.row_bytes();
  const std::vector<uint32_t>& members = plan_.workers[rank].members;
  for (size_t i = 0; i < members.size(); ++i) {
    RETURN_IF_ERROR(wire_.Unpack(rows.subspan(i * row_bytes, row_bytes),
                                 std::span(rows_).subspan(members[i] * vocab_size_, vocab_size_), told_));
  }
  return absl::OkStatus();
}

Status GangMember::DrawAndTell(GangTalk* talk) {
  const int32_t token = draw_->Draw(rows_, wire_.tells_all() ? std::span<const uint32_t>() : told_);
  const GangWord word{GangWord::Kind::kToken, position_, token};
  std::fill(told_.begin(), told_.end(), 0);
  std::fill(has_.begin(), has_.end(), false);
  // First to the others: this worker's own next step is the one that may wait.
  for (int rank = 1; rank < static_cast<int>(has_.size()); ++rank) RETURN_IF_ERROR(talk->Say(rank, word));
  GiveToken(token, draw_->logprobs());
  return absl::OkStatus();
}

// --- A follower ---

Status GangMember::Follow(GangTalk* talk) {
  bool sent = false;  // the rows for the token at position_
  while (true) {
    const Local local = sent ? Local::kReady : WaitForLogits();
    if (local == Local::kFinished) return absl::OkStatus();
    const bool sends = local == Local::kReady && !sent;
    const GangWord::Kind kind = sends  ? GangWord::Kind::kRows
                                : sent ? GangWord::Kind::kSent
                                       : GangWord::Kind::kNotYet;
    if (sends) PackLocal();
    RETURN_IF_ERROR(talk->Say(0, {kind, position_}));
    if (sends) {
      RETURN_IF_ERROR(talk->SendRows(0, packed_));
      sent = true;
    }
    ASSIGN_OR_RETURN(const GangWord word, talk->Hear(0));
    if (word.kind != GangWord::Kind::kToken) continue;
    if (!sent || word.position != position_) {
      return absl::InternalError(absl::StrCat("the gang's leader drew the token at position ", word.position,
                                              ", where this member is at ", position_));
    }
    sent = false;
    GiveToken(word.token, {});
  }
}

}  // namespace coterie
