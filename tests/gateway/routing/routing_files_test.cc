#include "gateway/routing/routing_files.h"

#include <sys/resource.h>

#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "common/file.h"
#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string RulesError(std::string_view yaml) {
  const auto rules = ParseRules(yaml, "rules.yaml");
  EXPECT_FALSE(rules.ok()) << yaml;
  return std::string(rules.status().message());
}

TEST(ParseRulesTest, ADomainGoesToOneExpertOrTheFirstOfSeveral) {
  const auto rules = ParseRules("rules:\n  sql: postgres\n  csv: [pandas, python]\n", "rules.yaml");
  ASSERT_TRUE(rules.ok()) << rules.status();
  std::vector<std::string> pairs;
  for (const auto& rule : *rules) pairs.push_back(rule.domain + "=" + rule.expert);
  EXPECT_THAT(pairs, ElementsAre("sql=postgres", "csv=pandas", "csv=python"));
  EXPECT_TRUE(ParseRules("rules: {}\n", "rules.yaml").value().empty());
}

TEST(ParseRulesTest, WhatIsWrongIsNamedWithItsLineAndValue) {
  EXPECT_THAT(RulesError("rules:\n  sql: postgres\n  csv: \"Not A Name\"\n"),
              ::testing::AllOf(HasSubstr("rules.yaml line 3: field rules.csv"), HasSubstr("Not A Name")));
  EXPECT_THAT(RulesError("rules:\n  sql:\n    - postgres\n    - {a: b}\n"),
              HasSubstr("rules.yaml line 4: field rules.sql must be an expert's name"));
  EXPECT_THAT(RulesError("rules:\n  sql: []\n"), HasSubstr("line 2: field rules.sql names no expert"));
  EXPECT_THAT(RulesError("rules:\n  sql:\n"), HasSubstr("line 2: field rules.sql must be an expert's name"));
  EXPECT_THAT(RulesError("rules:\n  " + std::string(65, 'd') + ": postgres\n"),
              ::testing::AllOf(HasSubstr("line 2"), HasSubstr("has 65 bytes, the limits are 1 and 64")));
  EXPECT_THAT(RulesError("rules:\n  sql: postgres\n  sql: mysql\n"),
              HasSubstr("line 3: field \"sql\" appears twice"));
  EXPECT_THAT(RulesError("rules: [sql]\n"), HasSubstr("line 1: field rules must be a map"));
  EXPECT_THAT(RulesError("ruls:\n  sql: postgres\n"),
              HasSubstr("line 1: unknown field \"ruls\", want rules"));
  EXPECT_THAT(RulesError("- sql\n"), HasSubstr("line 1: want a map with the field rules"));
  EXPECT_THAT(RulesError("rules:\n  sql: *anchor\n"), HasSubstr("line 2"));
  EXPECT_THAT(RulesError("{}"), HasSubstr("the field rules is missing"));
  EXPECT_THAT(RulesError(std::string(RoutingFiles::kMaxRulesBytes + 1, '#')), HasSubstr("the limit is"));
}

// A safetensors file of F32 tensors.
struct NamedTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};
std::string SafetensorsOf(const std::vector<NamedTensor>& tensors, const std::string& metadata) {
  std::string header = "{\"__metadata__\":" + metadata, data;
  for (const NamedTensor& tensor : tensors) {
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * sizeof(float));
    absl::StrAppend(&header, ",\"", tensor.name, "\":{\"dtype\":\"F32\",\"shape\":[",
                    absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[", begin, ",", data.size(), "]}");
  }
  header += "}";
  const uint64_t n = header.size();
  return std::string(reinterpret_cast<const char*>(&n), sizeof(n)) + header + data;
}

std::string ClassifierOf(const std::string& classes, std::vector<float> weight, std::vector<float> bias,
                         int64_t dim) {
  return SafetensorsOf({{"weight", {static_cast<int64_t>(weight.size()) / dim, dim}, weight},
                        {"bias", {static_cast<int64_t>(bias.size())}, bias}},
                       "{\"classes\":\"" + classes + "\"}");
}

