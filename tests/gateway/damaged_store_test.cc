// A gateway over a store of which something is damaged: what still works, what it says, and how it is mended.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "coterie/v1/cluster.grpc.pb.h"
#include "coterie/v1/expert.grpc.pb.h"
#include "gateway/watch/live_metrics.h"
#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

class DamagedStoreTest : public ::testing::Test {
 protected:
  ~DamagedStoreTest() override { fs::remove_all(folder_); }

  fs::path Root() const { return folder_ / "store"; }
  fs::path PrototypesOf(const ExpertStore& store, const std::string& name) const {
    return Root() / "cards" / store.Snapshot()->Find(name)->live.revision.ToHex() / kPrototypesFile;
  }

  void Start(bool with_embedder = true) {
    GatewayOptions options = QuickOptions({worker_.address()});
    options.admin_listen = "127.0.0.1:0";
    options.catalogue_poll = absl::Milliseconds(20);
    ExpertStoreOptions store_options = TestOptions();
    auto store = ExpertStore::Open(Root(), std::move(store_options));
    ASSERT_TRUE(store.ok()) << store.status();
    gateway_ = std::make_unique<TestGateway>(options, with_embedder, *std::move(store));
    ASSERT_TRUE(gateway_->Ready(1));
    const auto channel = [](int port) {
      return grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials());
    };
    cluster_ = v1::ClusterService::NewStub(channel(gateway_->server->port()));
    experts_ = v1::ExpertService::NewStub(channel(gateway_->server->admin_port()));
  }

  // The expert that a question is routed to, or "base".
  std::string Routed(const std::string& question) {
    grpc::ClientContext context;
    v1::RouteRequest request;
    request.set_prompt(question);
    v1::RouteResponse response;
    const grpc::Status status = gateway_->stub->Route(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.decision().experts_size() == 0 ? "base" : response.decision().experts(0).name();
  }
  grpc::Status AskByName(const std::string& name) {
    v1::GenerateRequest request = BaseRequest(1, 3);
    request.set_expert(name);
    return Ask(gateway_->stub.get(), request).status;
  }
  std::vector<std::string> Findings() {
    grpc::ClientContext context;
    v1::StatusResponse status;
    EXPECT_TRUE(cluster_->Status(&context, {}, &status).ok());
    return {status.findings().begin(), status.findings().end()};
  }
  double Metric(const std::string& name) {
    for (const auto& family : LiveMetrics(&gateway_->server->core()).Collect()) {
      if (family.name == name) return family.metric.at(0).gauge.value;
    }
    ADD_FAILURE() << "no metric " << name;
    return -1;
  }

  // Header and files of the expert folder `folder`, as a client sends them.
  static std::vector<v1::PublishExpertRequest> MessagesOf(const fs::path& folder, bool restore = false) {
    std::vector<v1::PublishExpertRequest> messages(1);
    messages[0].mutable_header()->set_name(folder.filename().string());
    messages[0].mutable_header()->set_restore_catalogue(restore);
    uint32_t index = 0;
    for (const std::string_view name : {kConfigFile, kWeightsFile, kCardFile, kPrototypesFile}) {
      const std::string content = ReadFile(folder / name, 1 << 20).value();
      auto* file = messages[0].mutable_header()->add_files();
      file->set_name(std::string(name));
      file->set_size_bytes(content.size());
      messages.emplace_back().mutable_chunk()->set_file_index(index++);
      messages.back().mutable_chunk()->set_data(content);
    }
    return messages;
  }
  grpc::Status Publish(const fs::path& folder, v1::PublishExpertResponse* response, bool restore = false) {
    grpc::ClientContext context;
    const auto writer = experts_->Publish(&context, response);
    for (const auto& message : MessagesOf(folder, restore)) writer->Write(message);
    writer->WritesDone();
    return writer->Finish();
  }
  grpc::Status PublishMany(const std::vector<v1::PublishExpertRequest>& messages,
                           std::vector<v1::PublishManyResponse>* answers) {
    grpc::ClientContext context;
    const auto stream = experts_->PublishMany(&context);
    for (const auto& message : messages) stream->Write(message);
    stream->WritesDone();
    v1::PublishManyResponse answer;
    while (stream->Read(&answer)) answers->push_back(answer);
    return stream->Finish();
  }
  // An expert folder whose prototype is what FakeEmbedder makes of `name`.
  fs::path FolderOf(const std::string& name, const std::string& weights, std::string_view metadata = "") {
    const fs::path source = folder_ / "sources" / name;
    WriteExpert(source, {.name = name, .weights = weights});
    const std::vector<float> prototype = FakeEmbedder::VectorOf(name);
    std::ofstream(source / kPrototypesFile, std::ios::binary)
        << SafetensorsOf("prototypes", {1, static_cast<int64_t>(prototype.size())}, prototype, metadata);
    return source;
  }

  const fs::path folder_ = FreshFolder();
  FakeWorker worker_{{}};
  std::unique_ptr<TestGateway> gateway_;
  std::unique_ptr<v1::ClusterService::Stub> cluster_;
  std::unique_ptr<v1::ExpertService::Stub> experts_;
};

