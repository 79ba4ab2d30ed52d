#ifndef COTERIE_GATEWAY_GRPC_EXPERT_SERVICE_H_
#define COTERIE_GATEWAY_GRPC_EXPERT_SERVICE_H_

#include <atomic>
#include <string>

#include "common/metrics.h"
#include "coterie/v1/expert.grpc.pb.h"
#include "gateway/core/gateway_core.h"
#include "gateway/grpc/expert_receiver.h"
#include "gateway/routing/catalogue_watch.h"
#include "model/store/expert_store.h"
#include "net/bad_calls.h"
#include "net/received.h"

namespace coterie::gateway {

// ExpertService on the admin listener. Synchronous: publishing is rare and mostly waits for the disk; the
// listener's threads are bounded by the server. Thread-safe; everything is borrowed.
class ExpertServiceImpl final : public v1::ExpertService::Service {
 public:
  ExpertServiceImpl(ExpertStore* store, CatalogueWatch* watch, const GatewayCore* core,
                    MetricsRegistry* registry);

  grpc::Status List(grpc::ServerContext* context, const v1::ListExpertsRequest* request,
                    v1::ListExpertsResponse* response) override;
  grpc::Status Get(grpc::ServerContext* context, const v1::GetExpertRequest* request,
                   v1::GetExpertResponse* response) override;
  // Streams are read through net::CheckedReader, so these are no overrides of the generated service.
  grpc::Status ReceiveOne(grpc::ServerContext* context, net::CheckedReader<v1::PublishExpertRequest>* reader,
                          v1::PublishExpertResponse* response);
  grpc::Status CheckOne(grpc::ServerContext* context, net::CheckedReader<v1::PublishExpertRequest>* reader,
                        v1::CheckExpertResponse* response);
  grpc::Status ReceiveMany(grpc::ServerContext* context, net::CheckedReader<v1::PublishExpertRequest>* reader,
                           grpc::internal::WriterInterface<v1::PublishManyResponse>* writer);
  grpc::Status Remove(grpc::ServerContext* context, const v1::RemoveExpertRequest* request,
                      v1::RemoveExpertResponse* response) override;
  grpc::Status SwapMember(grpc::ServerContext* context, const v1::SwapMemberRequest* request,
                          v1::SwapMemberResponse* response) override;
  grpc::Status Promote(grpc::ServerContext* context, const v1::PromoteExpertRequest* request,
                       v1::PromoteExpertResponse* response) override;
  grpc::Status RollBack(grpc::ServerContext* context, const v1::RollBackExpertRequest* request,
                        v1::RollBackExpertResponse* response) override;

 private:
  // `status` as a client may read it: without the store's paths, which the log keeps.
  grpc::Status Refusal(const Status& status) const;
  StatusOr<v1::GetExpertResponse> GetExpert(const std::string& name) const;
  // Takes a stream with one expert in, whole: *receiver has checked it. The caller holds a place among
  // uploads.
  Status TakeExpert(grpc::ServerContext* context, net::CheckedReader<v1::PublishExpertRequest>* reader,
                    ExpertReceiver* receiver);
  StatusOr<v1::PublishExpertResponse> ReceiveExpert(grpc::ServerContext* context,
                                                    net::CheckedReader<v1::PublishExpertRequest>* reader);
  v1::PublishExpertResponse DescribePublished(const PublishResult& published, bool canary) const;
  v1::ExpertInfo Describe(const CatalogueEntry& entry) const;
  // Routing follows, and *response tells what became of it.
  template <typename Response>
  Status DescribeChange(const PublishResult& result, Response* response) const;
  // `change` of the store for a request that names an expert, or one of its versions.
  using Change = StatusOr<PublishResult> (ExpertStore::*)(std::string_view name,
                                                          std::string_view digest_prefix);
  template <typename Request, typename Response>
  Status ChangeVersion(Change change, const Request& request, Response* response) const;

  ExpertStore* const store_;
  CatalogueWatch* const watch_;
  const GatewayCore* const core_;
  net::BadCalls bad_calls_;
  std::atomic<int> n_upload_calls_ = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GRPC_EXPERT_SERVICE_H_
