#include "tools/client/client.h"

#include <grpcpp/create_channel.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/file.h"
#include "net/grpc_time.h"
#include "net/tls_credentials.h"

namespace coterie::client {
namespace {

constexpr size_t kChunkBytes = 1 << 19;  // the server takes up to 1 MiB a message
constexpr absl::Duration kUnaryTimeout = absl::Seconds(60);
constexpr absl::Duration kPublishTimeout = absl::Minutes(10);

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address,
                                           const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  args.SetMaxReceiveMessageSize(64 << 20);
  return grpc::CreateCustomChannel(address, credentials, args);
}

// Header and chunks of one expert. False when the server has already answered: Finish says why.
template <typename Writer>
bool SendExpert(const std::string& name, std::span<const ExpertFile> files, const PublishOptions& options,
                Writer* writer) {
  v1::PublishExpertRequest message;
  message.mutable_header()->set_name(name);
  message.mutable_header()->set_restore_catalogue(options.restore_catalogue);
  if (options.canary_share.has_value()) message.mutable_header()->set_canary_share(*options.canary_share);
  for (const ExpertFile& file : files) {
    v1::PublishExpertRequest::File* entry = message.mutable_header()->add_files();
    entry->set_name(file.name);
    entry->set_size_bytes(file.content.size());
    entry->set_sha256(Sha256(file.content).ToHex());
  }
  bool open = writer->Write(message);
  for (size_t i = 0; open && i < files.size(); ++i) {
    for (size_t at = 0; open && at < files[i].content.size(); at += kChunkBytes) {
      message.Clear();
      message.mutable_chunk()->set_file_index(static_cast<uint32_t>(i));
      message.mutable_chunk()->set_data(files[i].content.substr(at, kChunkBytes));
      open = writer->Write(message);
    }
  }
  return open;
}

void Authorize(const std::string& api_key, grpc::ClientContext* context) {
  if (!api_key.empty()) context->AddMetadata("authorization", "Bearer " + api_key);
}

// The key of a file, or its problem.
Status ReadApiKey(const std::string& file, std::string* key) {
  constexpr size_t kMaxBytes = 4096;
  ASSIGN_OR_RETURN(*key, ReadFile(file, kMaxBytes));
  absl::StripAsciiWhitespace(key);
  if (!key->empty() && std::all_of(key->begin(), key->end(), absl::ascii_isgraph)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(file, " holds no API key: one line of text is expected"));
}

// One unary call with its deadline and cancellation. `api_key`: empty for operators.
template <typename Response, typename Request, typename Stub>
StatusOr<Response> Unary(Cancellation* cancellation, const std::string& api_key, absl::Duration timeout,
                         Stub* stub,
                         grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                         const Request& request) {
  grpc::ClientContext context;
  Authorize(api_key, &context);
  context.set_deadline(net::GrpcDeadline(timeout));
  const CancellableCall registration(cancellation, &context);
  Response response;
  RETURN_IF_ERROR(FromGrpc((stub->*method)(&context, request, &response)));
  return response;
}

}  // namespace

Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  // gRPC's own refusal of a message for its size has the code of a full queue, and would be refused again.
  if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED &&
      status.error_message().find("message larger than max") != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the request or its answer is too large to be sent in one message: ", status.error_message(),
        "; ask for less at once"));
  }
  return Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

Client::Client(ClientOptions options) : options_(std::move(options)), setup_(SetUp()) {}

Status Client::SetUp() {
  if (!options_.api_key_file.empty()) {
    RETURN_IF_ERROR(ReadApiKey(options_.api_key_file, &options_.api_key));
  }
  auto credentials = grpc::InsecureChannelCredentials();
  if (options_.use_tls || options_.tls.any()) {
    ASSIGN_OR_RETURN(const net::TlsMaterial material, net::ReadTlsMaterial(options_.tls));
    credentials = net::TlsChannelCredentials(material);
  }
  channel_ = MakeChannel(options_.address, credentials);
  admin_channel_ = MakeChannel(options_.admin_address, credentials);
  generation_ = v1::GenerationService::NewStub(channel_);
  cluster_ = v1::ClusterService::NewStub(channel_);
  experts_ = v1::ExpertService::NewStub(admin_channel_);
  return absl::OkStatus();
}

