// Experts that come, change and go while answers are under way.
#include <sys/mount.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/cluster/cluster_fixture.h"

namespace coterie::cluster {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class PublishTest : public ClusterTest {
 protected:
  void Start() {
    workers_.push_back(StartWorker("w0"));
    workers_.push_back(StartWorker("w1"));
    gateway_ = StartGateway({workers_[0]->address(), workers_[1]->address()});
  }
  // Returns the digest.
  std::string MustPublish(const ExpertSource& source) {
    v1::PublishExpertResponse response;
    const grpc::Status status = Publish(*gateway_, source, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_FALSE(response.already_published());
    return response.expert().digest();
  }
  grpc::Status Remove(const std::string& name) {
    grpc::ClientContext context;
    v1::RemoveExpertRequest request;
    request.set_name(name);
    v1::RemoveExpertResponse response;
    return gateway_->experts->Remove(&context, request, &response);
  }
  Answer Ask(const v1::GenerateRequest& request) {
    return gateway::testing::Ask(gateway_->generation.get(), request);
  }
  std::string TextOf(const std::string& expert, uint64_t seed) {
    return AskAll(*gateway_, {Question(expert, seed)})[0];
  }

  std::vector<std::unique_ptr<WorkerProcess>> workers_;
  std::unique_ptr<GatewayProcess> gateway_;
};

TEST_F(PublishTest, AnAnswerKeepsTheVersionItBeganWithThroughReplacementRemovalAndFailover) {
  // Long answers, so that a busy machine does not end them before what is to happen meanwhile.
  UseLongContext();
  Start();
  const auto long_question = [](const std::string& expert) { return Question(expert, 7, 500); };
  EXPECT_EQ(Ask(long_question("one")).status.error_code(), grpc::StatusCode::NOT_FOUND);
  const std::string first = MustPublish({.version = "1", .adapter = "llama-qv"});

  Asking replaced({gateway_->generation.get()}, {long_question("one")});
  ASSERT_TRUE(replaced.WaitForTokens(10));
  const std::string second = MustPublish({.version = "2", .adapter = "llama-all-linear"});
  // Its new worker loads the version that the name no longer means.
  WorkerProcess* lost = nullptr;
  ASSERT_TRUE(Eventually([&] {
    const v1::StatusResponse status = gateway_->Status();
    for (const v1::WorkerStatus& worker : status.workers()) {
      if (worker.running() > 0) lost = workers_[worker.worker_id() == "w0" ? 0 : 1].get();
    }
    return lost != nullptr;
  }));
  lost->process->Kill();
  ASSERT_EQ(replaced.ended(), 0u) << "the answer ended before its expert was replaced";

  // Without a restart, new answers are the new version's; the old one is still there by its digest.
  Asking undisturbed({gateway_->generation.get()},
                     {long_question("one"), long_question("one@" + second),
                      long_question("one@" + first.substr(0, 12)), long_question("base")});
  const std::vector<std::string> texts = Texts(undisturbed.Join());
  EXPECT_EQ(texts[0], texts[1]);
  EXPECT_NE(texts[0], texts[2]);
  EXPECT_NE(texts[2], texts[3]);
  ASSERT_EQ(undisturbed.Join()[0].route.experts_size(), 1);
  EXPECT_EQ(undisturbed.Join()[0].route.experts(0).digest(), second);
  EXPECT_EQ(Texts(replaced.Join())[0], texts[2]);
  ASSERT_EQ(replaced.Join()[0].notices.size(), 1u)
      << lost->id << " was killed, " << replaced.Join()[0].route.worker() << " was placed";
  EXPECT_EQ(replaced.Join()[0].notices[0].kind(), v1::Notice::KIND_RESUMED);

  Asking removed({gateway_->generation.get()}, {long_question("one")});
  ASSERT_TRUE(removed.WaitForTokens(10));
  ASSERT_TRUE(Remove("one").ok());
  ASSERT_EQ(removed.ended(), 0u) << "the answer ended before its expert was removed";
  EXPECT_EQ(Ask(long_question("one")).status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Texts(removed.Join())[0], texts[0]);
}

TEST_F(PublishTest, ANewExpertIsRoutedToByEveryGatewayWithoutARestart) {
  Start();
  const auto other = StartGateway({workers_[0]->address(), workers_[1]->address()});
  const std::string digest = MustPublish({.name = "seven", .prototype = Embed(*gateway_, "Question 7")});
  EXPECT_TRUE(Eventually([&] { return Generation(*other) == Generation(*gateway_); }));
  for (const GatewayProcess* gateway : {gateway_.get(), other.get()}) {
    const Answer answer = gateway::testing::Ask(gateway->generation.get(), Question("auto", 7, 20));
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    ASSERT_EQ(answer.route.experts_size(), 1) << answer.route.reason();
    EXPECT_EQ(answer.route.experts(0).digest(), digest);
    EXPECT_NEAR(answer.route.experts(0).score(), 1, 1e-3);
  }
}

TEST_F(PublishTest, PublishingTheSameAgainSaysSoAndChangesNothing) {
  Start();
  MustPublish({});
  const uint64_t generation = Generation(*gateway_);
  v1::PublishExpertResponse again;
  ASSERT_TRUE(Publish(*gateway_, {}, &again).ok());
  EXPECT_TRUE(again.already_published());
  EXPECT_EQ(again.catalogue_generation(), generation);
  EXPECT_EQ(Generation(*gateway_), generation);
}

TEST_F(PublishTest, AnAdapterThatDoesNotFitTheBaseIsRefusedAndServingGoesOn) {
  Start();
  MustPublish({});
  const uint64_t generation = Generation(*gateway_);
  v1::PublishExpertResponse response;
  const grpc::Status status = Publish(*gateway_, {.version = "2", .adapter = "qwen3-all-linear"}, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION) << status.error_message();
  EXPECT_EQ(Generation(*gateway_), generation);
  EXPECT_FALSE(TextOf("one", 7).empty());
}

TEST_F(PublishTest, APlainPeftFolderBecomesByOneLineAnExpertThatItsQuestionsFind) {
  Start();
  const auto plain_folder = [&](const char* name, const char* adapter) {
    const std::filesystem::path folder = store().parent_path() / name;
    std::filesystem::create_directories(folder);
    for (const char* file : {"adapter_config.json", "adapter_model.safetensors"}) {
      std::filesystem::copy_file(
          std::filesystem::path(COTERIE_SOURCE_DIR) / "tests/data/tiny-adapters" / adapter / file,
          folder / file);
    }
    return folder.string();
  };
  const std::string fits = plain_folder("My-Ants", "llama-qv");
  const std::string does_not = plain_folder("Other-Ants", "qwen2-all-linear");
  const std::filesystem::path questions = store().parent_path() / "questions.txt";
  std::ofstream(questions) << "Question 6\nQuestion 7\nQuestion 8\n";
  std::string errors;
  const auto publish = [&](const std::string& folder, const std::vector<std::string>& more) {
    std::vector<std::string> args = {"experts",
                                     "publish",
                                     folder,
                                     "--description=about ants",
                                     "--examples=" + questions.string(),
                                     absl::StrCat("--gateway=127.0.0.1:", gateway_->port),
                                     absl::StrCat("--admin=127.0.0.1:", gateway_->admin_port)};
    args.insert(args.end(), more.begin(), more.end());
    Process process("coterie", args);
    const int status = process.Wait();
    errors = process.Errors();
    return status;
  };
  EXPECT_EQ(publish(fits, {"--dry-run"}), 0) << errors;
  // What only the gateway can tell is told by a dry run as well: another base's adapter, a canary of nobody.
  EXPECT_NE(publish(does_not, {"--dry-run"}), 0);
  EXPECT_THAT(errors, HasSubstr("adapter_model.safetensors"));
  EXPECT_NE(publish(fits, {"--dry-run", "--canary=0.5"}), 0);
  EXPECT_THAT(errors, HasSubstr("my-ants"));
  EXPECT_EQ(Generation(*gateway_), 0u);
  EXPECT_TRUE(std::filesystem::is_empty(store() / "objects"));
  EXPECT_EQ(publish(fits, {}), 0) << errors;
  const Answer answer = Ask(Question("auto", 7, 20));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_EQ(answer.route.experts_size(), 1) << answer.route.reason();
  EXPECT_EQ(answer.route.experts(0).name(), "my-ants");
}

// A store on a small file system of its own.
class FullDiskTest : public PublishTest {
 protected:
  void SetUp() override {
    PublishTest::SetUp();
    mounted_ = mount("tmpfs", store().c_str(), "tmpfs", 0, "size=512k") == 0;
    if (!mounted_) GTEST_SKIP() << "cannot mount a tmpfs here: " << std::strerror(errno);
  }
  void TearDown() override {
    gateway_.reset();
    workers_.clear();
    if (mounted_) {
      EXPECT_EQ(umount(store().c_str()), 0) << std::strerror(errno);
    }
    PublishTest::TearDown();
  }
  // Leaves `left` bytes free.
  void Fill(size_t left) {
    struct statvfs info = {};
    ASSERT_EQ(statvfs(store().c_str(), &info), 0);
    const size_t free = info.f_bavail * info.f_bsize;
    ASSERT_GT(free, left);
    std::ofstream(Filler(), std::ios::binary) << std::string(free - left, 'x');
  }
  std::filesystem::path Filler() const { return store() / "filler"; }

