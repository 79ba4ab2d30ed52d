#include "tests/tools/fake_gateway.h"

#include <algorithm>

#include "absl/cleanup/cleanup.h"
#include "net/grpc_time.h"

namespace coterie {
namespace {

constexpr size_t kPageSize = 2;  // small, so that lists have pages

grpc::Status NoExpert(const std::string& name) {
  return {grpc::StatusCode::NOT_FOUND, "no expert is called '" + name + "'"};
}

// Of a card that begins with its name.
std::string NameOnCard(const std::string& card) {
  const size_t colon = card.find(": ");
  return colon == std::string::npos ? "" : card.substr(colon + 2, card.find('\n') - colon - 2);
}

}  // namespace

FakeGateway::FakeGateway() {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(static_cast<v1::GenerationService::Service*>(this));
  builder.RegisterService(static_cast<v1::ExpertService::Service*>(this));
  builder.RegisterService(static_cast<v1::ClusterService::Service*>(this));
  server_ = builder.BuildAndStart();
}

FakeGateway::~FakeGateway() { server_->Shutdown(net::GrpcDeadline(absl::ZeroDuration())); }

std::vector<v1::GenerateRequest> FakeGateway::requests() const {
  MutexLock lock(&mutex_);
  return requests_;
}

std::string FakeGateway::authorization() const {
  MutexLock lock(&mutex_);
  return authorization_;
}

std::map<std::string, std::string> FakeGateway::published() const {
  MutexLock lock(&mutex_);
  return published_;
}

void FakeGateway::FailWith(grpc::Status status) {
  MutexLock lock(&mutex_);
  failure_ = std::move(status);
}

void FakeGateway::DelayBy(absl::Duration delay) {
  MutexLock lock(&mutex_);
  delay_ = delay;
}

void FakeGateway::ForgetPublishMany() {
  MutexLock lock(&mutex_);
  knows_publish_many_ = false;
}

void FakeGateway::BreakPublishManyAfter(int n_calls) {
  MutexLock lock(&mutex_);
  most_publish_many_calls_ = n_calls;
}

int FakeGateway::publish_many_calls() const {
  MutexLock lock(&mutex_);
  return publish_many_calls_;
}

int FakeGateway::cancelled() const {
  MutexLock lock(&mutex_);
  return cancelled_;
}

int FakeGateway::most_running() const {
  MutexLock lock(&mutex_);
  return most_running_;
}

grpc::Status FakeGateway::Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                                   grpc::ServerWriter<v1::GenerateResponse>* writer) {
  absl::Duration delay;
  {
    MutexLock lock(&mutex_);
    requests_.push_back(*request);
    const auto authorization = context->client_metadata().find("authorization");
    authorization_ = authorization == context->client_metadata().end()
                         ? ""
                         : std::string(authorization->second.data(), authorization->second.size());
    if (!failure_.ok()) return failure_;
    delay = delay_;
    most_running_ = std::max(most_running_, ++running_);
  }
  const auto leave = absl::MakeCleanup([this] {
    MutexLock lock(&mutex_);
    --running_;
  });
  absl::SleepFor(delay);
  const std::string question =
      request->has_chat() ? request->chat().messages().rbegin()->content() : request->prompt();
  v1::GenerateResponse event;
  if (request->expert() != "base") {
    v1::ExpertScore* expert = event.mutable_route()->add_experts();
    expert->set_name(request->expert() == "auto" ? "postgres" : request->expert());
    expert->set_score(0.5F);
  }
  event.mutable_route()->set_reason("because");
  event.mutable_route()->set_embed_seconds(0.002);
  event.mutable_route()->set_search_seconds(0.001);
  writer->Write(event);
  event.mutable_delta()->set_text((request->expert().empty() ? "auto" : request->expert()) + ": ");
  writer->Write(event);
  event.mutable_delta()->set_text(question);
  writer->Write(event);
  if (question == "never ends") {
    while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(5));
    MutexLock lock(&mutex_);
    ++cancelled_;
    return grpc::Status::CANCELLED;
  }
  event.mutable_finish()->set_reason(v1::FINISH_REASON_STOP);
  event.mutable_finish()->set_worker("w0");
  event.mutable_finish()->mutable_usage()->set_prompt_tokens(10);
  event.mutable_finish()->mutable_usage()->set_completion_tokens(2);
  writer->Write(event);
  return grpc::Status::OK;
}

