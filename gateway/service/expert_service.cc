#include "gateway/service/expert_service.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "common/hidden_paths.h"
#include "common/ids.h"
#include "common/utf8.h"
#include "gateway/convert_client.h"
#include "gateway/drift_watch.h"
#include "gateway/findings.h"
#include "gateway/rpc_status.h"
#include "gateway/shadow/shadow_traffic.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {
namespace {

constexpr uint32_t kDefaultPage = 100;
constexpr uint32_t kMaxPage = 1000;
constexpr size_t kMaxChunkBytes = 1 << 20;
constexpr int kMaxFiles = 8;  // an expert has four; unknown names are the store's to refuse

// What the header promised of one file, and what has come.
struct IncomingFile {
  std::string name;
  uint64_t size_bytes = 0;
  std::string sha256;
  uint64_t received_bytes = 0;
  std::unique_ptr<Hasher> hasher = std::make_unique<Hasher>();
};

StatusOr<std::vector<IncomingFile>> ReadHeader(const v1::PublishExpertRequest& message) {
  if (!message.has_header())
    return absl::InvalidArgumentError("the first message of Publish is not a header");
  if (message.header().files_size() > kMaxFiles) {
    return absl::InvalidArgumentError(absl::StrCat("the header of Publish names ",
                                                   message.header().files_size(), " files, the limit is ",
                                                   kMaxFiles, "; send the four of an expert folder"));
  }
  std::vector<IncomingFile> files;
  for (const v1::PublishExpertRequest::File& file : message.header().files()) {
    files.push_back({.name = file.name(), .size_bytes = file.size_bytes(), .sha256 = file.sha256()});
  }
  return files;
}

Status TakeChunk(const v1::PublishExpertRequest& message, std::vector<IncomingFile>* files,
                 ExpertStore::Upload* upload) {
  if (!message.has_chunk())
    return absl::InvalidArgumentError("a message of Publish after the header is no chunk");
  const v1::PublishExpertRequest::Chunk& chunk = message.chunk();
  if (chunk.file_index() >= files->size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunk of file ", chunk.file_index(), ", but the header names ", files->size()));
  }
  if (chunk.data().size() > kMaxChunkBytes) {
    return absl::InvalidArgumentError(absl::StrCat("chunk of ", chunk.data().size(), " bytes, the limit is ",
                                                   kMaxChunkBytes, "; send smaller ones"));
  }
  IncomingFile& file = (*files)[chunk.file_index()];
  file.received_bytes += chunk.data().size();
  if (file.received_bytes > file.size_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name, ": more than the ", file.size_bytes, " bytes that the header promised"));
  }
  file.hasher->Update(chunk.data());
  return upload->Write(file.name, chunk.data());
}

