#include "model/store/expert_store.h"

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/store/failing_stat.h"
#include "tests/model/store/store_testing.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using ExpertStoreTest = StoreTest;

// Once the catalogue names it, an expert stands: its files stay whatever the publisher can see of its own
// work.
TEST_F(ExpertStoreTest, APublicationStandsAlthoughTheNewCatalogueCannotBeSeen) {
  auto store = OpenStore();
  std::vector<Digest> published;
  for (const char* name : {"first", "second"}) {
    SCOPED_TRACE(name);
    testing::FailingStat fault(Root() / "catalogue.json", ESTALE);
    const auto result = store->Publish(Source({.name = name, .weights = absl::StrCat("weights of ", name)}));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_GT(fault.n_failures(), 0);
    published.push_back(result->expert.digest);
    EXPECT_EQ(store->Snapshot()->generation, published.size());
    // It looks again, in vain, and goes on with what it wrote.
    EXPECT_FALSE(store->Refresh().ok());
    EXPECT_EQ(store->Snapshot()->generation, published.size());
    // Readers whose machine sees the file.
    for (const Digest& digest : published) EXPECT_TRUE(store->ObjectPath(digest).ok());
  }
  EXPECT_TRUE(store->Refresh().ok());
  const auto reader = ExpertStore::Open(Root(), {}).value();
  EXPECT_EQ(reader->Snapshot()->entries.size(), 2u);
  for (const Digest& digest : published) EXPECT_TRUE(reader->ObjectPath(digest).ok());
  EXPECT_EQ(store->Publish(Source({.name = "third"})).value().generation, 3u);
}

TEST_F(ExpertStoreTest, APublishedExpertIsThereForEveryReader) {
  auto store = OpenStore();
  auto reader = ExpertStore::Open(Root(), {}).value();
  EXPECT_EQ(reader->Snapshot()->generation, 0u);
  const PublishResult result =
      store
          ->Publish(Source({.card_tail = "tags: [sql]\nthresholds: {min_score: 0.3}\nlicence: MIT\n"
                                         "routing: {mean_score: 0.6, std_score: 0.1, n: 9}\n"}))
          .value();
  EXPECT_TRUE(result.changed);
  EXPECT_EQ(result.generation, 1u);
  EXPECT_EQ(result.words,
            absl::StrCat("published postgres 1 as ", result.expert.digest.Short(), " (generation 1)"));

  EXPECT_TRUE(reader->Refresh().value());
  EXPECT_FALSE(reader->Refresh().value());
  const auto catalogue = reader->Snapshot();
  ASSERT_EQ(catalogue->entries.size(), 1u);
  const CatalogueEntry& entry = catalogue->entries[0];
  EXPECT_EQ(entry.name, "postgres");
  EXPECT_EQ(entry.description, "about databases");
  EXPECT_THAT(entry.tags, ElementsAre("sql"));
  EXPECT_FLOAT_EQ(entry.min_score.value(), 0.3f);
  EXPECT_EQ(entry.licence, "MIT");
  EXPECT_EQ(entry.routing, (RoutingReference{.mean_score = 0.6, .std_score = 0.1, .n = 9}));
  EXPECT_EQ(entry.n_prototypes, 2u);
  EXPECT_EQ(entry.live.adapter, result.expert.digest);
  EXPECT_EQ(entry.live.adapter_bytes, std::string("weights of postgres").size());
  const fs::path object = reader->ObjectPath(entry.live.adapter).value();
  EXPECT_EQ(ReadFile(object / kWeightsFile, 100).value(), "weights of postgres");
  EXPECT_EQ(reader->ReadCard(entry.live.revision).value(),
            CardOf({.card_tail = "tags: [sql]\nthresholds: {min_score: 0.3}\nlicence: MIT\n"
                                 "routing: {mean_score: 0.6, std_score: 0.1, n: 9}\n"}));
  EXPECT_THAT(reader->ReadPrototypes(entry.live.revision).value().values, ElementsAre(1, 0, 0, 0, 1, 0));
  EXPECT_EQ(CountFiles(Root() / "staging"), 0u);
}

