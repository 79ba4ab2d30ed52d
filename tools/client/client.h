#ifndef COTERIE_TOOLS_CLIENT_CLIENT_H_
#define COTERIE_TOOLS_CLIENT_CLIENT_H_

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/status.h"
#include "coterie/v1/cluster.grpc.pb.h"
#include "coterie/v1/expert.grpc.pb.h"
#include "coterie/v1/generation.grpc.pb.h"
#include "net/tls_identity.h"
#include "tools/client/cancellation.h"
#include "tools/client/expert_folder.h"

namespace coterie::client {

struct ClientOptions {
  std::string address = "127.0.0.1:7070";        // for questions
  std::string admin_address = "127.0.0.1:7071";  // for publishing experts
  // Shown with questions (not to the admin address); the file's wins. Empty: none.
  std::string api_key;
  std::string api_key_file;
  // Over TLS: by the system's authorities, or those of `tls.peer_ca`; `tls.cert` is shown.
  bool use_tls = false;
  net::TlsOptions tls;
  // How long a call waits for the gateway to be reachable before it fails with Unavailable.
  absl::Duration connect_timeout = absl::Seconds(5);
  Cancellation* cancellation = nullptr;  // borrowed; null: calls cannot be cancelled
};

struct ExpertFolder {
  std::string name;              // must be the card's; empty: takes the card's
  std::filesystem::path folder;  // docs/expert-format.md
};
struct PublishOptions {
  // In (0, 1]: becomes the canary of the expert that is live under this name.
  std::optional<double> canary_share;
  // Where the store has lost its catalogue, what is served is written anew first.
  bool restore_catalogue = false;
};
// Of several experts, in their order.
using PublishResults = std::vector<StatusOr<v1::PublishExpertResponse>>;

// Calls to one gateway; connects on the first one. Thread-safe; calls block. A server's status comes back as
// the absl::Status of the same code; an unreachable gateway is Unavailable, naming the address and what to
// do.
class Client {
 public:
  explicit Client(ClientOptions options);

  // Calls `on_event` for each message, on the calling thread. `timeout` infinite: no deadline.
  Status Generate(const v1::GenerateRequest& request, absl::Duration timeout,
                  const std::function<void(const v1::GenerateResponse&)>& on_event);
  StatusOr<v1::RouteResponse> Route(const v1::RouteRequest& request);
  StatusOr<v1::ScoreResponse> Score(const v1::ScoreRequest& request);
  StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request);
  StatusOr<v1::StatusResponse> ClusterStatus(absl::Duration timeout = absl::Seconds(10));

  StatusOr<v1::ListExpertsResponse> ListExperts(const v1::ListExpertsRequest& request);
  StatusOr<v1::GetExpertResponse> GetExpert(const std::string& name);
  StatusOr<v1::RemoveExpertResponse> RemoveExpert(const std::string& name, bool force = false);
  StatusOr<v1::SwapMemberResponse> SwapMember(v1::SwapMemberRequest request);
  StatusOr<v1::PromoteExpertResponse> PromoteExpert(const std::string& name);
  StatusOr<v1::RollBackExpertResponse> RollBackExpert(const std::string& name);
  // Sends the files of an expert in chunks. Refused as ReadExpertFolder does, before anything is sent.
  StatusOr<v1::PublishExpertResponse> PublishExpert(const ExpertFolder& expert,
                                                    const PublishOptions& options = {});
  // The same from memory.
  StatusOr<v1::PublishExpertResponse> PublishFiles(const std::string& name, std::span<const ExpertFile> files,
                                                   const PublishOptions& options = {});
  // What PublishFiles would be refused for; publishes nothing. Unimplemented from a gateway that cannot say.
  Status CheckFiles(const std::string& name, std::span<const ExpertFile> files,
                    const PublishOptions& options = {});
  // Many, in one generation of the catalogue: a result for each, in order. One that cannot be read or is
  // refused stops none of the others. An error of the whole: nobody answered, or the stream broke off; then
  // nothing was published, as far as is known. A gateway that does not know PublishMany gets them one by one.
  StatusOr<PublishResults> PublishExperts(std::span<const ExpertFolder> experts,
                                          const PublishOptions& options = {});

 private:
  Status SetUp();
  // Waits until `channel` is ready.
  Status Reach(grpc::Channel* channel, const std::string& address);
  // The files of an expert, sent to Publish or to Check.
  template <typename Response>
  StatusOr<Response> SendFiles(const std::string& name, std::span<const ExpertFile> files,
                               const PublishOptions& options,
                               std::unique_ptr<grpc::ClientWriter<v1::PublishExpertRequest>> (
                                   v1::ExpertService::Stub::*method)(grpc::ClientContext*, Response*));
  // A call about one expert, whose name is put into the request.
  template <typename Request, typename Response>
  StatusOr<Response> CallByName(const std::string& name,
                                grpc::Status (v1::ExpertService::Stub::*method)(grpc::ClientContext*,
                                                                                const Request&, Response*),
                                Request request = {});

  ClientOptions options_;
  std::shared_ptr<grpc::Channel> channel_;
  std::shared_ptr<grpc::Channel> admin_channel_;
  std::unique_ptr<v1::GenerationService::Stub> generation_;
  std::unique_ptr<v1::ClusterService::Stub> cluster_;
  std::unique_ptr<v1::ExpertService::Stub> experts_;
  Status
      setup_;  // what is wrong with the options, where the above are null; every call says so. The last made
};

// The same code and message; InvalidArgument for a message that gRPC itself refused for its size.
Status FromGrpc(const grpc::Status& status);

}  // namespace coterie::client

#endif  // COTERIE_TOOLS_CLIENT_CLIENT_H_