// Nothing is published of an upload that broke off or was garbled on its way.
Status CheckWhole(std::vector<IncomingFile>* files) {
  for (IncomingFile& file : *files) {
    if (file.received_bytes != file.size_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(file.name, ": ", file.received_bytes,
                                                     " bytes came of the ", file.size_bytes,
                                                     " that the header promised; publish again"));
    }
    const std::string sha256 = file.hasher->Finish().ToHex();
    if (!file.sha256.empty() && file.sha256 != sha256) {
      return absl::InvalidArgumentError(absl::StrCat(
          file.name, ": its SHA-256 is ", sha256, ", the header says ", ToAbsl(CutUtf8(file.sha256, 64)),
          "; it changed on its way or while it was sent: publish again"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

ExpertServiceImpl::ExpertServiceImpl(ExpertStore* store, CatalogueWatch* watch, const GatewayCore* core)
    : store_(store), watch_(watch), core_(core) {
  const auto index = [](const char* method) {
    return net::MethodIndex(v1::ExpertService::service_full_name(), method);
  };
  MarkMethodStreamed(index("List"), net::SyncUnaryHandler(this, &ExpertServiceImpl::List));
  MarkMethodStreamed(index("Get"), net::SyncUnaryHandler(this, &ExpertServiceImpl::Get));
  MarkMethodStreamed(index("Publish"), net::SyncClientStreamHandler(this, &ExpertServiceImpl::Publish));
  MarkMethodStreamed(index("Remove"), net::SyncUnaryHandler(this, &ExpertServiceImpl::Remove));
  MarkMethodStreamed(index("Promote"), net::SyncUnaryHandler(this, &ExpertServiceImpl::Promote));
  MarkMethodStreamed(index("RollBack"), net::SyncUnaryHandler(this, &ExpertServiceImpl::RollBack));
}

grpc::Status ExpertServiceImpl::Refusal(const Status& status) const {
  const Status shown = WithoutPaths(status, store_->root(), "the expert store");
  if (shown.message() != status.message()) {
    spdlog::warn("experts: {}: {}", absl::StatusCodeToString(status.code()),
                 Printable(ToStd(status.message())));
  }
  return ToGrpc(shown);
}

v1::ExpertInfo ExpertServiceImpl::Describe(const CatalogueEntry& entry) const {
  v1::ExpertInfo info = ToProto(entry);
  for (const std::string& worker : core_->workers->Holders(entry.live.adapter)) info.add_resident_on(worker);
  if (entry.canary.has_value()) {
    for (const std::string& worker : core_->workers->Holders(entry.canary->version.adapter)) {
      info.mutable_canary()->add_resident_on(worker);
    }
  }
  if (core_->shadow != nullptr) {
    const ExpertRegret regret = core_->shadow->Of(entry);
    if (regret.n() > 0) *info.mutable_shadow() = ToProto(regret);
  }
  if (core_->drift != nullptr && entry.routing.has_value()) {
    *info.mutable_drift() = ToProto(core_->drift->Of(entry), *entry.routing);
  }
  for (std::string& finding : FindingsOf(*core_, entry)) info.add_findings(std::move(finding));
  return info;
}

grpc::Status ExpertServiceImpl::List(grpc::ServerContext* context, const v1::ListExpertsRequest* request,
                                     v1::ListExpertsResponse* response) {
  if (request->page_size() > kMaxPage) {
    return ToGrpc(absl::InvalidArgumentError(
        absl::StrCat("page_size is ", request->page_size(), ", at most ", kMaxPage)));
  }
  const auto state = watch_->routers()->Current();
  const std::vector<CatalogueEntry>& entries = state->catalogue().entries;
  // The token is the last name of the page before: pages stay in step while experts come and go.
  const auto after = [](const std::string& token, const CatalogueEntry& entry) { return token < entry.name; };
  auto at = request->page_token().empty()
                ? entries.begin()
                : std::upper_bound(entries.begin(), entries.end(), request->page_token(), after);
  const int page = static_cast<int>(request->page_size() == 0 ? kDefaultPage : request->page_size());
  for (; at != entries.end() && response->experts_size() < page; ++at)
    *response->add_experts() = Describe(*at);
  if (at != entries.end()) response->set_next_page_token(response->experts(page - 1).name());
  response->set_catalogue_generation(state->catalogue().generation);
  response->set_total(static_cast<uint32_t>(entries.size()));
  return grpc::Status::OK;
}

StatusOr<v1::GetExpertResponse> ExpertServiceImpl::GetExpert(const std::string& name) const {
  ASSIGN_OR_RETURN(const ExpertSelector selector, ParseExpertSelector(name));
  if (selector.kind != ExpertSelector::Kind::kNamed) {
    return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is not the name of an expert"));
  }
  const auto state = watch_->routers()->Current();
  ASSIGN_OR_RETURN(const Catalogue::Resolved resolved, state->catalogue().Resolve(selector));
  v1::GetExpertResponse response;
  v1::ExpertInfo* info = response.mutable_expert();
  *info = Describe(*resolved.entry);
  if (resolved.version != &resolved.entry->live) {
    // Asked for by its digest: what is known of the live version is not said of this one.
    info->clear_shadow();
    info->clear_drift();
    info->clear_findings();
    info->clear_resident_on();
    for (const std::string& worker : core_->workers->Holders(resolved.version->adapter)) {
      info->add_resident_on(worker);
    }
  }
  info->set_digest(resolved.version->adapter.ToHex());
  info->set_revision(resolved.version->revision.ToHex());
  info->set_version(resolved.version->version);
  info->set_adapter_bytes(resolved.version->adapter_bytes);
  ASSIGN_OR_RETURN(*response.mutable_card(), store_->ReadCard(resolved.version->revision));
  return response;
}

grpc::Status ExpertServiceImpl::Get(grpc::ServerContext* context, const v1::GetExpertRequest* request,
                                    v1::GetExpertResponse* response) {
  StatusOr<v1::GetExpertResponse> result = GetExpert(request->name());
  if (!result.ok()) return Refusal(result.status());
  *response = *std::move(result);
  return grpc::Status::OK;
}

StatusOr<v1::PublishExpertResponse> ExpertServiceImpl::ReceiveExpert(
    net::CheckedReader<v1::PublishExpertRequest>* reader) {
  v1::PublishExpertRequest message;
  if (!reader->Read(&message)) {
    RETURN_IF_ERROR(reader->problem());
    return absl::InvalidArgumentError("Publish ended before its header");
  }
  ASSIGN_OR_RETURN(std::vector<IncomingFile> files, ReadHeader(message));
  const std::string name = message.header().name();
  std::optional<double> canary_share;
  if (message.header().has_canary_share()) {
    canary_share = message.header().canary_share();
    RETURN_IF_ERROR(ValidateCanaryShare(*canary_share));  // before all the files come
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<ExpertStore::Upload> upload, store_->BeginUpload());
  while (reader->Read(&message)) RETURN_IF_ERROR(TakeChunk(message, &files, upload.get()));
  RETURN_IF_ERROR(reader->problem());
  RETURN_IF_ERROR(CheckWhole(&files));
  for (const IncomingFile& file : files) {
    // No chunk came of an empty file; it is there all the same, and refused for what it is.
    if (file.size_bytes == 0) RETURN_IF_ERROR(upload->Write(file.name, ""));
  }
  ASSIGN_OR_RETURN(const PublishResult published, upload->Commit(name, canary_share));
  RETURN_IF_ERROR(watch_->Refresh());

  v1::PublishExpertResponse response;
  response.set_already_published(!published.changed);
  response.set_catalogue_generation(published.generation);
  response.set_canary(canary_share.has_value());
  const auto state = watch_->routers()->Current();
  if (const CatalogueEntry* entry = state->catalogue().Find(published.expert.name); entry != nullptr) {
    *response.mutable_expert() = Describe(*entry);
  }
  return response;
}

grpc::Status ExpertServiceImpl::Publish(grpc::ServerContext* context,
                                        net::CheckedReader<v1::PublishExpertRequest>* reader,
                                        v1::PublishExpertResponse* response) {
  StatusOr<v1::PublishExpertResponse> result = ReceiveExpert(reader);
  if (!result.ok()) return Refusal(result.status());
  *response = *std::move(result);
  return grpc::Status::OK;
}

grpc::Status ExpertServiceImpl::Remove(grpc::ServerContext* context, const v1::RemoveExpertRequest* request,
                                       v1::RemoveExpertResponse* response) {
  const StatusOr<uint64_t> generation = store_->Remove(request->name());
  if (!generation.ok()) return Refusal(generation.status());
  if (const Status status = watch_->Refresh(); !status.ok()) return Refusal(status);
  response->set_catalogue_generation(*generation);
  return grpc::Status::OK;
}

template <typename Request, typename Response>
Status ExpertServiceImpl::ChangeVersion(Change change, const Request& request, Response* response) const {
  ASSIGN_OR_RETURN(const ExpertSelector selector, ParseExpertSelector(request.name()));
  if (selector.kind != ExpertSelector::Kind::kNamed) {
    return absl::InvalidArgumentError(absl::StrCat("\"", request.name(), "\" is not the name of an expert"));
  }
  ASSIGN_OR_RETURN(const PublishResult result, (store_->*change)(selector.name, selector.digest_prefix));
  RETURN_IF_ERROR(watch_->Refresh());
  response->set_message(Printable(result.words));
  response->set_catalogue_generation(result.generation);
  const auto state = watch_->routers()->Current();
  if (const CatalogueEntry* entry = state->catalogue().Find(result.expert.name); entry != nullptr) {
    *response->mutable_expert() = Describe(*entry);
  }
  return absl::OkStatus();
}

grpc::Status ExpertServiceImpl::Promote(grpc::ServerContext* context, const v1::PromoteExpertRequest* request,
                                        v1::PromoteExpertResponse* response) {
  return Refusal(ChangeVersion(&ExpertStore::Promote, *request, response));
}

grpc::Status ExpertServiceImpl::RollBack(grpc::ServerContext* context,
                                         const v1::RollBackExpertRequest* request,
                                         v1::RollBackExpertResponse* response) {
  return Refusal(ChangeVersion(&ExpertStore::RollBack, *request, response));
}

}  // namespace coterie::gateway
