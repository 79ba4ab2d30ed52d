// Questions that leave the field of the expert they are routed to.
#include "gateway/routing/drift_watch.h"

#include <cmath>
#include <string>

#include "coterie/v1/cluster.grpc.pb.h"
#include "coterie/v1/expert.grpc.pb.h"
#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;

constexpr RoutingReference kReference = {.mean_score = 0.9, .std_score = 0.05, .n = 400};

Catalogue CatalogueWith(std::optional<RoutingReference> reference) {
  CatalogueEntry entry{.name = "algebra", .live = {.adapter = Sha256("a"), .revision = Sha256("card")}};
  entry.routing = reference;
  return {.generation = 1, .entries = {entry}};
}

Decision RoutedWith(float score) {
  Decision decision;
  decision.plan.policy = "nearest";
  decision.plan.catalogue_generation = 1;
  decision.plan.experts.push_back({.name = "algebra", .adapter = Sha256("a"), .score = score});
  decision.candidates.push_back({"algebra", Sha256("a"), score});
  return decision;
}

TEST(DriftWatchTest, AnExpertWithoutAReferenceIsNotWatched) {
  DriftWatch watch{DriftOptions()};
  const Catalogue catalogue = CatalogueWith(std::nullopt);
  for (int i = 0; i < 100; ++i) watch.Observe(RoutedWith(0.1f), catalogue);
  EXPECT_EQ(watch.Of(catalogue.entries[0]).n, 0u);
  EXPECT_TRUE(watch.All(catalogue).empty());
}

TEST(DriftWatchTest, OnlyCosinesOfRoutedQuestionsCount) {
  DriftWatch watch{DriftOptions()};
  const Catalogue catalogue = CatalogueWith(kReference);
  Decision by_classifier = RoutedWith(0.2f);
  by_classifier.plan.policy = "classifier";
  watch.Observe(by_classifier, catalogue);
  Decision by_name = RoutedWith(0);
  by_name.candidates.clear();
  watch.Observe(by_name, catalogue);
  Decision abstained = RoutedWith(0.1f);
  abstained.plan.experts.clear();
  watch.Observe(abstained, catalogue);
  EXPECT_EQ(watch.Of(catalogue.entries[0]).n, 0u);
  watch.Observe(RoutedWith(0.5f), catalogue);
  EXPECT_EQ(watch.Of(catalogue.entries[0]).n, 1u);
  EXPECT_NEAR(watch.Of(catalogue.entries[0]).mean_score, 0.5, 1e-6);
}

TEST(DriftWatchTest, OtherPrototypesBeginAnew) {
  DriftWatch watch{DriftOptions()};
  Catalogue catalogue = CatalogueWith(kReference);
  for (int i = 0; i < 60; ++i) watch.Observe(RoutedWith(0.5f), catalogue);
  ASSERT_EQ(watch.All(catalogue).size(), 1u);
  EXPECT_TRUE(watch.All(catalogue)[0].drift.significant);
  CatalogueEntry entry = catalogue.entries[0];
  entry.live.revision = Sha256("another card");
  catalogue.entries.Put(entry);
  EXPECT_EQ(watch.Of(catalogue.entries[0]).n, 0u);
  catalogue.generation = 2;
  watch.Observe(RoutedWith(0.5f), catalogue);  // routed by the prototypes before
  EXPECT_EQ(watch.Of(catalogue.entries[0]).n, 0u);
  Decision decision = RoutedWith(0.5f);
  decision.plan.catalogue_generation = 2;
  watch.Observe(decision, catalogue);
  EXPECT_EQ(watch.Of(catalogue.entries[0]).n, 1u);
}

