// An expert that is made of others, from its folder to its answers, with the command that a person types.
#include <signal.h>

#include <fstream>

#include "tests/cluster/cluster_fixture.h"

namespace coterie::cluster {
namespace {

using ::testing::HasSubstr;

class CompositeClusterTest : public ClusterTest {
 protected:
  void Start() {
    for (const char* id : {"w0", "w1"}) workers_.push_back(StartWorker(id));
    gateway_ = StartGateway({workers_[0]->address(), workers_[1]->address()});
    PublishThree(*gateway_);
    const std::filesystem::path folder = store().parent_path() / "both";
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "expert.yaml")
        << "name: both\nversion: \"1\"\ndescription: alpha with beta\nkind: mixture\n"
           "members:\n  - {expert: alpha, weight: 0.5}\n"
           "  - {expert: beta, weight: 0.5}\n";
    EXPECT_THAT(Coterie({"experts", "publish", folder.string()}), HasSubstr("is live"));
  }
  // What the command prints; it must end with `exit_code`.
  std::string Coterie(std::vector<std::string> args, int exit_code = 0) {
    args.push_back(absl::StrCat("--gateway=127.0.0.1:", gateway_->port));
    if (args[0] == "experts") args.push_back(absl::StrCat("--admin=127.0.0.1:", gateway_->admin_port));
    Process process("coterie", args);
    const std::string printed = process.ReadAll();
    EXPECT_EQ(process.Wait(), exit_code) << process.Errors();
    return exit_code == 0 ? printed : process.Errors();
  }
  static v1::GenerateRequest ByHand(const char* first, const char* second) {
    v1::GenerateRequest request = Question("", 5);
    request.mutable_collaboration()->set_mode(v1::COLLABORATION_MODE_MIXTURE);
    request.mutable_collaboration()->add_members()->set_expert(first);
    request.mutable_collaboration()->add_members()->set_expert(second);
    return request;
  }
  std::string TextOf(const v1::GenerateRequest& request) { return AskAll(*gateway_, {request})[0]; }

  std::vector<std::unique_ptr<WorkerProcess>> workers_;
  std::unique_ptr<GatewayProcess> gateway_;
};

TEST_F(CompositeClusterTest, ItIsPublishedShownAskedSwappedAndRolledBackLikeAnyExpert) {
  Start();
  EXPECT_THAT(Coterie({"experts", "list"}), HasSubstr("both is a mixture of 0.50 alpha@"));
  EXPECT_THAT(Coterie({"ask", "--expert=both", "--max-tokens=4", "--json", "Question 5"}),
              HasSubstr("\"composite\":{\"canary\":false"));
  const std::string first = TextOf(Question("both", 5));
  EXPECT_EQ(first, TextOf(ByHand("alpha", "beta")));

  const std::string swapped = Coterie({"experts", "swap", "both", "beta", "gamma"});
  EXPECT_THAT(swapped, HasSubstr("published both 2 as "));
  const std::string second = TextOf(Question("both", 5));
  EXPECT_EQ(second, TextOf(ByHand("alpha", "gamma")));
  EXPECT_NE(second, first);

  // What it is made of stays.
  EXPECT_THAT(Coterie({"experts", "remove", "gamma"}, 4), HasSubstr("expert gamma is a member of both"));
  EXPECT_THAT(Coterie({"experts", "remove", "--force", "gamma"}), HasSubstr("gamma is removed"));
  EXPECT_EQ(TextOf(Question("both", 5)), second);

  EXPECT_THAT(Coterie({"experts", "rollback", "both"}), HasSubstr("rolled back to both 1"));
  EXPECT_EQ(TextOf(Question("both", 5)), first);
}

TEST_F(CompositeClusterTest, ItsAnswerGoesOnElsewhereWhenItsWorkerIsKilled) {
  Start();
  const std::string expected = TextOf(Question("both", 5));
  Asking asking({gateway_->generation.get()}, {Question("both", 5)});
  ASSERT_TRUE(asking.WaitForTokens(20));
  const v1::StatusResponse status = gateway_->Status();
  for (const v1::WorkerStatus& worker : status.workers()) {
    if (worker.running() > 0) workers_[worker.worker_id() == "w0" ? 0 : 1]->process->Signal(SIGKILL);
  }
  const Answer answer = asking.Join()[0];
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text, expected);
  ASSERT_FALSE(answer.notices.empty());
  EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED);
  EXPECT_EQ(answer.route.composite().name(), "both");
}

}  // namespace
}  // namespace coterie::cluster
