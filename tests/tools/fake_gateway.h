#ifndef COTERIE_TESTS_TOOLS_FAKE_GATEWAY_H_
#define COTERIE_TESTS_TOOLS_FAKE_GATEWAY_H_

#include <grpcpp/grpcpp.h>

#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/mutex.h"
#include "coterie/v1/cluster.grpc.pb.h"
#include "coterie/v1/expert.grpc.pb.h"
#include "coterie/v1/generation.grpc.pb.h"

namespace coterie {

// A gateway's three services on one loopback port, for the command's tests. It answers "<expert>: <question>"
// in two deltas and keeps what it was asked. Experts published to it are held in memory.
class FakeGateway final : public v1::GenerationService::Service,
                          public v1::ExpertService::Service,
                          public v1::ClusterService::Service {
 public:
  FakeGateway();
  ~FakeGateway() override;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  std::vector<v1::GenerateRequest> requests() const;
  // What the last Generate said in its `authorization`.
  std::string authorization() const;
  // Files as they arrived, by "name/file".
  std::map<std::string, std::string> published() const;
  // Every later Generate answers this.
  void FailWith(grpc::Status status);
  // Every later Generate waits so long before its first message.
  void DelayBy(absl::Duration delay);
  int cancelled() const;
  // As a gateway of an older version.
  void ForgetPublishMany();
  // Calls of PublishMany after so many break off.
  void BreakPublishManyAfter(int n_calls);
  int publish_many_calls() const;
  // The most calls of Generate that ran at once.
  int most_running() const;

 private:
  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override;
  // As an embedder of four dimensions: the first letter is an axis, the fourth is common to all texts.
  grpc::Status Embed(grpc::ServerContext* context, const v1::EmbedRequest* request,
                     v1::EmbedResponse* response) override;
  // One expert is there, "bees", on the axis of 'b'.
  grpc::Status Route(grpc::ServerContext* context, const v1::RouteRequest* request,
                     v1::RouteResponse* response) override;
  grpc::Status List(grpc::ServerContext* context, const v1::ListExpertsRequest* request,
                    v1::ListExpertsResponse* response) override;
  grpc::Status Get(grpc::ServerContext* context, const v1::GetExpertRequest* request,
                   v1::GetExpertResponse* response) override;
  grpc::Status Publish(grpc::ServerContext* context, grpc::ServerReader<v1::PublishExpertRequest>* reader,
                       v1::PublishExpertResponse* response) override;
  grpc::Status PublishMany(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::PublishManyResponse, v1::PublishExpertRequest>* stream) override;
  grpc::Status Promote(grpc::ServerContext* context, const v1::PromoteExpertRequest* request,
                       v1::PromoteExpertResponse* response) override;
  grpc::Status RollBack(grpc::ServerContext* context, const v1::RollBackExpertRequest* request,
                        v1::RollBackExpertResponse* response) override;
  grpc::Status Remove(grpc::ServerContext* context, const v1::RemoveExpertRequest* request,
                      v1::RemoveExpertResponse* response) override;
  grpc::Status Status(grpc::ServerContext* context, const v1::StatusRequest* request,
                      v1::StatusResponse* response) override;

  // An expert on its way.
  struct Arrival {
    v1::PublishExpertRequest::Header header;
    std::map<std::string, std::string> files;
    void Take(const v1::PublishExpertRequest& message);
  };
  grpc::Status Enter(Arrival arrival, v1::PublishExpertResponse* response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  bool knows_publish_many_ ABSL_GUARDED_BY(mutex_) = true;
  int most_publish_many_calls_ ABSL_GUARDED_BY(mutex_) = std::numeric_limits<int>::max();
  int publish_many_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string authorization_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::GenerateRequest> requests_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> published_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> experts_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, double> canary_shares_ ABSL_GUARDED_BY(mutex_);  // by name, of those with a canary
  grpc::Status failure_ ABSL_GUARDED_BY(mutex_);
  absl::Duration delay_ ABSL_GUARDED_BY(mutex_);
  int cancelled_ ABSL_GUARDED_BY(mutex_) = 0;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  int most_running_ ABSL_GUARDED_BY(mutex_) = 0;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace coterie

#endif  // COTERIE_TESTS_TOOLS_FAKE_GATEWAY_H_