Status Client::Reach(grpc::Channel* channel, const std::string& address) {
  const MonotonicTime deadline = MonotonicNow() + options_.connect_timeout;
  grpc_connectivity_state state = channel->GetState(/*try_to_connect=*/true);
  while (state != GRPC_CHANNEL_READY) {
    // Short waits, so that Ctrl-C is heard.
    channel->WaitForStateChange(state, net::GrpcDeadline(absl::Milliseconds(100)));
    if (options_.cancellation != nullptr && options_.cancellation->cancelled()) {
      return absl::CancelledError("interrupted");
    }
    state = channel->GetState(true);
    if (state != GRPC_CHANNEL_READY && MonotonicNow() >= deadline) {
      return absl::UnavailableError(absl::StrCat(
          "no gateway answers at ", address,
          options_.use_tls || options_.tls.any() ? " over TLS, or its certificate is not one that we "
                                                   "believe for that host (--tls-ca)"
                                                 : "; start one with `coterie up`, or name another address "
                                                   "(where the gateway speaks TLS, say --tls or --tls-ca)"));
    }
  }
  return absl::OkStatus();
}

Status Client::Generate(const v1::GenerateRequest& request, absl::Duration timeout,
                        const std::function<void(const v1::GenerateResponse&)>& on_event) {
  RETURN_IF_ERROR(setup_);
  RETURN_IF_ERROR(Reach(channel_.get(), options_.address));
  grpc::ClientContext context;
  Authorize(options_.api_key, &context);
  context.set_deadline(net::GrpcDeadline(timeout));
  const CancellableCall registration(options_.cancellation, &context);
  const auto reader = generation_->Generate(&context, request);
  v1::GenerateResponse event;
  while (reader->Read(&event)) on_event(event);
  return FromGrpc(reader->Finish());
}

StatusOr<v1::RouteResponse> Client::Route(const v1::RouteRequest& request) {
  RETURN_IF_ERROR(setup_);
  RETURN_IF_ERROR(Reach(channel_.get(), options_.address));
  return Unary(options_.cancellation, options_.api_key, kUnaryTimeout, generation_.get(),
               &v1::GenerationService::Stub::Route, request);
}

StatusOr<v1::ScoreResponse> Client::Score(const v1::ScoreRequest& request) {
  RETURN_IF_ERROR(setup_);
  RETURN_IF_ERROR(Reach(channel_.get(), options_.address));
  return Unary(options_.cancellation, options_.api_key, absl::InfiniteDuration(), generation_.get(),
               &v1::GenerationService::Stub::Score, request);
}

StatusOr<v1::EmbedResponse> Client::Embed(const v1::EmbedRequest& request) {
  RETURN_IF_ERROR(setup_);
  RETURN_IF_ERROR(Reach(channel_.get(), options_.address));
  return Unary(options_.cancellation, options_.api_key, kUnaryTimeout, generation_.get(),
               &v1::GenerationService::Stub::Embed, request);
}

StatusOr<v1::StatusResponse> Client::ClusterStatus(absl::Duration timeout) {
  RETURN_IF_ERROR(setup_);
  RETURN_IF_ERROR(Reach(channel_.get(), options_.address));
  return Unary(options_.cancellation, options_.api_key, timeout, cluster_.get(),
               &v1::ClusterService::Stub::Status, v1::StatusRequest());
}

StatusOr<v1::ListExpertsResponse> Client::ListExperts(const v1::ListExpertsRequest& request) {
  RETURN_IF_ERROR(setup_);
  RETURN_IF_ERROR(Reach(admin_channel_.get(), options_.admin_address));
  return Unary(options_.cancellation, "", kUnaryTimeout, experts_.get(), &v1::ExpertService::Stub::List,
               request);
}

template <typename Request, typename Response>
StatusOr<Response> Client::CallByName(const std::string& name,
                                      grpc::Status (v1::ExpertService::Stub::*method)(grpc::ClientContext*,
                                                                                      const Request&,
                                                                                      Response*),
                                      Request request) {
  RETURN_IF_ERROR(setup_);
  RETURN_IF_ERROR(Reach(admin_channel_.get(), options_.admin_address));
  request.set_name(name);
  return Unary(options_.cancellation, "", kUnaryTimeout, experts_.get(), method, request);
}

StatusOr<v1::GetExpertResponse> Client::GetExpert(const std::string& name) {
  return CallByName(name, &v1::ExpertService::Stub::Get);
}

StatusOr<v1::RemoveExpertResponse> Client::RemoveExpert(const std::string& name, bool force) {
  v1::RemoveExpertRequest request;
  request.set_force(force);
  return CallByName(name, &v1::ExpertService::Stub::Remove, std::move(request));
}