TEST(DriftWatchTest, ThePicturesAreBoundedAndRemovedExpertsMakeRoom) {
  DriftWatch watch{DriftOptions()};
  std::vector<CatalogueEntry> entries;
  for (size_t i = 0; i <= DriftWatch::kMaxExperts; ++i) {
    CatalogueEntry entry{.name = absl::StrCat("e", absl::Dec(i, absl::kZeroPad6))};
    entry.routing = kReference;
    entries.push_back(entry);
  }
  Catalogue catalogue{.generation = 1, .entries = CatalogueEntries(entries)};
  const auto observe = [&](const std::string& name) {
    Decision decision = RoutedWith(0.5f);
    decision.plan.catalogue_generation = catalogue.generation;
    decision.plan.experts[0].name = name;
    watch.Observe(decision, catalogue);
  };
  for (const CatalogueEntry& entry : catalogue.entries) observe(entry.name);
  EXPECT_EQ(watch.All(catalogue).size(), DriftWatch::kMaxExperts);
  const CatalogueEntry& late = entries.back();
  EXPECT_EQ(watch.Of(late).n, 0u);
  catalogue.entries.Erase(entries.front().name);
  catalogue.generation = 2;
  observe(late.name);
  EXPECT_EQ(watch.Of(late).n, 1u);
}

TEST(DriftWatchTest, TheStatusSaysSoAndTheExpertShowsTheFigures) {
  const std::filesystem::path folder = FreshFolder();
  FakeWorker worker{{}};
  GatewayOptions options = QuickOptions({worker.address()});
  options.admin_listen = "127.0.0.1:0";
  // A question scores 1 against the prototype it begins with; this one's prototype lies askew.
  auto store = ExpertStore::Open(folder / "store", TestOptions()).value();
  std::vector<float> prototype(FakeEmbedder::kDim, 0.0f);
  prototype[0] = 0.6f;
  prototype[25] = 0.8f;
  WriteExpert(folder / "algebra",
              {.name = "algebra", .card_tail = "routing: {mean_score: 0.9, std_score: 0.05, n: 400}\n"});
  std::ofstream(folder / "algebra" / kPrototypesFile, std::ios::binary)
      << SafetensorsOf("prototypes", {1, static_cast<int64_t>(prototype.size())}, prototype);
  ASSERT_TRUE(store->Publish(folder / "algebra").ok());
  TestGateway gateway(options, true, std::move(store));
  ASSERT_TRUE(gateway.Ready(1));
  const auto cluster = v1::ClusterService::NewStub(grpc::CreateChannel(
      "127.0.0.1:" + std::to_string(gateway.server->port()), grpc::InsecureChannelCredentials()));
  const auto findings = [&] {
    grpc::ClientContext context;
    v1::StatusResponse status;
    EXPECT_TRUE(cluster->Status(&context, {}, &status).ok());
    return std::vector<std::string>(status.findings().begin(), status.findings().end());
  };
  const auto ask = [&](int n) {
    for (int i = 0; i < n; ++i) {
      v1::GenerateRequest request = BaseRequest(1, 1);
      request.set_prompt("a question");
      request.set_expert("auto");
      EXPECT_TRUE(Ask(gateway.stub.get(), request).status.ok());
    }
  };
  ask(49);
  EXPECT_TRUE(findings().empty());
  ask(1);
  ASSERT_EQ(findings().size(), 1u);
  EXPECT_THAT(findings()[0], HasSubstr("expert algebra: the questions routed to it have left the field"));
  EXPECT_THAT(findings()[0], HasSubstr("mean score is 0.60 (50 seen)"));

  const auto experts = v1::ExpertService::NewStub(grpc::CreateChannel(
      "127.0.0.1:" + std::to_string(gateway.server->admin_port()), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  v1::ListExpertsResponse list;
  ASSERT_TRUE(experts->List(&context, {}, &list).ok());
  EXPECT_EQ(list.experts(0).drift().questions(), 50u);
  EXPECT_TRUE(list.experts(0).drift().significant());
  EXPECT_EQ(list.experts(0).drift().reference_n(), 400u);
  EXPECT_EQ(list.experts(0).findings(0), findings()[0]);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace coterie::gateway::testing
