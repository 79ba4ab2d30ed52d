// A store whose files were damaged, removed or replaced behind its back.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/store/expert_store.h"
#include "tests/model/store/store_testing.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using State = CatalogueHealth::State;

class DamagedStoreTest : public StoreTest {
 protected:
  fs::path CataloguePath() const { return Root() / "catalogue.json"; }
  static void Overwrite(const fs::path& path, std::string_view content) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  }
  std::string CatalogueText() const { return ReadFile(CataloguePath(), 1 << 20).value(); }
  // A store with the experts a, b and c.
  std::unique_ptr<ExpertStore> Filled() {
    auto store = OpenStore();
    for (const char* name : {"a", "b", "c"}) {
      EXPECT_TRUE(store->Publish(Source({.name = name, .weights = std::string("w ") + name})).ok());
    }
    return store;
  }
  static std::vector<std::string> Names(const ExpertStore& store) {
    std::vector<std::string> names;
    for (const CatalogueEntry& entry : store.Snapshot()->entries) names.push_back(entry.name);
    return names;
  }
};

// What may happen to a catalogue, each by its name.
std::vector<std::pair<std::string, std::function<void(const fs::path&)>>> WaysToLoseACatalogue() {
  const auto write = [](std::string content) {
    return [content](const fs::path& path) {
      std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
    };
  };
  return {{"removed", [](const fs::path& path) { fs::remove(path); }},
          {"truncated", [](const fs::path& path) { fs::resize_file(path, fs::file_size(path) / 2); }},
          {"empty", write("")},
          {"garbage", write("\x80\x81\xff")},
          {"nested", write(std::string(200'000, '['))},
          {"a number too large", write("{\"format\": 1, \"generation\": 1e400, \"experts\": []}")},
          {"of another format", write("{\"format\": 2}")},
          {"a folder",
           [](const fs::path& path) {
             fs::remove(path);
             fs::create_directory(path);
           }},
          {"a pipe",
           [](const fs::path& path) {
             fs::remove(path);
             ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
           }},
          {"a device", [](const fs::path& path) {
             fs::remove(path);
             fs::create_symlink("/dev/zero", path);
           }}};
}

TEST_F(DamagedStoreTest, ALostCatalogueStopsNobodyAndNothingIsWrittenOverIt) {
  for (const auto& [how, lose] : WaysToLoseACatalogue()) {
    SCOPED_TRACE(how);
    fs::remove_all(Root());
    auto running = Filled();
    lose(CataloguePath());
    EXPECT_EQ(running->Refresh().status().code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(Names(*running), (std::vector<std::string>{"a", "b", "c"}));
    EXPECT_EQ(running->Health().state, how == "removed" ? State::kMissing : State::kDamaged);
    // Said again for as long as it is so.
    EXPECT_EQ(running->Refresh().status().code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(running->Health().words, HasSubstr("generation 3 with 3 experts, is served"));

    // Gateways and workers that start now.
    for (const bool writer : {true, false}) {
      auto started = ExpertStore::Open(Root(), writer ? TestOptions() : ExpertStoreOptions{});
      ASSERT_TRUE(started.ok()) << started.status();
      EXPECT_EQ(Names(**started), (std::vector<std::string>{"a", "b", "c"}));
      EXPECT_EQ((*started)->Snapshot()->generation, 3u);
      EXPECT_THAT((*started)->Health().words, HasSubstr("copy of generation 3"));
    }
    auto started = OpenStore();
    for (ExpertStore* store : {running.get(), started.get()}) {
      const Status refused = store->Publish(Source({.name = "d", .weights = "d"})).status();
      EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_THAT(std::string(ToStd(refused.message())), HasSubstr("--restore-catalogue"));
      EXPECT_EQ(store->Remove("a").status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_EQ(store->CollectGarbage(absl::ZeroDuration()).status().code(),
                absl::StatusCode::kFailedPrecondition);
    }
    if (how == "a folder") fs::remove(CataloguePath());
    ASSERT_TRUE(started->RestoreCatalogue().ok());
    EXPECT_EQ(started->Health(), CatalogueHealth());
    EXPECT_EQ(started->Publish(Source({.name = "d", .weights = "d"})).value().generation, 5u);
    EXPECT_TRUE(running->Refresh().value());
    EXPECT_EQ(Names(*running), (std::vector<std::string>{"a", "b", "c", "d"}));
    EXPECT_EQ(running->Health(), CatalogueHealth());
  }
}

TEST_F(DamagedStoreTest, ACatalogueThatComesBackIsReadAgain) {
  auto store = Filled();
  const fs::path aside = folder_ / "aside";
  fs::rename(CataloguePath(), aside);
  EXPECT_FALSE(store->Refresh().ok());
  fs::rename(aside, CataloguePath());
  EXPECT_FALSE(store->Refresh().value());  // nothing changed for those who read it
  EXPECT_EQ(store->Health(), CatalogueHealth());
  EXPECT_TRUE(store->Publish(Source({.name = "d", .weights = "d"})).ok());
  EXPECT_TRUE(store->RestoreCatalogue().ok());  // nothing to do
  EXPECT_EQ(store->Snapshot()->generation, 4u);
}

TEST_F(DamagedStoreTest, TheNewestCopyThatCanBeReadIsServed) {
  Filled();
  fs::remove(CataloguePath());
  Overwrite(Root() / "generations" / "3.json", "{ truncated");
  auto store = OpenStore();
  EXPECT_EQ(store->Snapshot()->generation, 2u);
  EXPECT_EQ(Names(*store), (std::vector<std::string>{"a", "b"}));
}

TEST_F(DamagedStoreTest, WithoutACopyItStartsWithNothingAndSaysSo) {
  Filled();
  fs::remove_all(Root() / "generations");
  Overwrite(CataloguePath(), "{ truncated");
  auto store = OpenStore();
  EXPECT_TRUE(Names(*store).empty());
  EXPECT_THAT(store->Health().words, HasSubstr("no generation before it is known"));
  EXPECT_EQ(store->Publish(Source({})).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(DamagedStoreTest, WithoutACatalogueAndWithCopiesThatCannotBeListedItIsNoNewStore) {
  Filled();
  fs::remove(CataloguePath());
  fs::rename(Root() / "generations", Root() / "elsewhere");
  fs::create_symlink("generations", Root() / "generations");  // of itself: it cannot be listed
  CatalogueFile catalogue(Root(), CatalogueLimits());
  EXPECT_EQ(catalogue.Refresh().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(catalogue.health().words, HasSubstr("catalogue.json is missing, and cannot list"));
  fs::remove(Root() / "generations");
  fs::rename(Root() / "elsewhere", Root() / "generations");
  EXPECT_EQ(catalogue.Refresh().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(catalogue.current()->entries.size(), 3u) << "the newest copy is served";
}

TEST_F(DamagedStoreTest, OnlyTheLastGenerationsAreKept) {
  auto store = Filled();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(store->Publish(Source({.weights = std::to_string(i)})).ok());
  EXPECT_EQ(CountFiles(Root() / "generations"), CatalogueFile::kCopies);
  EXPECT_TRUE(fs::exists(Root() / "generations" / "7.json"));
  EXPECT_EQ(CountFiles(Root() / "staging"), 0u);
  // A store of a program that kept none gets one from the first that may write.
  fs::remove_all(Root() / "generations");
  OpenStore();
  EXPECT_EQ(ReadFile(Root() / "generations" / "7.json", 1 << 20).value(), CatalogueText());
}

TEST_F(DamagedStoreTest, AStoreReplacedByAnEarlierOneIsTakenAndItsCopiesWin) {
  auto store = Filled();
  fs::copy_file(Root() / "generations" / "1.json", folder_ / "backup");
  fs::rename(folder_ / "backup", CataloguePath());
  EXPECT_TRUE(store->Refresh().value());
  EXPECT_EQ(Names(*store), std::vector<std::string>{"a"});
  EXPECT_EQ(store->Publish(Source({.name = "z", .weights = "z"})).value().generation, 2u);
  fs::remove(CataloguePath());
  EXPECT_EQ(Names(*OpenStore()), (std::vector<std::string>{"a", "z"}));
}

TEST_F(DamagedStoreTest, OneDamagedExpertIsServedFromTheCopyAndMendedByTheNextPublication) {
  for (const bool by_hand : {false, true}) {
    fs::remove_all(Root());
    auto store = Filled();
    std::string text = CatalogueText();
    text.replace(text.find("\"n_prototypes\":2", text.find("\"name\":\"b\"")), 16, "\"n_prototypes\":-");
    if (by_hand) {
      auto json = nlohmann::json::parse(CatalogueText());
      json["experts"][1]["n_prototypes"] = "two";
      text = json.dump(1);
    }
    Overwrite(CataloguePath(), text);
    EXPECT_FALSE(store->Refresh().value());
    EXPECT_EQ(Names(*store), (std::vector<std::string>{"a", "b", "c"}));
    EXPECT_EQ(store->Health().state, State::kExpertsDamaged);
    EXPECT_THAT(store->Health().words, HasSubstr("the copy of generation 3 is served"));
    EXPECT_THAT(store->Health().words, HasSubstr("expert "));
    EXPECT_TRUE(store->Publish(Source({.name = "d", .weights = "d"})).ok());
    EXPECT_EQ(store->Health(), CatalogueHealth());
    EXPECT_EQ(OpenStore()->Snapshot()->entries.size(), 4u);
  }
}

TEST_F(DamagedStoreTest, WithoutACopyADamagedExpertIsPassedOverAndKeptUntilItIsPublishedOrRemoved) {
  Filled();
  fs::remove_all(Root() / "generations");
  std::string text = CatalogueText();
  for (const char* name : {"a", "b"}) {
    const size_t at = text.find("\"licence\"", text.find(absl::StrCat("\"name\":\"", name, "\"")));
    text.replace(at, 9, "\"license\"");
  }
  Overwrite(CataloguePath(), text);
  auto store = OpenStore();
  EXPECT_EQ(Names(*store), std::vector<std::string>{"c"});
  EXPECT_THAT(
      store->Health().words,
      HasSubstr("2 of 3 experts of catalogue.json cannot be read (catalogue.json: expert a: field licence "
                "is missing)"));
  EXPECT_EQ(store->CollectGarbage(absl::ZeroDuration()).status().code(),
            absl::StatusCode::kFailedPrecondition);
  // Other experts come and go meanwhile.
  ASSERT_TRUE(store->Publish(Source({.name = "d", .weights = "d"})).ok());
  EXPECT_EQ(store->Snapshot()->damaged.size(), 2u);
  EXPECT_TRUE(store->Publish(Source({.name = "a", .weights = "w a"})).value().changed);
  EXPECT_TRUE(store->Remove("b").ok());
  EXPECT_EQ(store->Health(), CatalogueHealth());
  EXPECT_EQ(Names(*OpenStore()), (std::vector<std::string>{"a", "c", "d"}));
  EXPECT_TRUE(store->CollectGarbage(absl::ZeroDuration()).ok());
}

TEST_F(DamagedStoreTest, AnotherContentOfTheSameGenerationIsSeenAndNotWrittenOver) {
  auto store = Filled();
  auto other = OpenStore();
  // Of the same size, by a program that puts the times back: only the content tells.
  struct stat before;
  ASSERT_EQ(::stat(CataloguePath().c_str(), &before), 0);
  std::string text = CatalogueText();
  text.replace(text.find("about databases"), 15, "about NOTHING  ");
  Overwrite(CataloguePath(), text);
  const timespec times[] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, CataloguePath().c_str(), times, 0), 0);
  EXPECT_TRUE(store->Refresh().value());
  EXPECT_EQ(store->Snapshot()->generation, 3u);
  EXPECT_EQ(store->Snapshot()->Find("a")->description, "about NOTHING  ");
  // One that never looked in between keeps it too.
  ASSERT_TRUE(other->Publish(Source({.name = "d", .weights = "d"})).ok());
  EXPECT_EQ(other->Snapshot()->Find("a")->description, "about NOTHING  ");
}

TEST_F(DamagedStoreTest, PublishingAgainRepairsWhateverIsDamagedAndSaysSo) {
  const fs::path source = Source({});
  auto store = OpenStore();
  const ExpertRef expert = store->Publish(source).value().expert;
  const fs::path object = Root() / "objects" / expert.digest.ToHex();
  const fs::path card = Root() / "cards" / expert.revision.ToHex();
  const auto flip = [](const fs::path& path) {
    std::string content = ReadFile(path, 1 << 20).value();
    content[content.size() / 2] = static_cast<char>(content[content.size() / 2] ^ 1);
    Overwrite(path, content);
  };
  const auto make_pipe = [](const fs::path& path) {
    fs::remove(path);
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  };
  const std::pair<const char*, std::function<void()>> damages[] = {
      {"a bit of the weights", [&] { flip(object / kWeightsFile); }},
      {"weights cut short", [&] { fs::resize_file(object / kWeightsFile, 3); }},
      {"no weights", [&] { fs::remove(object / kWeightsFile); }},
      {"weights that are a pipe", [&] { make_pipe(object / kWeightsFile); }},
      {"weights that are a folder",
       [&] {
         fs::remove(object / kWeightsFile);
         fs::create_directories(object / kWeightsFile / "x");
       }},
      {"a bit of the configuration", [&] { flip(object / kConfigFile); }},
      {"a bit of the card", [&] { flip(card / kCardFile); }},
      {"a bit of the prototypes", [&] { flip(card / kPrototypesFile); }},
      {"no prototypes", [&] { fs::remove(card / kPrototypesFile); }},
      {"no card", [&] { fs::remove_all(card); }},
      {"no object", [&] { fs::remove_all(object); }},
      {"an object that is a file",
       [&] {
         fs::remove_all(object);
         Overwrite(object, "x");
       }},
  };
  for (const auto& [what, damage] : damages) {
    SCOPED_TRACE(what);
    damage();
    const PublishResult again = store->Publish(source).value();
    EXPECT_FALSE(again.changed);
    EXPECT_TRUE(again.repaired);
    EXPECT_THAT(again.words, HasSubstr("were damaged and are whole again"));
    EXPECT_EQ(again.generation, 1u);
    EXPECT_EQ(HashAdapter(object, {}).value(), expert.digest);
    EXPECT_EQ(store->ReadCard(expert.revision).value(), CardOf({}));
    EXPECT_TRUE(store->ReadPrototypes(expert.revision).ok());
    EXPECT_EQ(CountFiles(Root() / "staging"), 0u);
    EXPECT_FALSE(store->Publish(source).value().repaired);  // and then it is whole
  }
  // Also when the name was removed in between.
  flip(object / kWeightsFile);
  ASSERT_TRUE(store->Remove("postgres").ok());
  EXPECT_TRUE(store->Publish(source).value().repaired);
  EXPECT_EQ(HashAdapter(object, {}).value(), expert.digest);
}

TEST_F(DamagedStoreTest, FilesOfOtherNamesAreLeftAlone) {
  auto store = Filled();
  for (const char* name : {"catalogue.json.bak", "catalogue.json.AbC123", "notes.txt"}) {
    Overwrite(Root() / name, "mine");
  }
  Overwrite(Root() / "generations" / "before-the-move.json", "mine");
  ASSERT_TRUE(store->Publish(Source({.name = "d", .weights = "d"})).ok());
  ASSERT_TRUE(store->CollectGarbage(absl::ZeroDuration()).ok());
  for (const char* name : {"catalogue.json.bak", "catalogue.json.AbC123", "notes.txt"}) {
    EXPECT_EQ(ReadFile(Root() / name, 100).value(), "mine");
  }
  EXPECT_TRUE(fs::exists(Root() / "generations" / "before-the-move.json"));
}

TEST_F(DamagedStoreTest, AStoreMadeAnewIsPickedUp) {
  auto store = Filled();
  fs::remove_all(Root());
  EXPECT_FALSE(store->Refresh().ok());
  fs::create_directories(Root());
  EXPECT_FALSE(store->Refresh().ok());
  EXPECT_EQ(Names(*store).size(), 3u);  // what vanished is not an empty store
  const fs::path source = Source({.name = "d", .weights = "d"});
  EXPECT_EQ(store->Publish(source).status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(store->RestoreCatalogue().ok());
  EXPECT_TRUE(store->Publish(source).value().changed);
  EXPECT_EQ(Names(*OpenStore()), (std::vector<std::string>{"a", "b", "c", "d"}));

  // Without anything lost: folders that somebody tidied away.
  for (const char* folder : {"staging", "unused", "generations"}) fs::remove_all(Root() / folder);
  EXPECT_TRUE(store->Publish(Source({.name = "e", .weights = "e"})).ok());

  // A store that another one made there is followed.
  fs::remove_all(Root());
  {
    auto other = OpenStore();
    ASSERT_TRUE(other->Publish(Source({.name = "z", .weights = "z"})).ok());
  }
  EXPECT_TRUE(store->Refresh().value());
  EXPECT_EQ(Names(*store), std::vector<std::string>{"z"});
}

TEST_F(DamagedStoreTest, PipesAndDevicesInAnExpertFolderAreRefusedAtOnce) {
  auto store = OpenStore();
  for (const std::string_view file : {kConfigFile, kWeightsFile, kCardFile, kPrototypesFile}) {
    const fs::path source = Source({});
    fs::remove(source / file);
    ASSERT_EQ(::mkfifo((source / file).c_str(), 0600), 0);
    EXPECT_THAT(std::string(ToStd(store->Publish(source).status().message())),
                HasSubstr("not a regular file"));
    fs::remove(source / file);
    fs::create_symlink("/dev/zero", source / file);
    EXPECT_THAT(std::string(ToStd(store->Publish(source).status().message())),
                HasSubstr("not a regular file"));
  }
  EXPECT_EQ(CountFiles(Root() / "staging"), 0u);
}

TEST_F(DamagedStoreTest, ACatalogueThatNobodyWouldReadIsNotWritten) {
  auto options = TestOptions();
  options.catalogue_limits.max_bytes = 1500;
  auto store = OpenStore(options);
  Status refused;
  int n = 0;
  for (; refused.ok() && n < 20; ++n) {
    refused =
        store->Publish(Source({.name = "e" + std::to_string(n), .weights = std::to_string(n)})).status();
  }
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(ToStd(refused.message())),
              HasSubstr("nobody reads more than 1500; remove experts"));
  EXPECT_EQ(ExpertStore::Open(Root(), options).value()->Snapshot()->entries.size(),
            static_cast<size_t>(n - 1));
  EXPECT_EQ(CountFiles(Root() / "objects"), static_cast<size_t>(n - 1));
  // Of one expert alone.
  const Status licence =
      store
          ->Publish(Source({.name = "e0", .weights = "x", .card_tail = "licence: " + std::string(5000, 'l')}))
          .status();
  EXPECT_EQ(licence.code(), absl::StatusCode::kInvalidArgument) << licence;
}

TEST_F(DamagedStoreTest, PrototypesOfAnotherEmbedderAreRefusedWithBothDigests) {
  const auto with = [&](const Digest& embedder, const std::string& weights) {
    const fs::path source = Source({.weights = weights});
    Overwrite(source / kPrototypesFile,
              SafetensorsOf("prototypes", {1, 3}, {1, 0, 0},
                            absl::StrCat("{\"embedder\":\"bge-small\",\"embedder_digest\":\"",
                                         embedder.ToHex(), "\"}")));
    return source;
  };
  const Digest ours = Sha256("ours"), theirs = Sha256("theirs");
  auto options = TestOptions();
  options.embedder = ours;
  auto store = OpenStore(options);
  const Status refused = store->Publish(with(theirs, "1")).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(ToStd(refused.message())),
              HasSubstr(absl::StrCat("prototypes.safetensors was made by the embedder ", theirs.Short(),
                                     " (bge-small), this gateway routes with ", ours.Short())));
  ASSERT_TRUE(store->Publish(with(ours, "2")).ok());
  EXPECT_EQ(OpenStore()->Snapshot()->entries[0].live.embedder, ours);
  EXPECT_TRUE(store->Publish(Source({.weights = "3"})).ok());  // says nothing of its embedder: believed
  // A gateway without an embedder takes any, and the catalogue says which it was.
  EXPECT_TRUE(OpenStore()->Publish(with(theirs, "4")).ok());
  ASSERT_TRUE(store->Refresh().value());
  EXPECT_EQ(store->Snapshot()->entries[0].live.embedder, theirs);
  // Going back is publishing too.
  ASSERT_TRUE(store->Publish(with(ours, "5")).ok());
  const std::string old = store->Snapshot()->entries[0].history[0].adapter.ToHex();
  EXPECT_EQ(store->RollBack("postgres", old).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(DamagedStoreTest, ManyUploadedAtOnceAreOneGenerationAndARefusedOneStopsNobody) {
  auto store = OpenStore();
  auto upload = store->BeginUpload().value();
  for (int i = 0; i < 5; ++i) {
    if (i > 0) {
      ASSERT_TRUE(upload->Next().ok());
    }
    if (i == 3) {
      upload->Refuse(absl::InvalidArgumentError("broken on its way"));
      continue;
    }
    const TestExpert expert{.name = "e" + std::to_string(i),
                            .weights = (i == 1 ? "bad " : "w ") + std::to_string(i)};
    const fs::path source = Source(expert);
    for (const std::string_view file : {kConfigFile, kWeightsFile, kCardFile, kPrototypesFile}) {
      ASSERT_TRUE(upload->Write(file, ReadFile(source / file, 1 << 20).value()).ok());
    }
    EXPECT_EQ(upload->Finish(i == 2 ? "another" : "").ok(), i == 0 || i == 4);
  }
  const auto results = upload->CommitAll();
  ASSERT_EQ(results.size(), 5u);
  EXPECT_EQ(results[0].value().generation, 1u);
  EXPECT_THAT(std::string(ToStd(results[1].status().message())), HasSubstr("use_dora"));
  EXPECT_THAT(std::string(ToStd(results[2].status().message())),
              HasSubstr("the request publishes \"another\""));
  EXPECT_EQ(results[3].status(), absl::InvalidArgumentError("broken on its way"));
  EXPECT_EQ(results[4].value().generation, 1u);
  EXPECT_EQ(store->Snapshot()->generation, 1u);
  EXPECT_EQ(Names(*store), (std::vector<std::string>{"e0", "e4"}));
  EXPECT_EQ(CountFiles(Root() / "objects"), 2u);
  upload.reset();
  EXPECT_EQ(CountFiles(Root() / "staging"), 0u);

  auto options = TestOptions();
  options.max_upload_experts = 1;
  auto bounded = OpenStore(options);
  auto one = bounded->BeginUpload().value();
  one->Refuse(absl::InvalidArgumentError("x"));
  EXPECT_EQ(one->Next().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace coterie
