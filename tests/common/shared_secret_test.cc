#include "common/shared_secret.h"

#include "common/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Side = SharedSecret::Side;

const std::string kOne = "0123456789abcdef0123456789abcdef";
const std::string kTwo = "fedcba9876543210fedcba9876543210";

class SharedSecretTest : public testing::Test {
 protected:
  std::string Path(const std::string& name) {
    return testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() + name;
  }
  std::unique_ptr<SharedSecret> Make(const std::string& name, const std::string& text) {
    EXPECT_TRUE(WriteFileAtomically(Path(name), text).ok());
    auto secret = SharedSecret::Open(Path(name));
    EXPECT_TRUE(secret.ok()) << secret.status();
    return secret.ok() ? *std::move(secret) : nullptr;
  }
};

TEST_F(SharedSecretTest, AProofIsForItsSideAndItsFactsAlone) {
  const auto gateway = Make("gateway", kOne + "\n"), worker = Make("worker", kOne);
  const HandshakeFacts facts{"gw-1", SharedSecret::DrawNonce(), SharedSecret::DrawNonce()};
  const std::string proof = gateway->Prove(Side::kGateway, facts);
  EXPECT_EQ(proof.size(), 32u);
  EXPECT_TRUE(worker->Believes(Side::kGateway, facts, proof));
  EXPECT_FALSE(worker->Believes(Side::kWorker, facts, proof));
  EXPECT_FALSE(worker->Believes(Side::kGateway, facts, ""));
  EXPECT_FALSE(worker->Believes(Side::kGateway, facts, proof + "x"));
  for (int i = 0; i < 3; ++i) {
    HandshakeFacts other = facts;
    (i == 0 ? other.gateway_id : i == 1 ? other.gateway_nonce : other.worker_nonce).back() ^= 1;
    EXPECT_FALSE(worker->Believes(Side::kGateway, other, proof)) << i;
  }
  // Parts do not run into each other.
  EXPECT_NE(gateway->Prove(Side::kGateway, {"ab", "c", "d"}),
            gateway->Prove(Side::kGateway, {"a", "bc", "d"}));
  EXPECT_FALSE(Make("stranger", kTwo)->Believes(Side::kGateway, facts, proof));
}

TEST_F(SharedSecretTest, IsChangedWithoutAGap) {
  const auto gateway = Make("gateway", kOne), worker = Make("worker", kOne);
  const HandshakeFacts facts{"gw-1", "n", "m"};
  const auto agree = [&] {
    return worker->Believes(Side::kGateway, facts, gateway->Prove(Side::kGateway, facts)) &&
           gateway->Believes(Side::kWorker, facts, worker->Prove(Side::kWorker, facts));
  };
  const auto write = [&](const std::string& name, const std::string& text) {
    ASSERT_TRUE(WriteFileAtomically(Path(name), text).ok());
    EXPECT_TRUE(agree()) << name << " " << text;
  };
  write("worker", kOne + "\n" + kTwo);
  write("gateway", kOne + "\n" + kTwo);
  write("worker", kTwo + "\n" + kOne);
  write("gateway", kTwo + "\n" + kOne);
  write("gateway", kTwo);
  write("worker", kTwo);
  write("worker", "short");  // broken: what was there before goes on
}

TEST_F(SharedSecretTest, RefusesWhatIsShortAndShowsNothingOfIt) {
  for (const std::string& text : {std::string("geheim"), std::string(), std::string("\n \n")}) {
    ASSERT_TRUE(WriteFileAtomically(Path("short"), text).ok());
    const auto opened = SharedSecret::Open(Path("short"));
    EXPECT_EQ(opened.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(opened.status().ToString(), Not(HasSubstr("geheim")));
  }
}

}  // namespace
}  // namespace coterie