TEST_F(ExpertStoreTest, PublishingTheSameAgainChangesNothingAndSaysSo) {
  auto store = OpenStore();
  const PublishResult first = store->Publish(Source({})).value();
  const std::string before = ReadFile(Root() / "catalogue.json", 1 << 20).value();
  const PublishResult second = store->Publish(Source({})).value();
  EXPECT_FALSE(second.changed);
  EXPECT_EQ(second.generation, 1u);
  EXPECT_EQ(second.expert, first.expert);
  EXPECT_EQ(second.words,
            absl::StrCat("postgres 1 (", first.expert.digest.Short(), ") is live already; nothing changed"));
  EXPECT_EQ(ReadFile(Root() / "catalogue.json", 1 << 20).value(), before);
  EXPECT_EQ(CountFiles(Root() / "staging"), 0u);
}

TEST_F(ExpertStoreTest, ANewCardKeepsTheAdapter) {
  auto store = OpenStore();
  const PublishResult first = store->Publish(Source({})).value();
  const PublishResult second = store->Publish(Source({.description = "better words"})).value();
  EXPECT_TRUE(second.changed);
  EXPECT_EQ(second.expert.digest, first.expert.digest);
  EXPECT_NE(second.expert.revision, first.expert.revision);
  EXPECT_EQ(CountFiles(Root() / "objects"), 1u);
  EXPECT_EQ(CountFiles(Root() / "cards"), 2u);
  EXPECT_EQ(store->Snapshot()->entries[0].description, "better words");
}

TEST_F(ExpertStoreTest, EarlierVersionsResolveAndCanBeRolledBackTo) {
  auto store = OpenStore();
  const PublishResult v1 = store->Publish(Source({.version = "1", .weights = "one"})).value();
  const PublishResult v2 =
      store->Publish(Source({.version = "2", .weights = "two", .description = "new"})).value();
  const auto selector = ParseExpertSelector("postgres@" + v1.expert.digest.ToHex().substr(0, 12)).value();
  EXPECT_EQ(store->Snapshot()->Resolve(selector).value().version->version, "1");

  const PublishResult back = store->RollBack("postgres", v1.expert.digest.ToHex().substr(0, 8)).value();
  EXPECT_TRUE(back.changed);
  EXPECT_EQ(back.generation, 3u);
  const CatalogueEntry entry = store->Snapshot()->entries[0];
  EXPECT_EQ(entry.live.adapter, v1.expert.digest);
  EXPECT_EQ(entry.description, "about databases");
  ASSERT_EQ(entry.history.size(), 1u);
  EXPECT_EQ(entry.history[0].adapter, v2.expert.digest);
  EXPECT_FALSE(store->RollBack("postgres", v1.expert.digest.ToHex()).value().changed);
  EXPECT_EQ(store->RollBack("postgres", "00000000").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ExpertStoreTest, TheHistoryIsBounded) {
  auto options = TestOptions();
  options.catalogue_limits.max_history = 3;
  auto store = OpenStore(options);
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(store->Publish(Source({.version = std::to_string(i), .weights = std::to_string(i)})).ok());
  }
  std::vector<std::string> versions;
  for (const auto& version : store->Snapshot()->entries[0].history) versions.push_back(version.version);
  EXPECT_THAT(versions, ElementsAre("4", "3", "2"));
}

