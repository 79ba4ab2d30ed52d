#include "gateway/routing/catalogue_watch.h"

#include <filesystem>
#include <random>

#include "gtest/gtest.h"
#include "tests/gateway/experts.h"
#include "tests/router/router_testing.h"

namespace coterie::gateway::testing {
namespace {

namespace fs = std::filesystem;
constexpr size_t kWidth = 3;

class CatalogueWatchTest : public ::testing::Test {
 protected:
  CatalogueWatchTest() : writer_(ExpertStore::Open(folder_ / "store", TestOptions()).value()) {}
  ~CatalogueWatchTest() override { fs::remove_all(folder_); }

  // Experts [begin, end), with prototypes of their own each time.
  void Publish(size_t begin, size_t end) {
    std::vector<fs::path> sources;
    for (size_t i = begin; i < end; ++i) {
      const std::string name = NameOf(i);
      sources.push_back(folder_ / "sources" / absl::StrCat(++n_sources_) / name);
      WriteExpert(
          sources.back(),
          {.name = name, .weights = "weights of " + name, .prototypes = RandomUnit(kWidth, &random_)});
    }
    for (const auto& result : writer_->PublishAll(sources)) ASSERT_TRUE(result.ok()) << result.status();
  }
  static std::string NameOf(size_t i) { return absl::StrCat("expert-", 10'000 + i); }

  // The index holds what the store's files say, and nothing else.
  void ExpectFollowed(CatalogueWatch* watch) {
    const auto state = watch->routers()->Current();
    const auto catalogue = writer_->Snapshot();
    std::vector<IndexedExpert> experts;
    for (const CatalogueEntry& entry : catalogue->entries) {
      experts.push_back({entry.name, entry.live.adapter, entry.tags, entry.min_score,
                         writer_->ReadPrototypes(entry.live.revision).value().values});
    }
    const auto fresh = ExpertIndex::Create({.dim = kWidth}, std::move(experts)).value();
    const ExpertIndex& index = state->index();
    EXPECT_EQ(index.generation(), catalogue->generation);
    EXPECT_TRUE(state->problems().empty());
    ASSERT_EQ(index.size(), fresh->size());
    const auto query = RandomUnit(kWidth, &random_);
    for (size_t i = 0; i < index.size(); ++i) {
      ASSERT_EQ(index.expert(i).name, fresh->expert(i).name);
      ASSERT_EQ(index.expert(i).adapter, fresh->expert(i).adapter);
      ASSERT_EQ(index.Score(query, i), fresh->Score(query, i));
    }
  }

  const fs::path folder_ = FreshFolder();
  std::unique_ptr<ExpertStore> writer_;
  std::mt19937 random_{8};
  size_t n_sources_ = 0;
};

// More than are read before the index takes them, at the start and in one change.
TEST_F(CatalogueWatchTest, ManyExpertsAreFollowedWholeWhateverChangesAtOnce) {
  Publish(0, 700);
  const auto reader = ExpertStore::Open(folder_ / "store", {}).value();
  auto watch = CatalogueWatch::Start(reader.get(), {.dim = kWidth}, Digest(), RoutingFiles("", "", kWidth),
                                     absl::Hours(1));
  ASSERT_TRUE(watch.ok()) << watch.status();
  ExpectFollowed(watch->get());
  // Some go, most are replaced, and others come.
  for (size_t i = 0; i < 700; i += 100) ASSERT_TRUE(writer_->Remove(NameOf(i)).ok());
  Publish(101, 800);
  ASSERT_TRUE((*watch)->Refresh().ok());
  ExpectFollowed(watch->get());
  const auto same = (*watch)->routers()->Current();
  ASSERT_TRUE((*watch)->Refresh().ok());
  EXPECT_EQ((*watch)->routers()->Current(), same);
}

}  // namespace
}  // namespace coterie::gateway::testing
