#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <thread>

#include "absl/time/clock.h"
#include "common/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/store/expert_store.h"
#include "tests/model/store/store_testing.h"

// The store between processes: publishers and readers at the same time, and publishers that are killed.
namespace coterie {
namespace {

namespace fs = std::filesystem;

// Everything a catalogue names must be there, whole, and belong together. Empty when it does.
std::string WhatIsWrong(const ExpertStore& store) {
  for (const CatalogueEntry& entry : store.Snapshot()->entries) {
    const auto object = store.ObjectPath(entry.live.adapter);
    if (!object.ok()) return object.status().ToString();
    const auto digest = HashAdapter(*object, {});
    if (!digest.ok()) return digest.status().ToString();
    if (*digest != entry.live.adapter) return entry.name + ": the object is not what its digest says";
    const auto yaml = store.ReadCard(entry.live.revision);
    if (!yaml.ok()) return yaml.status().ToString();
    const auto card = ParseExpertCard(*yaml, "card");
    if (!card.ok() || card->name != entry.name || card->version != entry.live.version) {
      return entry.name + ": the card is another expert's";
    }
    if (!store.ReadPrototypes(entry.live.revision).ok()) return entry.name + ": no prototypes";
  }
  return "";
}

// Runs `body` in a process of its own; its answer is the exit status (0 is good). What it throws ends it
// here: further up, the test's own end would take the store from under the others.
pid_t Spawn(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  try {
    ::_exit(body());
  } catch (const std::exception& thrown) {
    std::fprintf(stderr, "process %d: %s\n", static_cast<int>(::getpid()), thrown.what());
    ::_exit(99);
  }
}

int ExitStatus(pid_t child) {
  int outcome = 0;
  if (::waitpid(child, &outcome, 0) != child || !WIFEXITED(outcome)) return -1;
  return WEXITSTATUS(outcome);
}

class StoreProcessesTest : public StoreTest {};

TEST_F(StoreProcessesTest, PublishersAndReadersDoNotDisturbOneAnother) {
  constexpr int kPublishers = 4, kReaders = 2, kRounds = 15;
  OpenStore();
  std::vector<pid_t> publishers, readers;
  for (int p = 0; p < kPublishers; ++p) {
    publishers.push_back(Spawn([&, p] {
      auto options = TestOptions();
      options.lock_timeout = absl::Minutes(10);  // four take turns, on a disk that may be slow
      auto store = ExpertStore::Open(Root(), options).value();
      const fs::path source = folder_ / ("publisher" + std::to_string(p));
      for (int round = 0; round < kRounds; ++round) {
        const std::string tag = absl::StrCat(p, ".", round);
        WriteExpert(source, {.name = "own-" + std::to_string(p), .version = tag, .weights = "own " + tag});
        if (!store->Publish(source).value().changed) return 1;
        WriteExpert(source, {.name = "shared", .version = tag, .weights = "shared " + tag});
        if (!store->Publish(source).value().changed) return 2;
        if (!store->Remove("own-" + std::to_string(p)).ok()) return 3;
      }
      return 0;
    }));
  }
  for (int r = 0; r < kReaders; ++r) {
    readers.push_back(Spawn([&] {
      auto store = ExpertStore::Open(Root(), {}).value();
      uint64_t last = 0;
      // Until the last change; the bound is for a test that fails.
      for (const MonotonicTime end = MonotonicNow() + absl::Minutes(10); MonotonicNow() < end;) {
        if (!store->Refresh().ok()) return 1;
        const uint64_t generation = store->Snapshot()->generation;
        if (generation < last) return 2;
        last = generation;
        if (const std::string wrong = WhatIsWrong(*store); !wrong.empty()) {
          std::fprintf(stderr, "generation %d: %s\n", static_cast<int>(generation), wrong.c_str());
          return 3;
        }
        if (generation == kPublishers * kRounds * 3) return 0;
      }
      return 4;
    }));
  }
  for (const pid_t child : publishers) EXPECT_EQ(ExitStatus(child), 0);
  for (const pid_t child : readers) EXPECT_EQ(ExitStatus(child), 0);
  auto store = OpenStore();
  // Each change is one generation: none was lost.
  EXPECT_EQ(store->Snapshot()->generation, kPublishers * kRounds * 3u);
  ASSERT_EQ(store->Snapshot()->entries.size(), 1u);
  EXPECT_EQ(store->Snapshot()->entries[0].name, "shared");
  EXPECT_EQ(CountFiles(Root() / "staging"), 0u);
}

TEST_F(StoreProcessesTest, APublisherKilledAnywhereLeavesAValidStore) {
  auto store = OpenStore();
  const MonotonicTime begin = MonotonicNow();
  ASSERT_TRUE(store->Publish(Source({.name = "kept"})).ok());
  // Kills fall anywhere in the first few publications, however fast this disk is.
  int64_t window_us = 3 * absl::ToInt64Microseconds(MonotonicNow() - begin) + 10'000;
  std::mt19937 random(5);
  uint64_t last_generation = 1;
  int n_left_something = 0;
  for (int round = 0; round < 40; ++round) {
    const pid_t child = Spawn([&] {
      auto publisher = ExpertStore::Open(Root(), TestOptions());
      const fs::path source = folder_ / "victim";
      for (int i = 0;; ++i) {
        const std::string tag = absl::StrCat(round, ".", i);
        WriteExpert(source, {.name = "victim-" + std::to_string(i % 5),
                             .version = tag,
                             .weights = tag + std::string(100'000, 'w')});
        if (!publisher.ok() || !(*publisher)->Publish(source).ok()) return 1;
      }
    });
    ASSERT_GT(child, 0);
    absl::SleepFor(absl::Microseconds(random() % window_us));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int outcome = 0;
    ASSERT_EQ(::waitpid(child, &outcome, 0), child);
    ASSERT_TRUE(WIFSIGNALED(outcome)) << "the publisher failed by itself: " << WEXITSTATUS(outcome);
    n_left_something += CountFiles(Root() / "staging") > 0;

    ASSERT_TRUE(store->Refresh().ok()) << store->Refresh().status();
    EXPECT_EQ(WhatIsWrong(*store), "");
    EXPECT_NE(store->Snapshot()->Find("kept"), nullptr);
    EXPECT_GE(store->Snapshot()->generation, last_generation);
    // Where the machine has become slower since, kills fall later.
    if (store->Snapshot()->generation == last_generation) window_us += window_us / 4;
    last_generation = store->Snapshot()->generation;
  }
  EXPECT_GT(n_left_something, 5) << "the kills met no publisher at work: the test shows nothing";
  EXPECT_GT(last_generation, 5u);
  // The next publisher works and cleans up.
  ASSERT_TRUE(store->Publish(Source({.name = "next"})).ok());
  EXPECT_EQ(CountFiles(Root() / "staging"), 0u);
  for (const auto& file : fs::directory_iterator(Root())) {
    EXPECT_NE(file.path().filename().string().rfind("catalogue.json.", 0), 0u) << file.path();
  }
}

// Many in one generation, and repairs: kills fall into the placing of a batch, the exchange of a damaged
// object and the writing of catalogue and copy.
TEST_F(StoreProcessesTest, APublisherOfManyKilledAnywhereLeavesWholeGenerations) {
  constexpr int kMany = 6;
  auto store = OpenStore();
  const fs::path kept = Source({.name = "kept", .weights = std::string(50'000, 'k')});
  const Digest digest = store->Publish(kept).value().expert.digest;
  const auto publish_batch = [&](ExpertStore* publisher, const std::string& tag) {
    std::vector<fs::path> sources = {kept};
    for (int i = 0; i < kMany; ++i) {
      sources.push_back(folder_ / ("many" + std::to_string(i)));
      WriteExpert(sources.back(), {.name = "many-" + std::to_string(i),
                                   .version = tag,
                                   .weights = absl::StrCat(tag, "-", i) + std::string(50'000, 'w')});
    }
    bool good = true;
    for (const auto& result : publisher->PublishAll(sources)) good &= result.ok();
    return good;
  };
  const MonotonicTime begin = MonotonicNow();
  ASSERT_TRUE(publish_batch(store.get(), "first"));
  int64_t window_us = 2 * absl::ToInt64Microseconds(MonotonicNow() - begin) + 10'000;
  std::mt19937 random(8);
  uint64_t last_generation = store->Snapshot()->generation;
  int n_advanced = 0;
  for (int round = 0; round < 25; ++round) {
    const pid_t child = Spawn([&] {
      auto publisher = ExpertStore::Open(Root(), TestOptions());
      for (int i = 0;; ++i) {
        // A damaged object for each batch to repair.
        std::ofstream(Root() / "objects" / digest.ToHex() / kWeightsFile, std::ios::trunc) << "damaged";
        if (!publisher.ok() || !publish_batch(publisher->get(), absl::StrCat(round, ".", i))) return 1;
      }
    });
    absl::SleepFor(absl::Microseconds(random() % window_us));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int outcome = 0;
    ASSERT_EQ(::waitpid(child, &outcome, 0), child);
    ASSERT_TRUE(WIFSIGNALED(outcome)) << "the publisher failed by itself: " << WEXITSTATUS(outcome);

    const auto check = [&](const ExpertStore& reader) {
      EXPECT_EQ(WhatIsWrong(reader), "");
      const auto catalogue = reader.Snapshot();
      ASSERT_NE(catalogue->Find("many-0"), nullptr);
      for (int i = 1; i < kMany; ++i) {
        ASSERT_NE(catalogue->Find("many-" + std::to_string(i)), nullptr);
        EXPECT_EQ(catalogue->Find("many-" + std::to_string(i))->live.version,
                  catalogue->Find("many-0")->live.version);
      }
    };
    ASSERT_TRUE(store->Publish(kept).ok());  // what the child damaged last
    check(*store);
    EXPECT_EQ(store->Health(), CatalogueHealth());
    n_advanced += store->Snapshot()->generation > last_generation;
    if (store->Snapshot()->generation == last_generation) window_us += window_us / 4;
    EXPECT_GE(store->Snapshot()->generation, last_generation);
    last_generation = store->Snapshot()->generation;
    // Had the catalogue been lost at this moment, a copy of this generation or of the one before was there.
    fs::rename(Root() / "catalogue.json", folder_ / "aside");
    const auto late = ExpertStore::Open(Root(), {}).value();
    EXPECT_GE(late->Snapshot()->generation + 1, last_generation);
    check(*late);
    fs::rename(folder_ / "aside", Root() / "catalogue.json");
  }
  EXPECT_GT(n_advanced, 5) << "the kills met no publisher that got anywhere: the test shows nothing";
}

TEST_F(StoreProcessesTest, AStoppedPublisherIsWaitedForOnlySoLong) {
  auto options = TestOptions();
  options.lock_timeout = absl::Milliseconds(50);
  auto store = OpenStore(options);
  const auto held = FileLock::Acquire(Root() / "lock", absl::ZeroDuration()).value();
  EXPECT_EQ(store->Publish(Source({})).status(),
            absl::UnavailableError(
                absl::StrCat("lock ", (Root() / "lock").string(), " was held by another process for 50ms")));
}

TEST_F(StoreProcessesTest, ThreadsShareOneStore) {
  auto store = OpenStore();
  std::atomic<bool> done = false;
  std::atomic<int> n_wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      const fs::path source = folder_ / ("thread" + std::to_string(t));
      for (int i = 0; i < 8; ++i) {
        const std::string tag = absl::StrCat(t, ".", i);
        WriteExpert(source, {.name = "t" + std::to_string(t), .version = tag, .weights = tag});
        if (!store->Publish(source).ok()) ++n_wrong;
      }
    });
  }
  threads.emplace_back([&] {
    for (uint64_t last = 0; !done;) {
      if (!store->Refresh().ok()) ++n_wrong;
      const auto snapshot = store->Snapshot();
      if (snapshot->generation < last) ++n_wrong;
      last = snapshot->generation;
    }
  });
  for (int t = 0; t < 3; ++t) threads[t].join();
  done = true;
  threads[3].join();
  EXPECT_EQ(n_wrong, 0);
  EXPECT_EQ(store->Snapshot()->generation, 24u);
  EXPECT_EQ(store->Snapshot()->entries.size(), 3u);
}

}  // namespace
}  // namespace coterie
