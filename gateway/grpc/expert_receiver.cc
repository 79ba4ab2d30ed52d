#include "gateway/grpc/expert_receiver.h"

#include <utility>

#include "common/quoted.h"

namespace coterie::gateway {
namespace {

constexpr size_t kMaxChunkBytes = 1 << 20;
constexpr int kMaxFiles = 8;  // an expert has four

}  // namespace

Status ExpertReceiver::Take(const v1::PublishExpertRequest& message) {
  if (broken_) return absl::FailedPreconditionError("this stream was refused before");
  if (message.has_header()) {
    // What was wrong with the one before was kept for its outcome.
    FinishExpert().IgnoreError();
    return Begin(message.header());
  }
  broken_ = headers_.empty();
  if (broken_) return absl::InvalidArgumentError("the first message of a publication is not a header");
  if (!open_) return absl::OkStatus();  // refused before
  if (!message.has_chunk()) {
    return RefuseExpert(absl::InvalidArgumentError("a message after a header is no chunk"));
  }
  const Status status = TakeChunk(message.chunk());
  return status.ok() ? status : RefuseExpert(status);
}

Status ExpertReceiver::CheckCommit(const v1::PublishExpertRequest::Header& header) const {
  if (header.restore_catalogue()) {
    return absl::InvalidArgumentError("Check changes nothing; restore_catalogue goes with Publish");
  }
  if (header.has_canary_share() && store_->Snapshot()->Find(header.name()) == nullptr) {
    return absl::NotFoundError(absl::StrCat("cannot publish a canary of ", Quoted(header.name()),
                                            ": no expert of that name is live"));
  }
  return absl::OkStatus();
}

Status ExpertReceiver::Begin(const v1::PublishExpertRequest::Header& header) {
  const bool first = upload_ == nullptr;
  Status status;
  if (purpose_ == Purpose::kCheck) status = CheckCommit(header);
  if (status.ok() && header.restore_catalogue()) status = store_->RestoreCatalogue();
  if (status.ok() && first) {
    auto upload = store_->BeginUpload();
    status = upload.status();
    if (upload.ok()) upload_ = *std::move(upload);
  } else if (status.ok()) {
    status = upload_->Next();
  }
  broken_ = !status.ok();
  RETURN_IF_ERROR(status);
  headers_.push_back({.name = header.name()});
  files_.clear();
  open_ = true;
  if (header.has_canary_share()) {
    headers_.back().canary_share = header.canary_share();
    // Before all its files come.
    if (status = ValidateCanaryShare(header.canary_share()); !status.ok()) return RefuseExpert(status);
  }
  if (header.files_size() > kMaxFiles) {
    return RefuseExpert(absl::InvalidArgumentError(
        absl::StrCat("the header of Publish names ", header.files_size(), " files, the limit is ", kMaxFiles,
                     "; send the four of an expert folder")));
  }
  for (const v1::PublishExpertRequest::File& file : header.files()) {
    files_.push_back({.name = file.name(), .size_bytes = file.size_bytes(), .sha256 = file.sha256()});
    // Before gigabytes come for nothing.
    if (status = upload_->Expect(file.name(), file.size_bytes()); !status.ok()) return RefuseExpert(status);
  }
  return absl::OkStatus();
}

Status ExpertReceiver::TakeChunk(const v1::PublishExpertRequest::Chunk& chunk) {
  if (chunk.file_index() >= files_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunk of file ", chunk.file_index(), ", but the header names ", files_.size()));
  }
  if (chunk.data().size() > kMaxChunkBytes) {
    return absl::InvalidArgumentError(absl::StrCat("chunk of ", chunk.data().size(), " bytes, the limit is ",
                                                   kMaxChunkBytes, "; send smaller ones"));
  }
  File& file = files_[chunk.file_index()];
  file.received_bytes += chunk.data().size();
  if (file.received_bytes > file.size_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name, ": more than the ", file.size_bytes, " bytes that the header promised"));
  }
  file.hasher->Update(chunk.data());
  return upload_->Write(file.name, chunk.data());
}

// Nothing is published of an upload that broke off or was garbled on its way.
Status ExpertReceiver::CheckWhole() {
  for (File& file : files_) {
    if (file.received_bytes != file.size_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(file.name, ": ", file.received_bytes,
                                                     " bytes came of the ", file.size_bytes,
                                                     " that the header promised; publish again"));
    }
    const std::string sha256 = file.hasher->Finish().ToHex();
    if (!file.sha256.empty() && file.sha256 != sha256) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.name, ": its SHA-256 is ", sha256, ", the header says ", Quoted(file.sha256),
                       "; it changed on its way or while it was sent: publish again"));
    }
  }
  return absl::OkStatus();
}

Status ExpertReceiver::FinishExpert() {
  if (!open_) return absl::OkStatus();
  Status status = CheckWhole();
  // No chunk came of an empty file; it is there all the same, and refused for what it is.
  for (const File& file : files_) {
    if (status.ok() && file.size_bytes == 0) status = upload_->Write(file.name, "");
  }
  if (!status.ok()) return RefuseExpert(status);
  open_ = false;
  return upload_->Finish(headers_.back().name, headers_.back().canary_share);
}

Status ExpertReceiver::RefuseExpert(const Status& why) {
  open_ = false;
  upload_->Refuse(why);
  return why;
}

std::vector<ExpertReceiver::Outcome> ExpertReceiver::Commit() {
  std::vector<Outcome> outcomes;
  if (upload_ == nullptr) return outcomes;
  std::vector<StatusOr<PublishResult>> results = upload_->CommitAll();
  for (size_t i = 0; i < results.size(); ++i) {
    outcomes.push_back({headers_[i].name, headers_[i].canary_share.has_value(), std::move(results[i])});
  }
  return outcomes;
}

}  // namespace coterie::gateway