grpc::Status FakeGateway::Embed(grpc::ServerContext* context, const v1::EmbedRequest* request,
                                v1::EmbedResponse* response) {
  for (const std::string& text : request->texts()) {
    v1::Embedding* embedding = response->add_embeddings();
    for (int axis = 0; axis < 4; ++axis) {
      embedding->add_values(axis == 3 ? 0.6f : !text.empty() && text[0] - 'a' == axis ? 0.8f : 0.0f);
    }
  }
  response->set_model_digest(std::string(64, 'e'));
  return grpc::Status::OK;
}

grpc::Status FakeGateway::Route(grpc::ServerContext* context, const v1::RouteRequest* request,
                                v1::RouteResponse* response) {
  v1::ExpertScore* bees = response->mutable_decision()->add_candidates();
  bees->set_name("bees");
  bees->set_score(request->prompt().starts_with("b") ? 1.0f : 0.36f);
  return grpc::Status::OK;
}

grpc::Status FakeGateway::List(grpc::ServerContext*, const v1::ListExpertsRequest* request,
                               v1::ListExpertsResponse* response) {
  MutexLock lock(&mutex_);
  const size_t begin = request->page_token().empty() ? 0 : std::stoul(request->page_token());
  const size_t end = std::min(begin + kPageSize, experts_.size());
  for (size_t i = begin; i < end; ++i) {
    v1::ExpertInfo* info = response->add_experts();
    info->set_name(experts_[i]);
    info->set_digest(std::string(64, 'a'));
    info->set_description("about " + experts_[i]);
    info->add_tags("tag");
    const auto canary = canary_shares_.find(experts_[i]);
    if (canary != canary_shares_.end()) {
      info->mutable_canary()->set_digest(std::string(64, 'b'));
      info->mutable_canary()->set_version("2");
      info->mutable_canary()->set_share(canary->second);
    }
  }
  if (end < experts_.size()) response->set_next_page_token(std::to_string(end));
  response->set_catalogue_generation(7);
  return grpc::Status::OK;
}

grpc::Status FakeGateway::Get(grpc::ServerContext*, const v1::GetExpertRequest* request,
                              v1::GetExpertResponse* response) {
  MutexLock lock(&mutex_);
  if (std::find(experts_.begin(), experts_.end(), request->name()) == experts_.end())
    return NoExpert(request->name());
  response->mutable_expert()->set_name(request->name());
  response->mutable_expert()->set_licence("Apache-2.0");
  v1::ShadowReport* shadow = response->mutable_expert()->mutable_shadow();
  shadow->set_prompts(64);
  shadow->set_chosen_loss(3.0);
  shadow->set_base_loss(3.25);
  shadow->set_regret(0.125);
  shadow->set_canary_prompts(8);
  shadow->set_canary_difference(-0.25);
  v1::DriftReport* drift = response->mutable_expert()->mutable_drift();
  drift->set_questions(70);
  drift->set_mean_score(0.5);
  drift->set_reference_mean(0.625);
  drift->set_reference_n(400);
  response->mutable_expert()->add_findings("expert " + request->name() + ": look");
  response->set_card("name: " + request->name() + "\n\033[31mred\n");
  return grpc::Status::OK;
}

void FakeGateway::Arrival::Take(const v1::PublishExpertRequest& message) {
  if (message.has_header()) header = message.header();
  if (!message.has_chunk()) return;
  const int index = static_cast<int>(message.chunk().file_index());
  files[header.files(index).name()] += message.chunk().data();
}

grpc::Status FakeGateway::Publish(grpc::ServerContext*, grpc::ServerReader<v1::PublishExpertRequest>* reader,
                                  v1::PublishExpertResponse* response) {
  v1::PublishExpertRequest message;
  Arrival arrival;
  MutexLock lock(&mutex_);
  while (reader->Read(&message)) arrival.Take(message);
  return Enter(std::move(arrival), response);
}

