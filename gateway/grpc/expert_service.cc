#include "gateway/grpc/expert_service.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "common/hidden_paths.h"
#include "common/ids.h"
#include "common/log/named.h"
#include "common/quoted.h"
#include "common/utf8.h"
#include "gateway/access/retry_delay.h"
#include "gateway/core/expert_holders.h"
#include "gateway/grpc/convert_client.h"
#include "gateway/grpc/rpc_status.h"
#include "gateway/grpc/upload_watch.h"
#include "gateway/routing/drift_watch.h"
#include "gateway/watch/findings.h"
#include "gateway/watch/shadow_traffic.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {
namespace {

constexpr uint32_t kDefaultPage = 100;
constexpr uint32_t kMaxPage = 1000;
// Publications at once, those whose header has not come included: a thread waits for each. The store takes
// half as many.
constexpr int kMaxUploadCalls = 16;

// A publication's place among them, for as long as its call runs.
class UploadPlace {
 public:
  explicit UploadPlace(std::atomic<int>* n_calls)
      : n_calls_(n_calls), taken_(++*n_calls <= kMaxUploadCalls) {}
  ~UploadPlace() { --*n_calls_; }
  UploadPlace(const UploadPlace&) = delete;
  UploadPlace& operator=(const UploadPlace&) = delete;

  Status status() const {
    if (taken_) return absl::OkStatus();
    return WithRetryDelay(
        absl::ResourceExhaustedError(absl::StrCat(kMaxUploadCalls, " publications are under way; try again")),
        absl::Seconds(1));
  }

 private:
  std::atomic<int>* const n_calls_;
  const bool taken_;
};

}  // namespace

ExpertServiceImpl::ExpertServiceImpl(ExpertStore* store, CatalogueWatch* watch, const GatewayCore* core,
                                     MetricsRegistry* registry)
    : store_(store), watch_(watch), core_(core), bad_calls_(registry) {
  const auto index = [](const char* method) {
    return net::MethodIndex(v1::ExpertService::service_full_name(), method);
  };
  MarkMethodStreamed(index("List"), net::SyncUnaryHandler(this, &ExpertServiceImpl::List, &bad_calls_));
  MarkMethodStreamed(index("Get"), net::SyncUnaryHandler(this, &ExpertServiceImpl::Get, &bad_calls_));
  MarkMethodStreamed(index("Publish"),
                     net::SyncClientStreamHandler(this, &ExpertServiceImpl::ReceiveOne, &bad_calls_));
  MarkMethodStreamed(index("Check"),
                     net::SyncClientStreamHandler(this, &ExpertServiceImpl::CheckOne, &bad_calls_));
  MarkMethodStreamed(index("PublishMany"),
                     net::SyncBidiHandler(this, &ExpertServiceImpl::ReceiveMany, &bad_calls_));
  MarkMethodStreamed(index("Remove"), net::SyncUnaryHandler(this, &ExpertServiceImpl::Remove, &bad_calls_));
  MarkMethodStreamed(index("SwapMember"),
                     net::SyncUnaryHandler(this, &ExpertServiceImpl::SwapMember, &bad_calls_));
  MarkMethodStreamed(index("Promote"), net::SyncUnaryHandler(this, &ExpertServiceImpl::Promote, &bad_calls_));
  MarkMethodStreamed(index("RollBack"),
                     net::SyncUnaryHandler(this, &ExpertServiceImpl::RollBack, &bad_calls_));
}

grpc::Status ExpertServiceImpl::Refusal(const Status& status) const {
  const Status shown = WithoutPaths(status, store_->root(), "the expert store");
  if (shown.message() != status.message()) {
    spdlog::warn("experts: {}: {}", Named("code", absl::StatusCodeToString(status.code())),
                 Named("why", Printable(ToStd(status.message()))));
  }
  return ToGrpc(shown);
}

