// Prompts that real workers score under other experts while nobody asks anything.
#include "tests/cluster/cluster_fixture.h"

namespace coterie::cluster {
namespace {

class ShadowTest : public ClusterTest {};

TEST_F(ShadowTest, RoutedPromptsAreScoredInIdleTimeAndShownWithTheExpert) {
  const auto worker = StartWorker("w0");
  const auto gateway = StartGateway({worker->address()}, {"--shadow-share=1"});
  v1::PublishExpertResponse published;
  ASSERT_TRUE(
      Publish(*gateway, {.name = "seven", .prototype = Embed(*gateway, "Question 7")}, &published).ok());
  ASSERT_TRUE(Publish(*gateway, {.name = "other", .adapter = "llama-all-linear"}, &published).ok());

  const Answer answer = gateway::testing::Ask(gateway->generation.get(), Question("auto", 7, 20));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_EQ(answer.route.experts(0).name(), "seven");
  v1::ExpertInfo seven;
  EXPECT_TRUE(Eventually([&] {
    grpc::ClientContext list_context;
    v1::ListExpertsResponse list;
    if (!gateway->experts->List(&list_context, {}, &list).ok() || list.experts_size() != 2) return false;
    EXPECT_FALSE(list.experts(0).has_shadow());
    seven = list.experts(1);
    return seven.has_shadow();
  }));
  EXPECT_EQ(seven.shadow().prompts(), 1u);
  EXPECT_EQ(seven.shadow().runner_up_prompts(), 1u);
  EXPECT_GT(seven.shadow().chosen_loss(), 0);
  EXPECT_GT(seven.shadow().base_loss(), 0);
  EXPECT_GE(seven.shadow().regret(), 0);
  const std::string page = gateway->Metrics();
  EXPECT_EQ(MetricSum(page, "coterie_shadow_prompts_total"), 1);
  EXPECT_EQ(MetricSum(page, "coterie_shadow_expert_prompts"), 1);
  // The log holds nothing of the prompt.
  EXPECT_EQ(gateway->process->Errors().find("Question"), std::string::npos);
}

}  // namespace
}  // namespace coterie::cluster
