// What the worker's port says to those who do not know it, or do not speak as they should.
#include "tests/net/raw_call.h"
#include "tests/worker/service/test_gateway.h"

namespace coterie::worker {
namespace {

using net::testing::CallRaw;
using net::testing::Reflection;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kAttach[] = "/coterie.v1.WorkerService/Attach";

TEST(WireTest, AStreamOfWhatIsNoMessageIsRefused) {
  TestWorker worker;
  net::testing::ExpectRefusesWhatIsNoMessage(worker.address(), "coterie.v1.WorkerService");
  // hello { gateway_id: "ab\xff" }
  EXPECT_EQ(
      CallRaw(worker.address(), kAttach,
              {"\x0a\x05\x12\x03"
               "ab\xff"})
          .status.error_message(),
      "the request is no coterie.v1.GatewayMessage: its field 'hello.gateway_id' holds bytes that are not "
      "UTF-8; send text in UTF-8");
}

TEST(WireTest, AMessageThatIsNoneInTheMiddleOfAStreamEndsItAndTheWorkerLivesOn) {
  TestWorker worker;
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  v1::GatewayMessage hello;
  hello.mutable_hello()->set_protocol_version(1);
  hello.mutable_hello()->set_gateway_id("other");
  hello.mutable_hello()->set_base_digest(TestGateway::Options().base.ToBytes());
  hello.mutable_hello()->set_tokenizer_digest(TestGateway::Options().tokenizer.ToBytes());
  const grpc::Status status =
      CallRaw(worker.address(), kAttach, {hello.SerializeAsString(), "\xff\xff\xff"}).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("its 3 bytes do not parse"));
  gateway.Submit(1, std::vector<uint32_t>{1, 2, 3}, 5);
  EXPECT_TRUE(gateway.WaitFinished(1));
}

TEST(WireTest, AMethodThatIsNotThereIsNamedAndSoIsWhatIsServed) {
  TestWorker worker;
  const grpc::Status status =
      CallRaw(worker.address(), "/coterie.v1.GenerationService/Generate", {""}).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(),
              HasSubstr("this port has no method /coterie.v1.GenerationService/Generate; it serves "
                        "coterie.v1.WorkerService"));
}

TEST(WireTest, WhatIsRefusedBeforeTheServiceSeesItIsCounted) {
  MetricsRegistry registry;
  TestWorker worker({}, {}, {}, &registry);
  const auto expect = [&](int messages, int methods) {
    const std::string page = registry.Text();
    EXPECT_THAT(page, HasSubstr(absl::StrCat("coterie_malformed_requests_total{code=\"INVALID_ARGUMENT\"} ",
                                             messages, "\n")));
    EXPECT_THAT(page, HasSubstr(absl::StrCat("coterie_malformed_requests_total{code=\"UNIMPLEMENTED\"} ",
                                             methods, "\n")));
  };
  expect(0, 0);
  CallRaw(worker.address(), kAttach, {"\xff\xff"});
  expect(1, 0);
  CallRaw(worker.address(), "/coterie.v1.GenerationService/Generate", {""});
  CallRaw(worker.address(), "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", {"\xff"});
  expect(2, 1);
}

TEST(WireTest, ReflectionDescribesAllThatItLists) {
  TestWorker worker;
  for (const char* version : {"v1", "v1alpha"}) {
    SCOPED_TRACE(version);
    const Reflection reflection(worker.address(), version);
    EXPECT_THAT(reflection.Services(), ElementsAre("coterie.v1.WorkerService", "grpc.health.v1.Health",
                                                   "grpc.reflection.v1.ServerReflection",
                                                   "grpc.reflection.v1alpha.ServerReflection"));
    reflection.ExpectDescribesAllItLists();
    reflection.ExpectRefusesWithASentence();
  }
}

}  // namespace
}  // namespace coterie::worker
