// Conversations through the gateway: history is in the request, and only what is new is embedded.
#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"
#include "tests/gateway/http/http_client.h"

namespace coterie::gateway {
namespace {

using namespace testing;  // NOLINT
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// FakeEmbedder that notes what it embeds.
class NotingEmbedder final : public TextEmbedder {
 public:
  struct Notes {
    Mutex mutex;
    std::vector<std::string> texts ABSL_GUARDED_BY(mutex);
    std::vector<std::string> Take() {
      MutexLock lock(&mutex);
      return std::exchange(texts, {});
    }
  };
  explicit NotingEmbedder(Notes* notes) : notes_(notes) {}
  void Embed(std::string_view text, Urgency urgency, CancelFlag cancelled, Done done) override {
    {
      MutexLock lock(&notes_->mutex);
      notes_->texts.emplace_back(text);
    }
    done(FakeEmbedder::VectorOf(text));
  }
  size_t CountTokens(std::string_view text) const override { return text.size(); }
  size_t dim() const override { return FakeEmbedder::kDim; }
  const Digest& digest() const override { return digest_; }

 private:
  Notes* const notes_;
  const Digest digest_ = FakeEmbedder().digest();
};

class ConversationTest : public ::testing::Test {
 protected:
  ConversationTest() {
    GatewayParts parts = FakeParts(true, StoreWith(folder_, {"algebra", "botany"}));
    parts.embedder = std::make_unique<NotingEmbedder>(&notes_);
    GatewayOptions options = QuickOptions({worker_.address()});
    options.http.listen = "127.0.0.1:0";
    gateway_ = std::make_unique<TestGateway>(std::move(options), std::move(parts));
  }
  ~ConversationTest() override {
    gateway_.reset();
    std::filesystem::remove_all(folder_);
  }

