#include "model/store/adapter_check.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/lora/lora_adapter.h"
#include "tests/model/lora/tiny_adapter.h"
#include "tests/model/store/store_testing.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class AdapterCheckTest : public StoreTest {
 protected:
  ExpertStoreOptions Options() {
    ExpertStoreOptions options;
    options.create = true;
    options.validate_adapter = AdapterFitsBase(testing::TinyConfig(), Sha256("base"));
    return options;
  }
  fs::path RealSource(const testing::TinyAdapter& adapter, std::string config, std::string card_tail = "") {
    const fs::path source = Source({.weights = adapter.Weights().Bytes(), .card_tail = card_tail});
    std::ofstream(source / kConfigFile) << config;
    return source;
  }
};

TEST_F(AdapterCheckTest, AnAdapterThatFitsIsNamedByItsOwnDigest) {
  auto store = OpenStore(Options());
  const fs::path source =
      RealSource({}, testing::TinyAdapterJson(), absl::StrCat("base_digest: ", Sha256("base").ToHex(), "\n"));
  const auto result = store->Publish(source);
  ASSERT_TRUE(result.ok()) << result.status();
  const auto adapter =
      LoraAdapter::Load(store->ObjectPath(result->expert.digest).value(), testing::TinyConfig());
  ASSERT_TRUE(adapter.ok()) << adapter.status();
  EXPECT_EQ((*adapter)->digest(), result->expert.digest);
  EXPECT_EQ(store->Snapshot()->entries[0].live.base, Sha256("base"));
}

TEST_F(AdapterCheckTest, WhatCannotBeServedIsNotPublished) {
  auto store = OpenStore(Options());
  const auto refusal = [&](const fs::path& source) {
    const Status status = store->Publish(source).status();
    EXPECT_FALSE(status.ok());
    return std::string(ToStd(status.message()));
  };
  EXPECT_THAT(refusal(RealSource({}, testing::TinyAdapterJson("\"use_dora\": true"))), HasSubstr("use_dora"));
  EXPECT_THAT(refusal(RealSource({.zero_b = true}, testing::TinyAdapterJson())), HasSubstr("change nothing"));
  EXPECT_THAT(refusal(RealSource({}, "{")), HasSubstr("adapter_config.json"));
  EXPECT_THAT(refusal(RealSource({}, testing::TinyAdapterJson(),
                                 absl::StrCat("base_digest: ", Sha256("other").ToHex(), "\n"))),
              HasSubstr("field base_digest of expert.yaml is " + Sha256("other").Short()));
  EXPECT_EQ(store->Snapshot()->generation, 0u);
  EXPECT_EQ(CountFiles(Root() / "objects"), 0u);
}

}  // namespace
}  // namespace coterie