v1::ExpertInfo ExpertServiceImpl::Describe(const CatalogueEntry& entry) const {
  v1::ExpertInfo info = ToProto(entry);
  for (std::string& worker : HoldersOf(*core_->workers, entry.live)) info.add_resident_on(std::move(worker));
  if (entry.canary.has_value()) {
    for (std::string& worker : HoldersOf(*core_->workers, entry.canary->version)) {
      info.mutable_canary()->add_resident_on(std::move(worker));
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
  const CatalogueEntries& entries = state->catalogue().entries;
  // The token is the last name of the page before: pages stay in step while experts come and go.
  auto at = entries.UpperBound(request->page_token());
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
    return absl::InvalidArgumentError(absl::StrCat(Quoted(name), " is not the name of an expert"));
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
    for (std::string& worker : HoldersOf(*core_->workers, *resolved.version)) {
      info->add_resident_on(std::move(worker));
    }
    FillMembers(*resolved.version, info);
  }
  info->set_digest(resolved.version->adapter.ToHex());
  info->set_revision(resolved.version->revision.ToHex());
  info->set_version(resolved.version->version);
  info->set_adapter_bytes(resolved.version->adapter_bytes);
  ASSIGN_OR_RETURN(const std::string card, store_->ReadCard(resolved.version->revision));
  response.set_card(ReplaceIllFormed(card));  // a damaged one is still worth to be seen
  return response;
}

grpc::Status ExpertServiceImpl::Get(grpc::ServerContext* context, const v1::GetExpertRequest* request,
                                    v1::GetExpertResponse* response) {
  StatusOr<v1::GetExpertResponse> result = GetExpert(request->name());
  if (!result.ok()) return Refusal(result.status());
  *response = *std::move(result);
  return grpc::Status::OK;
}

v1::PublishExpertResponse ExpertServiceImpl::DescribePublished(const PublishResult& published,
                                                               bool canary) const {
  v1::PublishExpertResponse response;
  response.set_already_published(!published.changed);
  response.set_catalogue_generation(published.generation);
  response.set_canary(canary);
  response.set_repaired(published.repaired);
  const auto state = watch_->routers()->Current();
  if (const auto entry = state->catalogue().Find(published.expert.name); entry != nullptr) {
    *response.mutable_expert() = Describe(*entry);
  }
  return response;
}

Status ExpertServiceImpl::TakeExpert(grpc::ServerContext* context,
                                     net::CheckedReader<v1::PublishExpertRequest>* reader,
                                     ExpertReceiver* receiver) {
  std::optional<UploadWatch> watch(std::in_place, core_->timers, context, core_->upload_idle_timeout);
  v1::PublishExpertRequest message;
  if (!reader->Read(&message)) {
    RETURN_IF_ERROR(reader->problem());
    return absl::InvalidArgumentError("the stream ended before its header");
  }
  RETURN_IF_ERROR(receiver->Take(message));
  while (reader->Read(&message)) {
    watch->Touch();
    if (message.has_header()) {
      return absl::InvalidArgumentError("this stream takes one expert; for many there is PublishMany");
    }
    RETURN_IF_ERROR(receiver->Take(message));
  }
  watch.reset();  // checking takes its time
  RETURN_IF_ERROR(reader->problem());
  if (context->IsCancelled()) return absl::CancelledError("the upload was broken off");
  return receiver->End();
}

StatusOr<v1::PublishExpertResponse> ExpertServiceImpl::ReceiveExpert(
    grpc::ServerContext* context, net::CheckedReader<v1::PublishExpertRequest>* reader) {
  const UploadPlace place(&n_upload_calls_);
  RETURN_IF_ERROR(place.status());
  ExpertReceiver receiver(store_);
  RETURN_IF_ERROR(TakeExpert(context, reader, &receiver));
  const ExpertReceiver::Outcome outcome = std::move(receiver.Commit().front());
  RETURN_IF_ERROR(outcome.result.status());
  RETURN_IF_ERROR(watch_->Refresh());
  return DescribePublished(*outcome.result, outcome.canary);
}

grpc::Status ExpertServiceImpl::ReceiveOne(grpc::ServerContext* context,
                                           net::CheckedReader<v1::PublishExpertRequest>* reader,
                                           v1::PublishExpertResponse* response) {
  StatusOr<v1::PublishExpertResponse> result = ReceiveExpert(context, reader);
  if (!result.ok()) return Refusal(result.status());
  *response = *std::move(result);
  return grpc::Status::OK;
}

grpc::Status ExpertServiceImpl::CheckOne(grpc::ServerContext* context,
                                         net::CheckedReader<v1::PublishExpertRequest>* reader,
                                         v1::CheckExpertResponse* /*response*/) {
  const UploadPlace place(&n_upload_calls_);
  if (!place.status().ok()) return Refusal(place.status());
  ExpertReceiver receiver(store_, ExpertReceiver::Purpose::kCheck);
  return Refusal(TakeExpert(context, reader, &receiver));
}

grpc::Status ExpertServiceImpl::ReceiveMany(
    grpc::ServerContext* context, net::CheckedReader<v1::PublishExpertRequest>* reader,
    grpc::internal::WriterInterface<v1::PublishManyResponse>* writer) {
  const UploadPlace place(&n_upload_calls_);
  if (!place.status().ok()) return Refusal(place.status());
  ExpertReceiver receiver(store_);
  std::optional<UploadWatch> watch(std::in_place, core_->timers, context, core_->upload_idle_timeout);
  v1::PublishExpertRequest message;
  while (reader->Read(&message)) {
    watch->Touch();
    const Status status = receiver.Take(message);
    if (receiver.broken()) return Refusal(status);
  }
  watch.reset();  // publishing takes its time
  if (!reader->problem().ok()) return Refusal(reader->problem());
  // Read ends as well when the client has gone: what it meant to publish is not whole then.
  if (context->IsCancelled()) return grpc::Status::CANCELLED;
  receiver.End().IgnoreError();  // kept for its outcome
  const std::vector<ExpertReceiver::Outcome> outcomes = receiver.Commit();
  // Where nothing was published because the catalogue is lost, the outcomes say so.
  const bool any = std::any_of(outcomes.begin(), outcomes.end(), [](const auto& o) { return o.result.ok(); });
  if (const Status status = watch_->Refresh(); any && !status.ok()) return Refusal(status);
  for (const ExpertReceiver::Outcome& outcome : outcomes) {
    v1::PublishManyResponse response;
    response.set_name(outcome.name);
    if (outcome.result.ok()) {
      *response.mutable_published() = DescribePublished(*outcome.result, outcome.canary);
    } else {
      const grpc::Status refused = Refusal(outcome.result.status());
      response.set_code(refused.error_code());
      response.set_message(refused.error_message());
    }
    if (!writer->Write(response)) return grpc::Status::CANCELLED;
  }
  return grpc::Status::OK;
}

grpc::Status ExpertServiceImpl::Remove(grpc::ServerContext* context, const v1::RemoveExpertRequest* request,
                                       v1::RemoveExpertResponse* response) {
  const StatusOr<uint64_t> generation = store_->Remove(request->name(), request->force());
  if (!generation.ok()) return Refusal(generation.status());
  if (const Status status = watch_->Refresh(); !status.ok()) return Refusal(status);
  response->set_catalogue_generation(*generation);
  return grpc::Status::OK;
}

template <typename Response>
Status ExpertServiceImpl::DescribeChange(const PublishResult& result, Response* response) const {
  RETURN_IF_ERROR(watch_->Refresh());
  response->set_message(Printable(result.words));
  response->set_catalogue_generation(result.generation);
  const auto state = watch_->routers()->Current();
  if (const auto entry = state->catalogue().Find(result.expert.name); entry != nullptr) {
    *response->mutable_expert() = Describe(*entry);
  }
  return absl::OkStatus();
}

grpc::Status ExpertServiceImpl::SwapMember(grpc::ServerContext* context, const v1::SwapMemberRequest* request,
                                           v1::SwapMemberResponse* response) {
  ExpertStore::MemberSwap swap{request->name(), request->member(), request->with(), request->version(), {}};
  if (request->has_canary_share()) swap.canary_share = request->canary_share();
  const StatusOr<PublishResult> result = store_->SwapMember(swap);
  return Refusal(result.ok() ? DescribeChange(*result, response) : result.status());
}

template <typename Request, typename Response>
Status ExpertServiceImpl::ChangeVersion(Change change, const Request& request, Response* response) const {
  ASSIGN_OR_RETURN(const ExpertSelector selector, ParseExpertSelector(request.name()));
  if (selector.kind != ExpertSelector::Kind::kNamed) {
    return absl::InvalidArgumentError(absl::StrCat(Quoted(request.name()), " is not the name of an expert"));
  }
  ASSIGN_OR_RETURN(const PublishResult result, (store_->*change)(selector.name, selector.digest_prefix));
  return DescribeChange(result, response);
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
