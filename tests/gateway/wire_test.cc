// What the gateway's ports say to those who do not know them, or do not speak as they should: reflection,
// requests that are no messages, methods that are not there.
#include "absl/strings/numbers.h"
#include "coterie/v1/expert.pb.h"
#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"
#include "tests/net/raw_call.h"

namespace coterie::gateway::testing {
namespace {

using net::testing::CallRaw;
using net::testing::Reflection;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class WireTest : public ::testing::Test {
 protected:
  static GatewayOptions Options() {
    GatewayOptions options = QuickOptions({"127.0.0.1:1"});  // nobody: no answer is generated here
    options.admin_listen = "127.0.0.1:0";
    return options;
  }
  std::string front() const { return absl::StrCat("127.0.0.1:", gateway_.server->port()); }
  std::string admin() const { return absl::StrCat("127.0.0.1:", gateway_.server->admin_port()); }

  TestGateway gateway_{Options(), /*with_embedder=*/true, StoreWith(FreshFolder(), {"law"})};
};

TEST_F(WireTest, EveryMethodRefusesARequestThatIsNoMessage) {
  for (const char* service : {"coterie.v1.GenerationService", "coterie.v1.ClusterService"}) {
    net::testing::ExpectRefusesWhatIsNoMessage(front(), service);
  }
  net::testing::ExpectRefusesWhatIsNoMessage(admin(), "coterie.v1.ClusterService");
  // A client none of whose folders can be read sends no expert, and tells why of each itself.
  net::testing::ExpectRefusesWhatIsNoMessage(admin(), "coterie.v1.ExpertService",
                                             /*may_be_empty=*/"PublishMany");
}

TEST_F(WireTest, TextThatIsNotUtf8IsNamedByItsField) {
  const auto message = [&](const std::string& request) {
    return CallRaw(front(), "/coterie.v1.GenerationService/Generate", {request}).status.error_message();
  };
  EXPECT_EQ(
      message("\x0a\x04"
              "ab\xff\xfe\x1a\x04"
              "base"),
      "the request is no coterie.v1.GenerateRequest: its field 'prompt' holds bytes that are not UTF-8; send "
      "text in UTF-8");
  // chat { messages { role: "user" content: "\xc0\x80" } }: an overlong zero.
  EXPECT_THAT(message(std::string("\x12\x0c\x0a\x0a\x0a\x04user\x12\x02\xc0\x80", 14)),
              HasSubstr("its field 'chat.messages.content' holds"));
  for (const char* bad :
       {"\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\x80", "a\xc3"}) {
    const std::string text = bad;
    EXPECT_THAT(message(std::string("\x0a") + static_cast<char>(text.size()) + text),
                HasSubstr("its field 'prompt' holds"));
  }
}

TEST_F(WireTest, AnUploadWithAMessageThatIsNonePublishesNothing) {
  v1::PublishExpertRequest header;
  header.mutable_header()->set_name("odd");
  const grpc::Status status =
      CallRaw(admin(), "/coterie.v1.ExpertService/Publish", {header.SerializeAsString(), "\xff\xff"}).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("the request is no coterie.v1.PublishExpertRequest"));
  const grpc::Status many =
      CallRaw(admin(), "/coterie.v1.ExpertService/PublishMany", {header.SerializeAsString(), "\xff\xff"})
          .status;
  EXPECT_EQ(many.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(many.error_message(), HasSubstr("the request is no coterie.v1.PublishExpertRequest"));
}

TEST_F(WireTest, RequestsThatAreMessagesAreStillAnswered) {
  const auto list = CallRaw(admin(), "/coterie.v1.ExpertService/List", {""});
  ASSERT_TRUE(list.status.ok()) << list.status.error_message();
  ASSERT_EQ(list.messages.size(), 1u);
  v1::ListExpertsResponse response;
  ASSERT_TRUE(response.ParseFromString(list.messages[0]));
  EXPECT_EQ(response.total(), 1u);
  EXPECT_TRUE(CallRaw(front(), "/coterie.v1.ClusterService/Status", {""}).status.ok());
  EXPECT_EQ(CallRaw(admin(), "/coterie.v1.ExpertService/Get", {"\x0a\x04none"}).status.error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(WireTest, AMessageThatIsTooLargeIsRefusedWithItsSize) {
  const std::string large = std::string("\x0a\x80\x80\x80\x04", 5) + std::string(8 << 20, 'a');
  for (const auto& [address, method] : {std::pair(front(), "/coterie.v1.GenerationService/Score"),
                                        std::pair(front(), "/coterie.v1.GenerationService/Generate"),
                                        std::pair(admin(), "/coterie.v1.ExpertService/Get"),
                                        std::pair(admin(), "/coterie.v1.ExpertService/Publish")}) {
    const grpc::Status status = CallRaw(address, method, {large}).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << method;
    EXPECT_THAT(status.error_message(), HasSubstr("larger than max")) << method;
  }
}

TEST_F(WireTest, AMethodThatIsNotThereIsNamedAndSoIsWhatIsServed) {
  for (const char* path : {"/coterie.v1.GenerationService/Nope", "/a.B/C", "/"}) {
    SCOPED_TRACE(path);
    const grpc::Status status = CallRaw(front(), path, {"", "\xff"}).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
    EXPECT_THAT(status.error_message(), HasSubstr("this port has no method /"));
    EXPECT_THAT(status.error_message(), HasSubstr("coterie.v1.GenerationService"));
  }
  EXPECT_THAT(CallRaw(front(), "/coterie.v1.ExpertService/List", {""}).status.error_message(),
              ::testing::Not(HasSubstr("serves coterie.v1.ExpertService")));
}

TEST_F(WireTest, WhatIsRefusedBeforeAServiceSeesItIsCounted) {
  const auto count = [&](const std::string& code) {
    const std::string page = gateway_.server->core().metrics->registry->Text();
    const std::string series = absl::StrCat("coterie_malformed_requests_total{code=\"", code, "\"} ");
    const size_t at = page.find(series);
    double value = -1;
    EXPECT_TRUE(
        at != std::string::npos &&
        absl::SimpleAtod(page.substr(at + series.size(), page.find('\n', at) - at - series.size()), &value))
        << page;
    return value;
  };
  EXPECT_EQ(count("INVALID_ARGUMENT"), 0);
  EXPECT_EQ(count("UNIMPLEMENTED"), 0);
  v1::PublishExpertRequest header;
  header.mutable_header()->set_name("odd");
  double n = 0;
  for (const auto& [address, service] :
       {std::pair(front(), "coterie.v1.GenerationService"), std::pair(front(), "coterie.v1.ClusterService"),
        std::pair(admin(), "coterie.v1.ClusterService"), std::pair(admin(), "coterie.v1.ExpertService")}) {
    const auto* described = google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(service);
    for (int i = 0; i < described->method_count(); ++i) {
      const std::string path = absl::StrCat("/", service, "/", described->method(i)->name());
      SCOPED_TRACE(path);
      CallRaw(address, path, {"\xff\xff\xff\xff"});
      EXPECT_EQ(count("INVALID_ARGUMENT"), ++n);
    }
  }
  // In the middle of a stream, no request at all, and on a port's own services.
  CallRaw(admin(), "/coterie.v1.ExpertService/Publish", {header.SerializeAsString(), "\xff\xff"});
  EXPECT_EQ(count("INVALID_ARGUMENT"), ++n);
  CallRaw(front(), "/coterie.v1.GenerationService/Score", {});
  CallRaw(admin(), "/coterie.v1.ExpertService/List", {});
  EXPECT_EQ(count("INVALID_ARGUMENT"), n += 2);
  CallRaw(front(), "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", {"\xff\xff"});
  EXPECT_EQ(count("INVALID_ARGUMENT"), ++n);
  EXPECT_EQ(count("UNIMPLEMENTED"), 0);
  CallRaw(front(), "/coterie.v1.GenerationService/Nope", {""});
  CallRaw(admin(), "/a.B/C", {""});
  EXPECT_EQ(count("UNIMPLEMENTED"), 2);
  // A request that a service refuses is its own.
  CallRaw(admin(), "/coterie.v1.ExpertService/Get", {"\x0a\x04none"});
  EXPECT_EQ(count("INVALID_ARGUMENT"), n);
}

TEST_F(WireTest, ReflectionDescribesAllThatItLists) {
  for (const char* version : {"v1", "v1alpha"}) {
    SCOPED_TRACE(version);
    const Reflection front_port(front(), version), admin_port(admin(), version);
    EXPECT_THAT(
        front_port.Services(),
        ElementsAre("coterie.v1.ClusterService", "coterie.v1.GenerationService", "grpc.health.v1.Health",
                    "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"));
    EXPECT_THAT(
        admin_port.Services(),
        ElementsAre("coterie.v1.ClusterService", "coterie.v1.ExpertService", "grpc.health.v1.Health",
                    "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"));
    front_port.ExpectDescribesAllItLists();
    admin_port.ExpectDescribesAllItLists();
    front_port.ExpectRefusesWithASentence();
    front_port.ExpectAnswersManyOnOneStream();
  }
}

}  // namespace
}  // namespace coterie::gateway::testing
