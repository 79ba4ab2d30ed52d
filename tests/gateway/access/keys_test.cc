#include "gateway/access/keys.h"

#include <filesystem>

#include "common/file.h"
#include "gateway/access/retry_delay.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "spdlog/sinks/ostream_sink.h"
#include "spdlog/spdlog.h"
#include "tests/gateway/experts.h"

namespace coterie::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr MonotonicTime kZero = MonotonicTime::Epoch();

TEST(TokenBucketTest, FillsEvenlyAndHoldsAMinute) {
  TokenBucket bucket(60, kZero);
  for (int i = 0; i < 60; ++i) {
    EXPECT_EQ(bucket.WaitFor(1, kZero), absl::ZeroDuration()) << i;
    bucket.Take(1, kZero);
  }
  EXPECT_NEAR(absl::ToDoubleSeconds(bucket.WaitFor(1, kZero)), 1, 1e-6);
  EXPECT_NEAR(absl::ToDoubleSeconds(bucket.WaitFor(1, kZero + absl::Seconds(0.75))), 0.25, 1e-6);
  EXPECT_EQ(bucket.WaitFor(1, kZero + absl::Seconds(1)), absl::ZeroDuration());
  // An hour fills it, and no more.
  bucket.Take(60, kZero + absl::Hours(1));
  EXPECT_GT(bucket.WaitFor(1, kZero + absl::Hours(1)), absl::ZeroDuration());
}