 private:
  bool mounted_ = false;
};

TEST_F(FullDiskTest, PublishingOnAFullDiskIsResourceExhaustedAndServingGoesOn) {
  Start();
  MustPublish({});
  const std::string text = TextOf("one", 7);
  const uint64_t generation = Generation(*gateway_);
  Asking during({gateway_->generation.get()}, {Question("one", 7)});
  ASSERT_TRUE(during.WaitForTokens(10));
  // llama-all-linear is 54 KB; with the first sizes it does not even begin.
  for (const size_t left : {size_t{0}, size_t{8} << 10, size_t{32} << 10}) {
    Fill(left);
    v1::PublishExpertResponse response;
    const grpc::Status status =
        Publish(*gateway_, {.version = "2", .adapter = "llama-all-linear"}, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr("No space left on device"));
    EXPECT_THAT(status.error_message(), Not(HasSubstr(store().string())));
    EXPECT_EQ(Generation(*gateway_), generation);
    std::filesystem::remove(Filler());
  }
  EXPECT_EQ(Texts(during.Join())[0], text);
  EXPECT_EQ(TextOf("one", 7), text);
  // With room again it is published.
  MustPublish({.version = "2", .adapter = "llama-all-linear"});
  EXPECT_GT(Generation(*gateway_), generation);
  EXPECT_NE(TextOf("one", 7), text);
}

}  // namespace
}  // namespace coterie::cluster