TEST_F(DamagedStoreTest, OneBadCardKeepsNoGatewayFromStartingAndFreezesNothing) {
  const auto store = StoreWith(folder_, {"algebra", "botany", "chemistry"});
  const fs::path prototypes = PrototypesOf(*store, "botany");
  const std::string good = ReadFile(prototypes, 1 << 20).value();
  fs::remove(prototypes);
  Start();
  EXPECT_EQ(Routed("a question"), "algebra");
  EXPECT_EQ(Routed("c question"), "chemistry");
  EXPECT_EQ(Routed("b question"), "base");
  EXPECT_TRUE(AskByName("botany").ok());
  ASSERT_THAT(Findings(),
              ElementsAre(HasSubstr("expert botany answers by its name only and is not routed to: ")));
  EXPECT_EQ(Findings()[0].find(folder_.string()), std::string::npos)
      << "a path of the server: " << Findings()[0];
  EXPECT_EQ(Metric("coterie_experts_unroutable"), 1);

  // New generations are followed, by this gateway and from another publisher.
  v1::PublishExpertResponse response;
  ASSERT_TRUE(Publish(FolderOf("drama", "d"), &response).ok());
  EXPECT_EQ(Routed("d question"), "drama");
  ASSERT_TRUE(store->Publish(FolderOf("ethics", "e")).ok());
  EXPECT_TRUE(Eventually([&] { return Routed("e question") == "ethics"; }));
  EXPECT_EQ(Findings().size(), 1u);

  // The file comes back, with no new generation: it is tried again.
  std::ofstream(prototypes, std::ios::binary) << good;
  EXPECT_TRUE(Eventually([&] { return Routed("b question") == "botany"; }));
  EXPECT_THAT(Findings(), IsEmpty());
  EXPECT_EQ(Metric("coterie_experts_unroutable"), 0);
}