  // The user's messages, with answers between them.
  v1::RouteDecision Route(const std::vector<std::string>& messages, const std::string& salt = "") {
    v1::RouteRequest request;
    v1::ChatMessage* system = request.mutable_chat()->add_messages();
    system->set_role("system");
    system->set_content("botany is what you know about");  // says nothing of the question
    for (size_t i = 0; i < messages.size(); ++i) {
      if (i > 0) {
        v1::ChatMessage* answer = request.mutable_chat()->add_messages();
        answer->set_role("assistant");
        answer->set_content("botany");
      }
      v1::ChatMessage* message = request.mutable_chat()->add_messages();
      message->set_role("user");
      message->set_content(messages[i]);
    }
    request.mutable_context()->set_cache_salt(salt);
    grpc::ClientContext context;
    v1::RouteResponse response;
    const grpc::Status status = gateway_->stub->Route(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.decision();
  }
  // The same over HTTP, answered: a message list as OpenAI's clients send it.
  Reply Complete(const std::vector<std::string>& messages, bool stream) {
    nlohmann::json list = nlohmann::json::array();
    list.push_back({{"role", "system"}, {"content", "botany is what you know about"}});
    for (size_t i = 0; i < messages.size(); ++i) {
      if (i > 0) list.push_back({{"role", "assistant"}, {"content", "botany"}});
      list.push_back({{"role", "user"}, {"content", messages[i]}});
    }
    const nlohmann::json body = {
        {"model", "auto"}, {"messages", list}, {"max_tokens", 3}, {"stream", stream}};
    return HttpClient(gateway_->server->http_port()).Post("/v1/chat/completions", body);
  }
  static std::string NameOf(const v1::RouteDecision& decision) {
    return decision.experts_size() == 0 ? "base" : decision.experts(0).name();
  }

  const std::filesystem::path folder_ = FreshFolder();
  FakeWorker worker_{{}};
  NotingEmbedder::Notes notes_;
  std::unique_ptr<TestGateway> gateway_;
};

TEST_F(ConversationTest, AFollowUpKeepsTheExpertASwitchDoesNotAndTheReasonSaysSo) {
  EXPECT_EQ(NameOf(Route({"algebra"})), "algebra");
  EXPECT_EQ(NameOf(Route({"zzz"})), "base");
  const v1::RouteDecision kept = Route({"algebra", "zzz"});
  EXPECT_EQ(NameOf(kept), "algebra");
  EXPECT_THAT(kept.reason(), HasSubstr("kept algebra: follow-up"));
  EXPECT_EQ(kept.experts(0).score(), 1.0f);  // the question's that it goes on with
  EXPECT_EQ(NameOf(Route({"algebra", "zzz", "yyy"})), "algebra");
  const v1::RouteDecision moved = Route({"algebra", "zzz", "botany"});
  EXPECT_EQ(NameOf(moved), "botany");
  EXPECT_THAT(moved.reason(), HasSubstr("left algebra; nearest: botany"));
  EXPECT_EQ(NameOf(Route({"algebra", "botany", "zzz"})), "botany");
}

TEST_F(ConversationTest, ALongConversationKeepsItsExpertAndWhatIsLongPastIsForgotten) {
  const size_t n = ConversationOptions().max_turns;
  std::vector<std::string> messages(n, "x");
  messages[0] = "algebra";
  EXPECT_EQ(NameOf(Route(messages)), "algebra");
  notes_.Take();
  messages.push_back("y");
  EXPECT_EQ(NameOf(Route(messages)), "base");
  EXPECT_THAT(notes_.Take(), ElementsAre("x\nx", "y", "x\ny"));
  // The next ones begin where this one began: a message and what it goes on with are embedded, no more.
  messages.push_back("botany");
  EXPECT_EQ(NameOf(Route(messages)), "botany");
  EXPECT_THAT(notes_.Take(), ElementsAre("botany", "x\nbotany"));
  messages.push_back("z");
  EXPECT_EQ(NameOf(Route(messages)), "botany");
  EXPECT_THAT(notes_.Take(), ElementsAre("z", "botany\nz"));
}

TEST_F(ConversationTest, OverHttpAMessageListIsRoutedByTheSameRule) {
  ASSERT_TRUE(gateway_->Ready(1));
  for (const bool stream : {false, true}) {
    const Reply kept = Complete({"algebra", "zzz"}, stream);
    ASSERT_EQ(kept.code, 200) << kept.body;
    EXPECT_EQ(kept.headers.at("x-coterie-expert"), "algebra");
    EXPECT_THAT(kept.headers.at("x-coterie-reason"), HasSubstr("kept algebra: follow-up"));
    const Reply moved = Complete({"algebra", "zzz", "botany"}, stream);
    EXPECT_EQ(moved.headers.at("x-coterie-expert"), "botany");
    EXPECT_THAT(moved.headers.at("x-coterie-reason"), HasSubstr("left algebra"));
    EXPECT_EQ(Complete({"zzz"}, stream).headers.at("x-coterie-expert"), "base");
  }
  const nlohmann::json ask = {{"messages",
                               {{{"role", "user"}, {"content", "algebra"}},
                                {{"role", "assistant"}, {"content", "botany"}},
                                {{"role", "user"}, {"content", "zzz"}}}}};
  const Reply routed = HttpClient(gateway_->server->http_port()).Post("/v1/route", ask);
  ASSERT_EQ(routed.code, 200) << routed.body;
  EXPECT_THAT(routed.body, HasSubstr("kept algebra: follow-up"));
}

TEST_F(ConversationTest, EarlierMessagesAreEmbeddedOnceAndSaltsNeverMeet) {
  Route({"algebra"});
  EXPECT_THAT(notes_.Take(), ElementsAre("algebra"));
  Route({"algebra", "zzz"});
  EXPECT_THAT(notes_.Take(), ElementsAre("zzz", "algebra\nzzz"));
  Route({"algebra", "zzz", "yyy"});
  EXPECT_THAT(notes_.Take(), ElementsAre("yyy", "algebra\nyyy"));
  // A question that stands alone is embedded each time.
  Route({"algebra"});
  EXPECT_THAT(notes_.Take(), ElementsAre("algebra"));
  Route({"algebra", "zzz"}, "salt");
  EXPECT_THAT(notes_.Take(), ElementsAre("algebra", "zzz", "algebra\nzzz"));
}

TEST_F(ConversationTest, AnswersAndScoresFollowTheConversationToo) {
  ASSERT_TRUE(gateway_->Ready(1));
  v1::GenerateRequest request;
  for (const char* content : {"algebra", "zzz"}) {
    v1::ChatMessage* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(content);
  }
  const Answer answer = Ask(gateway_->stub.get(), request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.route.experts(0).name(), "algebra");
  v1::ScoreRequest score;
  *score.mutable_chat() = request.chat();
  score.set_completion("x");
  grpc::ClientContext context;
  v1::ScoreResponse scored;
  ASSERT_TRUE(gateway_->stub->Score(&context, score, &scored).ok());
  EXPECT_EQ(scored.route().experts(0).name(), "algebra");
}

}  // namespace
}  // namespace coterie::gateway