TEST_F(ExpertStoreTest, ARemovedNameIsGoneAndItsBytesStay) {
  auto store = OpenStore();
  const PublishResult result = store->Publish(Source({})).value();
  EXPECT_EQ(store->Remove("postgres").value(), 2u);
  EXPECT_EQ(store->Snapshot()->Find("postgres"), nullptr);
  EXPECT_TRUE(store->ObjectPath(result.expert.digest).ok());
  EXPECT_EQ(store->Remove("postgres").status(),
            absl::NotFoundError("no expert \"postgres\" in the catalogue (generation 2, 0 experts)"));
  EXPECT_EQ(store->ObjectPath(Sha256("other")).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ExpertStoreTest, AnAnswerKeepsTheSnapshotItBeganWith) {
  auto store = OpenStore();
  ASSERT_TRUE(store->Publish(Source({.weights = "one"})).ok());
  const auto before = store->Snapshot();
  const Digest digest = before->entries[0].live.adapter;
  ASSERT_TRUE(store->Publish(Source({.weights = "two"})).ok());
  EXPECT_EQ(before->entries[0].live.adapter, digest);
  EXPECT_NE(store->Snapshot()->entries[0].live.adapter, digest);
}

TEST_F(ExpertStoreTest, WhatIsRefusedLeavesNoTrace) {
  auto store = OpenStore();
  ASSERT_TRUE(store->Publish(Source({.name = "kept"})).ok());
  const auto refusal = [&](const fs::path& source) {
    const Status status = store->Publish(source).status();
    EXPECT_FALSE(status.ok());
    return status;
  };
  const fs::path bad_adapter = Source({.name = "bad-one", .weights = "bad"});
  EXPECT_EQ(refusal(bad_adapter),
            absl::FailedPreconditionError(absl::StrCat(
                bad_adapter.string(),
                ": expert bad-one: adapter_config.json: field use_dora is true, which is not supported")));
  const fs::path bad_card = Source({.card_tail = "colour: red\n"});
  EXPECT_THAT(std::string(ToStd(refusal(bad_card).message())), HasSubstr("unknown field \"colour\""));
  const fs::path bad_prototypes = Source({.prototypes = {2, 0, 0}});
  EXPECT_THAT(std::string(ToStd(refusal(bad_prototypes).message())), HasSubstr("has norm 2, want 1"));
  const fs::path missing = Source({});
  fs::remove(missing / kPrototypesFile);
  EXPECT_EQ(refusal(missing).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(refusal(folder_ / "nowhere").code(), absl::StatusCode::kNotFound);

  EXPECT_EQ(store->Snapshot()->generation, 1u);
  EXPECT_EQ(CountFiles(Root() / "objects"), 1u);
  EXPECT_EQ(CountFiles(Root() / "cards"), 1u);
  EXPECT_EQ(CountFiles(Root() / "staging"), 0u);
}

TEST_F(ExpertStoreTest, LimitsAreNamed) {
  auto options = TestOptions();
  options.catalogue_limits.max_experts = 1;
  options.file_limits.max_weights_bytes = 20;
  options.prototype_dim = 3;
  auto store = OpenStore(options);
  ASSERT_TRUE(store->Publish(Source({.name = "a"})).ok());
  EXPECT_EQ(store->Publish(Source({.name = "b"})).status(),
            absl::FailedPreconditionError(
                "cannot publish expert b: the store holds 1 experts, the limit is 1; remove one first"));
  EXPECT_EQ(
      store->Publish(Source({.name = "a", .weights = std::string(21, 'x')})).status(),
      absl::InvalidArgumentError("file adapter_model.safetensors is larger than the limit of 20 bytes"));
  EXPECT_TRUE(store->Publish(Source({.name = "a", .weights = "two"})).ok());
  options.prototype_dim = 384;
  const fs::path source = Source({.name = "a", .weights = "three"});
  EXPECT_EQ(OpenStore(options)->Publish(source).status(),
            absl::InvalidArgumentError(absl::StrCat(
                source.string(), ": prototypes.safetensors has dimension 3, the embedder here has 384")));
}

TEST_F(ExpertStoreTest, ManyArePublishedInOneGenerationAndRefusedOneByOne) {
  auto store = OpenStore();
  std::vector<fs::path> sources;
  for (int i = 0; i < 10; ++i) {
    sources.push_back(
        Source({.name = "e" + std::to_string(i), .weights = (i == 4 ? "bad" : "w") + std::to_string(i)}));
  }
  const auto results = store->PublishAll(sources);
  ASSERT_EQ(results.size(), 10u);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(results[i].ok(), i != 4) << i;
  EXPECT_EQ(store->Snapshot()->generation, 1u);
  EXPECT_EQ(store->Snapshot()->entries.size(), 9u);
}

TEST_F(ExpertStoreTest, AnUploadInPiecesPublishesAsAFolderDoes) {
  auto store = OpenStore();
  const fs::path source = Source({});
  const auto upload_all = [&](ExpertStore::Upload* upload) {
    for (const std::string_view file : {kConfigFile, kWeightsFile, kCardFile, kPrototypesFile}) {
      const std::string content = ReadFile(source / file, 1 << 20).value();
      for (size_t i = 0; i < content.size(); i += 7) {
        ASSERT_TRUE(upload->Write(file, std::string_view(content).substr(i, 7)).ok());
      }
    }
  };
  auto upload = store->BeginUpload().value();
  upload_all(upload.get());
  const PublishResult result = upload->Commit("postgres").value();
  EXPECT_TRUE(result.changed);
  EXPECT_FALSE(store->Publish(source).value().changed);
  EXPECT_EQ(upload->Commit("postgres").status().code(), absl::StatusCode::kFailedPrecondition);

  auto wrong_name = store->BeginUpload().value();
  upload_all(wrong_name.get());
  EXPECT_EQ(wrong_name->Commit("mysql").status(),
            absl::InvalidArgumentError(
                "the card names expert postgres, the request publishes \"mysql\"; ask for the "
                "card's name or change field name of expert.yaml"));
}

TEST_F(ExpertStoreTest, AnUploadIsBoundedAndChecked) {
  auto options = TestOptions();
  options.max_uploads = 2;
  options.file_limits.max_config_bytes = 10;
  auto store = OpenStore(options);
  auto first = store->BeginUpload().value();
  {
    auto second = store->BeginUpload().value();
    EXPECT_EQ(store->BeginUpload().status(),
              absl::ResourceExhaustedError("2 experts are being published already, the limit is 2"));
  }
  EXPECT_TRUE(store->BeginUpload().ok());
  EXPECT_EQ(first->Write("../catalogue.json", "x").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(first->Write(kConfigFile, "0123456789").ok());
  EXPECT_EQ(first->Write(kConfigFile, "x"),
            absl::InvalidArgumentError("file adapter_config.json is larger than the limit of 10 bytes"));
  EXPECT_EQ(first->Commit("").status(),
            absl::FailedPreconditionError(
                "file adapter_model.safetensors is missing; an expert is made of adapter_config.json, "
                "adapter_model.safetensors, expert.yaml and prototypes.safetensors (docs/expert-format.md)"));
  first.reset();
  EXPECT_EQ(CountFiles(Root() / "staging"), 0u);
}

TEST_F(ExpertStoreTest, AReaderCannotPublish) {
  OpenStore();
  auto reader = ExpertStore::Open(Root(), {}).value();
  EXPECT_EQ(reader->Publish(Source({})).status(),
            absl::FailedPreconditionError(
                absl::StrCat("expert store ", Root().string(), " was opened for reading only")));
  EXPECT_EQ(reader->Remove("x").status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ExpertStoreTest, AMissingRootIsNotAnEmptyStore) {
  EXPECT_EQ(
      ExpertStore::Open(Root(), {}).status(),
      absl::NotFoundError(absl::StrCat("expert store ", Root().string(), " is not there or not a folder")));
}

TEST_F(ExpertStoreTest, PackedFilesGoWithTheirObjects) {
  auto store = OpenStore();
  const Digest live = store->Publish(Source({.name = "live"})).value().expert.digest;
  const Digest removed =
      store->Publish(Source({.name = "removed", .weights = "other"})).value().expert.digest;
  const auto packed = [&](const Digest& adapter) {
    return Root() / "packed" / (adapter.ToHex() + "-0123456789abcdef.bin");
  };
  fs::create_directory(Root() / "packed");
  for (const Digest& adapter : {live, removed, Sha256("never published")}) {
    ASSERT_TRUE(WriteFileAtomically(packed(adapter), "packed").ok());
  }
  ASSERT_TRUE(store->Remove("removed").ok());
  EXPECT_EQ(store->CollectGarbage(absl::Hours(1)).value().n_waiting, 2u) << "object and card";
  EXPECT_TRUE(fs::exists(packed(removed))) << "its object is there yet";
  EXPECT_FALSE(fs::exists(packed(Sha256("never published"))));
  store->CollectGarbage(absl::ZeroDuration()).value();
  EXPECT_FALSE(store->ObjectPath(removed).ok());
  EXPECT_FALSE(fs::exists(packed(removed)));
  EXPECT_TRUE(fs::exists(packed(live)));
}

TEST_F(ExpertStoreTest, GarbageGoesOnlyAfterItsGrace) {
  auto options = TestOptions();
  options.catalogue_limits.max_history = 1;
  absl::Time now = absl::FromUnixSeconds(1'000'000);
  options.now = [&] { return now; };
  auto store = OpenStore(options);
  std::vector<Digest> digests;
  for (int i = 0; i < 3; ++i) {
    digests.push_back(store->Publish(Source({.weights = std::to_string(i)})).value().expert.digest);
  }
  const auto collect = [&] {
    const auto report = store->CollectGarbage(absl::Hours(1)).value();
    return std::make_pair(report.n_removed, report.n_waiting);
  };
  // The first version fell off the history; all three share one card.
  EXPECT_EQ(collect(), std::make_pair(size_t{0}, size_t{1}));
  now += absl::Minutes(59);
  EXPECT_EQ(collect(), std::make_pair(size_t{0}, size_t{1}));
  EXPECT_TRUE(store->ObjectPath(digests[0]).ok());
  now += absl::Minutes(1);
  EXPECT_EQ(collect(), std::make_pair(size_t{1}, size_t{0}));
  EXPECT_FALSE(store->ObjectPath(digests[0]).ok());
  EXPECT_TRUE(store->ObjectPath(digests[1]).ok());
  EXPECT_EQ(CountFiles(Root() / "unused"), 0u);
}

TEST_F(ExpertStoreTest, WhatIsPublishedAgainStopsBeingGarbage) {
  auto options = TestOptions();
  absl::Time now = absl::FromUnixSeconds(1'000'000);
  options.now = [&] { return now; };
  auto store = OpenStore(options);
  const fs::path source = Source({});
  ASSERT_TRUE(store->Publish(source).ok());
  ASSERT_TRUE(store->Remove("postgres").ok());
  EXPECT_EQ(store->CollectGarbage(absl::Hours(1)).value().n_waiting, 2u);
  ASSERT_TRUE(store->Publish(source).ok());
  ASSERT_TRUE(store->Remove("postgres").ok());
  now += absl::Hours(2);
  EXPECT_EQ(store->CollectGarbage(absl::Hours(1)).value().n_waiting, 2u);  // the grace begins anew
}

TEST_F(ExpertStoreTest, AnObjectLeftIncompleteIsReplaced) {
  auto store = OpenStore();
  const Digest digest = store->Publish(Source({})).value().expert.digest;
  fs::remove(Root() / "objects" / digest.ToHex() / kWeightsFile);
  EXPECT_FALSE(store->Publish(Source({})).value().changed);
  EXPECT_EQ(ReadFile(Root() / "objects" / digest.ToHex() / kWeightsFile, 100).value(), "weights of postgres");
}

// Publishes `source` in a process of its own with a limit on file sizes, so that a write fails as on a full
// disk; returns whether the publisher saw ResourceExhausted naming a path of the store, and nothing but that.
void ExpectFullDiskIn(const std::function<void()>& prepare, const fs::path& root, const fs::path& source) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto store = ExpertStore::Open(root, TestOptions());
    if (!store.ok()) ::_exit(10);
    prepare();
    const Status status = (*store)->Publish(source).status();
    if (!absl::IsResourceExhausted(status)) ::_exit(11);
    if (ToStd(status.message()).find(root.string()) == std::string_view::npos) ::_exit(12);
    ::_exit(0);
  }
  int outcome = 0;
  ASSERT_EQ(::waitpid(child, &outcome, 0), child);
  ASSERT_TRUE(WIFEXITED(outcome)) << outcome;
  EXPECT_EQ(WEXITSTATUS(outcome), 0);
}

TEST_F(ExpertStoreTest, AFileTheDiskCannotHoldIsResourceExhaustedAndPublishesNothing) {
  auto store = OpenStore();
  ASSERT_TRUE(store->Publish(Source({.name = "kept"})).ok());
  const fs::path source = Source({.name = "big", .weights = std::string(100'000, 'x')});
  const auto limit = [] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit small = {50'000, 50'000};
    if (::setrlimit(RLIMIT_FSIZE, &small) != 0) ::_exit(13);
  };
  ExpectFullDiskIn(limit, Root(), source);
  EXPECT_FALSE(store->Refresh().value());
  EXPECT_EQ(store->Snapshot()->entries.size(), 1u);
  EXPECT_EQ(CountFiles(Root() / "staging"), 0u);
  EXPECT_EQ(CountFiles(Root() / "objects"), 1u);
}

TEST_F(ExpertStoreTest, ACatalogueTheDiskCannotHoldTakesItsObjectsBack) {
  auto store = OpenStore();
  std::vector<fs::path> sources;
  for (int i = 0; i < 64; ++i) {
    sources.push_back(Source({.name = "e" + std::to_string(i),
                              .weights = std::to_string(i),
                              .description = std::string(1000, 'd')}));
  }
  for (const auto& result : store->PublishAll(sources)) ASSERT_TRUE(result.ok()) << result.status();
  const fs::path source = Source({.name = "one-more", .weights = "one more"});
  // Every file of the expert is smaller than this; the catalogue of 65 experts is larger.
  const auto limit = [] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit small = {20'000, 20'000};
    if (::setrlimit(RLIMIT_FSIZE, &small) != 0) ::_exit(13);
  };
  ExpectFullDiskIn(limit, Root(), source);
  EXPECT_FALSE(store->Refresh().value());
  EXPECT_EQ(CountFiles(Root() / "objects"), 64u);
  EXPECT_EQ(CountFiles(Root() / "cards"), 64u);
  EXPECT_EQ(CountFiles(Root() / "staging"), 0u);
  EXPECT_TRUE(store->Publish(source).value().changed);
}

// The real thing: a file system of 64 KiB, which fills at another place for every size of the weights.
TEST_F(ExpertStoreTest, AFullFileSystemPublishesNothingByHalves) {
  fs::create_directories(Root());
  if (::mount("tmpfs", Root().c_str(), "tmpfs", 0, "size=98304") != 0) {
    GTEST_SKIP() << "cannot mount a tmpfs here: " << std::strerror(errno)
                 << "; the tests with RLIMIT_FSIZE ran";
  }
  {
    auto store = OpenStore();
    ASSERT_TRUE(store->Publish(Source({.name = "kept"})).ok());
    int n_refused = 0;
    for (size_t kib = 0; kib <= 128; kib += 4) {
      const Status status =
          store
              ->Publish(Source(
                  {.name = "big", .version = std::to_string(kib), .weights = std::string(kib << 10, 'x')}))
              .status();
      const auto on_disk = ExpertStore::Open(Root(), TestOptions());
      ASSERT_TRUE(on_disk.ok()) << on_disk.status();
      const auto catalogue = (*on_disk)->Snapshot();
      EXPECT_EQ(catalogue->entries, store->Snapshot()->entries);
      EXPECT_NE(catalogue->Find("kept"), nullptr);
      if (status.ok()) {
        ASSERT_NE(catalogue->Find("big"), nullptr);
        EXPECT_EQ(catalogue->Find("big")->live.version, std::to_string(kib));
        ASSERT_TRUE(store->Remove("big").ok());
        ASSERT_TRUE(store->CollectGarbage(absl::ZeroDuration()).ok());
      } else {
        EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
        EXPECT_THAT(std::string(ToStd(status.message())), HasSubstr(Root().string()));
        EXPECT_EQ(catalogue->Find("big"), nullptr);
        ++n_refused;
      }
      EXPECT_EQ(CountFiles(Root() / "staging"), 0u);
      EXPECT_EQ(CountFiles(Root() / "objects"), 1u);
    }
    EXPECT_GT(n_refused, 5);
    EXPECT_LT(n_refused, 30);
  }
  EXPECT_EQ(::umount(Root().c_str()), 0);
}

}  // namespace
}  // namespace coterie