TEST_F(DamagedStoreTest, ACardThatIsNoUtf8CanBeSeen) {
  const auto store = StoreWith(folder_, {"algebra"});
  const fs::path card = PrototypesOf(*store, "algebra").parent_path() / kCardFile;
  std::ofstream(card, std::ios::binary | std::ios::app) << "# \xff\n";
  Start();
  grpc::ClientContext context;
  v1::GetExpertRequest request;
  request.set_name("algebra");
  v1::GetExpertResponse response;
  const grpc::Status status = experts_->Get(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(response.card(), HasSubstr("# \xEF\xBF\xBD"));
}

TEST_F(DamagedStoreTest, PublishingAgainMendsACardAtOnceAndSaysSo) {
  const auto store = StoreWith(folder_, {"algebra", "botany"});
  const fs::path prototypes = PrototypesOf(*store, "botany");
  fs::resize_file(prototypes, 20);
  Start();
  EXPECT_EQ(Routed("b question"), "base");
  v1::PublishExpertResponse response;
  ASSERT_TRUE(Publish(folder_ / "botany", &response).ok());
  EXPECT_TRUE(response.already_published());
  EXPECT_TRUE(response.repaired());
  EXPECT_EQ(Routed("b question"), "botany");
}

TEST_F(DamagedStoreTest, PrototypesThatDoNotFitTheEmbedderAreNamedAndPassedOver) {
  const auto store = StoreWith(folder_, {"algebra"});
  // As gateways publish that run another embedder, or none.
  WriteExpert(folder_ / "wide", {.name = "wide", .weights = "w"});
  ASSERT_TRUE(store->Publish(folder_ / "wide").ok());
  ASSERT_TRUE(store
                  ->Publish(FolderOf("botany", "b",
                                     absl::StrCat("{\"embedder\":\"bge-small\",\"embedder_digest\":\"",
                                                  Sha256("another embedder").ToHex(), "\"}")))
                  .ok());
  ASSERT_TRUE(
      store
          ->Publish(FolderOf("chemistry", "c",
                             absl::StrCat("{\"embedder_digest\":\"", FakeEmbedder().digest().ToHex(), "\"}")))
          .ok());
  Start();
  EXPECT_EQ(Routed("a question"), "algebra");
  EXPECT_EQ(Routed("b question"), "base");
  EXPECT_EQ(Routed("c question"), "chemistry");
  EXPECT_THAT(Findings(), ElementsAre(HasSubstr("(bge-small), this gateway routes with"),
                                      HasSubstr("has dimension 3, the embedder here has 26")));
  EXPECT_TRUE(AskByName("botany").ok());
  v1::ListExpertsResponse list;
  grpc::ClientContext context;
  ASSERT_TRUE(experts_->List(&context, {}, &list).ok());
  ASSERT_EQ(list.experts_size(), 4);
  EXPECT_EQ(list.experts(1).findings_size(), 1);
  EXPECT_EQ(list.experts(2).findings_size(), 0);
}

TEST_F(DamagedStoreTest, WithoutAnEmbedderEveryExpertAnswersByItsName) {
  StoreWith(folder_, {"algebra"});
  Start(/*with_embedder=*/false);
  EXPECT_TRUE(AskByName("algebra").ok());
  EXPECT_THAT(Findings(), IsEmpty());
}

TEST_F(DamagedStoreTest, ALostCatalogueIsSaidServedOnAndRestoredOnlyWhenAsked) {
  const auto store = StoreWith(folder_, {"algebra", "botany"});
  Start();
  fs::remove(Root() / "catalogue.json");
  EXPECT_TRUE(Eventually([&] { return Metric("coterie_catalogue_lost") == 1; }));
  EXPECT_THAT(Findings(), ElementsAre(HasSubstr("catalogue.json is missing")));
  EXPECT_EQ(Routed("a question"), "algebra");

  const fs::path drama = FolderOf("drama", "d");
  v1::PublishExpertResponse response;
  const grpc::Status refused = Publish(drama, &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(refused.error_message(), HasSubstr("--restore-catalogue"));

  // A gateway that starts now serves the copy.
  gateway_.reset();
  Start();
  EXPECT_EQ(Routed("b question"), "botany");
  EXPECT_THAT(Findings(), ElementsAre(HasSubstr("its copy of generation 2")));

  const grpc::Status restored = Publish(drama, &response, /*restore=*/true);
  ASSERT_TRUE(restored.ok()) << restored.error_message();
  EXPECT_EQ(Routed("d question"), "drama");
  EXPECT_EQ(Routed("a question"), "algebra");
  EXPECT_THAT(Findings(), IsEmpty());
  EXPECT_EQ(Metric("coterie_catalogue_lost"), 0);
}

TEST_F(DamagedStoreTest, ADamagedExpertOfTheCatalogueIsSaid) {
  StoreWith(folder_, {"algebra", "botany"});
  fs::remove_all(Root() / "generations");
  std::string text = ReadFile(Root() / "catalogue.json", 1 << 20).value();
  text.replace(text.rfind("\"licence\""), 9, "\"license\"");
  std::ofstream(Root() / "catalogue.json", std::ios::binary | std::ios::trunc) << text;
  Start();
  EXPECT_EQ(Routed("a question"), "algebra");
  EXPECT_EQ(AskByName("botany").error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(Findings(), ElementsAre(HasSubstr("expert botany: field licence is missing")));
  EXPECT_EQ(Metric("coterie_catalogue_experts_damaged"), 1);
}

TEST_F(DamagedStoreTest, WhatIsTooLargeIsRefusedByItsHeaderBeforeAnyByteCame) {
  StoreWith(folder_, {});
  Start();
  auto huge = MessagesOf(FolderOf("algebra", "a"));
  huge[0].mutable_header()->mutable_files(1)->set_size_bytes(uint64_t{1} << 50);
  auto unknown = MessagesOf(FolderOf("botany", "b"));
  unknown[0].mutable_header()->mutable_files(0)->set_name("../notes.txt");
  std::vector<v1::PublishExpertRequest> messages = {huge[0], unknown[0]};  // headers alone
  const auto sound = MessagesOf(FolderOf("chemistry", "c"));
  messages.insert(messages.end(), sound.begin(), sound.end());
  std::vector<v1::PublishManyResponse> answers;
  const grpc::Status status = PublishMany(messages, &answers);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0].code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(answers[0].message(), HasSubstr("1125899906842624 bytes, which is more than the limit of"));
  EXPECT_THAT(answers[1].message(), HasSubstr("\"../notes.txt\" is not one of an expert's"));
  EXPECT_EQ(answers[2].published().expert().name(), "chemistry");
}

TEST_F(DamagedStoreTest, ManyArePublishedInOneGenerationAndARefusedOneStopsNoneOfTheOthers) {
  StoreWith(folder_, {});
  Start();
  std::vector<v1::PublishExpertRequest> messages;
  const auto add = [&](std::vector<v1::PublishExpertRequest> more) {
    messages.insert(messages.end(), more.begin(), more.end());
  };
  add(MessagesOf(FolderOf("algebra", "a")));
  add(MessagesOf(FolderOf("botany", "bad weights")));
  auto garbled = MessagesOf(FolderOf("chemistry", "c"));
  garbled[0].mutable_header()->mutable_files(1)->set_sha256(std::string(64, '0'));
  add(garbled);
  auto too_much = MessagesOf(FolderOf("drama", "d"));
  too_much[2].mutable_chunk()->set_data("more than was promised");
  add(too_much);
  auto cut_short = MessagesOf(FolderOf("ethics", "e"));
  cut_short.pop_back();
  add(cut_short);
  add(MessagesOf(FolderOf("french", "f")));
  std::vector<v1::PublishManyResponse> answers;
  const grpc::Status status = PublishMany(messages, &answers);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(answers.size(), 6u);
  EXPECT_EQ(answers[0].published().expert().name(), "algebra");
  EXPECT_EQ(answers[0].published().catalogue_generation(), 1u);
  EXPECT_THAT(answers[1].message(), HasSubstr("use_dora"));
  EXPECT_EQ(answers[1].code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(answers[2].message(), HasSubstr("its SHA-256 is"));
  EXPECT_THAT(answers[3].message(), HasSubstr("more than the 1 bytes"));
  EXPECT_THAT(answers[4].message(), HasSubstr("prototypes.safetensors: 0 bytes came"));
  EXPECT_EQ(answers[5].published().catalogue_generation(), 1u);
  EXPECT_EQ(Routed("f question"), "french");
  EXPECT_EQ(Routed("b question"), "base");

  // Nothing at all, and something that is no publication.
  answers.clear();
  EXPECT_TRUE(PublishMany({}, &answers).ok());
  EXPECT_TRUE(answers.empty());
  EXPECT_EQ(PublishMany({messages[1]}, &answers).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(std::distance(fs::directory_iterator(Root() / "staging"), fs::directory_iterator()), 0);
}

}  // namespace
}  // namespace coterie::gateway::testing
