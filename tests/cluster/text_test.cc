// What ends an answer and what its tokens' bytes are, from a base's files to the client.
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/file.h"
#include "nlohmann/json.hpp"
#include "tests/cluster/cluster_fixture.h"
#include "tests/source_root.h"

namespace coterie::cluster {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Of tests/data/tiny-llama.
constexpr uint32_t kEndOfText = 0;
constexpr uint32_t kTurnEnd = 2;  // <|im_end|>

// A real worker on a tiny base whose files name <|endoftext|> alone, as those of a base model do that was
// tuned for conversations later: only its template knows <|im_end|>.
class TextTest : public ClusterTest {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    model_ = fs::path(::testing::TempDir()) / absl::StrCat("text_test_", getpid());
    fs::remove_all(model_);
    fs::copy(coterie::testing::SourceRoot() / "tests/data/tiny-llama", model_, fs::copy_options::recursive);
    Change("config.json", [](nlohmann::json* config) { (*config)["eos_token_id"] = kEndOfText; });
    Change("tokenizer_config.json", [](nlohmann::json* config) { (*config)["eos_token"] = "<|endoftext|>"; });
    worker_ = StartWorker("w0", {"--fake=false", "--model=" + model_.string()});
    gateway_ = StartGateway({worker_->address()}, {"--model=" + model_.string()});
  }
  void TearDown() override {
    fs::remove_all(model_);
    ClusterTest::TearDown();
  }

  void Change(const char* file, const std::function<void(nlohmann::json*)>& change) {
    nlohmann::json json = nlohmann::json::parse(ReadFile(model_ / file, 1 << 20).value());
    change(&json);
    std::ofstream(model_ / file) << json.dump();
  }

  struct Seen {
    std::string text;
    std::string bytes;  // of the chosen tokens, joined
    std::vector<uint32_t> ids;
    v1::Finish finish;
  };
  Seen Ask(const v1::GenerateRequest& request) {
    Seen seen;
    grpc::ClientContext context;
    const auto reader = gateway_->generation->Generate(&context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      const v1::TextDelta& delta = response.delta();
      seen.text += delta.text();
      seen.ids.insert(seen.ids.end(), delta.token_ids().begin(), delta.token_ids().end());
      for (const v1::PositionLogprobs& logprobs : delta.logprobs()) seen.bytes += logprobs.chosen().text();
      if (response.has_finish()) seen.finish = response.finish();
    }
    const grpc::Status status = reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return seen;
  }

  fs::path model_;
  std::unique_ptr<WorkerProcess> worker_;
  std::unique_ptr<GatewayProcess> gateway_;
};

TEST_F(TextTest, AnAnswerEndsAtTheTokenThatEndsATurnInTheTemplate) {
  v1::GenerateRequest request = Question("base", 1, 20);
  (*request.mutable_sampling()->mutable_logit_bias())[kTurnEnd] = 100;
  const Seen ended = Ask(request);
  EXPECT_EQ(ended.finish.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(ended.finish.stop(), "<|im_end|>");
  EXPECT_EQ(ended.text, "");
  EXPECT_THAT(ended.ids, IsEmpty());
  request.mutable_sampling()->set_ignore_eos(true);
  const Seen goes_on = Ask(request);
  EXPECT_EQ(goes_on.finish.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(goes_on.ids.size(), 20u);
  EXPECT_EQ(goes_on.text, "");  // control tokens have no text
}

TEST_F(TextTest, StatusShowsTheEndTokensOfBothProcesses) {
  const v1::StatusResponse status = gateway_->Status();
  const auto ids = [](const auto& ends) {
    std::vector<uint32_t> ids;
    for (const v1::EndToken& end : ends) ids.push_back(end.id());
    return ids;
  };
  EXPECT_THAT(ids(status.end_tokens()), ElementsAre(kEndOfText, kTurnEnd));
  EXPECT_EQ(status.end_tokens(1).text(), "<|im_end|>");
  EXPECT_EQ(status.end_tokens(1).source(), "chat template");
  ASSERT_EQ(status.workers_size(), 1);
  EXPECT_THAT(ids(status.workers(0).end_tokens()), ElementsAre(kEndOfText, kTurnEnd));
  EXPECT_EQ(status.workers(0).end_tokens(1).text(), "<|im_end|>");
  EXPECT_THAT(status.findings(), IsEmpty());

  Process command("coterie", {"status", "--json", "--gateway=127.0.0.1:" + std::to_string(gateway_->port)});
  const nlohmann::json shown = nlohmann::json::parse(command.ReadLine(), nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(shown.is_object());
  EXPECT_EQ(shown["end_tokens"][1],
            (nlohmann::json{{"id", 2}, {"text", "<|im_end|>"}, {"source", "chat template"}}));
  EXPECT_EQ(shown["workers"][0]["end_tokens"][0], (nlohmann::json{{"id", 0}, {"text", "<|endoftext|>"}}));
}

TEST_F(TextTest, TheBytesOfTheTokensAreTheTextAndAreScoredAsTheyWereGenerated) {
  v1::GenerateRequest request = Question("base", 0, 12);
  request.mutable_sampling()->set_temperature(1.5);
  request.mutable_sampling()->set_logprobs(3);
  request.mutable_sampling()->set_ignore_eos(true);
  size_t n_scored = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    request.mutable_sampling()->set_seed(seed);
    const Seen answer = Ask(request);
    ASSERT_EQ(answer.ids.size(), 12u);
    if (answer.text.find("\xEF\xBF\xBD") == std::string::npos) {
      EXPECT_EQ(answer.bytes, answer.text);
    } else {
      EXPECT_NE(answer.bytes, answer.text);  // a byte that fits nowhere, as it is
    }
    v1::ScoreRequest score;
    *score.mutable_chat() = request.chat();
    score.set_expert("base");
    score.set_completion(answer.text);
    if (answer.text.empty()) continue;
    grpc::ClientContext context;
    v1::ScoreResponse scored;
    ASSERT_TRUE(gateway_->generation->Score(&context, score, &scored).ok());
    std::string bytes;
    for (const v1::PositionLogprobs& token : scored.tokens()) bytes += token.chosen().text();
    EXPECT_EQ(bytes, answer.text);
    ++n_scored;
  }
  EXPECT_GT(n_scored, 30u);
}

}  // namespace
}  // namespace coterie::cluster