grpc::Status FakeGateway::PublishMany(
    grpc::ServerContext*,
    grpc::ServerReaderWriter<v1::PublishManyResponse, v1::PublishExpertRequest>* stream) {
  MutexLock lock(&mutex_);
  if (!knows_publish_many_) return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "");
  if (publish_many_calls_ == most_publish_many_calls_) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the gateway is gone");
  }
  ++publish_many_calls_;
  v1::PublishExpertRequest message;
  std::vector<Arrival> arrivals;
  while (stream->Read(&message)) {
    if (message.has_header()) arrivals.emplace_back();
    arrivals.back().Take(message);
  }
  for (Arrival& arrival : arrivals) {
    v1::PublishManyResponse answer;
    answer.set_name(arrival.header.name());
    const grpc::Status status = Enter(std::move(arrival), answer.mutable_published());
    if (!status.ok()) {
      answer.clear_published();
      answer.set_code(status.error_code());
      answer.set_message(status.error_message());
    }
    stream->Write(answer);
  }
  return grpc::Status::OK;
}

grpc::Status FakeGateway::Enter(Arrival arrival, v1::PublishExpertResponse* response) {
  v1::PublishExpertRequest::Header& header = arrival.header;
  if (header.name().empty()) header.set_name(NameOnCard(arrival.files["expert.yaml"]));
  for (const auto& [file, content] : arrival.files) published_[header.name() + "/" + file] = content;
  if (header.name() == "bad") return {grpc::StatusCode::FAILED_PRECONDITION, "use_dora is not supported"};
  const bool known = std::find(experts_.begin(), experts_.end(), header.name()) != experts_.end();
  if (header.has_canary_share()) {
    if (!known) return NoExpert(header.name());
    canary_shares_[header.name()] = header.canary_share();
    response->set_canary(true);
    response->mutable_expert()->set_name(header.name());
    response->mutable_expert()->set_digest(std::string(64, 'a'));
    response->mutable_expert()->mutable_canary()->set_digest(std::string(64, 'b'));
    response->mutable_expert()->mutable_canary()->set_share(header.canary_share());
    response->set_catalogue_generation(9);
    return grpc::Status::OK;
  }
  if (!known) experts_.push_back(header.name());
  std::sort(experts_.begin(), experts_.end());
  response->mutable_expert()->set_name(header.name());
  response->mutable_expert()->set_digest(std::string(64, 'a'));
  response->set_repaired(header.name() == "mended");
  response->set_already_published(known);
  response->set_catalogue_generation(experts_.size());
  return grpc::Status::OK;
}

grpc::Status FakeGateway::Promote(grpc::ServerContext*, const v1::PromoteExpertRequest* request,
                                  v1::PromoteExpertResponse* response) {
  MutexLock lock(&mutex_);
  if (canary_shares_.erase(request->name()) == 0) {
    return {grpc::StatusCode::FAILED_PRECONDITION, "expert " + request->name() + " has no canary to promote"};
  }
  response->mutable_expert()->set_name(request->name());
  response->set_message("promoted " + request->name());
  return grpc::Status::OK;
}

grpc::Status FakeGateway::RollBack(grpc::ServerContext*, const v1::RollBackExpertRequest* request,
                                   v1::RollBackExpertResponse* response) {
  MutexLock lock(&mutex_);
  const bool withdrawn = canary_shares_.erase(request->name()) > 0;
  response->mutable_expert()->set_name(request->name());
  response->set_message((withdrawn ? "withdrew the canary of " : "rolled back to ") + request->name());
  return grpc::Status::OK;
}

grpc::Status FakeGateway::Remove(grpc::ServerContext*, const v1::RemoveExpertRequest* request,
                                 v1::RemoveExpertResponse* response) {
  MutexLock lock(&mutex_);
  const auto it = std::find(experts_.begin(), experts_.end(), request->name());
  if (it == experts_.end()) return NoExpert(request->name());
  experts_.erase(it);
  response->set_catalogue_generation(8);
  return grpc::Status::OK;
}

grpc::Status FakeGateway::Status(grpc::ServerContext*, const v1::StatusRequest*,
                                 v1::StatusResponse* response) {
  response->set_gateway_id("fake");
  response->add_findings("expert a: the base does better");
  return grpc::Status::OK;
}

}  // namespace coterie