StatusOr<ClassifierWeights> Parse(const std::string& bytes, size_t dim = 2) {
  return ParseClassifier({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "weights", dim);
}

std::string ClassifierError(const std::string& bytes, size_t dim = 2) {
  const auto parsed = Parse(bytes, dim);
  EXPECT_FALSE(parsed.ok());
  return std::string(parsed.status().message());
}

TEST(ParseClassifierTest, ReadsNamesWeightsAndBias) {
  const auto parsed = Parse(ClassifierOf("postgres,python", {1, 2, 3, 4}, {5, 6}, 2));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_THAT(parsed->classes, ElementsAre("postgres", "python"));
  EXPECT_THAT(parsed->weights, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(parsed->bias, ElementsAre(5, 6));
}

TEST(ParseClassifierTest, WhatIsWrongIsNamed) {
  const std::string good = ClassifierOf("a,b", {1, 2, 3, 4}, {5, 6}, 2);
  EXPECT_THAT(ClassifierError(good, 3), HasSubstr("weights: weight has dimension 2, the embedder's is 3"));
  EXPECT_THAT(ClassifierError(good.substr(0, good.size() - 1)), HasSubstr("weights"));
  EXPECT_THAT(ClassifierError("not safetensors"), HasSubstr("weights"));
  EXPECT_THAT(ClassifierError(ClassifierOf("a", {1, 2, 3, 4}, {5, 6}, 2)),
              HasSubstr("classes names 1 experts, weight has 2 rows and bias 2 values"));
  EXPECT_THAT(ClassifierError(ClassifierOf("a,b", {1, 2, 3, 4}, {5}, 2)), HasSubstr("bias 1 values"));
  EXPECT_THAT(ClassifierError(ClassifierOf("a,a", {1, 2, 3, 4}, {5, 6}, 2)),
              HasSubstr("names class a twice"));
  EXPECT_THAT(ClassifierError(ClassifierOf("a,B b", {1, 2, 3, 4}, {5, 6}, 2)), HasSubstr("B b"));
  EXPECT_THAT(
      ClassifierError(ClassifierOf("a,b", {1, 2, 3, std::numeric_limits<float>::quiet_NaN()}, {5, 6}, 2)),
      HasSubstr("not a finite number"));
  const NamedTensor weight{"weight", {1, 2}, {1, 2}}, bias{"bias", {1}, {3}};
  EXPECT_THAT(ClassifierError(SafetensorsOf({weight, bias}, "{}")), HasSubstr("the metadata lacks classes"));
  EXPECT_THAT(ClassifierError(SafetensorsOf({weight}, "{\"classes\":\"a\"}")), HasSubstr("bias"));
  EXPECT_THAT(ClassifierError(SafetensorsOf({weight, bias, {"more", {1}, {3}}}, "{\"classes\":\"a\"}")),
              HasSubstr("unknown tensor \"more\""));
  EXPECT_THAT(ClassifierError(SafetensorsOf({{"weight", {2}, {1, 2}}, bias}, "{\"classes\":\"a\"}")),
              HasSubstr("tensor weight has type F32 and 1 dimensions, want F32 [classes, dim]"));
}

// A gateway over a store of two experts that reads routing files.
class RoutingFilesTest : public ::testing::Test {
 protected:
  ~RoutingFilesTest() override { std::filesystem::remove_all(folder_); }

  void WriteRules(const std::string& text) { ASSERT_TRUE(WriteFileAtomically(rules_, text).ok()); }
  // Bias decides: every question goes to `name`.
  void WriteClassifier(const std::string& name) {
    const std::vector<float> bias = {name == "algebra" ? 9.0f : 0.0f, name == "botany" ? 9.0f : 0.0f};
    const std::vector<float> weight(2 * FakeEmbedder::kDim, 0.0f);
    ASSERT_TRUE(
        WriteFileAtomically(classifier_, ClassifierOf("algebra,botany", weight, bias, FakeEmbedder::kDim))
            .ok());
  }
  GatewayOptions Options() const {
    GatewayOptions options = QuickOptions({"127.0.0.1:1"});
    options.catalogue_poll = absl::Milliseconds(20);
    options.rules_file = rules_;
    options.classifier_file = classifier_;
    return options;
  }
  v1::RouteDecision Route(const TestGateway& gateway, const std::string& tag,
                          const std::string& policy = "") {
    v1::RouteRequest request;
    request.set_prompt("a question");
    if (!tag.empty()) request.mutable_routing()->add_tags(tag);
    request.mutable_routing()->set_policy(policy);
    grpc::ClientContext context;
    v1::RouteResponse response;
    const grpc::Status status = gateway.stub->Route(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.decision();
  }
  std::string StartError(const GatewayOptions& options) {
    const auto started = GatewayServer::Start(options, FakeParts(true, StoreWith(folder_, {"algebra"})));
    EXPECT_FALSE(started.ok());
    return std::string(started.status().message());
  }

  const std::filesystem::path folder_ = FreshFolder();
  const std::string rules_ = (folder_ / "rules.yaml").string();
  const std::string classifier_ = (folder_ / "classifier.safetensors").string();
};

TEST_F(RoutingFilesTest, RulesComeBeforeThePolicyAndAreReadAgainWhenTheyChange) {
  WriteRules("rules:\n  plants: botany\n");
  WriteClassifier("algebra");
  TestGateway gateway(Options(), true, StoreWith(folder_, {"algebra", "botany"}));
  EXPECT_EQ(Route(gateway, "").experts(0).name(), "algebra");
  EXPECT_EQ(Route(gateway, "plants").reason(), "rule: domain=plants -> botany");
  EXPECT_EQ(Route(gateway, "numbers").policy(), "nearest");

  WriteRules("rules:\n  plants: algebra\n");
  EXPECT_TRUE(Eventually([&] { return Route(gateway, "plants").experts(0).name() == "algebra"; }));
  // What cannot be read changes nothing, until it can.
  WriteRules("rules:\n  plants: \"Not A Name\"\n");
  absl::SleepFor(absl::Milliseconds(100));
  EXPECT_EQ(Route(gateway, "plants").reason(), "rule: domain=plants -> algebra");
  WriteRules("rules:\n  plants: botany\n  numbers: algebra\n");
  EXPECT_TRUE(Eventually([&] { return Route(gateway, "numbers").policy() == "rules"; }));
  EXPECT_EQ(Route(gateway, "plants").experts(0).name(), "botany");
}

TEST_F(RoutingFilesTest, TheClassifierIsAPolicyByNameAndIsReadAgainWhenItChanges) {
  WriteRules("rules: {}\n");
  WriteClassifier("botany");
  TestGateway gateway(Options(), true, StoreWith(folder_, {"algebra", "botany"}));
  EXPECT_EQ(Route(gateway, "").experts(0).name(), "algebra");
  const v1::RouteDecision decision = Route(gateway, "", "classifier");
  ASSERT_EQ(decision.experts_size(), 1);
  EXPECT_EQ(decision.experts(0).name(), "botany");
  EXPECT_EQ(decision.policy(), "classifier");
  WriteClassifier("algebra");
  EXPECT_TRUE(Eventually([&] { return Route(gateway, "", "classifier").experts(0).name() == "algebra"; }));
}

TEST_F(RoutingFilesTest, AFileThatCouldNotBeReadIsTriedAgainThoughItDidNotChange) {
  WriteRules("rules:\n  plants: botany\n");
  RoutingFiles files(rules_, "", 0);
  coterie::RoutingOptions options;
  rlimit descriptors = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &descriptors), 0);
  const rlimit none = {0, descriptors.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const Status first = files.Refresh(&options).status(), second = files.Refresh(&options).status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
  EXPECT_FALSE(first.ok());
  EXPECT_FALSE(second.ok());
  EXPECT_TRUE(options.rules.empty());
  const auto third = files.Refresh(&options);
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_TRUE(*third);
  EXPECT_EQ(options.rules.size(), 1u);
  EXPECT_FALSE(files.Refresh(&options).value());
}

TEST_F(RoutingFilesTest, AGatewayDoesNotStartOnAFileItCannotRead) {
  WriteClassifier("algebra");
  EXPECT_THAT(StartError(Options()), HasSubstr("rules.yaml"));  // it is not there
  WriteRules("rules: {sql: [}\n");
  EXPECT_THAT(StartError(Options()), HasSubstr("rules.yaml line 1"));
  WriteRules("rules: {}\n");
  std::ofstream(classifier_) << "garbage";
  EXPECT_THAT(StartError(Options()), HasSubstr("classifier.safetensors"));
}

}  // namespace
}  // namespace coterie::gateway::testing