TEST(TokenBucketTest, DebtIsPaidBeforeTheNextComes) {
  TokenBucket bucket(600, kZero);
  bucket.Take(1200, kZero);  // known only when it was spent
  EXPECT_NEAR(absl::ToDoubleSeconds(bucket.WaitFor(1, kZero)), 60.1, 1e-6);
  EXPECT_EQ(bucket.WaitFor(1, kZero + absl::Seconds(60.2)), absl::ZeroDuration());
  // More than it ever holds waits until it is full, not for ever.
  EXPECT_EQ(bucket.WaitFor(100'000, kZero + absl::Hours(1)), absl::ZeroDuration());
}

TEST(TokenBucketTest, ANewRateKeepsWhatIsLeft) {
  TokenBucket bucket(60, kZero);
  bucket.Take(30, kZero);
  bucket.SetRate(600, kZero);
  EXPECT_EQ(bucket.WaitFor(300, kZero), absl::ZeroDuration());
  EXPECT_GT(bucket.WaitFor(301, kZero), absl::ZeroDuration());
  bucket.SetRate(0, kZero);
  EXPECT_EQ(bucket.WaitFor(1e9, kZero), absl::ZeroDuration());
  bucket.SetRate(60, kZero);
  EXPECT_EQ(bucket.WaitFor(60, kZero), absl::ZeroDuration());
}

TEST(KeyInTest, ReadsBothHeaders) {
  EXPECT_EQ(KeyIn("Bearer abc", ""), "abc");
  EXPECT_EQ(KeyIn("bearer   abc ", "other"), "abc");
  EXPECT_EQ(KeyIn("", " abc"), "abc");
  EXPECT_EQ(KeyIn("Basic eDp5", "abc"), "abc");
  for (const char* none : {"", "Bearer", "Bearer ", "abc", "Bearerabc"}) EXPECT_EQ(KeyIn(none, ""), "");
}

ApiKey KeyOf(const std::string& id, const std::string& secret) {
  ApiKey key;
  key.id = id;
  key.digest = HashApiKey(secret);
  key.tenant = "tenant of " + id;
  return key;
}

class KeysTest : public ::testing::Test {
 protected:
  ~KeysTest() override { std::filesystem::remove_all(folder_); }
  void Write(const std::vector<ApiKey>& keys) {
    ASSERT_TRUE(WriteFileAtomically(file_, PrintApiKeys(keys)).ok());
  }
  void Start(const std::vector<ApiKey>& keys) {
    Write(keys);
    Keys::Options options;
    options.file = file_;
    options.poll = absl::Hours(1);  // Refresh says when
    options.unix_now = [this] { return unix_now_; };
    options.clock = [this] { return now_; };
    auto started = Keys::Start(std::move(options), &registry_);
    ASSERT_TRUE(started.ok()) << started.status();
    keys_ = *std::move(started);
  }
  std::shared_ptr<AccessPass> Pass(std::string_view secret) {
    auto pass = keys_->Check(secret);
    EXPECT_TRUE(pass.ok()) << pass.status();
    return pass.ok() ? *pass : nullptr;
  }
  std::string Refusal(std::string_view secret) {
    const Status status = keys_->Check(secret).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << status;
    return std::string(status.message());
  }

  const std::filesystem::path folder_ = testing::FreshFolder();
  const std::string file_ = folder_ / "keys.json";
  int64_t unix_now_ = 1'800'000'000;
  MonotonicTime now_ = kZero;
  MetricsRegistry registry_;
  std::unique_ptr<Keys> keys_;
};

TEST_F(KeysTest, TellsWhyAKeyIsRefused) {
  ApiKey expiring = KeyOf("expiring", "e"), revoked = KeyOf("revoked", "r");
  expiring.expires_unix = unix_now_ + 10;
  revoked.revoked = true;
  Start({KeyOf("good", "g"), expiring, revoked});
  EXPECT_EQ(Pass("g")->key().id, "good");
  EXPECT_EQ(Pass("e")->key().id, "expiring");
  unix_now_ += 10;
  EXPECT_THAT(Refusal("e"), HasSubstr("expired at 2027-01-15T08:00:10Z"));
  EXPECT_THAT(Refusal("r"), HasSubstr("revoked"));
  EXPECT_THAT(Refusal("G"), HasSubstr("not one of this gateway"));
  EXPECT_THAT(Refusal(""), HasSubstr("no API key"));
  EXPECT_THAT(Refusal(std::string(10'000, 'g')), HasSubstr("10000 bytes"));
  // The hash is no key.
  EXPECT_THAT(Refusal(HashApiKey("g").ToHex()), HasSubstr("not one of this gateway"));
  const std::string metrics = registry_.Text();
  EXPECT_THAT(metrics, HasSubstr("coterie_access_refusals_total{reason=\"expired\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("coterie_access_refusals_total{reason=\"unknown\"} 2"));
}

TEST_F(KeysTest, FollowsTheFileAndKeepsTheOldOneWhereTheNewIsBroken) {
  auto log = std::make_shared<std::ostringstream>();
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(*log)));
  Start({KeyOf("one", "1")});
  Write({KeyOf("one", "1"), KeyOf("two", "2")});
  keys_->Refresh();
  EXPECT_EQ(Pass("2")->key().id, "two");
  // Broken, missing, a folder: each said once.
  ASSERT_TRUE(WriteFileAtomically(file_, R"({"keys": [{"id": "thr)").ok());
  keys_->Refresh();
  keys_->Refresh();
  Pass("1"), Pass("2");
  std::filesystem::remove(file_);
  keys_->Refresh();
  Pass("1"), Pass("2");
  Write({KeyOf("two", "2"), KeyOf("three", "3")});
  keys_->Refresh();
  Pass("2"), Pass("3");
  EXPECT_THAT(Refusal("1"), HasSubstr("not one of this gateway"));
  spdlog::set_default_logger(before);
  EXPECT_THAT(log->str(), HasSubstr(file_));
  size_t n_complaints = 0;
  for (size_t at = 0; (at = log->str().find("stays as it was", at)) != std::string::npos; ++at)
    ++n_complaints;
  EXPECT_EQ(n_complaints, 2u) << log->str();
}

TEST_F(KeysTest, ABrokenFileEndsTheStart) {
  ASSERT_TRUE(WriteFileAtomically(file_, "{").ok());
  Keys::Options options;
  options.file = file_;
  EXPECT_THAT(Keys::Start(options, &registry_).status().ToString(), HasSubstr("--keys"));
  options.file = folder_ / "none";
  EXPECT_FALSE(Keys::Start(options, &registry_).ok());
}

TEST_F(KeysTest, CountsRequestsTokensAndPlaces) {
  ApiKey key = KeyOf("ann", "a");
  key.requests_per_minute = 3;
  key.concurrent_requests = 2;
  Start({key});
  auto one = Pass("a"), two = Pass("a"), three = Pass("a");
  EXPECT_TRUE(one->Enter().ok());
  EXPECT_TRUE(one->Enter().ok());  // the second choice of the same request
  EXPECT_TRUE(two->Enter().ok());
  const Status full = three->Enter();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(full.ToString(), HasSubstr("\"ann\" has 2 requests under way, at most 2 are allowed"));
  EXPECT_TRUE(RetryDelay(full).has_value());
  one->Leave();
  EXPECT_FALSE(three->Enter().ok());  // its other choice goes on
  one->Leave();
  EXPECT_TRUE(three->Enter().ok());
  two.reset();  // whoever forgets to leave gives the place back, too
  const Status many = Pass("a")->Enter();
  EXPECT_THAT(many.ToString(), HasSubstr("3 requests a minute"));
  EXPECT_NEAR(absl::ToDoubleSeconds(*RetryDelay(many)), 20, 0.001);
  now_ = now_ + absl::Seconds(20);
  EXPECT_TRUE(Pass("a")->Enter().ok());
}

TEST_F(KeysTest, WritingTheFileAnewFillsNoBucket) {
  ApiKey key = KeyOf("ann", "a");
  key.tokens_per_minute = 100;
  Start({key});
  EXPECT_TRUE(Pass("a")->Enter().ok());
  Pass("a")->SpendTokens(150);
  EXPECT_THAT(Pass("a")->Enter().ToString(), HasSubstr("100 tokens a minute"));
  Write({key, KeyOf("bob", "b")});
  keys_->Refresh();
  EXPECT_FALSE(Pass("a")->Enter().ok());
  EXPECT_TRUE(Pass("b")->Enter().ok());
  key.tokens_per_minute = 0;
  Write({key});
  keys_->Refresh();
  EXPECT_TRUE(Pass("a")->Enter().ok());
  EXPECT_THAT(registry_.Text(), HasSubstr("coterie_tenant_tokens_total{tenant=\"tenant of ann\"} 150"));
}

}  // namespace
}  // namespace coterie::gateway