StatusOr<v1::SwapMemberResponse> Client::SwapMember(v1::SwapMemberRequest request) {
  const std::string name = request.name();
  return CallByName(name, &v1::ExpertService::Stub::SwapMember, std::move(request));
}

StatusOr<v1::PromoteExpertResponse> Client::PromoteExpert(const std::string& name) {
  return CallByName(name, &v1::ExpertService::Stub::Promote);
}

StatusOr<v1::RollBackExpertResponse> Client::RollBackExpert(const std::string& name) {
  return CallByName(name, &v1::ExpertService::Stub::RollBack);
}

StatusOr<v1::PublishExpertResponse> Client::PublishExpert(const ExpertFolder& expert,
                                                          const PublishOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<ExpertFile> files, ReadExpertFolder(expert.folder));
  return PublishFiles(expert.name, files, options);
}

template <typename Response>
StatusOr<Response> Client::SendFiles(const std::string& name, std::span<const ExpertFile> files,
                                     const PublishOptions& options,
                                     std::unique_ptr<grpc::ClientWriter<v1::PublishExpertRequest>> (
                                         v1::ExpertService::Stub::*method)(grpc::ClientContext*, Response*)) {
  RETURN_IF_ERROR(setup_);
  RETURN_IF_ERROR(Reach(admin_channel_.get(), options_.admin_address));
  grpc::ClientContext context;
  context.set_deadline(net::GrpcDeadline(kPublishTimeout));
  const CancellableCall registration(options_.cancellation, &context);
  Response response;
  const auto writer = (experts_.get()->*method)(&context, &response);
  if (SendExpert(name, files, options, writer.get())) writer->WritesDone();
  RETURN_IF_ERROR(FromGrpc(writer->Finish()));
  return response;
}

StatusOr<v1::PublishExpertResponse> Client::PublishFiles(const std::string& name,
                                                         std::span<const ExpertFile> files,
                                                         const PublishOptions& options) {
  return SendFiles(name, files, options, &v1::ExpertService::Stub::Publish);
}

Status Client::CheckFiles(const std::string& name, std::span<const ExpertFile> files,
                          const PublishOptions& options) {
  return SendFiles(name, files, options, &v1::ExpertService::Stub::Check).status();
}

StatusOr<PublishResults> Client::PublishExperts(std::span<const ExpertFolder> experts,
                                                const PublishOptions& options) {
  RETURN_IF_ERROR(setup_);
  RETURN_IF_ERROR(Reach(admin_channel_.get(), options_.admin_address));
  grpc::ClientContext context;
  context.set_deadline(
      net::GrpcDeadline(kPublishTimeout + absl::Seconds(1) * static_cast<int64_t>(experts.size())));
  const CancellableCall registration(options_.cancellation, &context);
  const auto stream = experts_->PublishMany(&context);
  PublishResults results;
  std::vector<size_t> sent;  // which of them have an answer to come
  bool open = true;
  for (size_t i = 0; open && i < experts.size(); ++i) {
    const StatusOr<std::vector<ExpertFile>> files = ReadExpertFolder(experts[i].folder);
    results.emplace_back(files.ok() ? absl::UnknownError("the gateway says nothing of it") : files.status());
    if (!files.ok()) continue;
    sent.push_back(i);
    open = SendExpert(experts[i].name, *files, options, stream.get());
  }
  if (open) stream->WritesDone();
  while (results.size() < experts.size()) results.emplace_back(absl::UnknownError("it was not sent"));
  v1::PublishManyResponse answer;
  size_t n_answers = 0;
  while (stream->Read(&answer)) {
    if (n_answers == sent.size())
      return absl::InternalError("the gateway answers for more experts than were sent");
    StatusOr<v1::PublishExpertResponse>& result = results[sent[n_answers++]];
    if (answer.has_published()) {
      result = std::move(*answer.mutable_published());
    } else if (answer.code() != 0) {
      result = Status(static_cast<absl::StatusCode>(answer.code()), answer.message());
    }
  }
  const Status status = FromGrpc(stream->Finish());
  if (absl::IsUnimplemented(status)) {
    results.clear();
    for (const ExpertFolder& expert : experts) results.push_back(PublishExpert(expert, options));
    return results;
  }
  RETURN_IF_ERROR(status);
  return results;
}

}  // namespace coterie::client
