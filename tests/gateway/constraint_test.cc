// What an answer must be: what the worker is asked for, which worker, and what is refused before any is.
#include <optional>
#include <string>
#include <vector>

#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ConstraintTest : public ::testing::Test {
 protected:
  void Start(FakeWorker::Options first = {}, std::optional<FakeWorker::Options> second = std::nullopt) {
    GatewayOptions options = QuickOptions({});
    workers_.push_back(std::make_unique<FakeWorker>(first));
    if (second) workers_.push_back(std::make_unique<FakeWorker>(*second));
    for (const auto& worker : workers_) {
      absl::StrAppend(&options.workers, options.workers.empty() ? "" : ",", worker->address());
    }
    gateway_ = std::make_unique<TestGateway>(std::move(options), true, StoreWith(folder_, {"algebra"}));
    ASSERT_TRUE(gateway_->Ready(workers_.size()));
  }
  ~ConstraintTest() override { std::filesystem::remove_all(folder_); }

  static v1::GenerateRequest Schema(const std::string& schema) {
    v1::GenerateRequest request = BaseRequest(1, 20);
    request.mutable_sampling()->mutable_constraint()->set_json_schema(schema);
    return request;
  }
  Answer Send(const v1::GenerateRequest& request) { return Ask(gateway_->stub.get(), request); }

  const std::filesystem::path folder_ = FreshFolder();
  std::vector<std::unique_ptr<FakeWorker>> workers_;
  std::unique_ptr<TestGateway> gateway_;
};

TEST_F(ConstraintTest, TheWorkerIsToldWhatTheAnswerMustBe) {
  Start();
  ASSERT_TRUE(Send(Schema(R"({"type": "object"})")).status.ok());
  EXPECT_EQ(workers_[0]->last_submit().sampling().constraint().json_schema(), R"({"type": "object"})");
  v1::GenerateRequest request = BaseRequest(1, 20);
  request.mutable_sampling()->mutable_constraint()->set_regex("a+");
  ASSERT_TRUE(Send(request).status.ok());
  EXPECT_EQ(workers_[0]->last_submit().sampling().constraint().regex(), "a+");
  for (const char* text : {"yes", "no"})
    request.mutable_sampling()->mutable_constraint()->mutable_choice()->add_texts(text);
  ASSERT_TRUE(Send(request).status.ok());
  EXPECT_THAT(workers_[0]->last_submit().sampling().constraint().choice().texts(), ElementsAre("yes", "no"));
  ASSERT_TRUE(Send(BaseRequest(1, 20)).status.ok());
  EXPECT_FALSE(workers_[0]->last_submit().sampling().has_constraint());
}

TEST_F(ConstraintTest, WhatIsNotServedIsRefusedBeforeAnyWorkerIsAsked) {
  Start();
  const auto expect = [&](const v1::GenerateRequest& request, const std::string& words) {
    const Answer answer = Send(request);
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << words;
    EXPECT_THAT(answer.status.error_message(), HasSubstr(words));
  };
  expect(Schema(R"({"type": "array", "uniqueItems": true})"),
         "sampling.constraint: JSON schema at #: keyword \"uniqueItems\" is not served");
  expect(Schema(""), "JSON schema");
  expect(Schema(std::string(70'000, ' ')), "at most 65536");
  v1::GenerateRequest request = BaseRequest(1, 20);
  request.mutable_sampling()->mutable_constraint()->set_regex("(?=a)");
  expect(request, "lookaround");
  request.mutable_sampling()->mutable_constraint()->mutable_choice();
  expect(request, "a choice among nothing");
  request = Schema("true");
  request.mutable_sampling()->set_ignore_eos(true);
  expect(request, "ignore_eos");
  EXPECT_EQ(workers_[0]->submits(), 0u);
}

// An older worker would answer without the constraint.
TEST_F(ConstraintTest, OnlyAWorkerThatHoldsAnswersToOneIsAsked) {
  Start({.worker_id = "old", .takes_constraints = false}, FakeWorker::Options{.worker_id = "new"});
  for (int i = 0; i < 5; ++i) {
    v1::GenerateRequest request = Schema("true");
    request.mutable_sampling()->set_seed(static_cast<uint64_t>(i));
    const Answer answer = Send(request);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.route.worker(), "new");
  }
  EXPECT_EQ(workers_[0]->submits(), 0u);
}

TEST_F(ConstraintTest, WithoutSuchAWorkerTheRequestIsRefusedByItsReason) {
  Start({.worker_id = "old", .takes_constraints = false});
  const Answer answer = Send(Schema("true"));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("no worker holds answers to one"));
  EXPECT_TRUE(Send(BaseRequest(1, 20)).status.ok());
}

}  // namespace
}  // namespace coterie::gateway::testing
