#include <utility>

#include "common/quoted.h"
#include "model/store/expert_store.h"

// Experts that arrive in pieces.
namespace coterie {

StatusOr<std::unique_ptr<ExpertStore::Upload>> ExpertStore::BeginUpload() {
  {
    MutexLock lock(&mutex_);
    if (n_uploads_ >= options_.max_uploads) {
      return absl::ResourceExhaustedError(absl::StrCat(
          n_uploads_, " experts are being published already, the limit is ", options_.max_uploads));
    }
    ++n_uploads_;
  }
  // Counts itself off when anything fails.
  std::unique_ptr<Upload> upload(new Upload(this));
  ASSIGN_OR_RETURN(upload->room_, NewRoom());
  RETURN_IF_ERROR(upload->Next());
  return upload;
}

ExpertStore::Upload::~Upload() {
  MutexLock lock(&store_->mutex_);
  --store_->n_uploads_;
}

Status ExpertStore::Upload::Next() {
  if (committed_) return absl::FailedPreconditionError("this upload was committed before");
  if (experts_.size() >= store_->options_.max_upload_experts) {
    return absl::ResourceExhaustedError(absl::StrCat("more than ", store_->options_.max_upload_experts,
                                                     " experts in one upload; use several"));
  }
  ASSIGN_OR_RETURN(staging_, StagingFolder::Create(room_, store_->options_.file_limits));
  return absl::OkStatus();
}

Status ExpertStore::Upload::Expect(std::string_view file, uint64_t n_bytes) const {
  if (staging_ == nullptr) return absl::FailedPreconditionError("no expert of this upload is open");
  return staging_->Expect(file, n_bytes);
}

Status ExpertStore::Upload::Write(std::string_view file, std::string_view chunk) {
  if (staging_ == nullptr) return absl::FailedPreconditionError("no expert of this upload is open");
  return staging_->Append(file, chunk);
}

void ExpertStore::Upload::Refuse(Status why) {
  staging_.reset();
  experts_.emplace_back(std::move(why));
}

Status ExpertStore::Upload::Finish(std::string_view expected_name, std::optional<double> canary_share) {
  if (staging_ == nullptr) return absl::FailedPreconditionError("this upload was committed before");
  StatusOr<Checked> checked = store_->Check(std::move(staging_));
  staging_.reset();
  if (checked.ok() && !expected_name.empty() && checked->card.name != expected_name) {
    checked = absl::InvalidArgumentError(absl::StrCat(
        "the card names expert ", checked->card.name, ", the request publishes ", Quoted(expected_name),
        "; ask for the card's name or change field name of ", ToAbsl(kCardFile)));
  }
  if (checked.ok() && canary_share.has_value()) {
    if (const Status status = ValidateCanaryShare(*canary_share); !status.ok()) checked = status;
  }
  if (checked.ok()) checked->canary_share = canary_share;
  experts_.push_back(std::move(checked));
  return experts_.back().status();
}

std::vector<StatusOr<PublishResult>> ExpertStore::Upload::CommitAll() {
  committed_ = true;
  staging_.reset();
  return store_->Commit(std::move(experts_));
}

StatusOr<PublishResult> ExpertStore::Upload::Commit(std::string_view expected_name,
                                                    std::optional<double> canary_share) {
  RETURN_IF_ERROR(Finish(expected_name, canary_share));
  return std::move(CommitAll().back());
}

}  // namespace coterie
